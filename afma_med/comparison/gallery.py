"""Contact sheets of the images that AFMA helped or hurt most (Sec. 4.8): label, predictions, and what changed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from afma_med.comparison.arms import Pairing
from afma_med.comparison.examples import Example, find_items, find_prediction, load_example
from afma_med.comparison.page import Picture
from afma_med.comparison.results import Comparison
from afma_med.comparison.tables import find_reader
from afma_med.data import VOID, ClassInfo, DatasetReader
from afma_med.metrics.pixel_scores import image_iou, mean_of_known
from afma_med.visualize import color_legend, colorize

__all__ = [
    "BETTER",
    "WORSE",
    "ImageScore",
    "draw_changes",
    "draw_galleries",
    "draw_gallery",
    "draw_sheet",
    "load_examples",
]
__all__ += ["most_changed", "rank_images"]

#: Colours of pixels that are right only with AFMA, and only without it: distinct in every kind of colour vision.
BETTER, WORSE = (86, 180, 233), (213, 94, 0)

_PANEL_WIDTH, _GAP, _LINE = 300, 6, 22
_HEADINGS = ("image", "label", "baseline", "AFMA", "what changed")
_WIDTH = len(_HEADINGS) * (_PANEL_WIDTH + _GAP) + _GAP
_LEFTS = tuple(_GAP + i * (_PANEL_WIDTH + _GAP) for i in range(len(_HEADINGS)))
_CHANGES = (
    ClassInfo("right with AFMA, wrong without", 0, 0, BETTER),
    ClassInfo("wrong with AFMA, right without", 1, 1, WORSE),
)


class ImageScore(NamedTuple):
    """Hold the name of an image and its mean IoU over the classes of its label, without and with AFMA."""

    image: str
    baseline: float
    arm: float

    @property
    def gain(self) -> float:
        """Return what AFMA adds."""
        return self.arm - self.baseline


def rank_images(pairing: Pairing) -> list[ImageScore]:
    """Rank images by what AFMA adds to their mean IoU over the classes of their label, the largest gain first.

    Values are averaged over the common seeds, or without any over the seeds of each side. Images whose label has no
    scored class are left out.
    """
    sides = zip(*pairing.runs, strict=True) if pairing.runs else (side.runs for side in pairing)
    arm, baseline = (mean_of_known(np.stack([image_iou(run.counts.pixels) for run in side], axis=-1)) for side in sides)
    images = pairing.arm.runs[0].counts.images
    scores = [ImageScore(*row) for row in zip(images, baseline.tolist(), arm.tolist(), strict=True)]
    return sorted((one for one in scores if not math.isnan(one.gain)), key=lambda one: (-one.gain, one.image))


def most_changed(ranked: Sequence[ImageScore], count: int) -> tuple[list[ImageScore], list[ImageScore]]:
    """Return up to ``count`` images that were helped most, and that were hurt most, the largest change first."""
    helped = [one for one in ranked if one.gain > 0]
    hurt = [one for one in reversed(ranked) if one.gain < 0]
    return helped[:count], hurt[:count]


def draw_galleries(found: Comparison, *, images: int) -> tuple[list[Picture], list[str]]:
    """Draw the images that each arm helped most and hurt most; return also why some pictures are left out."""
    reader = find_reader(found.run)
    if not images or not found.gains:
        return [], []
    if reader is None:
        return [], [f"Example images are left out: {found.run.settings['name']} is not a bundle of the package."]
    pictures, reasons = [], []
    for number, (pairing, _) in enumerate(found.gains, start=1):
        try:
            sheets = draw_gallery(pairing, reader, images=images)
        except (OSError, ValueError) as error:
            reasons.append(f"Example images of {pairing.label} are left out: {error}")
            continue
        run, baseline = pairing.shown
        seen_by = f"the networks of seed {run.seed}" if pairing.runs else f"{run.folder} and {baseline.folder}"
        for name, sheet in sheets.items():
            content = io.BytesIO()
            Image.fromarray(sheet).save(content, "png", optimize=True)
            file = f"{name}.png" if number == 1 else f"{name}_{number}.png"
            caption = f"{pairing.label}: the images that AFMA {name} most, as {seen_by} see them."
            section = "Where AFMA helps and where it hurts"
            pictures.append(Picture(file, section, caption, content.getvalue(), wide=True))
    return pictures, reasons


def draw_gallery(pairing: Pairing, reader: DatasetReader, *, images: int = 8) -> dict[str, NDArray[np.uint8]]:
    """Draw the images that AFMA helped most and those that it hurt most, with the predictions of ``pairing.shown``.

    Returns:
        Contact sheets (H,W,3) by ``"helped"`` and ``"hurt"``; one without images is left out.

    Raises:
        OSError, ValueError: if a file of the dataset or a prediction is missing or malformed.
    """
    chosen = dict(zip(("helped", "hurt"), most_changed(rank_images(pairing), images), strict=True))
    return {
        name: draw_sheet(scores, load_examples(pairing, reader, scores), classes=reader.classes)
        for name, scores in chosen.items()
        if scores
    }


def load_examples(pairing: Pairing, reader: DatasetReader, scores: Sequence[ImageScore]) -> list[Example]:
    """Load images with their labels and the predictions of ``pairing.shown``.

    Raises:
        OSError, ValueError: if a file of the dataset or a prediction is missing or malformed.
    """
    run, baseline = pairing.shown
    items = find_items(reader, [run, baseline])
    examples = []
    for one in scores:
        paths = {"arm": find_prediction(run, one.image), "baseline": find_prediction(baseline, one.image)}
        if one.image not in items:
            raise FileNotFoundError(f"the dataset has no {one.image}")
        examples.append(load_example(reader, items[one.image], **paths))
    return examples


def draw_sheet(
    scores: Sequence[ImageScore], examples: Iterable[Example], *, classes: Sequence[ClassInfo]
) -> NDArray[np.uint8]:
    """Draw a row for each image, with name and scores above, and a legend below all: (H,W,3)."""
    rows = [_write_line(_HEADINGS)]
    for score, example in zip(scores, examples, strict=True):
        place = f", {example.place}" if example.place else ""
        figures = f"mean IoU: baseline {100 * score.baseline:.1f}, AFMA {100 * score.arm:.1f}"
        rows.append(_write_line([f"{score.image}{place}   {figures} ({100 * score.gain:+.1f})"]))
        segmented = (colorize(ids, classes) for ids in (example.label, example.baseline, example.arm))
        rows.append(_place_side_by_side([_fit(one) for one in (example.picture, *segmented, draw_changes(example))]))
    rows += [_write_line([]), color_legend(classes, width=_WIDTH), color_legend(_CHANGES, width=_WIDTH)]
    return np.concatenate(rows)


def draw_changes(example: Example) -> NDArray[np.uint8]:
    """Draw where AFMA is right and the baseline wrong (``BETTER``), and the reverse (``WORSE``), over the pale image.

    Void pixels of the label are neither right nor wrong.
    """
    grey = example.picture.mean(axis=-1, keepdims=True)
    drawn = np.broadcast_to(190 + grey * (60 / 255), example.picture.shape).astype(np.uint8)
    right, was_right = example.arm == example.label, example.baseline == example.label
    counts = example.label != VOID
    drawn[counts & right & ~was_right] = BETTER
    drawn[counts & was_right & ~right] = WORSE
    return drawn


def _fit(picture: NDArray[np.uint8]) -> Image.Image:
    """The picture as wide as a panel: pixels are averaged where it shrinks, so that thin objects do not vanish."""
    height, width = picture.shape[:2]
    how = Image.Resampling.BOX if width > _PANEL_WIDTH else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((_PANEL_WIDTH, max(1, round(height * _PANEL_WIDTH / width))), how)


def _place_side_by_side(panels: Sequence[Image.Image]) -> NDArray[np.uint8]:
    row = Image.new("RGB", (_WIDTH, panels[0].height + _GAP), "white")
    for left, panel in zip(_LEFTS, panels, strict=True):
        row.paste(panel, (left, 0))
    return np.asarray(row)


def _write_line(texts: Sequence[str]) -> NDArray[np.uint8]:
    """A white line with a text above each panel."""
    line = Image.new("RGB", (_WIDTH, _LINE), "white")
    draw, font = ImageDraw.Draw(line), ImageFont.load_default(size=14)
    for left, text in zip(_LEFTS, texts, strict=False):
        draw.text((left, 2), text, fill="black", font=font)
    return np.asarray(line)
