"""The bundles' files and their ids, and what a run refuses before it starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigParser
from monai.transforms import Compose

from _helpers.bundle_runs import NAMES, SMALL, run, workflow
from _helpers.commands import run_script
from _helpers.paths import BUNDLES
from _helpers.refusals import refused
from _helpers.synthetic_runs import write_untrained
from afma_med.data import READERS
from afma_med.samples import write_street_scenes

CAMVID = str(BUNDLES / "camvid_afma.json")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 4, "val": 3, "test": 2}, size=(64, 96))


def test_bundles_are_built_from_their_sources() -> None:
    done = run_script("build_bundles", "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nRun scripts/build_bundles.py."


@pytest.mark.parametrize("name", NAMES)
def test_bundle_is_self_contained(name: str) -> None:
    text = (BUNDLES / f"{name}_afma.json").read_text(encoding="utf-8")
    assert "%" not in [value[:1] for value in json.loads(text).values() if isinstance(value, str)]
    assert ".json::" not in text


def test_bundle_has_the_properties_that_monai_asks_for(scenes: Path, tmp_path: Path) -> None:
    bundle = workflow("camvid_afma.json", dataset_dir=str(scenes), output_dir=str(tmp_path / "run"), **SMALL)
    bundle.initialize()
    assert not bundle.check_properties()


def test_paper_recipe_is_the_default() -> None:
    parser = ConfigParser()
    parser.read_config(CAMVID)
    parser["dataset_dir"], parser["is_sample"] = "somewhere", False
    expected = {"encoder": "resnet101", "max_epochs": 500, "batch_size": 16, "milestones": [200, 300, 400]}
    expected |= {"crop_size": [480, 640], "zoom_range": [0.5, 2.0]}
    assert {name: parser.get_parsed_content(name) for name in expected} == expected
    names = ("optimizer_name", "learning_rate", "encoder_factor", "schedule", "ema_momentum", "class_weight_power")
    recipe = [parser.get_parsed_content(name) for name in (*names, "train_unscored", "encoder_weights", "bfloat16")]
    assert recipe == ["SGD", 0.01, 1.0, "steps", None, 1.0, True, None, False]
    assert [parser.get_parsed_content(name) for name in ("network_name", "feature")] == ["Unet", 2]


@pytest.mark.parametrize(
    ("overlay", "own"),
    [
        ("small.json", set()),
        ("cache.json", set()),
        ("bfloat16.json", set()),
        ("baseline.json", set()),
        ("released_recipe.json", set()),
        (
            "evaluate.json",
            {"validate#evaluator#postprocessing", "validate#evaluator#additional_metrics", "weights_loader", "weights"},
        ),
        ("multi_gpu.json", {"validate#sampler", "validate#dataloader#sampler"}),
        (
            "inference.json",
            {"input", "preprocessing", "inferer", "postprocessing", "dataset", "dataloader"}
            | {"pred_to_classes", "weights", "weights_loader"}
            | {"handlers", "evaluator"},
        ),
    ],
)
@pytest.mark.parametrize("name", NAMES)
def test_overlays_override_only_ids_that_exist(name: str, overlay: str, own: set[str]) -> None:
    for key in json.loads((BUNDLES / overlay).read_text(encoding="utf-8")):
        if key == "fold" and name != "lesion_slices":
            continue  # restored where a run's settings have it
        node = json.loads((BUNDLES / f"{name}_afma.json").read_text(encoding="utf-8"))
        *parents, last = key.removeprefix("+").split("#")
        for parent in parents:
            node = node.get(parent, {})
        assert (last in node) != (key in own), f"{overlay}: {key}"


def test_metadata_names_the_classes() -> None:
    outputs = json.loads((BUNDLES / "metadata.json").read_text(encoding="utf-8"))["network_data_format"]["outputs"][
        "pred"
    ]
    assert outputs["channel_def"] == {str(info.train_id): info.name for info in READERS["camvid"].classes}


def test_class_offsets_change_which_class_wins(scenes: Path, tmp_path: Path) -> None:
    given = {"dataset_dir": str(scenes), "output_dir": str(tmp_path), **SMALL}
    logits = torch.zeros(12, 2, 2)
    logits[0] = 1
    for offsets, index in ((None, 0), ({"pole": 2.0}, 2), ({"small": 2.0, "pole": 0.0}, 6)):
        bundle = workflow("camvid_afma.json", **given, class_offsets=offsets)
        _, *steps = bundle.parser.get_parsed_content("full_image#to_classes")  # without the inversion of transforms
        assert Compose(steps)({"pred": logits})["index"].unique().tolist() == [index]


def test_missing_dataset_dir_ends_with_the_layout(tmp_path: Path) -> None:
    with refused(match=r"(?s)error: `.*nowhere` must hold CamVid.*trainannot/NAME\.png"):
        run("camvid_afma.json", dataset_dir=str(tmp_path / "nowhere"), output_dir=str(tmp_path / "run"), **SMALL)


@pytest.mark.parametrize("override", [{"dataset_dir": "nowhere"}, {"feature": 9}, {"network_name": "Unett"}], ids=str)
def test_refused_run_leaves_an_earlier_run_where_it_is(
    scenes: Path, tmp_path: Path, override: dict[str, object]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last.pt").write_text("earlier", encoding="utf-8")
    with pytest.raises((Exception, SystemExit)):
        run(
            "camvid_afma.json", **{"dataset_dir": str(scenes), "output_dir": str(tmp_path / "run"), **SMALL, **override}
        )
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["run", "run/last.pt"]


@pytest.mark.parametrize("override", [{"network_name": "Unett"}, {"feature": 9}], ids=str)
def test_bad_top_level_ids_say_what_is_wrong(scenes: Path, tmp_path: Path, override: dict[str, object]) -> None:
    with pytest.raises(Exception) as raised:
        run("camvid_afma.json", dataset_dir=str(scenes), output_dir=str(tmp_path / "run"), **SMALL, **override)
    chain, error = [], raised.value
    while error is not None:
        chain.append(str(error))
        error = error.__cause__ or error.__context__
    assert str(next(iter(override.values()))) in " ".join(chain)


@pytest.mark.parametrize("overlay", ["evaluate.json", "inference.json"])
def test_predictions_of_nan_end_with_the_name_of_the_image(overlay: str, scenes: Path, tmp_path: Path) -> None:
    folder = write_untrained(tmp_path / "run", "camvid", scenes)
    state = torch.load(folder / "model.pt")
    state["backbone.segmentation_head.0.bias"][0] = float("nan")
    torch.save(state, folder / "model.pt")
    with refused(r"Predictions must be finite; got nan for .*\.png\."):
        run("camvid_afma.json", overlay, dataset_dir=str(scenes), output_dir=str(folder), num_workers=0)
    assert not list(folder.rglob("*.png")) and not list(folder.rglob("scores.json"))
