"""Measurements of trained networks: is the attention learnt, does its correction help, and through the attention?

The correction claims that small objects gain from large ones of their class in the same image. If so, small objects
next to a large one gain more than others, and lose when attention and values are those of another image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor
from tqdm import tqdm

from afma_med.data.class_table import class_groups, class_names
from afma_med.functional import PatchAttention, gold_attention_from_index
from afma_med.grouped_attention import Attention, GroupedAttention, list_parts, make_gold
from afma_med.metrics.pixel_counts import OBJECTS, count_pixels, object_counts
from afma_med.metrics.pixel_scores import scores_from_pixels
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing
from afma_med.runs.trained_network import TrainedNetwork
from afma_med.visualize.attention import decide, find_afma
from experiments.lab.correction_forms import FORMS, correct_in_all_forms
from experiments.lab.small_objects import SmallObjects, score_small_objects

__all__ = ["AttentionReport", "ClassAttention", "FormScores", "MechanismReport", "measure_run"]


class ClassAttention(NamedTuple):
    """Hold the figures of one class.

    Args:
        name: of the class.
        share: share of the squared norm of the gold attention, and so of the loss of an attention of zeros.
        error, cosine: as in :class:`AttentionReport`.
        auc: probability that an image patch with pixels of the class has a larger strongest attention than one without:
            0.5 for an attention that does not depend on the class; NaN if all patches have the class, or none.
    """

    name: str
    share: float
    error: float
    cosine: float
    auc: float


class AttentionReport(NamedTuple):
    """Hold figures of an attention over all pixels and patches of a section.

    Args:
        images: number of images.
        error: squared distance to the gold attention, divided by the squared norm of the gold attention: 0 where they
            are equal, 1 for an attention of zeros.
        cosine: of the angle between attention and gold attention, as vectors: 1 if they are equal up to a factor.
        peak: median over images of the largest entry of the attention; that of the gold attention is near 1.
        changed: share of the pixels whose class the correction changes.
        mended: share of the changed pixels with a label that are right after the correction and were wrong before.
        harmed: share of the changed pixels with a label that are wrong after the correction and were right before.
        miou: mean IoU of the scored classes before the correction, after it, and after a correction by the gold
            attention, which is the gain of a perfect attention.
        classes: the figures of each class.
    """

    images: int
    error: float
    cosine: float
    peak: float
    changed: float
    mended: float
    harmed: float
    miou: tuple[float, float, float]
    classes: tuple[ClassAttention, ...] = ()


class FormScores(NamedTuple):
    """Hold the scores of one of the :data:`~experiments.lab.correction_forms.FORMS`.

    Mean IoU of the scored classes, and of the small ones, NaN if the dataset has no such group; then the fields of
    :class:`~experiments.lab.small_objects.SmallObjects`.
    """

    miou: float
    miou_small: float
    iou_with: float
    iou_without: float
    recall_with: float
    recall_without: float
    classes: int

    @property
    def small_objects(self) -> SmallObjects:
        """Return the scores of small objects alone."""
        return SmallObjects(*self[2:])


class MechanismReport(NamedTuple):
    """Hold the number of images, and the scores of all forms; those of ``swap`` are NaN for a single image."""

    images: int
    before: FormScores
    zero: FormScores
    after: FormScores
    swap: FormScores
    gold: FormScores


class _Attended(NamedTuple):
    """An image after the network: logits (1,K,H,W), attention, label (1,H,W) with -1 where there is none."""

    logits: Tensor
    attention: Any
    label: Tensor


class _PatchFigures(NamedTuple):
    """Figures of the attention of one image, by class: means over the parts of the attention, or patches of all."""

    squares: Tensor  # (3,K) squared distance, squared norms of attention and of gold attention
    strongest: list[Tensor]  # K of (N,), the largest entry of each row
    filled: list[Tensor]  # K of (N,), whether the patch has pixels of the class


def measure_run(
    run: TrainedNetwork, *, section: str = "val", limit: int | None = None
) -> tuple[AttentionReport | None, MechanismReport | None]:
    """Measure a run's attention, and score its predictions with it, without it, and with others in its place.

    Labels are compared at the size at which the network sees the images; the sizes of objects are in its pixels.

    Returns:
        The attention's figures, None for an attention that is not between patches; the scores of all forms. Both are
        None for runs without AFMA, and for those of volumes.

    Raises:
        ValueError: if the section has no labels.
        TypeError: if the attention is of an unknown kind.
    """
    afma = find_afma(run.network)
    if afma is None or run.reader.read_volume is not None:
        return None, None
    items = [item for item in run.reader.datalist(run.settings["dataset_dir"], section) if "label" in item][:limit]
    if not items:
        raise ValueError(f"`section` must have labels; got {section!r} without any. Choose another section.")
    tally = _Tally(run, afma)
    for own, other in tqdm(_with_next(run, afma, items), total=len(items), desc=run.title, unit="image", disable=None):
        tally.add(own, other)
    mechanism = tally.mechanism()
    return tally.attention(mechanism) if tally.patches else None, mechanism


def _with_next(run: TrainedNetwork, afma: AFMANet, items: Sequence[Any]) -> Iterator[tuple[_Attended, _Attended]]:
    """Each image with the next one, the last with the first; each goes through the network once."""
    first = own = _attend(run, afma, items[0])
    for item in items[1:]:
        following = _attend(run, afma, item)
        yield own, following
        own = following
    yield own, first


def _attend(run: TrainedNetwork, afma: AFMANet, item: Any) -> _Attended:
    image = run.prepare(item["image"])
    index = run.read_label(item, image.shape[1:])
    label = torch.where(index < len(class_names(run.reader.classes)), index, -1)
    with probing(afma):
        return _Attended(*afma.attend(image[None].to(run.device)), label[None].to(run.device))


class _Tally:
    """Count pixels in all forms, and measure the attention if it is between patches, image by image."""

    def __init__(self, run: TrainedNetwork, afma: AFMANet) -> None:
        self.reader, self.afma = run.reader, afma
        self.names = class_names(run.reader.classes)
        self.scored = [k for k, name in enumerate(self.names) if name not in run.reader.unscored]
        self.patches: list[_PatchFigures] = []
        # Pixels: all, changed, changed with a label, changed to right, changed from right.
        self._changes = torch.zeros(5, dtype=torch.float64)
        self._counts: dict[str, list[Tensor]] = {form: [] for form in FORMS}

    def add(self, own: _Attended, other: _Attended) -> None:
        with probing(self.afma):
            forms = correct_in_all_forms(self.afma, own.logits, own.attention, other=other[:2], index=own.label)
        label = own.label[0].cpu()
        predictions = {form: torch.from_numpy(decide(logits)[0]) for form, logits in forms.items()}
        scored = torch.where(torch.isin(label, torch.tensor(self.scored)), label, -1)
        counted: dict[bytes, Tensor] = {}  # equal predictions are counted once
        for form, prediction in predictions.items():
            key = prediction.numpy().tobytes()
            if key not in counted:
                found = count_pixels(prediction, scored, len(self.names), groups=self.reader.size_groups)
                counted[key] = object_counts(*found)[self.scored]
            # A single image has no other to swap with.
            self._counts[form].append(0 * counted[key] if form == "swap" and other is own else counted[key])
        before, after = predictions["before"], predictions["after"]
        changed = before != after
        masks = changed, changed & (label >= 0), changed & (after == label), changed & (before == label)
        self._changes += torch.tensor([changed.numel(), *(mask.sum() for mask in masks)])
        if isinstance(own.attention, Attention):
            self.patches.append(_measure(own.attention, own.label, own.logits.shape[1]))

    def mechanism(self) -> MechanismReport:
        groups = {group: [self.names[k] for k in ids] for group, ids in class_groups(self.reader.classes).items()}
        found = []
        for counts in self._counts.values():
            pixels = torch.stack(counts).numpy()
            names = [self.names[k] for k in self.scored]
            scores = scores_from_pixels(pixels.sum(axis=0), names, OBJECTS, groups=groups)
            miou, small = (float(scores.get(name, np.nan)) for name in ("mIoU", "mIoU_small"))
            found.append(FormScores(miou, small, *score_small_objects(pixels, OBJECTS, names)))
        return MechanismReport(len(self._counts["before"]), *found)

    def attention(self, mechanism: MechanismReport) -> AttentionReport:
        squares = torch.stack([one.squares for one in self.patches]).sum(dim=0)
        total, changed, labelled, mended, harmed = self._changes
        return AttentionReport(
            len(self.patches),
            *_error_and_cosine(*squares.sum(dim=1).tolist()),
            peak=torch.stack([torch.cat(one.strongest).max() for one in self.patches]).median().item(),
            changed=(changed / total).item(),
            mended=(mended / labelled).item(),
            harmed=(harmed / labelled).item(),
            miou=(mechanism.before.miou, mechanism.after.miou, mechanism.gold.miou),
            classes=tuple(self._classes(squares)),
        )

    def _classes(self, squares: Tensor) -> Iterator[ClassAttention]:
        shares = (squares[2] / squares[2].sum()).tolist()
        for k, name in enumerate(self.names):
            strongest, filled = (torch.cat([one[part][k] for one in self.patches]) for part in (1, 2))
            with_class, without = strongest[filled].numpy(), strongest[~filled].numpy()
            pairs = with_class.size * without.size
            auc = float(mannwhitneyu(with_class, without).statistic) / pairs if pairs else math.nan
            yield ClassAttention(name, shares[k], *_error_and_cosine(*squares[:, k].tolist()), auc)


def _measure(attention: Attention, label: Tensor, count: int) -> _PatchFigures:
    if isinstance(attention, PatchAttention):
        attention = GroupedAttention((attention,), (tuple(range(count)),))
    gold = make_gold(attention, lambda grid: gold_attention_from_index(label, grid, count))
    found: list[list[tuple[Tensor, Tensor, Tensor]]] = [[] for _ in range(count)]
    for classes, own, wanted in zip(attention.classes, attention.parts, list_parts(gold), strict=True):
        for k, one in zip(classes, _measure_part(own, wanted), strict=True):
            found[k].append(one)
    nothing = [(torch.zeros(3), torch.empty(0), torch.empty(0, dtype=torch.bool))]
    squares, strongest, filled = zip(*(zip(*(one or nothing), strict=True) for one in found), strict=True)
    means = torch.stack([torch.stack(each).mean(dim=0) for each in squares], dim=1)
    return _PatchFigures(means.double().cpu(), *([torch.cat(x).cpu() for x in each] for each in (strongest, filled)))


def _measure_part(attention: PatchAttention, gold: PatchAttention) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Class by class: (3,) squared distance and norms, (N,) largest entries of the rows, (N,) filled patches."""
    for factors in zip(*(each[0].to(gold.key.dtype) for each in (*attention[:2], *gold[:2])), strict=True):
        query, key, gold_query, gold_key = factors  # of one class, whose matrices fit into memory
        own, wanted = query @ key.mT / query.shape[-1], gold_query @ gold_key.mT / query.shape[-1]
        squares = torch.stack([x.square().mean() for x in (own - wanted, own, wanted)])
        yield squares, own.amax(dim=1), gold_query.any(dim=1)


def _error_and_cosine(distance: float, own: float, gold: float) -> tuple[float, float]:
    size = math.sqrt(own * gold)
    return distance / gold if gold else math.nan, (own + gold - distance) / (2 * size) if size else math.nan
