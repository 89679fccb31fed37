"""Precision-recall curves for TensorBoard, over a whole section in bounded memory."""

from __future__ import annotations

from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from afma_med._ops.finite import check_finite
from afma_med._ops.labels import whole_numbers
from afma_med._ops.tensors import is_probability, without_metadata

__all__ = ["PRCurvesHandler"]


class PRCurvesHandler:
    """Add the precision-recall curve of the object's pixels to TensorBoard after each epoch of the evaluator.

    Pixels are counted by probability, in one bin for each threshold. Void pixels are ignored. With several processes,
    each process counts and the first one writes. Predictions are logits: (2,...) of a softmax, or (1,...) of a sigmoid.

    Args:
        summary_writer: Writer of the curve; None in the other processes.
        name: Name of the curve.
        thresholds: Number of points.
    """

    def __init__(self, summary_writer: SummaryWriter | None, *, name: str = "object", thresholds: int = 127) -> None:
        self.summary_writer = summary_writer
        self.name = name
        self.thresholds = thresholds
        self._counts = torch.zeros(2, thresholds, dtype=torch.int64)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator of two classes, or of one (sigmoid), whose output is decollated."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._counts.zero_())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        counts = idist.all_reduce(self._counts.to(idist.device())).cpu().double()  # type: ignore[union-attr]
        if self.summary_writer is None:
            return
        # At a threshold, the pixels of its bin and of higher bins are predicted as object.
        false_positive, true_positive = counts.flip(1).cumsum(1).flip(1)
        negatives, positives = counts.sum(1)
        predicted = true_positive + false_positive
        self.summary_writer.add_pr_curve_raw(
            f"precision-recall/{self.name}",
            *(true_positive, false_positive, negatives - false_positive, positives - true_positive),
            # Without predicted pixels the precision is 1.
            precision=torch.where(predicted > 0, true_positive, 1) / predicted.clamp_min(1),
            recall=true_positive / positives.clamp_min(1),
            global_step=engine.state.epoch,
            num_thresholds=self.thresholds,
        )

    def _count(self, engine: Engine) -> None:
        items: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for item in items:
            logits = item[CommonKeys.PRED].detach()
            check_finite(logits, logits, item.get(CommonKeys.IMAGE))
            probability = _object_probability(without_metadata(logits).float())
            label = whole_numbers("label", item[CommonKeys.LABEL].detach())[0]
            bins = (probability * self.thresholds).long().clamp_max(self.thresholds - 1)
            pairs = (label * self.thresholds + bins)[(label == 0) | (label == 1)]
            self._counts += torch.bincount(pairs, minlength=2 * self.thresholds).view(2, -1).cpu()


def _object_probability(logits: Tensor) -> Tensor:
    if len(logits) > 2:
        raise ValueError(
            f"`PRCurvesHandler` must get predictions with one or two channels; got {len(logits)} channels. "
            "Leave it out for datasets with more classes."
        )
    if is_probability(logits, 0):
        raise ValueError(
            "`PRCurvesHandler` must get logits; got probabilities, which sum to 1. Leave out the softmax, or take "
            "their logarithm."
        )
    return logits[0].sigmoid() if len(logits) == 1 else logits.softmax(dim=0)[1]
