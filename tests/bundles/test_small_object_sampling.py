"""The id ``small_object_sampling``: off by default, and crops around objects where it is on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from _helpers.bundle_runs import DRAW, options, workflow
from _helpers.refusals import refused
from afma_med import InstanceBalancedLoss


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return lambda name: DRAW[name](tmp_path_factory.mktemp(name) / "data")


def batches(name: str, root: Path, folder: Path, **more: object) -> tuple[list[str], list[torch.Tensor]]:
    """The names of the random transforms, and the labels of an epoch's batches."""
    bundle = workflow(f"{name}_afma.json", **options(name, root, folder, **more))
    bundle.initialize()
    content = bundle.parser.get_parsed_content
    trainer = content("train#trainer")
    content("train#epoch_seed").attach(trainer)
    trainer.state.epoch = 1
    trainer.fire_event(Events.EPOCH_STARTED)
    names = [type(step).__name__ for step in content("train#random_transforms")]
    return names, [batch["label"] for batch in content("train#dataloader")]


@pytest.mark.parametrize("name", ["camvid", "lits"])
def test_crops_are_drawn_around_objects(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    root, small = samples(name), {"crop_size": [16, 16]}
    plain, _ = batches(name, root, tmp_path / "plain", **small)
    assert plain[-1] == "RandSpatialCropd" and "RandCropBySmallObjectsd" not in plain
    share = {"train#random_transforms#5#free_share": 0.0}
    runs = [
        batches(name, root, tmp_path / str(number), small_object_sampling=True, **small, **share) for number in (0, 1)
    ]
    (names, labels), (_, again) = runs
    assert names[-1] == "RandCropBySmallObjectsd" and "RandSpatialCropd" not in names
    assert all(torch.equal(*pair) for pair in zip(labels, again, strict=True))
    for label in torch.cat(labels):
        assert label.shape == (1, 16, 16)
        assert ((label > 0) & (label < 255)).any() or name == "lits"  # slices without organs have no objects


def test_an_overlay_balances_the_loss(samples: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = workflow(
        "camvid_afma.json", "instance_balance.json", **options("camvid", samples("camvid"), tmp_path / "run")
    )
    bundle.initialize()
    loss = bundle.parser.get_parsed_content("loss")
    weight = bundle.parser.get_parsed_content("class_weight")
    assert isinstance(loss.segmentation, InstanceBalancedLoss) and loss.ignore_index == 255
    torch.testing.assert_close(loss.segmentation.loss.weight, weight)


def test_bad_values_are_refused(samples: Callable[[str], Path], tmp_path: Path) -> None:
    bundle = workflow("camvid_afma.json", **options("camvid", samples("camvid"), tmp_path, small_object_sampling=2))
    with refused(match="`small_object_sampling` must be True or False; got 2"):
        bundle.initialize()
