"""Transforms on arrays do what their twins on dictionaries do, and keep the metadata."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from afma_med.data import CAMVID, ISIC
from afma_med.transforms import (
    ColorizeClasses,
    ColorizeClassesd,
    LoadRGBImage,
    LoadRGBImaged,
    MapToRawIds,
    MapToRawIdsd,
    SavePNGd,
)


def test_pictures_load_alike(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)).save(path)
    image = LoadRGBImage()(path)
    assert isinstance(image, MetaTensor) and image.shape == (3, 4, 6)
    assert image.meta["filename_or_obj"] == str(path)
    assert list(image.meta["spatial_shape"]) == [4, 6]
    torch.testing.assert_close(image, LoadRGBImaged("image")({"image": path})["image"])


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"`.*broken\.png` must be a picture that Pillow reads; got: "):
        LoadRGBImage()(path)


@pytest.mark.parametrize(
    ("of_array", "of_dictionary"), [(ColorizeClasses, ColorizeClassesd), (MapToRawIds, MapToRawIdsd)]
)
def test_twins_agree(of_array: type, of_dictionary: type) -> None:
    ids = MetaTensor(torch.tensor([[[0, 1], [1, 0]]]), meta={"filename_or_obj": "a.jpg"})
    array = of_array(ISIC.classes)(ids)
    item = of_dictionary("pred", ISIC.classes)({"pred": ids, "other": 1})
    assert item["other"] == 1 and item["pred"].equal(array)
    assert array.meta["filename_or_obj"] == "a.jpg" and array.dtype == torch.uint8


@pytest.mark.parametrize("value", [0.9999, 256, -1, float("nan"), 2**32 + 1])
def test_ids_that_are_no_bytes_are_refused(value: float, tmp_path: Path) -> None:
    ids = torch.tensor([[[0, 1, value]]])
    for transform in (MapToRawIds(CAMVID.classes), ColorizeClasses(CAMVID.classes)):
        with pytest.raises(ValueError, match=r"`ids` must hold classes 0 to 255; got"):
            transform(ids)
    with pytest.raises(ValueError, match=r"`ids` must hold classes 0 to 255; got"):
        SavePNGd("pred", str(tmp_path))({"pred": ids})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bfloat16, torch.float64, torch.int64])
def test_ids_of_every_number_type_are_mapped(dtype: torch.dtype) -> None:
    ids = torch.tensor([[[0, 1, 11]]])
    for transform in (MapToRawIds(CAMVID.classes), ColorizeClasses(CAMVID.classes)):
        assert transform(ids.to(dtype)).equal(transform(ids))
