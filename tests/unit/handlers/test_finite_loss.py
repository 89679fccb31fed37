"""A loss that is NaN stops a training with the names of the files, or skips the step."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from monai.engines import SupervisedTrainer
from torch import nn

from afma_med.checks import RunError
from afma_med.handlers import FiniteLossHandler

BAD = 2


def batches(*, bad: bool) -> list[Any]:
    """Three batches of two images; one image of the second one may be spoilt."""
    torch.manual_seed(0)
    items = [
        {"image": MetaTensor(torch.rand(1, 4, 4), meta={"filename_or_obj": f"{i}.png"}), "label": torch.rand(2, 4, 4)}
        for i in range(6)
    ]
    if bad:
        items[BAD]["image"][0, 1, 1] = float("nan")
    return [list_data_collate(items[i : i + 2]) for i in (0, 2, 4)]


def trained(data: list[Any], action: str, *, scale: float | None = None) -> SupervisedTrainer:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=data,
        network=net,
        optimizer=torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
        loss_function=lambda output, label: (output - label).square().mean(),
        train_handlers=[FiniteLossHandler(action)],
        decollate=False,
        amp=scale is not None,
    )
    # The scaler that MONAI makes does nothing without CUDA.
    scaler = partial(torch.amp.GradScaler, "cpu", init_scale=scale or 1.0, growth_interval=10**6, enabled=scale != 0)
    with patch("torch.cuda.amp.GradScaler", scaler):
        trainer.run()
    return trainer


def test_gradients_that_overflow_are_left_to_the_scaler() -> None:
    """The loss is finite, its gradients times the scale are not: no error, no step, a smaller scale."""
    trainer = trained(batches(bad=False), "stop", scale=3e38)
    assert trainer.scaler.get_scale() < 3e38
    assert all(torch.isfinite(one).all() for one in trainer.network.state_dict().values())
    steps = trained(batches(bad=False), "stop", scale=1.0)
    plain = trained(batches(bad=False), "stop")
    pairs = zip(steps.network.parameters(), plain.network.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs), "a scale of 1 is none"


def test_stops_with_the_names_of_the_files() -> None:
    with pytest.raises(RunError, match=r"loss was nan in step 2 \(epoch 1\), in a batch of 2\.png, 3\.png\. Check"):
        trained(batches(bad=True), "stop")


@pytest.mark.parametrize("scale", [None, 0, 1.0], ids=["no scaler", "scaler that does nothing", "scaler"])
def test_step_is_left_out_as_if_the_batch_were_not_there(scale: float | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        skipped = trained(batches(bad=True), "skip", scale=scale)
    assert any("2.png, 3.png. The step is skipped." in message for message in caplog.messages)
    without = batches(bad=False)
    del without[1]
    expected = trained(without, "stop", scale=scale)
    states = [trainer.network.state_dict() for trainer in (skipped, expected)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    momenta = [trainer.optimizer.state_dict()["state"][0]["momentum_buffer"] for trainer in (skipped, expected)]
    assert torch.equal(*momenta)
    if scale is not None:
        assert skipped.scaler.get_scale() == (0.5 if scale else 1), "it takes a loss that is NaN for an overflow"


def test_numbers_change_nothing() -> None:
    weights = [trained(batches(bad=False), action).network[0].weight for action in ("stop", "skip")]
    assert torch.equal(*weights)


def test_unknown_action_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`action` must be one of \('stop', 'skip'\); got 'ignore'"):
        FiniteLossHandler("ignore")
