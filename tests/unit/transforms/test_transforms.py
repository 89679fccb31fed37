"""Pictures are read as they are seen, labels as they are meant, and errors name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from afma_med.data import CAMVID, ISIC
from afma_med.data.class_table import class_colors
from afma_med.transforms import ColorizeClassesd, LoadLabeld, LoadRGBImaged, MapToRawIdsd


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA"])
def test_every_picture_becomes_rgb_rows_first(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (5, 3)).save(tmp_path / "a.png")
    image = LoadRGBImaged("image")({"image": str(tmp_path / "a.png")})["image"]
    assert image.shape == (3, 3, 5)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert LoadRGBImaged("image")({"image": str(tmp_path / "a.jpg")})["image"].shape == (3, 5, 4)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_label_values_stay(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 11, 255], [3, 4, 5]], dtype=np.uint8)
    picture = Image.fromarray(values)
    if mode == "P":
        picture = picture.convert("P")
        picture.putdata(values.ravel().tolist())
    picture.save(tmp_path / "a.png")
    item = LoadLabeld("label", CAMVID.read_label)({"label": str(tmp_path / "a.png")})
    assert item["label"][0].tolist() == values.tolist()


def test_colour_coded_label_becomes_train_ids(tmp_path: Path) -> None:
    Image.new("RGB", (2, 1), (192, 128, 64)).save(tmp_path / "a.png")
    label = LoadLabeld("label", CAMVID.read_label)({"label": str(tmp_path / "a.png")})["label"]
    assert label.tolist() == [[[9, 9]]]
    assert label.meta["filename_or_obj"].endswith("a.png"), "writers need the file name"


@pytest.mark.parametrize("content", [b"", b"no picture"])
def test_unreadable_picture_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.png` must be a picture that Pillow reads; got: .*Replace the file"):
        LoadRGBImaged("image")({"image": str(tmp_path / "broken.png")})


def test_truncated_picture_is_named(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"cut\.png` must be a picture that Pillow reads; got: .*truncated"):
        LoadRGBImaged("image")({"image": str(path)})


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    image = LoadRGBImaged("image")({"image": str(tmp_path / "a.png")})["image"]
    assert image[:, 0].tolist() == [[0, 1, 255]] * 3


def test_bad_label_value_names_the_file(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 99).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png` cannot be used: .*\[99\]"):
        LoadLabeld("label", CAMVID.read_label)({"label": str(tmp_path / "a.png")})


def test_items_without_label_pass_only_when_allowed() -> None:
    assert LoadLabeld("label", CAMVID.read_label, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="label"):
        LoadLabeld("label", CAMVID.read_label)({"image": 1})


def test_predictions_get_the_values_of_the_label_files() -> None:
    ids = MetaTensor(torch.tensor([[[0, 1]]]), meta={"filename_or_obj": "x"})
    raw = MapToRawIdsd("pred", ISIC.classes)({"pred": ids})["pred"]
    assert raw.tolist() == [[[0, 255]]]
    assert raw.meta["filename_or_obj"] == "x"


def test_colorize_paints_every_class() -> None:
    ids = torch.arange(12).reshape(1, 3, 4)
    painted = ColorizeClassesd("pred", CAMVID.classes)({"pred": MetaTensor(ids, meta={"filename_or_obj": "x"})})["pred"]
    assert painted.shape == (3, 3, 4)
    assert np.array_equal(painted.permute(1, 2, 0).numpy().reshape(12, 3), class_colors(CAMVID.classes)[:12])
    assert painted.meta["filename_or_obj"] == "x"
