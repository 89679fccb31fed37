"""Scores of objects, and of pixels by object size, as MONAI metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import NDArray
from torch import Tensor

from afma_med.data.objects.sizes import SIZES, SizeGroups
from afma_med.metrics.class_masks import MaskOptions, measure_classes
from afma_med.metrics.object_detection import count_matches, scores_from_matches
from afma_med.metrics.pixel_counts import COMPANY, OBJECTS, count_pixels, object_counts, spacing_of
from afma_med.metrics.pixel_scores import scores_from_pixels

__all__ = ["ObjectDetectionMetric", "ObjectSizeMetric"]


class _CountedMetric(CumulativeIterationMetric):
    """Count in each class of each image, and compute scores from the sums over all images."""

    #: Names of the scores.
    scores: tuple[str, ...]

    def __init__(
        self,
        metric_name: Sequence[str] | str,
        *,
        options: MaskOptions,
        size_groups: SizeGroups | None,
        reduction: str,
    ) -> None:
        super().__init__()
        self.metric_name = (metric_name,) if isinstance(metric_name, str) else tuple(metric_name)
        unknown = [name for name in self.metric_name if name not in self.scores]
        if unknown or not self.metric_name:
            raise ValueError(
                f"`metric_name` must be one or several of {', '.join(self.scores)}; got {metric_name!r}. "
                "Choose from them."
            )
        _check_reduction(reduction)
        self.options = options
        self.size_groups = size_groups or SizeGroups()
        self.reduction = reduction

    def _compute_tensor(
        self, y_pred: Tensor, y: Tensor | None = None, *, spacing: Sequence[float] | None = None, **_: Any
    ) -> Tensor:
        def count(prediction: NDArray[np.bool_], label: NDArray[np.bool_], number: int) -> NDArray[np.int64]:
            own = spacing if spacing is not None or y is None else spacing_of(y[number])
            return self._count(prediction, label, own)

        return measure_classes(count, y_pred, y, self.options).to(y_pred.device)

    def aggregate(self, reduction: str | None = None) -> Tensor | list[Tensor]:
        """Return the scores over all images and processes.

        Args:
            reduction: ``"mean"`` over the classes that have the score, or ``"mean_batch"`` for the value of each class.

        Returns:
            A tensor; for several names of scores, a list of tensors. NaN where no class has the score.

        Raises:
            ValueError: If nothing was measured, or the reduction is unknown.
        """
        reduction = _check_reduction(reduction or self.reduction)
        buffer = self.get_buffer()  # type: ignore[no-untyped-call]
        if buffer is None:
            raise ValueError("The metric must be called before `aggregate`; got no images. Call it for each batch.")
        scores = self._scores(buffer.double().sum(0).cpu())
        values = [scores[name] if reduction == "mean_batch" else scores[name].nanmean() for name in self.metric_name]
        return values[0] if len(values) == 1 else values

    def _count(
        self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Sequence[float] | None
    ) -> NDArray[np.int64]:
        raise NotImplementedError

    def _scores(self, counts: Tensor) -> Mapping[str, Tensor]:
        raise NotImplementedError


class ObjectDetectionMetric(_CountedMetric):
    """Compute precision, recall or F1 of objects over all images.

    The scores are those of :class:`ObjectDetection`, in the form of MONAI's ``ConfusionMatrixMetric``: objects are
    connected components of a class, and match one to one if their IoU is at least ``min_iou``. Predictions are class
    indices or one-hot maps; logits and probabilities are refused.

    Args:
        metric_name: ``"precision"``, ``"recall"``, ``"F1"``, ``"recall_small"``, ``"recall_medium"`` or
            ``"recall_large"``, or several of them.
        min_iou: Smallest IoU of a match.
        size_groups: Bounds between small, medium and large objects; default: 32² and 96² pixels.
        num_classes: Number of classes K; needed if both label and prediction are class indices.
        ignore_index: Label value of void pixels.
        include_background: Measure class 0 too, if there are several classes.
        reduction: ``"mean"`` over the classes, or ``"mean_batch"`` for the value of each class.

    Raises:
        ValueError: If ``min_iou`` is not in (0, 1], or a score or reduction is unknown.

    Example:
        >>> y = torch.tensor([[[[1, 1, 0, 1]]]])
        >>> metric = ObjectDetectionMetric("recall")
        >>> _ = metric(torch.tensor([[[[1, 1, 0, 0]]]]), y)
        >>> metric.aggregate().item()
        0.5
    """

    scores = ("precision", "recall", "F1", *(f"recall_{size}" for size in SIZES))

    def __init__(
        self,
        metric_name: Sequence[str] | str = "F1",
        *,
        min_iou: float = 0.5,
        size_groups: SizeGroups | None = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        include_background: bool = False,
        reduction: str = "mean",
    ) -> None:
        if not 0 < min_iou <= 1:
            raise ValueError(f"`min_iou` must be above 0 and at most 1; got {min_iou!r}. 0.5 is usual.")
        self.min_iou = min_iou
        options = MaskOptions(num_classes, ignore_index, include_background)
        super().__init__(metric_name, options=options, size_groups=size_groups, reduction=reduction)

    def _count(
        self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Sequence[float] | None
    ) -> NDArray[np.int64]:
        unit = self.size_groups.pixel_size(spacing, label.ndim)
        return count_matches(label, prediction, self.size_groups, min_iou=self.min_iou, unit=unit)

    def _scores(self, counts: Tensor) -> Mapping[str, Tensor]:
        return scores_from_matches(counts)


class ObjectSizeMetric(_CountedMetric):
    """Compute IoU or recall of the pixels of objects of one size, or of lone objects, over all images.

    The scores are those of :class:`ClassIoU`. The mean over classes is over those that have label objects of the size.
    Predictions are class indices or one-hot maps; logits and probabilities are refused.

    Args:
        metric_name: ``"IoU_small"``, ``"IoU_medium"``, ``"IoU_large"``, ``"IoU_lone"`` (objects that are the only one
            of their class in an image), ``"IoU_accompanied"`` (all others), the same with ``recall``, or several of
            them.
        size_groups: Bounds between small, medium and large objects; default: 32² and 96² pixels.
        num_classes: Number of classes K; needed if both label and prediction are class indices.
        ignore_index: Label value of void pixels.
        include_background: Measure class 0 too, if there are several classes.
        reduction: ``"mean"`` over the classes, or ``"mean_batch"`` for the value of each class; NaN for classes
            without label objects of the size.

    Raises:
        ValueError: If a score or reduction is unknown.

    Example:
        >>> y = torch.tensor([[[[1, 1, 0, 1]]]])
        >>> metric = ObjectSizeMetric("recall_small")
        >>> _ = metric(torch.tensor([[[[1, 1, 0, 0]]]]), y)
        >>> round(metric.aggregate().item(), 3)
        0.667
    """

    scores = tuple(f"{kind}_{which}" for kind in ("IoU", "recall") for which in (*SIZES, *COMPANY))

    def __init__(
        self,
        metric_name: Sequence[str] | str = "IoU_small",
        *,
        size_groups: SizeGroups | None = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        include_background: bool = False,
        reduction: str = "mean",
    ) -> None:
        options = MaskOptions(num_classes, ignore_index, include_background)
        super().__init__(metric_name, options=options, size_groups=size_groups, reduction=reduction)

    def _count(
        self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Sequence[float] | None
    ) -> NDArray[np.int64]:
        predicted, true = (torch.from_numpy(mask).int() for mask in (prediction, label))
        confusion, objects = count_pixels(predicted, true, 2, groups=self.size_groups, spacing=spacing)
        counts: NDArray[np.int64] = object_counts(confusion, objects)[1].numpy()
        return counts

    def _scores(self, counts: Tensor) -> Mapping[str, Tensor]:
        names = [str(k) for k in range(len(counts))]
        found = scores_from_pixels(counts.numpy(), names, OBJECTS)
        scores = {}
        for name in self.scores:
            values = torch.tensor([float(found[f"{name}_objects/{k}"]) for k in names])
            absent = counts[:, OBJECTS.index(name.rpartition("_")[2]), 0] == 0
            scores[name] = values.masked_fill(absent, torch.nan)
        return scores


def _check_reduction(reduction: str) -> str:
    if reduction not in ("mean", "mean_batch"):
        raise ValueError(f"`reduction` must be 'mean' or 'mean_batch'; got {reduction!r}. Choose one of them.")
    return reduction
