"""Random numbers that depend on seed and epoch alone, so that a resumed training is the one that was cut off."""

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
    """Start all random numbers anew at the beginning of each epoch: Python's, NumPy's, torch's, and the transforms'.

    Order of the data, augmentation and dropout of an epoch then follow from ``seed``, the epoch and the process, not
    from what was drawn before: a training that is resumed after the end of an epoch goes on as if it had never stopped.
    Resumed within an epoch it does so too: the batches that were trained on are made once more and passed over.

    Its own state, for the :class:`~afma_med.handlers.LastCheckpointHandler`, is where in the epoch the trainer is, and
    what the random numbers are there; of one process.

    Args:
        seed: of the training.
        dataset: whose random transforms are seeded, for loaders without workers; those of workers are seeded by their
            loader from torch's random numbers.
        rank: of this process; each draws its own numbers.

    Raises:
        ValueError: if ``seed`` is not a whole number from 0 on.

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
        """Attach to a trainer, which makes the epoch's batches after this event."""
        self._engine = engine
        engine.add_event_handler(Events.EPOCH_STARTED, self)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._restore)

    def __call__(self, engine: Engine) -> None:
        # A sequence mixes the three well: neighbouring seeds and epochs have nothing in common.
        sequence = np.random.SeedSequence((self.seed, engine.state.epoch, self.rank))
        of_all, of_transforms = (int(number) for number in sequence.generate_state(2))
        manual_seed(of_all)
        set_rnd(self.dataset, seed=of_transforms)
        if self._resumed and engine.state.dataloader is not None:
            # Public, and asked for batches after this event only.
            engine.state.dataloader = _WithoutFirst(engine.state.dataloader, self._resumed["iterations"])

    def state_dict(self) -> dict[str, Any]:
        """Return where the trainer is in its epoch, and the random numbers there; nothing between two epochs."""
        state = self._engine.state if self._engine is not None else None
        if state is None or not state.epoch_length or not state.iteration % state.epoch_length:
            return {}
        return {"iterations": state.iteration % state.epoch_length, "random": _random_state()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on at that place, once the trainer has begun its epoch."""
        self._resumed = state_dict

    def _restore(self, engine: Engine) -> None:
        if self._resumed:
            _set_random_state(self._resumed["random"])
            self._resumed = {}


class _WithoutFirst:
    """A loader that passes over its first batches, once."""

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
    """All global states, of types that a checkpoint may hold without being code."""
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
    if len(state["cuda"]) == torch.cuda.device_count():  # elsewhere, other devices draw other numbers anyway
        torch.cuda.set_rng_state_all([each.cpu() for each in state["cuda"]])
