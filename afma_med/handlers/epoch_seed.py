"""Seed each epoch, so that a resumed training gives the same result as an uninterrupted one."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.data.utils import set_rnd

__all__ = ["EpochSeedHandler"]


class EpochSeedHandler:
    """Seed Python, NumPy, torch and the transforms at the start of each epoch.

    The order of the data, augmentation and dropout then depend on ``seed``, the epoch and the process only, so that a
    resumed training gives the same result as an uninterrupted one. A training that stopped within an epoch loads the
    batches of this epoch again and skips those that it was trained on. The state, for
    :class:`~afma_med.handlers.LastCheckpointHandler`, is the position in the epoch and that of the random numbers.

    Args:
        seed: Seed of the training.
        dataset: Dataset whose random transforms are seeded, for loaders without workers. A loader with workers seeds
            them from torch's random numbers.
        rank: Rank of this process. Each process draws its own numbers.

    Raises:
        ValueError: If ``seed`` is not a whole number from 0 on.

    Example:
        >>> handler = EpochSeedHandler(0, dataset=[])  # handler.attach(trainer)
    """

    def __init__(self, seed: int, dataset: Any, rank: int = 0) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"`seed` must be a whole number from 0 on; got {seed!r}. Pass --seed 0, 1, 2, ...")
        self.seed = seed
        self.dataset = dataset
        self.rank = rank
        self._engine: Engine | None = None
        self._resumed: Mapping[str, Any] = {}

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer."""
        self._engine = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._restore)

    def __call__(self, engine: Engine) -> None:
        # A seed sequence gives neighbouring seeds and epochs unrelated numbers.
        sequence = np.random.SeedSequence((self.seed, engine.state.epoch, self.rank))
        of_all, of_transforms = (int(number) for number in sequence.generate_state(2))
        manual_seed(of_all)
        set_rnd(self.dataset, seed=of_transforms)
        if self._resumed and engine.state.dataloader is not None:
            # The trainer creates the iterator of its loader after this event.
            engine.state.dataloader = _WithoutFirst(engine.state.dataloader, self._resumed["iterations"])

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the epoch and the state of the random numbers; empty between two epochs."""
        state = None if self._engine is None else self._engine.state
        done = state.iteration % state.epoch_length if state is not None and state.epoch_length else 0
        return {"iterations": done, "random": _random_state()} if done else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue at that position when the trainer starts its next epoch."""
        self._resumed = state_dict

    def _restore(self, engine: Engine) -> None:
        if self._resumed:
            _set_random_state(self._resumed["random"])
            self._resumed = {}


class _WithoutFirst:
    """A loader that skips its first batches, once."""

    def __init__(self, loader: Iterable[Any], count: int) -> None:
        self.loader = loader
        self.count = count

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.loader)
        for _ in range(self.count):
            next(batches)
        self.count = 0
        return batches


def _random_state() -> dict[str, Any]:
    """Return all global states, in types that ``torch.load(weights_only=True)`` accepts."""
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _set_random_state(state: Mapping[str, Any]) -> None:
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if len(state["cuda"]) == torch.cuda.device_count():  # other devices draw other numbers anyway
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
