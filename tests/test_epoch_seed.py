"""Random numbers follow from seed, epoch and process, and from nothing else."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import Dataset
from monai.transforms import Compose, RandGaussianNoise

from afma_med.handlers import EpochSeed


def drawn(*, seed: int = 0, rank: int = 0, epochs: int = 2, start: int = 0) -> list[tuple[float, ...]]:
    """What Python, NumPy, torch and a transform draw in each epoch."""
    dataset = Dataset([torch.zeros(1)], Compose([RandGaussianNoise(prob=1)]))
    found: list[tuple[float, ...]] = []

    def draw(engine: Engine, batch: int) -> None:
        numbers = random.random(), np.random.rand(), torch.rand(()), dataset[0]
        found.append(tuple(float(number) for number in numbers))

    engine = Engine(draw)
    EpochSeed(seed, dataset, rank).attach(engine)
    engine.load_state_dict({"iteration": 3 * start, "max_epochs": epochs, "epoch_length": 3})
    torch.rand(start + 1)
    engine.run([0, 1, 2])
    return found


def test_an_epoch_draws_the_same_whatever_was_before() -> None:
    assert drawn()[3:] == drawn(start=1)


def test_seeds_epochs_and_processes_differ() -> None:
    draws = [drawn()[0], drawn()[3], drawn(seed=1)[0], drawn(rank=1)[0]]
    for kind in zip(*draws, strict=True):
        assert len(set(kind)) == len(draws)


@pytest.mark.parametrize("seed", [-1, 0.5, "0"])
def test_refuses_what_is_no_seed(seed: int) -> None:
    with pytest.raises(ValueError, match="`seed` must be a whole number from 0 on; got"):
        EpochSeed(seed, [])
