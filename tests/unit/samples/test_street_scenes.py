"""The street scenes: pinned pixels, and what they show."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from afma_med.data import CAMVID
from afma_med.data.class_table import class_names
from afma_med.samples.street_scenes import draw_street_scene, write_street_scenes

NAMES = class_names(CAMVID.classes)


@pytest.fixture(scope="module")
def labels() -> list[NDArray[np.uint8]]:
    return [draw_street_scene(0, index, size=(96, 128))[1] for index in range(16)]


def test_pixels_are_pinned() -> None:
    # Taken from the first run; any change of the drawing needs a new `_VERSION` beside the new sums.
    image, label = draw_street_scene(0, 7)
    image_sum, label_sum = (hashlib.sha256(array.tobytes()).hexdigest() for array in (image, label))
    assert image_sum == "d423bea4fe8afd5cefd43a1b20dffb530431a5c1bd9788ccc43fc621d1fc240c"
    assert label_sum == "74f13c65bdf0fd20ebbfe8a9dca75cf7130ab940bdbff44fbb6b3f6f431fc597"


def test_image_and_label_are_uint8_of_the_given_size() -> None:
    image, label = draw_street_scene(0, 0, size=(33, 50))
    assert (image.shape, image.dtype) == ((33, 50, 3), np.uint8)
    assert (label.shape, label.dtype) == ((33, 50), np.uint8)


def test_another_size_shows_the_same_street() -> None:
    small, large = (draw_street_scene(0, 5, size=size)[1] for size in ((96, 128), (192, 256)))
    assert np.mean(small == large[::2, ::2]) > 0.93


def test_every_class_occurs_and_most_of_them_in_most_scenes(labels: list[NDArray[np.uint8]]) -> None:
    share_of_scenes = np.mean([np.bincount(label.ravel(), minlength=len(NAMES)) > 0 for label in labels], axis=0)
    assert max(label.max() for label in labels) == len(NAMES) - 1
    assert min(share_of_scenes) > 0.5, dict(zip(NAMES, share_of_scenes, strict=True))


@pytest.mark.parametrize("name", ["pole", "signsymbol", "pedestrian", "bicyclist"])
def test_small_classes_cover_few_pixels(labels: list[NDArray[np.uint8]], name: str) -> None:
    assert 0.003 < np.mean([label == NAMES.index(name) for label in labels]) < 0.02


def test_small_and_large_cars_occur(labels: list[NDArray[np.uint8]]) -> None:
    # The runs of car pixels along the rows: a car is a few pixels wide at the horizon, a quarter of the picture nearby.
    car = np.stack([label == NAMES.index("car") for label in labels])
    steps = np.diff(np.pad(car, ((0, 0), (0, 0), (1, 1))).astype(np.int8), axis=2)
    runs = np.nonzero(steps == -1)[2] - np.nonzero(steps == 1)[2]
    assert np.sum(runs <= 4) > 50
    assert np.sum(runs >= 30) > 50


def test_no_color_tells_the_class() -> None:
    # Guess each pixel's class from its colour alone, at best: 8 levels per channel, the commonest class of each colour.
    image, label = (np.concatenate(parts) for parts in zip(*(draw_street_scene(0, i) for i in range(4)), strict=True))
    color = (image // 32) @ np.array([64, 8, 1])
    table = np.zeros((512, len(NAMES)), dtype=np.int64)
    np.add.at(table, (color, label), 1)
    correct = table.argmax(axis=1)[color] == label
    for name in ("pole", "signsymbol", "fence", "car", "pedestrian", "bicyclist"):
        assert correct[label == NAMES.index(name)].mean() < 0.3, name


def test_layout_is_camvids(tmp_path: Path) -> None:
    root = write_street_scenes(tmp_path / "sample", counts={"train": 2, "val": 1, "test": 1}, size=(32, 40))
    folders = ["test", "testannot", "train", "trainannot", "val", "valannot"]
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == folders
    assert [path.name for path in sorted((root / "train").iterdir())] == ["scene_0000.png", "scene_0003.png"]
    with Image.open(root / "test" / "scene_0002.png") as image, Image.open(root / "testannot/scene_0002.png") as label:
        drawn = draw_street_scene(0, 2, size=(32, 40))
        assert (image.mode, label.mode) == ("RGB", "L")
        assert np.array_equal(image, drawn[0]) and np.array_equal(label, drawn[1])
