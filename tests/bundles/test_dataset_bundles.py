"""Every bundle trains, evaluates and predicts on files in its dataset's layout, and refuses what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from PIL import Image

from _helpers.bundle_runs import DRAW, NAMES, options, run, workflow
from _helpers.paths import BUNDLES
from _helpers.refusals import refused
from _helpers.synthetic_runs import write_untrained
from afma_med.data import READERS, build_lesion_slices
from afma_med.networks import HypercolumnNet
from afma_med.runs.trained_network import load_network


def parsed(name: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / f"{name}_afma.json"))
    parser["dataset_dir"], parser["is_sample"] = "somewhere", False
    return parser


@pytest.mark.parametrize(
    ("name", "crop", "epochs", "batch"),
    [
        ("camvid", [480, 640], 500, 16),
        ("cityscapes", [640, 800], 200, 8),
        ("lits", [512, 512], 50, 16),
        ("isic", [192, 192], 200, 16),
        ("cub", [320, 320], 200, 16),
        ("nuclei", [256, 256], 200, 16),
        ("lesion_slices", [256, 256], 200, 16),
    ],
)
def test_recipes(name: str, crop: list[int], epochs: int, batch: int) -> None:
    parser = parsed(name)
    values = {key: parser.get_parsed_content(key) for key in ("crop_size", "max_epochs", "batch_size", "encoder")}
    assert values == {"crop_size": crop, "max_epochs": epochs, "batch_size": batch, "encoder": "resnet101"}
    assert parser.get_parsed_content("optimizer_name") == "SGD"
    assert parser.get_parsed_content("zoom_range") == [0.5, 2.0]
    assert parser.get_parsed_content("num_classes") == {"camvid": 12, "cityscapes": 19, "lits": 3}.get(name, 2)


def test_released_recipe_is_adam() -> None:
    recipe = json.loads((BUNDLES / "released_recipe.json").read_text(encoding="utf-8"))
    assert recipe["optimizer"]["_target_"] == "torch.optim.Adam"
    assert (recipe["learning_rate"], recipe["lr_scheduler#gamma"]) == (1e-4, 0.5)
    assert (recipe["milestones"], recipe["max_epochs"]) == ([400, 500, 700, 800, 900], 1000)


@pytest.mark.parametrize("name", NAMES)
def test_train_evaluate_predict(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    root, folder, bundle = samples(name), tmp_path / "run", f"{name}_afma.json"
    section = "val" if name == "cityscapes" else "test"  # whose test labels are withheld
    run(bundle, **options(name, root, folder))
    run(bundle, "evaluate.json", output_dir=str(folder), val_section=section)
    report = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    files = READERS[name].datalist(root, section)
    assert report["images"] == len(files)
    assert 0 <= report["scores"]["mIoU"] <= 1
    run(bundle, "inference.json", output_dir=str(folder))
    pictures = READERS[name].datalist(root, "test")
    assert len(list((folder / "predictions").rglob("segmentation-*" if name == "lits" else "labels/**/*.png"))) == len(
        pictures
    ), "no prediction replaces another"
    raw = {info.raw_id for info in READERS[name].classes if info.train_id != 255}
    for item in pictures:
        prediction, shape = (read_volume if name == "lits" else read_picture)(folder / "predictions", item["image"])
        assert prediction.shape == shape, "a prediction has the size of its image"
        assert set(np.unique(prediction)) <= raw, "and the values of the dataset's own label files"


@pytest.mark.parametrize("name", ["camvid", "isic", "lits"])
def test_variant_with_a_hypercolumn_head(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder, bundle = tmp_path / "run", f"{name}_afma.json"
    run(bundle, **options(name, samples(name), folder), variant="hypercolumn", feature=[2, 3])
    run(bundle, "evaluate.json", output_dir=str(folder))
    loaded = load_network(folder)
    assert isinstance(loaded.network, HypercolumnNet)
    assert loaded.settings["feature"] == [2, 3]
    assert loaded.settings["training"]["attention_weight"] == 0.0
    assert not list(folder.rglob("*explorer*"))


@pytest.mark.parametrize("name", NAMES)
def test_head_reads_three_maps_unless_told_otherwise(name: str) -> None:
    parser = parsed(name)
    parser["variant"] = "hypercolumn"
    assert parser.get_parsed_content("feature") == [2, 3, 4]


def read_volume(folder: Path, image: str) -> tuple[np.ndarray, tuple[int, ...]]:
    volume = nibabel.load(image)
    name = Path(image).name.split(".")[0].replace("volume", "segmentation")
    prediction = nibabel.load(folder / f"{name}.nii.gz")
    assert np.array_equal(prediction.affine, volume.affine)
    assert prediction.header.get_zooms() == volume.header.get_zooms()
    return np.asarray(prediction.dataobj), volume.shape


def read_picture(folder: Path, image: str) -> tuple[np.ndarray, tuple[int, ...]]:
    width, height = Image.open(image).size
    [path] = folder.glob(f"labels/**/{Path(image).stem}*.png")
    [color] = folder.glob(f"color/**/{Path(image).stem}.png")
    assert Image.open(color).size == (width, height)
    return np.asarray(Image.open(path)), (height, width)


@pytest.mark.parametrize(("name", "title"), [("nuclei", "Nuclei"), ("lesion_slices", "Lesion slices")])
def test_bundles_without_a_sample_ask_for_the_dataset(tmp_path: Path, name: str, title: str) -> None:
    with refused(match=rf"error: `dataset_dir` must hold {title}; there is no .*Pass --dataset_dir"):
        run(f"{name}_afma.json", bundle_root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fold_of_a_run_is_that_of_its_evaluation(samples: Callable[[str], Path], tmp_path: Path) -> None:
    root = samples("lesion_slices")
    given = options("lesion_slices", root, tmp_path / "run", fold=3)
    workflow("lesion_slices_afma.json", **given).initialize()
    assert json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["fold"] == 3
    (tmp_path / "run" / "model.pt").write_bytes(b"")
    tested = [item["image"] for item in build_lesion_slices(3).datalist(root, "test")]
    for overlay in ("evaluate.json", "inference.json"):
        bundle = workflow("lesion_slices_afma.json", overlay, output_dir=str(tmp_path / "run"))
        reader = bundle.parser.get_parsed_content("reader")
        assert [item["image"] for item in reader.datalist(root, "test")] == tested
    (tmp_path / "run" / "last.pt").write_bytes(b"")
    with refused(match="`resume` must continue with the network of its run; got fold=0, the run has 3"):
        workflow("lesion_slices_afma.json", **{**given, "fold": 0}, resume=True).initialize()


def test_loaded_run_has_its_fold(samples: Callable[[str], Path], tmp_path: Path) -> None:
    root = samples("lesion_slices")
    run_of_fold = load_network(write_untrained(tmp_path / "run", "lesion_slices", root, fold=4))
    assert run_of_fold.settings["fold"] == 4
    assert run_of_fold.find_image() == build_lesion_slices(4).datalist(root, "test")[0]["image"]


def test_folds_that_do_not_exist_end_the_command(samples: Callable[[str], Path], tmp_path: Path) -> None:
    with refused(match="error: `fold` must be a whole number from 0 to 4; got 5"):
        run("lesion_slices_afma.json", **options("lesion_slices", samples("lesion_slices"), tmp_path / "run", fold=5))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["isic", "lits"])
def test_baseline_and_afma_start_alike(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """The same initial host, and the same crops in the same order."""
    found = []
    for overlays in ((), ("baseline.json",)):
        given = options(name, samples(name), tmp_path / f"run{len(overlays)}")
        bundle = workflow(f"{name}_afma.json", *overlays, **given)
        bundle.initialize()
        trainer = bundle.parser.get_parsed_content("train#trainer")
        bundle.parser.get_parsed_content("train#epoch_seed").attach(trainer)
        trainer.state.epoch = 1
        trainer.fire_event(Events.EPOCH_STARTED)
        batches = [batch["image"] for batch in bundle.parser.get_parsed_content("train#dataloader")]
        found.append((batches, bundle.parser.get_parsed_content("backbone").state_dict()))
    assert all(torch.equal(*pair) for pair in zip(found[0][0], found[1][0], strict=True))
    assert all(torch.equal(weight, found[1][1][key]) for key, weight in found[0][1].items())


@pytest.mark.parametrize("name", ["isic", "lits"])
def test_broken_data_end_the_training_with_the_report(
    samples: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    root = DRAW[name](tmp_path / "data")
    item = READERS[name].datalist(root, "train")[0]
    Path(item["label"]).write_bytes(b"")
    with refused(match=rf"(?s)error: The dataset's files must fit.*{Path(item['label']).name}"):
        run(f"{name}_afma.json", **options(name, root, tmp_path / "run"))
    assert not (tmp_path / "run").exists(), "a refused training leaves nothing behind"


def test_withheld_labels_end_the_evaluation_with_what_to_do(samples: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    settings = {"dataset_dir": str(samples("cityscapes")), "afma": False, "feature": 2, "patch_size": 10}
    settings |= {"network_name": "Unet", "encoder": "resnet18", "variant": "released", "longest_side": None}
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with refused(match=r"must have labels; got 'test' of Cityscapes.*afma bundle NAME"):
        run("cityscapes_afma.json", "evaluate.json", output_dir=str(tmp_path))
