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

from afma_med.data.class_table import ClassInfo, class_names
from afma_med.metrics.class_iou import predicted_index
from afma_med.metrics.pixel_counts import spacing_of

__all__ = ["PerClassMetric"]


class PerClassMetric(Metric):
    """Run a MONAI metric, such as Dice or a surface distance, on each class of each image or volume, and average.

    The mean is over the images for which the metric has a finite value: MONAI's Dice has none where the class is not
    in the label, a surface distance none where it is not in the label or not in the prediction. The classes are given
    to the metric one at a time, so that a volume of many classes does not fill the memory.

    Attached under a name, it leaves ``<name>/<class>`` in ``engine.state.metrics``; a class without a value is NaN.
    MONAI's own handlers take no spacing, and of several classes give the mean or a tensor, hence this one.

    Args:
        metric_fn: of MONAI, with ``include_background=True``, since it sees one class at a time.
        classes: table of the classes; the first one is background and has no scores.
        use_spacing: give the metric the label's spacing in millimetres.
        output_transform: engine output -> (predictions, labels): lists or batches of logits (K,H,W) or (K,H,W,D) and
            of labels (1,H,W) or (1,H,W,D).

    Example:
        >>> from afma_med.data import isic
        >>> from monai.metrics import DiceMetric
        >>> metric = PerClassMetric(DiceMetric(include_background=True), isic.CLASSES)
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
        """Forget what was measured."""
        self.metric_fn.reset()

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Measure predictions (K,H,W) against labels (1,H,W), image by image; void pixels are no object of either.

        Raises:
            ValueError: if a prediction has not K channels or another size than its label.
        """
        for logits, label in zip(*output, strict=True):
            index, target = predicted_index(logits, label, classes=len(self.names))
            valid = (target >= 0) & (target < len(self.names))
            options = {"spacing": spacing_of(label)} if self.use_spacing else {}
            for k in range(1, len(self.names)):
                self.metric_fn(((index == k) & valid)[None, None], (target == k)[None, None], **options)

    def compute(self) -> dict[str, float]:
        """Return the mean of each class, over all processes."""
        values = self.per_image()
        values = values.masked_fill(~values.isfinite(), torch.nan)
        return dict(zip(self.names[1:], values.nanmean(dim=0).tolist(), strict=True))

    def per_image(self) -> Tensor:
        """Return (images,K-1) values as the metric gave them, over all processes."""
        buffer = self.metric_fn.get_buffer()
        found: Tensor = torch.zeros(0) if buffer is None else torch.as_tensor(buffer)
        return found.reshape(-1, len(self.names) - 1).double()

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the named scalars in ``engine.state.metrics``."""
        engine.state.metrics.update({f"{name}/{key}": value for key, value in self.compute().items()})
