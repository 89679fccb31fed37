"""Scores of objects, and of pixels by object size, as MONAI metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import NDArray
from torch import Tensor

from afma_med.data.objects.sizes import SIZES, SizeGroups
from afma_med.metrics.class_masks import MaskOptions, Spacing, measure_classes, values_of_images
from afma_med.metrics.object_matches import count_matches, scores_from_matches
from afma_med.metrics.pixel_counts import COMPANY, OBJECTS, count_pixels, object_counts
from afma_med.metrics.pixel_scores import scores_from_pixels

__all__ = ["ObjectDetectionMetric", "ObjectSizeMetric"]


class _CountedMetric(CumulativeIterationMetric):
    """Count in each class of each image, and compute scores from the sums over all images."""

    #: Names of the scores.
    scores: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        metric_name: Sequence[str] | str,
        *,
        size_groups: SizeGroups | None = None,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        include_background: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        self.metric_name = (metric_name,) if isinstance(metric_name, str) else tuple(metric_name)
        if not self.metric_name or not {*self.metric_name} <= {*self.scores}:
            raise ValueError(
                f"`metric_name` must be one or several of {', '.join(self.scores)}; got {metric_name!r}. "
                "Choose from them."
            )
        self.size_groups = size_groups or SizeGroups()
        self.options = MaskOptions(num_classes, ignore_index, include_background)
        self.reduction = _check_reduction(reduction)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, *, spacing: Spacing = None, **_: Any) -> Tensor:
        own: Spacing | Literal["label"] = "label" if spacing is None else spacing
        return measure_classes(self._count, y_pred, y, self.options, spacing=own)

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
        scores = self._scores(values_of_images(self).double().sum(0).cpu())
        values = [scores[name] if reduction == "mean_batch" else scores[name].nanmean() for name in self.metric_name]
        return values[0] if len(values) == 1 else values

    def _count(self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.int64]:
        raise NotImplementedError

    def _scores(self, counts: Tensor) -> Mapping[str, Tensor]:
        raise NotImplementedError


class ObjectDetectionMetric(_CountedMetric):
    """Compute precision, recall or F1 of objects (lesion-wise scores) over all images.

    Objects are the connected components of a class in label and prediction; pixels that touch at a corner are
    connected. Label objects and predicted objects of a class are matched one to one, the largest overlap first, if
    their IoU is at least ``min_iou``. Over all images, recall is the part of the label objects that are matched,
    precision the part of the predicted objects that are matched, and F1 = 2 · matched / (label objects + predicted
    objects). Predictions are class indices or one-hot maps; logits and probabilities are refused.

    Args:
        metric_name: ``"precision"``, ``"recall"``, ``"F1"``, ``"recall_small"``, ``"recall_medium"`` or
            ``"recall_large"``, or several of them.
        min_iou: Smallest IoU of a match; the LiTS challenge uses 0.5.
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

    Reference:
        Bilic et al.: The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023.
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
        super().__init__(
            metric_name,
            size_groups=size_groups,
            num_classes=num_classes,
            ignore_index=ignore_index,
            include_background=include_background,
            reduction=reduction,
        )

    def _count(self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.int64]:
        unit = self.size_groups.pixel_size(spacing, label.ndim)
        return count_matches(label, prediction, self.size_groups, min_iou=self.min_iou, unit=unit)

    def _scores(self, counts: Tensor) -> Mapping[str, Tensor]:
        return scores_from_matches(counts)


class ObjectSizeMetric(_CountedMetric):
    """Compute IoU or recall of the pixels of objects of one size, or of lone objects, over all images.

    The scores are those of :class:`ClassIoU`. The mean over classes is over those that have label objects of the size.

    Args:
        metric_name: ``"IoU_small"``, ``"IoU_medium"``, ``"IoU_large"``, ``"IoU_lone"`` (objects that are the only one
            of their class in an image), ``"IoU_accompanied"`` (all others), the same with ``recall``, or several.
        options: ``size_groups``, ``num_classes``, ``ignore_index``, ``include_background`` and ``reduction`` of
            :class:`ObjectDetectionMetric`.

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

    def __init__(self, metric_name: Sequence[str] | str = "IoU_small", **options: Any) -> None:
        super().__init__(metric_name, **options)

    def _count(self, prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Spacing) -> NDArray[np.int64]:
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
