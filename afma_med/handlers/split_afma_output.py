"""Separate the logits from the attention in a MONAI trainer, and log the terms of the loss."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from afma_med.losses import AFMALoss

__all__ = ["SplitAFMAOutputHandler"]


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
        names = ("train/loss", "train/segmentation_loss", "train/attention_loss")
        self._means = {name: Average() for name in names}
        self._has_terms = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._reset)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._finish)

    def __call__(self, engine: Engine) -> None:
        output: dict[str, Any] = engine.state.output  # type: ignore[assignment]
        prediction = output[CommonKeys.PRED]
        if isinstance(prediction, tuple | list):
            output[CommonKeys.PRED] = prediction[0]
        values = [output[CommonKeys.LOSS]]
        # A trainer attaches its handlers before it has its loss.
        loss = getattr(engine, "loss_function", None)
        self._has_terms = isinstance(loss, AFMALoss) and loss.latest_terms is not None
        if self._has_terms:
            values += loss.latest_terms  # type: ignore[union-attr]
        for mean, value in zip(self._means.values(), values, strict=False):
            mean.update(float(value.detach()))

    def _reset(self, engine: Engine) -> None:
        for mean in self._means.values():
            mean.reset()

    def _finish(self, engine: Engine) -> None:
        names = list(self._means) if self._has_terms else ["train/loss"]
        engine.state.metrics.update({name: float(self._means[name].compute()) for name in names})
