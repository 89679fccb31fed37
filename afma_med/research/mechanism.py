"""Tests of the mechanism on trained weights: whether it matters what the attention is, and whom the gain reaches.

The correction claims that small objects gain from large ones of their class in the same image. If it is so, small
objects beside a large one gain more than others, and lose when attention and values are those of another image.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from afma_med.data.class_table import class_groups, class_names
from afma_med.data.dataset_reader import Item
from afma_med.data.object_sizes import SIZES
from afma_med.functional import PatchAttention, gold_attention_from_index
from afma_med.metrics.pixel_counts import count_pixels, object_counts
from afma_med.metrics.pixel_scores import scores_from_pixels
from afma_med.metrics.small_objects import score_small_objects
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing
from afma_med.research.attended_images import Attended, check_measurable, labelled_items, with_next
from afma_med.research.attention_report import AttentionReport, AttentionTally
from afma_med.research.mechanism_report import FORMS, FormScores, MechanismReport
from afma_med.runs.finished_run import FinishedRun
from afma_med.visualize.attention import decide, find_afma

__all__ = ["correct_in_all_forms", "measure_mechanism", "measure_run"]


def correct_in_all_forms(
    afma: AFMANet, logits: Tensor, attention: Any, *, other: tuple[Tensor, Any], index: Tensor
) -> dict[str, Tensor]:
    """Correct logits by the network's attention and by others in its place.

    Args:
        afma: the network. If its attention is no :class:`~afma_med.PatchAttention`, the attention has methods
            ``zeroed()`` and ``swapped(other)``, and the network ``gold(logits, attention, index)``.
        logits, attention: of ``afma.attend`` on an image.
        other: those of another image, which may be of another size.
        index: (B,H,W) int64 train ids of the image, negative where it is void.

    Returns:
        Logits (B,K,H,W) by the names of :data:`afma_med.research.mechanism_report.FORMS`.

    Raises:
        TypeError: if an attention of another kind has not these methods.

    Example:
        >>> from torch import nn
        >>> host = nn.Sequential(nn.Conv2d(3, 4, 2, stride=2), nn.ConvTranspose2d(4, 2, 2, stride=2))
        >>> net = AFMANet(host, 2, feature="0").eval()
        >>> seen, other = (net.attend(torch.rand(1, 3, side, 40)) for side in (20, 60))
        >>> forms = correct_in_all_forms(net, *seen, other=other, index=torch.zeros(1, 20, 40, dtype=torch.long))
        >>> torch.equal(forms["zero"], forms["before"]), {name: tuple(one.shape) for name, one in forms.items()}["swap"]
        (True, (1, 2, 20, 40))
    """
    if not isinstance(attention, PatchAttention):
        return _correct_by_methods(afma, logits, attention, other=other[1], index=index)
    nothing = attention._replace(query=torch.zeros_like(attention.query), key=torch.zeros_like(attention.key))
    gold = gold_attention_from_index(index, attention.grid, attention.key.shape[1])
    values = afma.split_prediction(*other)
    return {
        "before": logits,
        "zero": afma.correct(logits, nothing),
        "after": afma.correct(logits, attention),
        "swap": afma.correct(logits, attention._replace(key=other[1].key), values),
        # A query of truth values cannot be multiplied.
        "gold": afma.correct(logits, gold._replace(query=gold.query.to(gold.key.dtype))),
    }


def measure_mechanism(run: FinishedRun, *, section: str = "val", limit: int | None = None) -> MechanismReport:
    """Score a run's predictions with its attention, without it, and with others in its place.

    Labels are compared at the size at which the network sees the images; the sizes of objects are pixels of it.

    Args:
        run: trained with AFMA, of images.
        section: with labels.
        limit: look at so many images only, the first ones.

    Raises:
        ValueError: if the run has no attention, its dataset is one of volumes, or the section has no labels.
        TypeError: if the attention is of an unknown kind.
    """
    afma, items = check_measurable(run), labelled_items(run, section, limit)
    tally = _MechanismTally(run, afma)
    for own, other in _in_pairs(run, afma, items):
        tally.add(own, other)
    return tally.report()


def measure_run(
    run: FinishedRun, *, section: str = "val", limit: int | None = None
) -> tuple[AttentionReport | None, MechanismReport | None]:
    """Measure a run's attention and test its mechanism.

    Args:
        run: finished.
        section: with labels.
        limit: look at so many images only, the first ones.

    Returns:
        What :func:`~afma_med.research.attention_report.measure_attention` finds, None for an attention that is not
        between patches; what :func:`measure_mechanism` finds. Both are None for runs without AFMA, and for those of
        volumes.

    Raises:
        ValueError: if the section has no labels.
        TypeError: if the attention is of an unknown kind.
    """
    if find_afma(run.network) is None or run.reader.read_volume is not None:
        return None, None
    afma, items = check_measurable(run), labelled_items(run, section, limit)
    attention, mechanism = AttentionTally(run, afma), _MechanismTally(run, afma)
    between_patches = True
    for own, other in _in_pairs(run, afma, items):
        between_patches = isinstance(own.attention, PatchAttention)
        if between_patches:
            attention.add(own)
        mechanism.add(own, other)
    return attention.report() if between_patches else None, mechanism.report()


class _MechanismTally:
    """Count pixels in all forms, image by image."""

    def __init__(self, run: FinishedRun, afma: AFMANet) -> None:
        self.run, self.afma = run, afma
        self._pixels: dict[str, list[Tensor]] = {form: [] for form in FORMS}

    def add(self, own: Attended, other: Attended) -> None:
        with probing(self.afma):
            forms = correct_in_all_forms(
                self.afma, own.logits, own.attention, other=(other.logits, other.attention), index=own.label
            )
        for form, counted in _count(self.run, forms, own.label[0].cpu()).items():
            # A single image has no other to swap with.
            self._pixels[form].append(0 * counted if form == "swap" and other is own else counted)

    def report(self) -> MechanismReport:
        images = len(self._pixels["before"])
        scores = (_score(self.run, torch.stack(counted).numpy()) for counted in self._pixels.values())
        return MechanismReport(images, *scores)


def _in_pairs(run: FinishedRun, afma: AFMANet, items: Sequence[Item]) -> Iterator[tuple[Attended, Attended]]:
    yield from tqdm(with_next(run, afma, items), total=len(items), desc=run.title, unit="image", disable=None)


def _correct_by_methods(afma: Any, logits: Tensor, attention: Any, *, other: Any, index: Tensor) -> dict[str, Tensor]:
    """The forms of a network whose attention is not between patches."""
    needed = {"zeroed": attention, "swapped": attention, "gold": afma}
    missing = [name for name, owner in needed.items() if not hasattr(owner, name)]
    if missing:
        raise TypeError(
            f"`attention` must be a PatchAttention, or have methods zeroed and swapped, and its network gold; "
            f"got {type(attention).__name__} of {type(afma).__name__} without {', '.join(missing)}. Add them."
        )
    used = attention.zeroed(), attention, attention.swapped(other), afma.gold(logits, attention, index)
    return {"before": logits, **{form: afma.correct(logits, one) for form, one in zip(FORMS[1:], used, strict=True)}}


def _scored(run: FinishedRun) -> list[int]:
    return [k for k, name in enumerate(class_names(run.reader.classes)) if name not in run.reader.unscored]


def _count(run: FinishedRun, forms: Mapping[str, Tensor], index: Tensor) -> dict[str, Tensor]:
    """(K,4,4) pixels of the scored classes for each form; equal predictions are counted once."""
    scored, classes = _scored(run), len(class_names(run.reader.classes))
    label = torch.where(torch.isin(index, torch.tensor(scored)), index, -1)
    counted: dict[bytes, Tensor] = {}
    found = {}
    for form, logits in forms.items():
        prediction = decide(logits)[0]
        key = prediction.tobytes()
        if key not in counted:
            matrix = count_pixels(torch.from_numpy(prediction), label, classes, groups=run.reader.size_groups)
            counted[key] = object_counts(matrix)[scored]
        found[form] = counted[key]
    return found


def _score(run: FinishedRun, pixels: NDArray[np.int64]) -> FormScores:
    names, objects = class_names(run.reader.classes), ("all", *SIZES)
    groups = {group: [names[k] for k in members] for group, members in class_groups(run.reader.classes).items()}
    scores = scores_from_pixels(pixels.sum(axis=0), [names[k] for k in _scored(run)], objects, groups=groups)
    miou, small = (float(scores.get(name, math.nan)) for name in ("mIoU", "mIoU_small"))
    return FormScores(miou, small, score_small_objects(pixels, objects))
