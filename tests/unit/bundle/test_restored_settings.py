"""What a training decides about its files holds for evaluation and prediction."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from monai.bundle import ConfigParser
from PIL import Image

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.run import list_inputs
from afma_med.bundle.settings import write_settings
from afma_med.data import NUCLEI, DatasetWarning


def parse(*files: str, **ids: object) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config([str(bundles_folder() / file) for file in files])
    parser.update(ids)
    return parser


@pytest.mark.parametrize("overlay", ["evaluate.json", "inference.json"])
def test_supplied_geometry(tmp_path: Path, overlay: str) -> None:
    ids = {"missing_spacing": [0.7, 0.7, 2.5], "missing_orientation": "LPS", "dataset_dir": str(tmp_path)}
    settings = parse("lits_afma.json", **ids).get_parsed_content("settings")
    write_settings(tmp_path, settings)
    (tmp_path / "model.pt").touch()
    reader = parse("lits_afma.json", overlay, output_dir=str(tmp_path)).get_parsed_content("reader")
    volume = np.random.default_rng(0).integers(-1000, 400, (6, 5, 4)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, np.eye(4)), tmp_path / "test-volume-0.nii")
    with pytest.warns(DatasetWarning, match="supplied: 6×5×4 LPS"):
        items = list_inputs(reader, None, tmp_path, "test")
    assert items == [{"image": str(tmp_path / "test-volume-0.nii"), "geometry": "LPS 0.7 0.7 2.5"}]
    assert list_inputs(reader, tmp_path, tmp_path, "test") == items


def test_range_of_deep_pictures(tmp_path: Path) -> None:
    for section, highest in (("train", 3000), ("val", 200), ("test", 100)):
        for kind in ("images", "masks"):
            (tmp_path / section / kind).mkdir(parents=True)
        Image.fromarray(np.full((8, 8), highest, dtype=np.uint16)).save(tmp_path / section / "images" / "a.png")
        Image.new("L", (8, 8), 255).save(tmp_path / section / "masks" / "a.png")
    trained = parse("isic_afma.json", dataset_dir=str(tmp_path), longest_side=None)
    assert trained.get_parsed_content("image_range") == 4095
    write_settings(
        tmp_path, {**trained.get_parsed_content("settings"), "image_range": trained.get_parsed_content("image_range")}
    )
    (tmp_path / "model.pt").touch()
    images = []
    for parser, path in (
        (trained, "load_transforms"),
        (parse("isic_afma.json", "inference.json", output_dir=str(tmp_path)), "load_transforms"),
    ):
        load = parser.get_parsed_content(path)[0]
        images.append(load({"image": str(tmp_path / "val" / "images" / "a.png")})["image"])
    assert images[0].unique().tolist() == images[1].unique().tolist() == [200 * 255 // 4095]
    by_hand = parse("isic_afma.json", dataset_dir=str(tmp_path), image_range=1023)
    load = by_hand.get_parsed_content("load_transforms")[0]
    assert load({"image": str(tmp_path / "val" / "images" / "a.png")})["image"].max() == 200 * 255 // 1023


@pytest.mark.parametrize("overlay", ["evaluate.json", "inference.json"])
@pytest.mark.parametrize("name", ["isic", "cub", "nuclei", "lesion_slices"])
def test_reading_of_masks(tmp_path: Path, name: str, overlay: str) -> None:
    write_settings(
        tmp_path,
        parse(f"{name}_afma.json", mask_values="instances", dataset_dir=str(tmp_path)).get_parsed_content("settings"),
    )
    (tmp_path / "model.pt").touch()
    reader = parse(f"{name}_afma.json", overlay, output_dir=str(tmp_path)).get_parsed_content("reader")
    Image.fromarray(np.array([[0, 51, 255]], dtype=np.uint8)).save(tmp_path / "m.png")
    assert reader.read_label({"label": str(tmp_path / "m.png")}).tolist() == [[0, 1, 1]]


def test_runs_of_earlier_versions_tell_by_the_values(tmp_path: Path) -> None:
    settings = parse("nuclei_afma.json", dataset_dir=str(tmp_path)).get_parsed_content("settings")
    write_settings(tmp_path, {name: value for name, value in settings.items() if name != "mask_values"})
    (tmp_path / "model.pt").touch()
    reader = parse("nuclei_afma.json", "evaluate.json", output_dir=str(tmp_path)).get_parsed_content("reader")
    assert reader.read_label == NUCLEI.read_label


def test_labels_of_classes_have_no_reading(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as raised:
        parse("camvid_afma.json", mask_values="instances").get_parsed_content("reader")
    assert "`mask_values` must be 'auto'" in str(raised.value.__cause__ or raised.value)
