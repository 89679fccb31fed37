"""Component-wise Dice and panoptic quality of connected components, as MONAI metrics."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from monai.metrics import CumulativeIterationMetric, PanopticQualityMetric
from monai.metrics.utils import do_metric_reduction
from monai.utils import MetricReduction
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.components import component_regions
from afma_med.metrics.class_masks import MaskOptions, Spacing, measure_classes, values_of_images
from afma_med.metrics.object_matches import overlap_objects

__all__ = ["ComponentDiceMetric", "ComponentPanopticQualityMetric"]


class ComponentDiceMetric(CumulativeIterationMetric):
    """Compute the Dice of each label object in its own region and average over objects (CC-Dice).

    An object is a connected component of a class in the label; pixels that touch at a corner are connected. Each pixel
    of the image belongs to its nearest object of the class, and the Dice of an object counts the pixels of its region.
    The value of an image is the mean over its objects; NaN for a class without label objects. A call takes the
    distances between pixels along each axis as ``spacing``; default: 1.

    MONAI's ``DiceMetric(per_component=True)`` computes the same for one foreground class; this metric takes several
    classes, class indices, void pixels and a spacing.

    Args:
        num_classes, ignore_index, include_background: See :class:`ObjectDetectionMetric`.
        reduction: MONAI's reduction of the (images, classes) values.

    Example:
        >>> import torch
        >>> y = torch.tensor([[[[1, 1, 0, 0, 0, 1]]]])
        >>> metric = ComponentDiceMetric()
        >>> _ = metric(torch.tensor([[[[1, 1, 0, 0, 0, 0]]]]), y)
        >>> metric.aggregate().item()
        0.5

    Reference:
        Jaus et al.: Every Component Counts: Rethinking the Measure of Success for Medical Semantic Segmentation in
        Multi-Instance Segmentation Tasks, AAAI 2025.
    """

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        include_background: bool = False,
        reduction: MetricReduction | str = MetricReduction.MEAN,
    ) -> None:
        super().__init__()
        self.options = MaskOptions(num_classes, ignore_index, include_background)
        self.reduction = reduction

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, *, spacing: Spacing = None, **_: Any) -> Tensor:
        return measure_classes(_mean_dice, y_pred, y, self.options, spacing=spacing)

    def aggregate(self, reduction: MetricReduction | str | None = None) -> Tensor:
        """Reduce the values of all images, over all processes, as MONAI's ``DiceMetric`` does.

        Raises:
            ValueError: If nothing was measured.
        """
        value: Tensor = do_metric_reduction(values_of_images(self), reduction or self.reduction)[0]
        return value


class ComponentPanopticQualityMetric(PanopticQualityMetric):
    """Compute the panoptic quality of connected components.

    MONAI's ``PanopticQualityMetric`` takes numbered instances; this one finds the objects of class maps. Label objects
    and predicted objects of a class match if their IoU is above ``match_iou_threshold``. Over all images, SQ is the
    mean IoU of the matches, RQ the F1 of the objects, and PQ = SQ · RQ. ``aggregate`` is MONAI's: it returns one value
    for each class, and 0 for classes without objects.

    Args:
        metric_name: ``"pq"``, ``"sq"`` or ``"rq"``, or several of them.
        num_classes, ignore_index, include_background: See :class:`ObjectDetectionMetric`.
        match_iou_threshold: From 0.5 to below 1, so that an object has at most one match.
        reduction: MONAI's reduction of the counts before the scores are computed.

    Raises:
        ValueError: If ``match_iou_threshold`` is out of its range.

    Example:
        >>> import torch
        >>> y = torch.tensor([[[[1, 1, 0, 1]]]])
        >>> metric = ComponentPanopticQualityMetric()
        >>> _ = metric(torch.tensor([[[[1, 1, 0, 0]]]]), y)
        >>> round(metric.aggregate().item(), 3)
        0.667

    Reference:
        Kirillov et al.: Panoptic Segmentation, CVPR 2019.
    """

    def __init__(
        self,
        metric_name: Sequence[str] | str = "pq",
        *,
        num_classes: int | None = None,
        ignore_index: int | None = None,
        include_background: bool = False,
        match_iou_threshold: float = 0.5,
        reduction: MetricReduction | str = MetricReduction.MEAN_BATCH,
    ) -> None:
        if not 0.5 <= match_iou_threshold < 1:
            raise ValueError(
                f"`match_iou_threshold` must be from 0.5 to below 1; got {match_iou_threshold!r}. 0.5 is usual."
            )
        super().__init__(num_classes or 0, metric_name, reduction, match_iou_threshold)
        self.options = MaskOptions(num_classes, ignore_index, include_background)

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **_: Any) -> Tensor:
        return measure_classes(partial(_panoptic_counts, self.match_iou_threshold), y_pred, y, self.options)


def _mean_dice(prediction: NDArray[np.bool_], label: NDArray[np.bool_], spacing: Spacing) -> float:
    """Average the Dice of each object of a label in its region; NaN without objects."""
    regions, count = component_regions(label, spacing=spacing)
    both, predicted, true = (
        np.bincount(regions[mask], minlength=count + 1)[1:] for mask in (prediction & label, prediction, label)
    )
    return float((2 * both / (predicted + true)).mean()) if count else np.nan


def _panoptic_counts(
    threshold: float, prediction: NDArray[np.bool_], label: NDArray[np.bool_], _: Spacing
) -> tuple[float, float, float, float]:
    """Count matches, unmatched predictions and unmatched label objects, and add up the IoU of the matches."""
    sizes, _pairs, overlap = overlap_objects(label, prediction)
    matched = overlap > threshold
    hits = int(matched.sum())
    return hits, len(sizes[1]) - hits, len(sizes[0]) - hits, float(overlap[matched].sum())
