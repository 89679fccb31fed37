"""Which of an evaluator's images are shown: some of them, spread evenly, always the same."""

from __future__ import annotations

from typing import Any

from ignite.engine import Engine, Events

from afma_med.visualize.volume_slices import spread_evenly

__all__ = ["SpreadItems"]


class SpreadItems:
    """Choose some of an evaluator's items, spread evenly over the epoch, the same ones each epoch.

    The first frames of a drive, or slices of a volume, look all the same.

    Args:
        count: how many items; fewer, if there are fewer.

    Example:
        >>> items = SpreadItems(4)  # items.attach(evaluator)
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._chosen = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator, to number the items of each epoch anew."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)

    def choose(self, engine: Engine) -> list[tuple[int, dict[str, Any]]]:
        """Return what is chosen of the iteration that ended, each item with its number from 1 in the epoch."""
        length = engine.state.epoch_length or 1
        # This batch shows as many items as fall upon it.
        falling = spread_evenly(length, self.count).count((engine.state.iteration - 1) % length)
        output: Any = engine.state.output
        numbered = list(enumerate(output[:falling], start=self._chosen + 1))
        self._chosen += len(numbered)
        return numbered

    def _start(self, engine: Engine) -> None:
        self._chosen = 0
