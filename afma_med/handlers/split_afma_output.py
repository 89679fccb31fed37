"""Separate the logits from the attention in a MONAI trainer, and log the terms of the loss."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from afma_med.losses import AFMALoss

__all__ = ["SplitAFMAOutputHandler"]

_NAMES = ("train/loss", "train/segmentation_loss", "train/attention_loss")


class SplitAFMAOutputHandler:
    """Keep only the logits in the trainer's ``pred`` once the loss is computed, and log the terms of the loss.

    With ``attention_supervision``, an AFMANet in train mode returns (logits, attention). The loss needs both, but train
    metrics, post-processing and image handlers expect logits. Attach this handler to the trainer before them.

    The mean loss of each epoch is written to ``train/loss`` in ``engine.state.metrics``, which TensorBoardStatsHandler
    logs. If the trainer's ``loss_function`` is an :class:`~afma_med.AFMALoss`, the means of its two terms are written
    to ``train/segmentation_loss`` and ``train/attention_loss``.

    Example:
        >>> handlers = [SplitAFMAOutputHandler()]  # train_handlers of a monai.engines.SupervisedTrainer
    """

    def __init__(self) -> None:
        self._means: dict[str, Average] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._means.clear())
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def __call__(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        prediction = output[CommonKeys.PRED]
        if isinstance(prediction, tuple | list):
            output[CommonKeys.PRED] = prediction[0]
        # A trainer attaches its handlers before it has its loss.
        loss = getattr(engine, "loss_function", None)
        terms = loss.latest_terms if isinstance(loss, AFMALoss) else None
        for name, value in zip(_NAMES, [output[CommonKeys.LOSS], *(terms or ())], strict=False):
            self._means.setdefault(name, Average()).update(float(value.detach()))

    def _finish(self, engine: Engine) -> None:
        engine.state.metrics.update({name: float(mean.compute()) for name, mean in self._means.items()})
