"""Stop a list of trainings: on a signal, or after some minutes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["TimeIsUp", "stop_after", "stop_on_signals"]

_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class TimeIsUp(BaseException):
    """End a list of trainings whose time is over. It is no error, so that nothing handles it as one."""


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into SystemExit, so that the running training is stopped and saves a checkpoint.

    A signal that is ignored, such as SIGHUP under ``nohup``, stays ignored. Call it in the main thread.
    """

    def leave(number: int, frame: FrameType | None) -> None:
        sys.exit(128 + number)

    replaced: dict[int, Any] = {one: signal.getsignal(one) for one in _SIGNALS}
    replaced = {one: handler for one, handler in replaced.items() if handler != signal.SIG_IGN}
    for one in replaced:
        signal.signal(one, leave)
    try:
        yield
    finally:
        for one, handler in replaced.items():
            signal.signal(one, handler)


@contextmanager
def stop_after(minutes: float | None) -> Iterator[None]:
    """Raise :class:`TimeIsUp` in the block when its time is over. Call it in the main thread.

    Args:
        minutes: Time of the block, above 0; None for no limit.

    Raises:
        TimeIsUp: When the time is over.

    Example:
        >>> import time
        >>> try:
        ...     with stop_after(0.0001):
        ...         time.sleep(10)
        ... except TimeIsUp:
        ...     print("stopped")
        stopped
    """

    def leave(number: int, frame: FrameType | None) -> None:
        raise TimeIsUp

    if minutes is None:
        yield
        return
    before = signal.signal(signal.SIGALRM, leave)
    signal.setitimer(signal.ITIMER_REAL, 60 * minutes)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
