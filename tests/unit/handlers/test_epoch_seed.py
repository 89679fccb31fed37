"""Random numbers depend on seed, epoch and process only; a training resumes where it stopped."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.transforms import Compose, RandGaussianNoise

from afma_med.handlers import EpochSeedHandler

BATCHES = 4


class Training:
    """A trainer that records the data and random numbers of each step."""

    def __init__(self, *, seed: int = 0, rank: int = 0, num_workers: int = 0) -> None:
        dataset = Dataset(
            [torch.full((1,), float(i)) for i in range(2 * BATCHES)], Compose([RandGaussianNoise(prob=1)])
        )
        self.loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=num_workers)
        self.seen: list[tuple[float, ...]] = []
        self.engine = Engine(self.step)
        self.epoch_seed = EpochSeedHandler(seed, dataset, rank)
        self.epoch_seed.attach(self.engine)

    def step(self, engine: Engine, batch: torch.Tensor) -> None:
        drawn = random.random(), np.random.rand(), torch.rand(()), np.random.randn()
        self.seen.append((*batch.flatten().tolist(), *(float(number) for number in drawn)))

    def run(self, *, epochs: int = 3, stop_after: int | None = None) -> Training:
        if stop_after is not None:
            self.engine.add_event_handler(Events.ITERATION_COMPLETED(once=stop_after), self.engine.terminate)
        self.engine.run(self.loader, max_epochs=epochs)
        return self

    def save(self, path: Path) -> None:
        torch.save({"trainer": self.engine.state_dict(), "random": self.epoch_seed.state_dict()}, path)

    def load(self, path: Path) -> Training:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        self.engine.load_state_dict({**state["trainer"], "max_epochs": 3})
        self.epoch_seed.load_state_dict(state["random"])
        return self


STEPS = (1, BATCHES - 1, BATCHES, BATCHES + 2, 3 * BATCHES - 1)


@pytest.mark.parametrize(
    ("steps", "num_workers"),
    [
        *((steps, 0) for steps in STEPS),
        # Starting workers takes long, so only the nightly tests try all steps.
        *(pytest.param(n, 2, marks=() if n == BATCHES + 2 else pytest.mark.slow) for n in STEPS),
    ],
)
def test_stopped_at_any_step_it_goes_on_as_if_it_never_had(tmp_path: Path, steps: int, num_workers: int) -> None:
    whole = Training(num_workers=num_workers).run().seen
    assert len(whole) == len(set(whole)) == 3 * BATCHES
    first = Training(num_workers=num_workers).run(stop_after=steps)
    first.save(tmp_path / "last.pt")
    assert bool(first.epoch_seed.state_dict()) == bool(steps % BATCHES)
    torch.rand(7), np.random.rand(7), random.random()
    second = Training(num_workers=num_workers).load(tmp_path / "last.pt").run()
    assert first.seen + second.seen == whole


def test_seeds_and_processes_differ() -> None:
    draws = [Training(seed=seed, rank=rank).run(epochs=1).seen[0] for seed, rank in ((0, 0), (1, 0), (0, 1))]
    for kind in zip(*draws, strict=True):
        assert len(set(kind)) == len(draws)


@pytest.mark.parametrize("seed", [-1, 0.5, "0"])
def test_refuses_what_is_no_seed(seed: int) -> None:
    with pytest.raises(ValueError, match="`seed` must be a whole number from 0 on; got"):
        EpochSeedHandler(seed, [])
