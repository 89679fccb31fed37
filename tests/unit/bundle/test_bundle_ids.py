"""Invalid ids are refused with id, value and remedy before anything is written."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow

from _helpers.paths import ROOT
from _helpers.refusals import refused
from afma_med.bundle.ids import check_ids
from afma_med.bundle.recipe import check_sample_weights
from afma_med.metrics import SizeGroups
from afma_med.samples import write_street_scenes

BAD = {
    "max_epochs": [0, -1, "abc", 1.5, True, None],
    "batch_size": [0, "x", 2.0],
    "crop_size": [64, [64], [0, 64], [64, 64, 64], "64,64", [64, 0.5]],
    "learning_rate": [0, -1, "fast", float("nan"), float("inf"), True],
    "process_timeout_minutes": [0, "long"],
    "milestones": [3, [5, "x"], "[5]", [0]],
    "zoom_range": [[2, 1], [0, 1], [1], 2, ["a", "b"]],
    "longest_side": [0, "big", 1.5],
    "val_interval": [0, "x"],
    "detail_interval": [0],
    "in_channels": [0, "rgb"],
    "num_workers": [-1, 0.5, "all", False],
    "seed": [-1, "x", 0.5],
    "pictures": [-1],
    "afma": ["maybe", 1, None],
    "amp": ["yes", 0],
    "count_unscored_pixels": ["no"],
    "segmentation_weight": [-1, "x", float("nan")],
    "attention_weight": [-1, "x", float("inf")],
    "feature": [0, -1, 2.5, True, [], [2, 0], {"small": 2.5}, None],
    "patch_size": [0, "a", [10], [10, -1], None, {"pole": 0}],
    "class_offsets": [0.5, "pole", {"pole": "high"}, {3: 0.5}, [0.5]],
    "source": ["label", 1],
    "variant": ["relased", 1],
    "nonfinite_loss": ["ignore", True],
    "size_groups": [3, "small", (1024, 9216)],
    "device": ["cuda:77", "gpu", 3.5],
}
GOOD = {
    "max_epochs": [1, 500],
    "crop_size": [[480, 640], (1, 1)],
    "learning_rate": [1e-4, 1],
    "milestones": [[], [200, 300]],
    "zoom_range": [[1, 1], (0.5, 2.0)],
    "longest_side": [None, 240],
    "num_workers": [0, 4],
    "seed": [0, 3],
    "feature": [1, "encoder.layer2", [2, 3, 4], {"small": 2, "large": [3, "encoder.layer4"]}],
    "patch_size": [10, (4, 16), [5, 5], {"pole": [20, 5], "car": 8}],
    "class_offsets": [None, {"pole": 0.5, "large": -1}],
    "source": ["feature", "image"],
    "variant": ["released", "paper"],
    "size_groups": [SizeGroups()],
    "device": ["cpu", torch.device("cpu")],
    "of_the_user": ["anything"],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values], ids=str
)
def test_bad_value_is_refused(name: str, value: object) -> None:
    typed = f"loss#{name}" if name.endswith("_weight") else name
    told = rf"`{name}` must be .*; got {re.escape(repr(value))}\. For example: --{typed} \S+"
    with pytest.raises(ValueError, match=told):
        check_ids({"max_epochs": 3, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in GOOD.items() for value in values], ids=str
)
def test_good_value_passes(name: str, value: object) -> None:
    check_ids({name: value})


def test_folders_that_cannot_be_written_to_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(ValueError, match="`output_dir` must be a folder that can be written to"):
            check_ids({"output_dir": str(path)})
    check_ids({"output_dir": str(tmp_path / "new" / "run"), "prediction_dir": str(tmp_path)})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0, 0], [1, float("nan")], [1, "x"]])
def test_weights_that_belong_to_no_items_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="`sample_weights` must be 2 numbers from 0 on"):
        check_sample_weights(weights, 2)


def test_weights_of_any_kind_pass() -> None:
    for weights in ([1, 0.5], torch.tensor([0.0, 2.0]), (0, 1)):
        assert check_sample_weights(weights, 2) is weights


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 2, "val": 1}, size=(64, 96))


@pytest.mark.parametrize(
    "name",
    # Offsets are for predictions alone.
    [
        *sorted(BAD.keys() - {"class_offsets"}),
        "num_classes",
        "sample_weights",
        "train_section",
        "dataset_dir",
        "resume",
        "group",
    ],
)
def test_bundle_refuses_before_it_writes(name: str, scenes: Path, tmp_path: Path) -> None:
    values = {
        "num_classes": 3,
        "sample_weights": [1],
        "train_section": "trian",
        "dataset_dir": "none",
        "resume": "no.pt",
        "group": {"tiny": 2},
    }
    value = values[name] if name in values else BAD[name][0]
    typed = {"group": "feature"}.get(name, f"loss#{name}" if name.endswith("n_weight") else name)
    options = {"dataset_dir": str(scenes), "encoder": "resnet18", "num_workers": 0, typed: value}
    bundle = ConfigWorkflow(
        config_file=str(ROOT / "bundles" / "camvid_afma.json"),
        workflow_type="train",
        meta_file=str(ROOT / "bundles" / "metadata.json"),
        logging_file=str(ROOT / "bundles" / "logging.conf"),
        output_dir=str(tmp_path / "run"),
        **options,
    )
    with refused(match="^error: `"):
        bundle.initialize()
    assert list(tmp_path.iterdir()) == []
