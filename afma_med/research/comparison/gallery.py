"""Contact sheets of images that AFMA helped or hurt: image, label, both predictions, and what changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from afma_med.data import VOID, ClassInfo, DatasetReader
from afma_med.data.dataset_reader import Item
from afma_med.research.comparison.arms import Pairing
from afma_med.research.comparison.examples import Example, find_items, find_prediction, load_example
from afma_med.research.comparison.ranking import ImageScore, most_changed, rank_images
from afma_med.visualize import color_legend, colorize

__all__ = ["BETTER", "WORSE", "draw_changes", "draw_gallery", "draw_sheet"]

#: Colours of pixels that are right with AFMA only, and without it only: distinct in every kind of colour vision.
BETTER, WORSE = (86, 180, 233), (213, 94, 0)

_PANEL_WIDTH, _GAP, _LINE = 300, 6, 22
_HEADINGS = ("image", "label", "baseline", "AFMA", "what changed")


def draw_gallery(pairing: Pairing, reader: DatasetReader, *, images: int = 8) -> dict[str, NDArray[np.uint8]]:
    """Draw the images that AFMA helped most and those that it hurt most, as the runs of ``pairing.shown`` do.

    Args:
        pairing: an arm and its baseline.
        reader: of the dataset.
        images: how many of each kind.

    Returns:
        Pictures (H,W,3) by ``"helped"`` and ``"hurt"``; one without images is left out.

    Raises:
        OSError: if the dataset or a prediction is not there or cannot be read.
        ValueError: if its files are not what they should be.
    """
    run, baseline = pairing.shown
    items = find_items(reader, [run, baseline])
    sheets = {}
    for name, chosen in zip(("helped", "hurt"), most_changed(rank_images(pairing), images), strict=True):
        examples = []
        for one in chosen:
            paths = {"arm": find_prediction(run, one.image), "baseline": find_prediction(baseline, one.image)}
            examples.append(load_example(reader, _item_of(items, one.image), **paths))
        if examples:
            sheets[name] = draw_sheet(chosen, examples, classes=reader.classes)
    return sheets


def draw_sheet(
    scores: Iterable[ImageScore], examples: Iterable[Example], *, classes: Sequence[ClassInfo]
) -> NDArray[np.uint8]:
    """Draw a row an image: image, label, both predictions, what changed; name and scores above, a legend below.

    Args:
        scores: of each image.
        examples: the images, at least one.
        classes: table of the classes.

    Returns:
        (H,W,3) uint8.
    """
    width = len(_HEADINGS) * (_PANEL_WIDTH + _GAP) + _GAP
    rows = [_write_line([(_GAP + i * (_PANEL_WIDTH + _GAP), text) for i, text in enumerate(_HEADINGS)], width)]
    for score, example in zip(scores, examples, strict=True):
        place = f", {example.place}" if example.place else ""
        figures = f"mean IoU: baseline {100 * score.baseline:.1f}, AFMA {100 * score.arm:.1f}"
        rows.append(_write_line([(_GAP, f"{score.image}{place}   {figures} ({100 * score.gain:+.1f})")], width))
        pictures = [example.picture]
        pictures += [colorize(ids, classes) for ids in (example.label, example.baseline, example.arm)]
        rows.append(_place_beside([_fit(picture) for picture in (*pictures, draw_changes(example))], width))
    changes = (
        ClassInfo("right with AFMA, wrong without", 0, 0, BETTER),
        ClassInfo("wrong with AFMA, right without", 1, 1, WORSE),
    )
    rows += [_write_line([], width), color_legend(classes, width=width), color_legend(changes, width=width)]
    return np.concatenate(rows)


def draw_changes(example: Example) -> NDArray[np.uint8]:
    """Draw where AFMA is right and the baseline wrong (``BETTER``), and the reverse (``WORSE``), over the pale image.

    Args:
        example: void pixels of its label are neither right nor wrong.

    Returns:
        (H,W,3) uint8.

    Example:
        >>> label, prediction = np.array([[1, 1]], dtype=np.uint8), np.array([[1, 2]], dtype=np.uint8)
        >>> example = Example(np.zeros((1, 2, 3), dtype=np.uint8), label, label, prediction, "")
        >>> draw_changes(example)[0].tolist() == [[190, 190, 190], [*BETTER]]
        True
    """
    grey = example.picture.mean(axis=-1, keepdims=True)
    drawn = np.broadcast_to(190 + grey * (60 / 255), example.picture.shape).astype(np.uint8)
    right, was_right = example.arm == example.label, example.baseline == example.label
    counts = example.label != VOID
    drawn[counts & right & ~was_right] = BETTER
    drawn[counts & was_right & ~right] = WORSE
    return drawn


def _item_of(items: Mapping[str, Item], image: str) -> Item:
    if image not in items:
        raise FileNotFoundError(f"the dataset has no {image}")
    return items[image]


def _fit(picture: NDArray[np.uint8]) -> Image.Image:
    """The picture as wide as a panel: pixels are averaged where it shrinks, so that thin objects do not vanish."""
    height, width = picture.shape[:2]
    how = Image.Resampling.BOX if width > _PANEL_WIDTH else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((_PANEL_WIDTH, max(1, round(height * _PANEL_WIDTH / width))), how)


def _place_beside(panels: Sequence[Image.Image], width: int) -> NDArray[np.uint8]:
    row = Image.new("RGB", (width, panels[0].height + _GAP), "white")
    for number, panel in enumerate(panels):
        row.paste(panel, (_GAP + number * (_PANEL_WIDTH + _GAP), 0))
    return np.asarray(row)


def _write_line(texts: Iterable[tuple[int, str]], width: int) -> NDArray[np.uint8]:
    """A white line with texts, each beginning at a column of pixels."""
    line = Image.new("RGB", (width, _LINE), "white")
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(size=14)
    for left, text in texts:
        draw.text((left, 2), text, fill="black", font=font)
    return np.asarray(line)
