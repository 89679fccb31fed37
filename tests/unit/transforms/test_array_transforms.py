"""Transforms on arrays do what their twins on dictionaries do, and keep the metadata."""

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from afma_med.data import ISIC
from afma_med.transforms import (
    ColorizeClasses,
    ColorizeClassesd,
    LoadImagePicture,
    LoadImagePictured,
    MapToRawIds,
    MapToRawIdsd,
)


def test_pictures_load_alike(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)).save(path)
    image = LoadImagePicture()(path)
    assert isinstance(image, MetaTensor) and image.shape == (3, 4, 6)
    assert image.meta["filename_or_obj"] == str(path)
    assert list(image.meta["spatial_shape"]) == [4, 6]
    torch.testing.assert_close(image, LoadImagePictured("image")({"image": path})["image"])


def test_what_is_no_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"`.*broken\.png` must be a picture that Pillow reads; got: "):
        LoadImagePicture()(path)


@pytest.mark.parametrize(
    ("of_array", "of_dictionary"), [(ColorizeClasses, ColorizeClassesd), (MapToRawIds, MapToRawIdsd)]
)
def test_twins_agree(of_array: type, of_dictionary: type) -> None:
    ids = MetaTensor(torch.tensor([[[0, 1], [1, 0]]]), meta={"filename_or_obj": "a.jpg"})
    array = of_array(ISIC.classes)(ids)
    item = of_dictionary("pred", ISIC.classes)({"pred": ids, "other": 1})
    assert item["other"] == 1 and item["pred"].equal(array)
    assert array.meta["filename_or_obj"] == "a.jpg" and array.dtype == torch.uint8
