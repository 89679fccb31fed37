"""All pictures of a comparison as PNG files in memory, and why some are left out."""

from __future__ import annotations

import io
import math

from matplotlib.figure import Figure
from PIL import Image

from afma_med.research.comparison.arms import Pairing
from afma_med.research.comparison.charts import draw_class_gains, draw_curves, draw_size_gains
from afma_med.research.comparison.files import Comparison
from afma_med.research.comparison.gallery import draw_gallery
from afma_med.research.comparison.layout import find_reader, group_classes, size_headings
from afma_med.research.comparison.page import Picture

__all__ = ["draw_charts", "draw_galleries"]

_SECTIONS = ("What AFMA adds", "Training", "Where AFMA helps and where it hurts")


def draw_charts(found: Comparison) -> tuple[list[Picture], list[str]]:
    """Draw gains by class and by size of object, and training curves.

    Args:
        found: the comparison.

    Returns:
        The pictures, and what is left out and why.
    """
    pictures = _draw_gains(found)
    curves = {one.arm.label: [dict(run.curve) for run in one.arm.runs if run.curve] for one in found.arms}
    drawn = {label: seeds for label, seeds in curves.items() if seeds}
    if drawn:
        caption = "mIoU of the validation images by epoch: mean over seeds (thick), each seed (thin)."
        pictures.append(Picture("curves.png", _SECTIONS[1], caption, _to_png(draw_curves(drawn))))
    lacking = " and ".join(label for label in curves if label not in drawn)
    return pictures, [f"Training curves of {lacking} are left out: no event files with val/mIoU."] if lacking else []


def draw_galleries(found: Comparison, *, images: int) -> tuple[list[Picture], list[str]]:
    """Draw the images that each arm helped most and hurt most.

    Args:
        found: the comparison.
        images: how many of each kind.

    Returns:
        The pictures, and what is left out and why.
    """
    reader = find_reader(found.run)
    if not images or not found.gains:
        return [], []
    if reader is None:
        return [], [f"Example images are left out: {found.run.settings['name']} is no bundle of the package."]
    pictures, reasons = [], []
    for number, gain in enumerate(found.gains, start=1):
        try:
            sheets = draw_gallery(gain.pairing, reader, images=images)
        except (OSError, ValueError) as error:
            reasons.append(f"Example images of {gain.pairing.label} are left out: {error}")
            continue
        for name, sheet in sheets.items():
            file = f"{name}.png" if number == 1 else f"{name}_{number}.png"
            content = io.BytesIO()
            Image.fromarray(sheet).save(content, "png", optimize=True)
            caption = (
                f"{gain.pairing.label}: the images that AFMA {name} most, as {_shown_runs(gain.pairing)} see them."
            )
            pictures.append(Picture(file, _SECTIONS[2], caption, content.getvalue(), wide=True))
    return pictures, reasons


def _draw_gains(found: Comparison) -> list[Picture]:
    pictures, run, wide = [], found.run, len(found.gains) > 1
    if found.gains:
        figure = draw_class_gains(found.gains, group_classes(run))
        caption = "Gain in IoU of each class over the baseline: 95 % interval over images, and each common seed."
        pictures.append(Picture("gains.png", _SECTIONS[0], caption, _to_png(figure), wide=wide))
    means = [f"IoU_by_size/{size}" for size in size_headings(run)]
    if any(name in gain.scores and not math.isnan(gain.scores[name].value) for gain in found.gains for name in means):
        figure = draw_size_gains(found.gains, size_headings(run), run.counts.classes)
        caption = "Gain in IoU against the size of objects: mean over classes with its 95 % interval, and each class."
        pictures.append(Picture("sizes.png", _SECTIONS[0], caption, _to_png(figure), wide=wide))
    return pictures


def _shown_runs(pairing: Pairing) -> str:
    run, baseline = pairing.shown
    return f"the networks of seed {run.seed}" if run.seed == baseline.seed else f"{run.folder} and {baseline.folder}"


def _to_png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()
