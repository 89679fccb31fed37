"""Whether a trained network's attention is learnt, and whether its correction helps, over the images of a section."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate
from tqdm import tqdm

from afma_med.data.class_table import VOID, class_names
from afma_med.data.dataset_reader import Item
from afma_med.finished_run import FinishedRun
from afma_med.functional import PatchAttention, gold_attention_from_index, modulate_logits
from afma_med.metrics.class_iou import unscored_indices
from afma_med.metrics.pixel_counts import count_pixels, object_counts
from afma_med.metrics.pixel_scores import scores_from_pixels
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing
from afma_med.visualize.attention import decide, find_afma

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
        miou: mean IoU of the scored classes before the correction, after it, and after one by the gold attention, which
            is what the correction could give if the attention were learnt perfectly.
    """

    images: int
    error: float
    cosine: float
    peak: float
    changed: float
    mended: float
    harmed: float
    miou: tuple[float, float, float]


def measure_attention(run: FinishedRun, *, section: str = "val", limit: int | None = None) -> AttentionReport:
    """Measure a run's attention on a section of its dataset.

    Args:
        run: trained with AFMA, of images.
        section: with labels.
        limit: look at so many images only, the first ones.

    Raises:
        ValueError: if the run has no attention, its dataset is one of volumes, or the section has no labels.
    """
    afma = find_afma(run.network)
    if afma is None or run.reader.read_volume is not None:
        raise ValueError(
            f"`run` must be one with AFMA, of images; got {run.title} of {run.reader.title}. Name another run."
        )
    items = [item for item in run.reader.datalist(run.settings["dataset_dir"], section) if "label" in item][:limit]
    if not items:
        raise ValueError(f"`section` must have labels; got {section!r} without any. Choose another section.")
    # One after the other: a network that is listened to serves one thread.
    shown = tqdm(items, desc=run.title, unit="image", disable=None)
    figures, confusions = zip(*(_measure(run, afma, item) for item in shown), strict=True)
    distance, own, gold, peak, *pixels = torch.tensor(figures).double().unbind(dim=1)
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
        miou=_mean_iou(run, sum(confusions[1:], start=confusions[0])),
    )


def report_attention(reports: Sequence[tuple[str, AttentionReport]]) -> str:
    """Write reports of several runs as a table for people.

    Example:
        >>> report = AttentionReport(9, 0.5, 0.8, 0.9, 0.01, 0.6, 0.3, (0.5, 0.52, 0.6))
        >>> print(report_attention([("run", report)]))
        run  error  cosine      peak  changed  mended  harmed  mIoU before   after  by gold  images
        run  0.500   0.800  0.900000   1.000%   60.0%   30.0%       0.5000  0.5200   0.6000       9
    """
    width = max(3, *(len(name) for name, _ in reports))
    lines = [
        f"{'run'.ljust(width)}  error  cosine      peak  changed  mended  harmed  mIoU before   after  by gold  images"
    ]
    for name, one in reports:
        shares = f"{one.changed:8.3%} {one.mended:7.1%} {one.harmed:7.1%}"
        scores = f"{one.miou[0]:12.4f} {one.miou[1]:7.4f} {one.miou[2]:8.4f}"
        size = f"{one.error:6.3f} {one.cosine:7.3f} {one.peak:9.6f}"
        lines.append(f"{name.ljust(width)} {size} {shares} {scores} {one.images:7d}")
    return "\n".join(lines)


def _measure(run: FinishedRun, afma: AFMANet, item: Item) -> tuple[list[float], Tensor]:
    """Squared distance, squares of attention and gold, peak; pixels, changed, those with labels, mended, harmed.

    And (3,3K,3K) pixels by class of label and prediction: before the correction, after it, after one by the gold.
    """
    image = run.prepare(item["image"])
    label = torch.from_numpy(run.reader.read_label(item).astype(np.float32))
    index = interpolate(label[None, None], size=tuple(image.shape[1:]), mode="nearest")[0, 0].long()
    classes = len(class_names(run.reader.classes))
    known = torch.where(index < classes, index, -1)
    with probing(afma):
        logits, attention = afma.attend(image[None].to(run.device))
        gold = gold_attention_from_index(known[None].to(run.device), attention.grid, classes)
        soft = afma.variant == "paper"
        corrected = [modulate_logits(logits, one, soft=soft) for one in (attention, _as_floats(gold))]
    predictions = [torch.from_numpy(decide(one)[0]) for one in (logits, *corrected)]
    unscored = unscored_indices(class_names(run.reader.classes), run.reader.unscored)
    scored = torch.where(torch.isin(known, torch.tensor(unscored)), -1, known)
    confusions = torch.stack([count_pixels(prediction, scored, classes) for prediction in predictions])
    return [*_squares(attention, gold), *_pixels(*predictions[:2], label=index)], confusions


def _squares(attention: PatchAttention, gold: PatchAttention) -> list[float]:
    zero = attention._replace(query=torch.zeros_like(attention.query))
    peak = max((q @ k.mT).max().item() for q, k in zip(attention.query[0], attention.key[0], strict=True))
    squares = attention.squared_distance(gold), attention.squared_distance(zero), gold.squared_distance(zero)
    return [*(square.item() for square in squares), peak / attention.query.shape[-1]]


def _pixels(before: Tensor, after: Tensor, *, label: Tensor) -> list[float]:
    changed = before != after
    masks = changed & (label != VOID), changed & (after == label), changed & (before == label)
    return [float(changed.numel()), *(float(mask.sum()) for mask in (changed, *masks))]


def _as_floats(attention: PatchAttention) -> PatchAttention:
    """The gold attention's query is of truth values, which the correction cannot multiply."""
    return attention._replace(query=attention.query.to(attention.key.dtype))


def _mean_iou(run: FinishedRun, confusions: Tensor) -> tuple[float, float, float]:
    names = class_names(run.reader.classes)
    scored = [k for k, name in enumerate(names) if name not in run.reader.unscored]
    counts = [object_counts(confusion)[scored, :1].numpy() for confusion in confusions]
    before, after, gold = (scores_from_pixels(one, [names[k] for k in scored], ("all",))["mIoU"] for one in counts)
    return float(before), float(after), float(gold)
