"""Make a network of two outputs look like one to the rest of a MONAI training."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine
from ignite.metrics import Average
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from afma_med.losses import AFMALoss

__all__ = ["SplitAFMAOutput"]


class SplitAFMAOutput:
    """Leave the logits alone in the trainer's ``pred`` once the loss is computed, and log the loss's terms.

    With ``attention_supervision`` an AFMANet in train mode returns (logits, attention). The loss needs both; train
    metrics, post-processing and image handlers expect logits. Attach this handler to the trainer before them.
    The epoch's means of loss, segmentation and attention term go to ``train/loss``, ``train/segmentation_loss`` and
    ``train/attention_loss`` in ``engine.state.metrics``, where TensorBoardStatsHandler finds them.

    Args:
        loss: the trainer's loss, which remembers its latest terms; None if it is no AFMALoss.

    Example:
        >>> handlers = [SplitAFMAOutput(AFMALoss())]  # train_handlers of a monai.engines.SupervisedTrainer
    """

    def __init__(self, loss: AFMALoss | None = None) -> None:
        self.loss = loss

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        Average(output_transform=_loss).attach(engine, "train/loss")
        if self.loss is not None:
            Average(output_transform=lambda _: self._term(0)).attach(engine, "train/segmentation_loss")
            Average(output_transform=lambda _: self._term(1)).attach(engine, "train/attention_loss")

    def __call__(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        prediction = output[CommonKeys.PRED]
        if isinstance(prediction, tuple | list):
            output[CommonKeys.PRED] = prediction[0]

    def _term(self, index: int) -> float:
        if self.loss is None or self.loss.latest_terms is None:
            raise RuntimeError(
                "`loss` must be the trainer's own loss; it was never called. Pass the same AFMALoss to both."
            )
        return float(self.loss.latest_terms[index])


def _loss(output: Any) -> float:
    """The batch's loss out of an output that may be decollated, where every item holds the same one."""
    item = output[0] if isinstance(output, list) else output
    return float(item[CommonKeys.LOSS])
