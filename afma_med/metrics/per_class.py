"""MONAI's own metrics on whole images and volumes, class by class, in millimetres, as named scalars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from afma_med.data.class_table import ClassInfo, class_names, classes_with_objects
from afma_med.metrics.class_iou import predicted_index
from afma_med.metrics.pixel_counts import spacing_of

__all__ = ["PerClassMetric"]


class PerClassMetric(Metric):
    """Run a MONAI metric, such as Dice or a surface distance, on each class of each image or volume, and average.

    The mean is over the images for which the metric is finite: MONAI's Dice needs the class in the label, a surface
    distance needs it in label and prediction. The classes are passed one at a time, which saves memory for volumes
    with many classes.

    Attached under a name, the metric writes ``<name>/<class>`` to ``engine.state.metrics``; NaN for a class without a
    value. MONAI's own handlers do not pass a spacing and do not give one scalar for each class.

    Args:
        metric_fn: Metric of MONAI with ``include_background=True``, because it gets one class at a time.
        classes: Table of the classes. The background, or without such a name the first class, has no scores.
        use_spacing: Pass the label's spacing in millimetres to the metric.
        output_transform: Function of the engine's output that returns predictions and labels: lists or batches of
            logits, probabilities or one-hot maps (K,H,W) or (K,H,W,D), whose largest channel is the class, and of
            labels (1,H,W) or (1,H,W,D).

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
        classes: Sequence[ClassInfo],
        *,
        use_spacing: bool = False,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.metric_fn = metric_fn
        self.names = class_names(classes)
        self.use_spacing = use_spacing
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Clear all values."""
        self.metric_fn.reset()

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Measure predictions (K,H,W) against labels (1,H,W), image by image. Void pixels belong to no class.

        Raises:
            ValueError: If a prediction does not have K channels or the size of its label, or a value of the label is
                not a whole number.
            NonFiniteError: If a prediction is NaN or infinite; the message names the image.
        """
        for logits, label in zip(*output, strict=True):
            index, target = predicted_index(logits, label, classes=len(self.names))
            valid = (target >= 0) & (target < len(self.names))
            options = {"spacing": spacing_of(label)} if self.use_spacing else {}
            for k in classes_with_objects(self.names):
                self.metric_fn(((index == k) & valid)[None, None], (target == k)[None, None], **options)

    def compute(self) -> dict[str, float]:
        """Return the mean of each class, over all processes."""
        values = self.per_image()
        values = values.masked_fill(~values.isfinite(), torch.nan)
        names = [self.names[k] for k in classes_with_objects(self.names)]
        return dict(zip(names, values.nanmean(dim=0).tolist(), strict=True))

    def per_image(self) -> Tensor:
        """Return the (images, classes with objects) values of the metric, over all processes."""
        buffer = self.metric_fn.get_buffer()
        found: Tensor = torch.zeros(0) if buffer is None else torch.as_tensor(buffer)
        return found.reshape(-1, len(classes_with_objects(self.names))).double()

    def completed(self, engine: Engine, name: str) -> None:
        """Write the named scalars to ``engine.state.metrics``."""
        engine.state.metrics.update({f"{name}/{key}": value for key, value in self.compute().items()})
