"""Contact sheets of the images that AFMA helped or hurt most (Sec. 4.8): label, predictions, and what changed."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from afma_med.data import VOID, ClassInfo, DatasetReader
from afma_med.metrics.pixel_scores import image_iou, mean_of_known
from afma_med.research.comparison.arms import Pairing
from afma_med.research.comparison.examples import Example, find_items, find_prediction, load_example
from afma_med.research.comparison.negative_cases import (
    KINDS,
    OTHER,
    count_harm,
    has_kinds,
    main_kind,
    summarise_cases,
)
from afma_med.research.comparison.page import Picture
from afma_med.research.comparison.results import Comparison
from afma_med.research.comparison.tables import find_reader
from afma_med.visualize import color_legend, colorize

__all__ = ["BETTER", "WORSE", "ImageScore", "Sheet", "draw_changes", "draw_galleries", "draw_gallery", "draw_sheet"]
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


class Sheet(NamedTuple):
    """Hold a contact sheet (H,W,3), and the counts of the paper's negative cases in it; empty if they do not apply."""

    picture: NDArray[np.uint8]
    cases: str = ""


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


def draw_galleries(found: Comparison, *, images: int) -> tuple[list[Picture], list[str], list[str]]:
    """Draw the images that each arm helped most and hurt most.

    Returns:
        The pictures, counts of the negative cases in them, and reasons why some pictures are left out.
    """
    reader = find_reader(found.run)
    if not images or not found.gains:
        return [], [], []
    if reader is None:
        return [], [], [f"Example images are left out: {found.run.settings['name']} is not a bundle of the package."]
    pictures, cases, reasons = [], [], []
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
            Image.fromarray(sheet.picture).save(content, "png", optimize=True)
            file = f"{name}.png" if number == 1 else f"{name}_{number}.png"
            caption = f"{pairing.label}: the images that AFMA {name} most, as {seen_by} see them."
            section = "Where AFMA helps and where it hurts"
            if sheet.cases:
                cases.append(f"Negative cases (Sec. 4.8) among the images that {pairing.label} hurt: {sheet.cases}.")
                caption += f" The kinds of their harm: {sheet.cases}."
            pictures.append(Picture(file, section, caption, content.getvalue(), wide=True))
    return pictures, cases, reasons


def draw_gallery(pairing: Pairing, reader: DatasetReader, *, images: int = 8) -> dict[str, Sheet]:
    """Draw the images that AFMA helped most and those that it hurt most, with the predictions of ``pairing.shown``.

    Images that it hurt are sorted by the paper's kinds of negative cases (Sec. 4.8), where the dataset allows it.

    Returns:
        Sheets by ``"helped"`` and ``"hurt"``; one without images is left out.

    Raises:
        OSError, ValueError: if a file of the dataset or a prediction is missing or malformed.
    """
    run, baseline = pairing.shown
    items = find_items(reader, [run, baseline])
    sheets = {}
    for name, chosen in zip(("helped", "hurt"), most_changed(rank_images(pairing), images), strict=True):
        examples = []
        for one in chosen:
            paths = {"arm": find_prediction(run, one.image), "baseline": find_prediction(baseline, one.image)}
            if one.image not in items:
                raise FileNotFoundError(f"the dataset has no {one.image}")
            examples.append(load_example(reader, items[one.image], **paths))
        if name == "hurt" and examples and has_kinds(reader):
            sheets[name] = _draw_cases(chosen, examples, reader)
        elif examples:
            sheets[name] = Sheet(draw_sheet(chosen, examples, classes=reader.classes))
    return sheets


def _draw_cases(scores: Sequence[ImageScore], examples: Sequence[Example], reader: DatasetReader) -> Sheet:
    cases = [count_harm(example, reader) for example in examples]
    kinds = [main_kind(counts) for counts in cases]
    order = sorted(range(len(kinds)), key=lambda i: (*KINDS, OTHER).index(kinds[i]))  # the worst of a kind first
    picture = draw_sheet(
        [scores[i] for i in order],
        [examples[i] for i in order],
        classes=reader.classes,
        kinds=[kinds[i] for i in order],
    )
    return Sheet(picture, summarise_cases(cases))


def draw_sheet(
    scores: Sequence[ImageScore],
    examples: Iterable[Example],
    *,
    classes: Sequence[ClassInfo],
    kinds: Sequence[str] = (),
) -> NDArray[np.uint8]:
    """Draw a row for each image, with name, scores and kind above, and a legend below all: (H,W,3)."""
    rows = [_write_line(_HEADINGS)]
    for score, example, kind in zip(scores, examples, kinds or [""] * len(scores), strict=True):
        place = f", {example.place}" if example.place else ""
        figures = f"mean IoU: baseline {100 * score.baseline:.1f}, AFMA {100 * score.arm:.1f}"
        ending = f"   kind of harm: {kind}" if kind else ""
        rows.append(_write_line([f"{score.image}{place}   {figures} ({100 * score.gain:+.1f}){ending}"]))
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
