"""Whether a trained network's attention is learnt, and whether its correction helps, over the images of a section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import Item
from afma_med.finished_run import FinishedRun
from afma_med.functional import PatchAttention, gold_attention_from_index
from afma_med.visualize.attention import AttendedImage, attend_image

__all__ = ["AttentionReport", "measure_attention", "report_attention"]


class AttentionReport(NamedTuple):
    """Hold what :func:`measure_attention` finds, over all pixels and patches of a section.

    Args:
        images: how many were looked at.
        error: squared distance to the gold attention, over the squared size of the gold attention: 0 where they are
            equal, 1 for an attention of zeros, more for one that is worse than none.
        cosine: of the angle between attention and gold attention, as vectors: 1 for the same up to a factor.
        peak: median over images of the largest entry of the attention; that of the gold one is near 1.
        changed: part of the pixels whose class the correction changes.
        mended: of the changed pixels that have a label, the part that is right after and was wrong before.
        harmed: the part that is wrong after and was right before.
    """

    images: int
    error: float
    cosine: float
    peak: float
    changed: float
    mended: float
    harmed: float


def measure_attention(run: FinishedRun, *, section: str = "val", limit: int | None = None) -> AttentionReport:
    """Measure a run's attention on a section of its dataset.

    Args:
        run: trained with AFMA, of images.
        section: with labels.
        limit: look at so many images only, the first ones.

    Raises:
        ValueError: if the run has no attention, its dataset is one of volumes, or the section has no labels.
    """
    if not run.settings["afma"] or run.reader.read_volume is not None:
        raise ValueError(
            f"`run` must be one with AFMA, of images; got {run.title} of {run.reader.title}. Name another run."
        )
    items = [item for item in run.reader.datalist(run.settings["dataset_dir"], section) if "label" in item][:limit]
    if not items:
        raise ValueError(f"`section` must have labels; got {section!r} without any. Choose another section.")
    # One after the other: a network that is listened to serves one thread.
    found = torch.tensor([_measure(run, item) for item in tqdm(items, desc=run.title, unit="image", disable=None)])
    distance, own, gold, peak, *pixels = found.double().unbind(dim=1)
    total, changed, labelled, mended, harmed = (count.sum() for count in pixels)
    cosine = (own.sum() + gold.sum() - distance.sum()) / (2 * (own.sum() * gold.sum()).sqrt())
    return AttentionReport(
        images=len(items),
        error=(distance.sum() / gold.sum()).item(),
        cosine=cosine.item(),
        peak=peak.median().item(),
        changed=(changed / total).item(),
        mended=(mended / labelled).item(),
        harmed=(harmed / labelled).item(),
    )


def report_attention(reports: Sequence[tuple[str, AttentionReport]]) -> str:
    """Write reports of several runs as a table for people.

    Example:
        >>> print(report_attention([("run", AttentionReport(9, 0.5, 0.8, 0.9, 0.01, 0.6, 0.3))]))
        run  error  cosine      peak  changed  mended  harmed  images
        run  0.500   0.800  0.900000   1.000%   60.0%   30.0%       9
    """
    width = max(3, *(len(name) for name, _ in reports))
    lines = [f"{'run'.ljust(width)}  error  cosine      peak  changed  mended  harmed  images"]
    for name, one in reports:
        shares = f"{one.changed:8.3%} {one.mended:7.1%} {one.harmed:7.1%}"
        lines.append(f"{name.ljust(width)} {one.error:6.3f} {one.cosine:7.3f} {one.peak:9.6f} {shares} {one.images:7d}")
    return "\n".join(lines)


def _measure(run: FinishedRun, item: Item) -> list[float]:
    """Squared distance, squares of attention and gold, peak; pixels, changed, those with labels, mended, harmed."""
    image = run.prepare(item["image"])
    label = torch.from_numpy(run.reader.read_label(item).astype(np.float32))
    index = interpolate(label[None, None], size=tuple(image.shape[1:]), mode="nearest")[0, 0].long()
    seen = attend_image(run.network, image)
    return [*_squares(seen.attention, index, len(class_names(run.reader.classes))), *_pixels(seen, index.numpy())]


def _squares(attention: PatchAttention, index: Tensor, classes: int) -> list[float]:
    known = torch.where(index < classes, index, -1)
    gold = gold_attention_from_index(known[None].to(attention.query.device), attention.grid, classes)
    zero = attention._replace(query=torch.zeros_like(attention.query))
    peak = max((q @ k.mT).max().item() for q, k in zip(attention.query[0], attention.key[0], strict=True))
    squares = attention.squared_distance(gold), attention.squared_distance(zero), gold.squared_distance(zero)
    return [*(square.item() for square in squares), peak / attention.query.shape[-1]]


def _pixels(seen: AttendedImage, label: np.ndarray) -> list[float]:
    right = seen.before == label, seen.after == label
    changed = seen.changed
    labelled = changed & (label < 255)
    counts = (changed.size, changed.sum(), labelled.sum(), (changed & right[1]).sum(), (changed & right[0]).sum())
    return [float(count) for count in counts]
