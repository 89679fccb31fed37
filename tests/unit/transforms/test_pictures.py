"""Pictures are read as they are seen, labels as they are meant; twins agree; errors name the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from afma_med.data import CAMVID, ISIC
from afma_med.data.class_table import class_colors
from afma_med.transforms import (
    ColorizeClasses,
    ColorizeClassesd,
    LoadLabeld,
    LoadRGBImage,
    LoadRGBImaged,
    MapToRawIds,
    MapToRawIdsd,
    SavePNGd,
)

NOISE = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "LA"])
def test_every_picture_becomes_rgb_rows_first_in_both_twins(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.new(mode, (5, 3)).save(path)
    image = LoadRGBImage()(path)
    assert isinstance(image, MetaTensor) and image.shape == (3, 3, 5)
    assert image.meta["filename_or_obj"] == str(path) and list(image.meta["spatial_shape"]) == [3, 5]
    torch.testing.assert_close(image, LoadRGBImaged("image")({"image": path})["image"])


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.fromarray(np.arange(60, dtype=np.uint8).reshape(4, 5, 3))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "a.jpg", exif=exif)
    assert LoadRGBImage()(tmp_path / "a.jpg").shape == (3, 5, 4)


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16)).save(tmp_path / "a.png")
    assert LoadRGBImage()(tmp_path / "a.png")[:, 0].tolist() == [[0, 1, 255]] * 3


@pytest.mark.parametrize("content", ["empty", "text", "truncated"])
def test_unreadable_picture_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broken.png"
    Image.fromarray(NOISE).save(path)
    path.write_bytes({"empty": b"", "text": b"no picture", "truncated": path.read_bytes()[:2000]}[content])
    with pytest.raises(ValueError, match=r"broken\.png` must be a picture that Pillow reads; got: .*Replace the file"):
        LoadRGBImaged("image")({"image": str(path)})


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


def test_bad_and_missing_labels_are_refused(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 99).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a\.png` cannot be used: .*\[99\]"):
        LoadLabeld("label", CAMVID.read_label)({"label": str(tmp_path / "a.png")})
    assert LoadLabeld("label", CAMVID.read_label, allow_missing_keys=True)({"image": 1}) == {"image": 1}
    with pytest.raises(KeyError, match="label"):
        LoadLabeld("label", CAMVID.read_label)({"image": 1})


def test_ids_are_mapped_and_painted_alike_in_both_twins() -> None:
    ids = MetaTensor(torch.arange(12).reshape(1, 3, 4), meta={"filename_or_obj": "a.jpg"})
    assert MapToRawIds(ISIC.classes)(torch.tensor([[[0, 1]]])).tolist() == [[[0, 255]]]
    painted = ColorizeClasses(CAMVID.classes)(ids)
    assert np.array_equal(painted.permute(1, 2, 0).numpy().reshape(12, 3), class_colors(CAMVID.classes)[:12])
    for of_array, of_dictionary in ((ColorizeClasses, ColorizeClassesd), (MapToRawIds, MapToRawIdsd)):
        array = of_array(CAMVID.classes)(ids)
        item = of_dictionary("pred", CAMVID.classes)({"pred": ids, "other": 1})
        assert item["other"] == 1 and item["pred"].equal(array)
        assert item["pred"].meta["filename_or_obj"] == "a.jpg" and array.dtype == torch.uint8


@pytest.mark.parametrize("value", [0.9999, 256, -1, float("nan"), 2**32 + 1])
def test_ids_that_are_no_bytes_are_refused(value: float, tmp_path: Path) -> None:
    item = {"pred": torch.tensor([[[0, 1, value]]])}
    save = SavePNGd("pred", str(tmp_path))
    for transform in (MapToRawIdsd("pred", CAMVID.classes), ColorizeClassesd("pred", CAMVID.classes), save):
        with pytest.raises(ValueError, match=r"`ids` must hold classes 0 to 255; got"):
            transform(item)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16, torch.float64, torch.int64])
def test_ids_of_every_number_type_are_mapped(dtype: torch.dtype) -> None:
    ids = torch.tensor([[[0, 1, 11]]])
    for transform in (MapToRawIds(CAMVID.classes), ColorizeClasses(CAMVID.classes)):
        assert transform(ids.to(dtype)).equal(transform(ids))
