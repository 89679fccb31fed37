"""MONAI's metrics in Ignite engines: they get logits image by image and class by class, and give named scalars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics.metric import reinit__is_reduced
from monai.handlers import IgniteMetricHandler
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from afma_med.data.class_table import ClassInfo, class_names, classes_with_objects
from afma_med.data.objects.sizes import SIZES, SizeGroups
from afma_med.metrics.class_iou import predicted_index
from afma_med.metrics.object_matches import scores_from_matches
from afma_med.metrics.object_metrics import ObjectDetectionMetric
from afma_med.metrics.pixel_counts import spacing_of

__all__ = ["ObjectDetection", "PerClassMetric"]


class PerClassMetric(IgniteMetricHandler):
    """Run a MONAI metric, such as Dice or a surface distance, on each class of each image or volume, and average.

    The mean is over the images for which the metric is finite: MONAI's Dice needs the class in the label, a surface
    distance needs it in label and prediction. The classes are passed one at a time, which saves memory for volumes
    with many classes. Void pixels belong to no class.

    Attached under a name, the metric writes ``<name>/<class>`` to ``engine.state.metrics``; NaN for a class without a
    value. MONAI's own handlers do not pass a spacing and do not give one scalar for each class.

    Args:
        metric_fn: Metric of MONAI with ``include_background=True``, because it gets one class at a time.
        class_table: Table of the classes. The background, or without such a name the first class, has no scores.
        use_spacing: Pass the label's spacing in millimetres to the metric.
        output_transform: See :class:`ClassIoU`.

    Example:
        >>> from afma_med.data import ISIC
        >>> from monai.metrics import DiceMetric
        >>> metric = PerClassMetric(DiceMetric(include_background=True), ISIC.classes)
        >>> metric.update(([torch.tensor([[[0, 1, 1]], [[1, 0, 0]]])], [torch.tensor([[[1, 0, 1]]])]))
        >>> round(metric.compute()["lesion"], 3)
        0.667
    """

    def __init__(
        self,
        metric_fn: CumulativeIterationMetric,
        class_table: Sequence[ClassInfo],
        *,
        use_spacing: bool = False,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.class_names = class_names(class_table)
        self.class_indices = classes_with_objects(self.class_names)
        self.use_spacing = use_spacing
        super().__init__(metric_fn, output_transform=output_transform, save_details=False)

    @reinit__is_reduced
    def update(self, output: Sequence[Sequence[Tensor]]) -> None:
        """Measure predictions (K,H,W) against labels (1,H,W), image by image.

        Raises:
            ValueError: If a prediction does not have K channels or the size of its label, or a value of the label is
                not a whole number.
            NonFiniteError: If a prediction is NaN or infinite; the message names the image.
        """
        for logits, label in zip(*output, strict=True):
            index, target = predicted_index(logits, label, num_classes=len(self.class_names))
            options = {"spacing": spacing_of(label)} if self.use_spacing else {}
            for k in self.class_indices:
                predicted = (index == k) & (target >= 0)
                self.metric_fn(predicted[None, None], (target == k)[None, None], **options)

    def compute(self) -> dict[str, float]:
        """Return the mean of each class, over all processes."""
        values = self.per_image().items()
        return {name: x.masked_fill(~x.isfinite(), torch.nan).nanmean().item() for name, x in values}

    def per_image(self) -> dict[str, Tensor]:
        """Return the (images, ...) values of the metric by class, over all processes."""
        buffer = self.metric_fn.get_buffer()
        values = torch.zeros(0, 1) if buffer is None else torch.as_tensor(buffer).double()
        count = len(self.class_indices)
        return {self.class_names[k]: values[i::count, 0] for i, k in enumerate(self.class_indices)}

    def completed(self, engine: Engine, name: str) -> None:
        """Write the named scalars to ``engine.state.metrics``."""
        engine.state.metrics.update({f"{name}/{key}": value for key, value in self.compute().items()})


class ObjectDetection(PerClassMetric):
    """Compute the scores of :class:`ObjectDetectionMetric` of logits, class by class, in an Ignite engine.

    Attached under a name, the metric writes ``<name>_precision/<class>``, ``<name>_recall/<class>``,
    ``<name>_F1/<class>`` and, for label objects of each size, ``<name>_recall_<size>/<class>`` to
    ``engine.state.metrics``. Scores of classes and sizes that do not occur are NaN.

    Args:
        class_table: Table of the classes. The background, or without such a name the first class, has no scores.
        min_iou, size_groups: See :class:`ObjectDetectionMetric`.
        output_transform: See :class:`ClassIoU`.

    Example:
        >>> from afma_med.data import ISIC
        >>> metric = ObjectDetection(ISIC.classes)
        >>> metric.update(([torch.tensor([[[0, 1, 1]], [[1, 0, 0]]])], [torch.tensor([[[1, 0, 1]]])]))
        >>> metric.compute()["recall/lesion"]
        0.5
    """

    def __init__(
        self,
        class_table: Sequence[ClassInfo],
        *,
        min_iou: float = 0.5,
        size_groups: SizeGroups | None = None,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        metric_fn = ObjectDetectionMetric(min_iou=min_iou, size_groups=size_groups)
        super().__init__(metric_fn, class_table, use_spacing=True, output_transform=output_transform)

    def compute(self) -> dict[str, float]:
        """Return ``precision/<class>``, ``recall/<class>``, ``F1/<class>``, ``recall_<size>/<class>``."""
        scores = {name: scores_from_matches(counts) for name, counts in self._counts().items()}
        return {f"{key}/{name}": value.item() for name, found in scores.items() for key, value in found.items()}

    def matches(self) -> dict[str, list[list[int]]]:
        """Return the counts by class over all processes, as lists of the form of ``count_matches``."""
        return {name: counts.long().tolist() for name, counts in self._counts().items()}

    def completed(self, engine: Engine, name: str) -> None:
        """Write the named scalars to ``engine.state.metrics``."""
        engine.state.metrics.update({f"{name}_{key}": value for key, value in self.compute().items()})

    def _counts(self) -> dict[str, Tensor]:
        return {name: counts.view(-1, len(SIZES), 4).sum(dim=0) for name, counts in self.per_image().items()}
