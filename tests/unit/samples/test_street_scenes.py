"""The embedded sample: pinned pixels, what the scenes show, and the folder that is whole or absent."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from afma_med.data import CAMVID
from afma_med.data.class_table import class_names
from afma_med.samples.street_scenes import draw_street_scene, is_street_scenes, write_street_scenes

NAMES = class_names(CAMVID.classes)
TINY: dict[str, Any] = {"counts": {"train": 2, "val": 1, "test": 1}, "size": (32, 40)}
FOLDERS = ["test", "testannot", "train", "trainannot", "val", "valannot"]


@pytest.fixture(scope="module")
def labels() -> list[NDArray[np.uint8]]:
    return [draw_street_scene(0, index, size=(96, 128))[1] for index in range(16)]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_street_scenes(tmp_path_factory.mktemp("drawn") / "sample", **TINY)


@pytest.fixture
def root(drawn: Path, tmp_path: Path) -> Path:
    """A copy of the sample, to do anything with."""
    return Path(shutil.copytree(drawn, tmp_path / "sample"))


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


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


def test_same_arguments_same_scene_and_other_arguments_another() -> None:
    first, again, index, seed = (draw_street_scene(*pair, size=(48, 64)) for pair in ((3, 1), (3, 1), (3, 2), (4, 1)))
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], index[0])
    assert not np.array_equal(first[0], seed[0])


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


def test_layout_is_camvids(root: Path) -> None:
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == FOLDERS
    assert [path.name for path in sorted((root / "train").iterdir())] == ["scene_0000.png", "scene_0003.png"]
    assert [path.name for path in (root / "valannot").iterdir()] == ["scene_0001.png"]
    with Image.open(root / "test" / "scene_0002.png") as image, Image.open(root / "testannot/scene_0002.png") as label:
        drawn = draw_street_scene(0, 2, size=(32, 40))
        assert (image.mode, label.mode) == ("RGB", "L")
        assert np.array_equal(image, drawn[0])
        assert np.array_equal(label, drawn[1])


def test_complete_sample_is_left_as_it_is(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    assert write_street_scenes(root, **TINY) == root
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


def test_other_counts_keep_the_scenes_of_a_section(root: Path) -> None:
    before = files(root)
    write_street_scenes(root, counts={"train": 1, "val": 2}, size=(32, 40))
    after = files(root)
    assert after["val/scene_0001.png"] == before["val/scene_0001.png"]
    assert "val/scene_0004.png" in after and "test/scene_0002.png" not in after


@pytest.mark.parametrize("damage", ["missing label", "other seed", "broken marker"])
def test_incomplete_or_other_sample_is_drawn_anew(root: Path, damage: str) -> None:
    before, marker = files(root), root / "street_scenes.json"
    if damage == "missing label":
        (root / "trainannot" / "scene_0003.png").unlink()
    elif damage == "other seed":
        write_street_scenes(root, seed=1, **TINY)
        assert files(root)["val/scene_0001.png"] != before["val/scene_0001.png"]
    else:
        marker.write_text(marker.read_text(encoding="utf-8")[:20], encoding="utf-8")
    write_street_scenes(root, **TINY)
    assert files(root) == before
    assert [path.name for path in root.parent.iterdir()] == ["sample"]


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(KeyboardInterrupt):
        write_street_scenes(tmp_path / "sample", **TINY)
    assert list(tmp_path.iterdir()) == []


def test_marker_tells_the_sample(root: Path, tmp_path: Path) -> None:
    assert is_street_scenes(root)
    assert not is_street_scenes(tmp_path)
    assert json.loads((root / "street_scenes.json").read_text(encoding="utf-8"))["size"] == [32, 40]


@pytest.mark.parametrize("place", ["elsewhere", "sample"])
def test_foreign_files_are_never_touched(root: Path, tmp_path: Path, place: str) -> None:
    foreign = tmp_path / place / "thesis.txt"
    foreign.parent.mkdir(exist_ok=True)
    foreign.write_text("years of work", encoding="utf-8")
    with pytest.raises(FileExistsError, match=rf"`root` must be .*{place} with 'thesis.txt' in it\. Choose another"):
        write_street_scenes(foreign.parent, seed=9, **TINY)
    assert foreign.read_text(encoding="utf-8") == "years of work"
    with pytest.raises(FileExistsError, match=r"thesis\.txt with 'a file of that name'"):
        write_street_scenes(foreign, **TINY)


@pytest.mark.parametrize(
    ("error", "arguments", "message"),
    [
        (ValueError, {"size": (16, 256)}, r"`size\[0\]` must be ≥ 32; got 16"),
        (ValueError, {"size": (192, 31)}, r"`size\[1\]` must be ≥ 32; got 31"),
        (TypeError, {"size": (192.0, 256)}, r"`size\[0\]` must be an integer ≥ 32; got 192\.0"),
        (TypeError, {"size": 192}, r"`size` must be a pair \(height, width\); got 192"),
        (TypeError, {"size": (3, 192, 256)}, r"`size` must be a pair \(height, width\); got \(3, 192, 256\)"),
        (ValueError, {"seed": -1}, "`seed` must be ≥ 0; got -1"),
        (TypeError, {"seed": 0.5}, r"`seed` must be an integer ≥ 0; got 0\.5"),
    ],
)
def test_bad_arguments_are_refused(
    tmp_path: Path, error: type[Exception], arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(error, match=message):
        draw_street_scene(**{"seed": 0, "index": 0, **arguments})
    with pytest.raises(error, match=message):
        write_street_scenes(tmp_path / "sample", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_bad_index_and_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`index` must be ≥ 0; got -2"):
        draw_street_scene(0, -2)
    with pytest.raises(ValueError, match=r"`counts\['val'\]` must be ≥ 0; got -1"):
        write_street_scenes(tmp_path, counts={"val": -1})
    with pytest.raises(ValueError, match=r"`counts` must name sections of \['train', 'val', 'test'\]; got 'valid'"):
        write_street_scenes(tmp_path, counts={"valid": 1})
