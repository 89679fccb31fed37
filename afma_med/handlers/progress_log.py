"""Show the progress of a training: a bar, one line in the log for each epoch, and at the end where the results are."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from ignite.engine import Engine, Events
from ignite.handlers import ProgressBar

__all__ = ["ProgressBarHandler", "ProgressLogHandler"]

logger = logging.getLogger(__name__)


class ProgressBarHandler(ProgressBar):
    """Show a progress bar with the loss of each step.

    Args:
        **options: As of :class:`ignite.handlers.ProgressBar`.

    Example:
        >>> bar = ProgressBarHandler(disable=None)  # bar.attach(trainer); None shows it in terminals only
    """

    def attach(self, engine: Engine, *args: Any, **options: Any) -> None:  # type: ignore[override]
        """Attach to a trainer of MONAI, whose output is a list of dictionaries with the loss."""
        super().attach(engine, *args, **{"output_transform": lambda output: {"loss": output[0]["loss"]}, **options})


class ProgressLogHandler:
    """Log losses, IoU, best IoU and time of each epoch and, at the end, where the results are.

    Args:
        output_dir: Folder of the run.
        evaluator: Evaluator that validates the trainer.
        metric: Name of the evaluator's key metric.
        raw_evaluator: Evaluator of the weights themselves, if ``evaluator`` validates their moving average.
        evaluate_command: Command that evaluates the run.

    Example:
        >>> log = ProgressLogHandler("runs/example", Engine(lambda engine, batch: None))  # log.attach(trainer)
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        evaluator: Engine,
        *,
        metric: str = "val/mIoU",
        raw_evaluator: Engine | None = None,
        evaluate_command: str = "",
    ) -> None:
        self.output_dir = output_dir
        self.evaluator = evaluator
        self.metric = metric
        self.raw_evaluator = raw_evaluator
        self.evaluate_command = evaluate_command
        self._started = 0.0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def __call__(self, engine: Engine) -> None:
        shown = [engine.state.metrics]
        # Without a validation in this epoch, the evaluator still holds the scores of an earlier one.
        if self.evaluator.state.epoch == engine.state.epoch:
            scores = self.evaluator.state.metrics
            shown.append({name: value for name, value in scores.items() if name.startswith(self.metric)})
            raw = {} if self.raw_evaluator is None else self.raw_evaluator.state.metrics
            shown.append({name: value for name, value in raw.items() if name.endswith("/mIoU")})
        parts = [*map(_figures, shown), self._best(), f"{time.monotonic() - self._started:.0f} s"]
        line = "  ".join(part for part in parts if part)
        logger.info("epoch %d/%d  %s", engine.state.epoch, engine.state.max_epochs, line)

    def _best(self) -> str:
        state: Any = self.evaluator.state
        return f"best {state.best_metric:.4f} at epoch {state.best_metric_epoch}" if state.best_metric_epoch > 0 else ""

    def _start(self, engine: Engine) -> None:
        self._started = time.monotonic()

    def _finish(self, engine: Engine) -> None:
        if engine.should_terminate:  # the handler that stopped the trainer logs that
            return
        best, weights = self._best(), f"{self.output_dir}/last.pt (to resume)"
        if best:
            weights = f"{self.output_dir}/model.pt (best), {weights}"
        lines = [
            f"Finished {engine.state.epoch} epochs: {self.metric} {best or 'never validated'}.",
            f"  weights      {weights}",
            f"  TensorBoard  tensorboard --logdir {self.output_dir}",
        ]
        # Without a validation there are no best weights to evaluate.
        logger.info("\n".join(lines + [f"  evaluate     {self.evaluate_command}"] * bool(best)))


def _figures(values: Mapping[str, Any]) -> str:
    # NaN is the mean over classes that do not occur.
    return "  ".join(f"{name} {float(value):.4f}" for name, value in values.items() if float(value) == float(value))
