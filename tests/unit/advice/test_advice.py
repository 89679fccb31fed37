"""Advice for datasets whose right settings are known."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from _helpers.commands import run_afma
from afma_med.advice.advise import Advice, advise, write_advice
from afma_med.bundle.installed import bundles_folder
from afma_med.data import ISIC, LITS, NUCLEI
from afma_med.data.dataset_reader import Item
from afma_med.data.picture_reader import inspect_pictures
from afma_med.samples import SAMPLES


def dataset(folder: Path, sides: list[int], *, size: int = 256) -> Path:
    """Square lesions of these sides, one an image, in ISIC's layout of plain folders."""
    SAMPLES["isic"].write(folder, counts={"train": len(sides), "val": 1, "test": 1})
    labels = sorted(folder.rglob("*Training_GroundTruth/*.png"))
    assert len(labels) == len(sides)
    for path, side in zip(labels, sides, strict=True):
        mask = np.zeros((size, size), dtype=np.uint8)
        mask[65 : 65 + side, 129 : 129 + side] = 255
        Image.fromarray(mask).save(path)
        (image,) = folder.rglob(f"*Training_Input/{path.name.removesuffix('_segmentation.png')}.jpg")
        Image.new("RGB", (size, size), "white").save(image)
    return folder


def ids(advice: Advice) -> dict[str, object]:
    return {name: value for one in advice.recommendations for name, value in one.ids.items()}


def test_shares_and_settings_of_small_squares(tmp_path: Path) -> None:
    advice = advise(ISIC, dataset(tmp_path / "isic", [6] * 6 + [10] * 4), encoder="resnet18")
    shares = dict(zip(advice.columns, advice.shares["lesion"], strict=True))
    assert shares["smaller than a cell of stride 4"] == 0
    assert shares["smaller than a cell of stride 8"] == 0.6
    assert shares["smaller than a cell of stride 16"] == 1
    assert shares["skipped at stride 16"] == 1, "all lie between the pixels that stride 16 keeps"
    assert shares["smaller than an image patch of 10×10"] == 0.6
    assert advice.sizes["lesion"] == [10, 36, 36, 100]
    chosen = ids(advice)
    assert (chosen["feature"], chosen["patch_size"], chosen["crop_size"]) == (2, 6, [128, 128])
    assert "longest_side" not in chosen


def test_tiny_nuclei_are_the_objects_not_the_background(tmp_path: Path) -> None:
    for i in range(12):
        mask = np.zeros((64, 64), dtype=np.uint8)
        for row, column in np.ndindex(7, 7):
            mask[9 * row : 9 * row + 3, 9 * column : 9 * column + 3] = 255
        for kind, picture in (("images", 255 - mask), ("masks", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(picture).save(tmp_path / kind / f"{i:02}.png")
    advice = advise(NUCLEI, tmp_path, encoder="resnet18")
    assert list(advice.shares) == ["nucleus"]
    assert advice.sizes["nucleus"][1:] == [9, 9, 9]
    chosen, reasons = ids(advice), {one.setting: one.reason for one in advice.recommendations}
    assert (chosen["feature"], chosen["patch_size"]) == (1, 4)
    assert reasons["prediction"].startswith("100% of the objects are smaller than 32×32 pixels. More of them")
    assert "0% of nucleus. At depth 2, with 4×4 pixels, it would be 100% of nucleus" in reasons["feature"]


@pytest.mark.parametrize("names", [("Background", "lesion"), ("lesion", "BACKGROUND")])
def test_the_background_is_the_class_of_that_name_not_the_largest(tmp_path: Path, names: tuple[str, str]) -> None:
    root = dataset(tmp_path / "isic", [9] * 3, size=192)
    for path in root.rglob("*Training_GroundTruth/*.png"):
        Image.fromarray(np.pad(np.full((172, 172), 255, dtype=np.uint8), 10)).save(path)
    by_name = {"lesion": ISIC.classes[1], "background": ISIC.classes[0]}
    table = tuple(by_name[name.lower()]._replace(name=name, train_id=k) for k, name in enumerate(names))
    swapped = names[0] == "lesion"
    reader = ISIC._replace(
        classes=table,
        inspect=partial(inspect_pictures, read_label=lambda item: _read(item, swapped=swapped), num_classes=2),
        read_label=lambda item: _read(item, swapped=swapped),
    )
    advice = advise(reader, root, encoder="resnet18")
    assert list(advice.sizes) == ["lesion"]
    assert advice.sizes["lesion"] == [3, *[172**2] * 3]
    assert ids(advice)["feature"] == 5


def _read(item: Item, *, swapped: bool) -> NDArray[np.uint8]:
    label = ISIC.read_label(item)
    return 1 - label if swapped else label


def test_large_squares_take_a_deeper_map(tmp_path: Path) -> None:
    chosen = ids(advise(ISIC, dataset(tmp_path / "isic", [120] * 4), encoder="resnet18"))
    assert (chosen["feature"], chosen["patch_size"], chosen["crop_size"]) == (5, 10, [192, 192])


@pytest.mark.parametrize(("sides", "enlarged"), [([31] * 2 + [40] * 4, True), ([31] + [40] * 4, False)])
def test_images_of_small_objects_are_predicted_enlarged(tmp_path: Path, sides: list[int], enlarged: bool) -> None:
    found = advise(ISIC, dataset(tmp_path / "isic", sides), encoder="resnet18").recommendations
    [advice] = [one for one in found if one.setting == "prediction"]
    assert ('--inference_scales "[1,2]"' in advice.reason) == enlarged
    assert advice.ids == {}, "the overlay is for the training"


def test_resizing_that_loses_objects_is_enlarged(tmp_path: Path) -> None:
    root = dataset(tmp_path / "isic", [4] * 10)
    advice = advise(ISIC, root, longest_side=32, encoder="resnet18")
    assert dict(zip(advice.columns, advice.shares["lesion"], strict=True))["lost by resizing"] == 1
    side = ids(advice)["longest_side"]
    assert side is None or side > 32
    kept = advise(ISIC, root, longest_side=side, encoder="resnet18")
    assert kept.shares["lesion"][0] <= 0.02


def test_files_and_last_line(tmp_path: Path) -> None:
    advice = advise(ISIC, dataset(tmp_path / "isic", [6] * 3), encoder="resnet18")
    text = write_advice(advice, "ISIC", tmp_path / "advice")
    assert {path.name for path in (tmp_path / "advice").iterdir()} == {"advice.json", "advice.png", "advised.json"}
    assert text.splitlines()[-1].endswith(f"append {tmp_path / 'advice' / 'advised.json'} to --config_file.")
    content = json.loads((tmp_path / "advice" / "advice.json").read_text(encoding="utf-8"))
    assert {one["setting"] for one in content["recommendations"]} >= {
        "resolution",
        "crop",
        "feature",
        "patch size",
        "loss",
        "prediction",
    }
    bundle = json.loads((bundles_folder() / "isic_afma.json").read_text(encoding="utf-8"))
    overlay = json.loads((tmp_path / "advice" / "advised.json").read_text(encoding="utf-8"))
    assert overlay
    assert overlay.keys() <= bundle.keys(), "every id exists"


def test_volumes_are_measured_slice_by_slice_in_square_millimetres(tmp_path: Path) -> None:
    SAMPLES["lits"].write(tmp_path / "lits", count=10)
    advice = advise(LITS, tmp_path / "lits", encoder="resnet18")
    assert advice.unit == "mm²"
    assert advice.sizes["liver"][2] > advice.sizes["tumour"][2] > 0


def test_labels_without_objects_are_refused(tmp_path: Path) -> None:
    root = dataset(tmp_path / "isic", [3] * 3, size=3)
    with pytest.raises(ValueError, match=r"`section` must have objects; .*'train' hold background alone"):
        advise(ISIC, root, encoder="resnet18")


def test_unknown_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`network` and `encoder` must be names of segmentation_models_pytorch; got"):
        advise(ISIC, dataset(tmp_path / "isic", [6]), encoder="resnet9000")


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = dataset(tmp_path / "isic", [6] * 3)
    monkeypatch.chdir(tmp_path)
    done = run_afma("advise", "isic", root, "--encoder", "resnet18")
    assert done.returncode == 0, done.stderr
    assert "feature: depth 2" in done.stdout
    assert (tmp_path / "advice" / "isic" / "advised.json").is_file()
