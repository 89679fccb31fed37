"""Stop a training on Ctrl-C or SIGTERM after the current step, with a checkpoint."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["StopSignalsHandler"]

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignalsHandler:
    """On Ctrl-C or SIGTERM, stop a trainer after the current step, save a checkpoint, and log how to resume.

    A validation is finished first. A second signal ends the program at once. Outside the main thread, signals keep
    their handlers. Use it with one process only: processes that stop at different steps wait for each other forever.

    Args:
        save: Function of the trainer that saves, such as :class:`~afma_med.handlers.LastCheckpointHandler`.
        resume_hint: Command that resumes the training.

    Example:
        >>> stop = StopSignalsHandler(lambda engine: None, "--resume True")  # stop.attach(trainer)
        >>> stop.exit_if_stopped()  # at the end of the program
    """

    def __init__(self, save: Callable[[Engine], object], resume_hint: str) -> None:
        self.save = save
        self.resume_hint = resume_hint
        self._received = 0
        self._process = os.getpid()
        self._before: dict[int, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after the handlers that save at the end of an epoch."""
        engine.add_event_handler(Events.STARTED, self._listen)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._stop, save=True)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._stop, save=False)
        engine.add_event_handler(Events.COMPLETED, self._leave)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def exit_if_stopped(self) -> None:
        """Raise SystemExit with the exit code of the signal, if one stopped the training."""
        if self._received:
            sys.exit(128 + self._received)

    def _listen(self, engine: Engine) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._receive) for number in _SIGNALS}

    def _leave(self, engine: Engine) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._leave(engine)
        raise error

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker of the loader
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self._received:
            sys.exit(128 + number)
        self._received = number
        logger.warning("%s: stopping after this step. Send it again to stop at once.", signal.Signals(number).name)

    def _stop(self, engine: Engine, *, save: bool) -> None:
        if not self._received:
            return
        epoch, steps = engine.state.epoch, engine.state.epoch_length
        done = (engine.state.iteration - 1) % (steps or 1) + 1
        if save and done == steps:  # the validation of the epoch and its checkpoint follow
            return
        if save:
            self.save(engine)
        message = "Stopped in epoch %d after %d of %s steps, and saved a checkpoint. To resume: %s"
        logger.warning(message, epoch, done, steps, self.resume_hint)
        engine.terminate()
