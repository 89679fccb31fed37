"""Stop a training, or skip a step, if the loss is not finite."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from ignite.engine import Engine, Events
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys

from afma_med._ops.finite import file_names
from afma_med.checks import RunError

__all__ = ["FiniteLossHandler"]

logger = logging.getLogger(__name__)

Action = Literal["stop", "skip"]


class FiniteLossHandler:
    """Check the loss of each step. If it is NaN or infinite, name the files of the batch.

    It does not look at validations. There, :class:`~afma_med.metrics.ClassIoU` ends the training with an error that
    names the image, whatever the action: a prediction of NaN has no score.

    Args:
        action: ``"stop"`` ends the training with an error; it can resume from its last checkpoint. ``"skip"`` skips the
            step with a warning: weights, optimizer and running statistics do not change.

    Raises:
        ValueError: If ``action`` is not one of the two.

    Example:
        >>> watch = FiniteLossHandler("skip")  # train_handlers of a monai.engines.SupervisedTrainer
    """

    def __init__(self, action: Action = "stop") -> None:
        if action not in get_args(Action):
            raise ValueError(f"`action` must be one of {get_args(Action)}; got {action!r}. Choose one of them.")
        self.action = action
        self._buffers: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._skipping = False

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, before other handlers of the loss."""
        if self.action == "skip":
            engine.add_event_handler(Events.ITERATION_STARTED, self._remember)
            engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self._skip)
        engine.add_event_handler(IterationEvents.LOSS_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        output: Any = engine.state.output
        loss = output[CommonKeys.LOSS].detach()
        if torch.isfinite(loss).all():
            return
        batch: Any = engine.state.batch
        image = batch.get(CommonKeys.IMAGE) if isinstance(batch, Mapping) else None
        files = ", ".join(file_names(image) or ["files without names"])
        step, epoch = engine.state.iteration, engine.state.epoch
        found = f"The loss was {float(loss)} in step {step} (epoch {epoch}), in a batch of {files}."
        if self.action == "stop":
            raise RunError(
                f"{found} Check these files; if they are right, try a lower --learning_rate. The last checkpoint is "
                "intact: resume with --resume True, or skip such steps with --nonfinite_loss skip."
            )
        logger.warning("%s The step is skipped.", found)
        self._skipping = True

    def _remember(self, trainer: Any) -> None:
        self._buffers = [(buffer, buffer.clone()) for buffer in trainer.network.buffers()]

    def _skip(self, trainer: Any) -> None:
        if not self._skipping:
            return
        self._skipping = False
        for buffer, before in self._buffers:
            buffer.copy_(before)
        # An optimizer skips parameters without a gradient. A gradient scaler skips the step itself, and needs the
        # gradients to decide that.
        if trainer.scaler is None or not trainer.scaler.is_enabled():
            trainer.optimizer.zero_grad(set_to_none=True)
