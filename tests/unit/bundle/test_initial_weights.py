"""A training starts with the weights of a finished run, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from afma_med import AFMANet
from afma_med.bundle.initial_weights import start_from
from afma_med.bundle.settings import write_settings
from afma_med.networks import PaddedNetwork, create_backbone

NORMALIZATION = {"mean": (0.5,), "std": (0.25,)}


def baseline(seed: int = 0, classes: int = 3) -> nn.Module:
    torch.manual_seed(seed)
    return PaddedNetwork(create_backbone("Unet", "resnet18", classes=classes))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose best weights and moving average differ."""
    write_settings(tmp_path, {"normalization": NORMALIZATION})
    torch.save(baseline(1).state_dict(), tmp_path / "model.pt")
    torch.save({"model": baseline(2).state_dict(), "ema": baseline(3).state_dict()}, tmp_path / "last.pt")
    return tmp_path


@pytest.mark.parametrize(("name", "seed"), [("", 3), ("last.pt", 3), ("model.pt", 1)])
def test_the_backbone_is_that_of_the_run(run: Path, name: str, seed: int) -> None:
    network = AFMANet(baseline().backbone, 3)
    before = {key: x.clone() for key, x in network.afma_block.state_dict().items()}
    assert start_from(network, run / name, NORMALIZATION) is network
    for key, x in baseline(seed).state_dict().items():
        assert torch.equal(network.state_dict()[key], x)
    assert all(torch.equal(x, before[key]) for key, x in network.afma_block.state_dict().items())


def test_without_a_moving_average_the_weights_of_the_best_epoch_count(run: Path) -> None:
    (run / "last.pt").unlink()
    network = start_from(baseline(), run)
    assert torch.equal(network.state_dict()["backbone.encoder.conv1.weight"], baseline(1).backbone.encoder.conv1.weight)


def test_no_source_changes_nothing() -> None:
    network = baseline()
    start_from(network, None)
    assert all(torch.equal(x, network.state_dict()[key]) for key, x in baseline().state_dict().items())


@pytest.mark.parametrize(
    ("source", "options", "error", "message"),
    [
        ("none", {}, FileNotFoundError, r"there is no file `.*none`"),
        ("", {"classes": 4}, ValueError, r"2 tensors, such as backbone\.segmentation_head"),
        ("settings.json", {}, ValueError, r"must be weights of a run; `.*settings\.json` cannot be read"),
    ],
)
def test_other_sources_are_refused(
    run: Path, source: str, options: dict[str, int], error: type[Exception], message: str
) -> None:
    network = baseline(**options)
    before = {key: x.clone() for key, x in network.state_dict().items()}
    with pytest.raises(error, match=message):
        start_from(network, run / source, NORMALIZATION)
    assert all(torch.equal(x, before[key]) for key, x in network.state_dict().items())


def test_a_run_with_other_images_is_refused(run: Path) -> None:
    with pytest.raises(ValueError, match="same normalization"):
        start_from(baseline(), run, {"mean": (0.4,), "std": (0.25,)})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(run: Path, value: float) -> None:
    (run / "last.pt").unlink()
    state = baseline(1).state_dict()
    state["backbone.encoder.conv1.weight"][0, 0, 0, 0] = value
    torch.save(state, run / "model.pt")
    with pytest.raises(
        ValueError, match=rf"model\.pt` .*backbone\.encoder\.conv1\.weight must be finite; it holds {value}"
    ):
        start_from(baseline(), run, NORMALIZATION)
