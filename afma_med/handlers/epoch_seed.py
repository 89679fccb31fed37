"""Random numbers that depend on seed and epoch alone, so that a resumed training is the one that was cut off."""

from __future__ import annotations

from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from ignite.utils import manual_seed
from monai.data.utils import set_rnd

__all__ = ["EpochSeed"]


class EpochSeed:
    """Start all random numbers anew at the beginning of each epoch: Python's, NumPy's, torch's, and the transforms'.

    Order of the data, augmentation and dropout of an epoch then follow from ``seed``, the epoch and the process, not
    from what was drawn before: a training that is resumed after the end of an epoch goes on as if it had never stopped.

    Args:
        seed: of the training.
        dataset: whose random transforms are seeded, for loaders without workers; those of workers are seeded by their
            loader from torch's random numbers.
        rank: of this process; each draws its own numbers.

    Raises:
        ValueError: if ``seed`` is no whole number from 0 on.

    Example:
        >>> handler = EpochSeed(0, dataset=[])  # handler.attach(trainer)
    """

    def __init__(self, seed: int, dataset: Any, rank: int = 0) -> None:
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"`seed` must be a whole number from 0 on; got {seed!r}. Pass --seed 0, 1, 2, ...")
        self.seed = seed
        self.dataset = dataset
        self.rank = rank

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, which makes the epoch's batches after this event."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        # A sequence mixes the three well: neighbouring seeds and epochs have nothing in common.
        sequence = np.random.SeedSequence((self.seed, engine.state.epoch, self.rank))
        of_all, of_transforms = (int(number) for number in sequence.generate_state(2))
        manual_seed(of_all)
        set_rnd(self.dataset, seed=of_transforms)
