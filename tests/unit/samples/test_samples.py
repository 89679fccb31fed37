"""The embedded samples: layouts and values of their datasets, what they show, folders that are whole or absent."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from afma_med.data import CAMVID
from afma_med.data.class_table import class_names
from afma_med.samples import write_cityscapes_sample
from afma_med.samples.ct_phantom import draw_ct_phantom, write_ct_phantom
from afma_med.samples.sample_folder import is_sample
from afma_med.samples.single_objects import draw_bird, draw_lesion, write_birds, write_lesions
from afma_med.samples.street_scenes import draw_street_scene, write_street_scenes

TINY = {"train": 2, "test": 1}
SCENES: dict[str, Any] = {"counts": TINY, "size": (32, 40)}
# Each writer with small settings, a file of the sample, and settings that leave out a file.
WRITERS: dict[str, tuple[Callable[..., Path], str, dict[str, Any]]] = {
    "street scenes": (functools.partial(write_street_scenes, **SCENES), "trainannot/scene_0003.png", {}),
    "cityscapes": (
        functools.partial(write_cityscapes_sample, **SCENES),
        "gtFine/train/rightwick/rightwick_000003_000019_gtFine_labelIds.png",
        {},
    ),
    "ct phantom": (functools.partial(write_ct_phantom, count=2), "segmentation-1.nii.gz", {"count": 1}),
    "lesions": (functools.partial(write_lesions, counts=TINY), "ISIC2018_Task1-2_Training_Input/ISIC_0000003.jpg", {}),
    "birds": (functools.partial(write_birds, counts=TINY), "train_test_split.txt", {}),
}
Writer = tuple[Callable[..., Path], str, dict[str, Any]]


@pytest.fixture(params=WRITERS)
def writer(request: pytest.FixtureRequest) -> Writer:
    return WRITERS[request.param]


@pytest.fixture(scope="module")
def copy_sample(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Writer, Path], Path]:
    """Copy a writer's sample, which is drawn once."""
    folder = tmp_path_factory.mktemp("drawn")

    @functools.cache
    def draw(number: int) -> Path:
        return [*WRITERS.values()][number][0](folder / str(number))

    return lambda writer, root: Path(shutil.copytree(draw([*WRITERS.values()].index(writer)), root))


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def read(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as image:
        return np.asarray(image)


# What all samples share.


def test_complete_sample_is_left_as_it_is(
    writer: Writer, copy_sample: Callable[[Writer, Path], Path], tmp_path: Path
) -> None:
    write, name, _ = writer
    root = copy_sample(writer, tmp_path / "sample")
    assert root == tmp_path / "sample" and is_sample(root) and (root / name).is_file()
    before = {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]}
    assert write(root) == root
    assert {path: path.stat().st_mtime_ns for path in [root, *root.rglob("*")]} == before


def test_same_arguments_same_files_and_missing_ones_are_drawn_again(
    writer: Writer, copy_sample: Callable[[Writer, Path], Path], tmp_path: Path
) -> None:
    write, name, _ = writer
    root = copy_sample(writer, tmp_path / "sample")
    before = contents(root)
    (root / name).unlink()
    write(root)
    assert contents(root) == before
    write(root, seed=1)
    assert contents(root) != before
    assert [path.name for path in tmp_path.iterdir()] == ["sample"]


def test_counts_do_not_change_what_is_drawn(
    writer: Writer, copy_sample: Callable[[Writer, Path], Path], tmp_path: Path
) -> None:
    write, _, fewer = writer
    root = copy_sample(writer, tmp_path / "sample")
    before = contents(root)
    write(root, **(fewer or {"counts": {"train": 1}}))
    after = contents(root)
    same = [name for name in after if not name.endswith((".json", ".txt"))]
    assert 0 < len(same) < len(before) and all(after[name] == before[name] for name in same)


def test_foreign_files_are_never_touched(
    writer: Writer, copy_sample: Callable[[Writer, Path], Path], tmp_path: Path
) -> None:
    write, _, _ = writer
    thesis = tmp_path / "elsewhere" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"`root` must be .*elsewhere with 'thesis\.txt' in it\. Choose another"):
        write(thesis.parent)
    root = copy_sample(writer, tmp_path / "sample")
    thesis = thesis.rename(root / "thesis.txt")
    with pytest.raises(FileExistsError, match=r"with 'thesis\.txt' in it"):
        write(root, seed=1)
    assert thesis.read_text(encoding="utf-8") == "years of work"


@pytest.mark.parametrize("name", WRITERS)
def test_dataset_without_marker_and_other_sample_are_never_replaced(
    name: str, copy_sample: Callable[[Writer, Path], Path], tmp_path: Path
) -> None:
    root = copy_sample(WRITERS[name], tmp_path / "sample")
    before = contents(root)
    others = [write for other, (write, _, _) in WRITERS.items() if other != name]
    for write in others:
        with pytest.raises(FileExistsError, match="`root` must be"):
            write(root)
    marker = next(root.glob("*.json"))
    before.pop(marker.name)
    marker.unlink()
    assert not is_sample(root)
    with pytest.raises(FileExistsError, match="`root` must be"):
        WRITERS[name][0](root)
    assert contents(root) == before


@pytest.mark.parametrize(
    ("error", "write", "options", "message"),
    [
        (ValueError, write_lesions, {"seed": -1}, "`seed` must be ≥ 0; got -1"),
        (TypeError, write_ct_phantom, {"seed": 0.5}, r"`seed` must be an integer ≥ 0; got 0\.5"),
        (TypeError, write_ct_phantom, {"count": 1.5}, r"`count` must be an integer ≥ 0; got 1\.5"),
        (ValueError, write_birds, {"counts": {"val": 1}}, r"sections of \['train', 'test'\]; got 'val'"),
        (ValueError, write_street_scenes, {"counts": {"val": -1}}, r"`counts\['val'\]` must be ≥ 0; got -1"),
        (ValueError, write_street_scenes, {"size": (16, 256)}, r"`size\[0\]` must be ≥ 32; got 16"),
        (TypeError, write_street_scenes, {"size": (192.0, 256)}, r"`size\[0\]` must be an integer ≥ 32; got 192\.0"),
        (TypeError, write_cityscapes_sample, {"size": 192}, r"`size` must be a pair \(height, width\); got 192"),
        (TypeError, write_street_scenes, {"size": (3, 192, 256)}, r"`size` must be a pair .*; got \(3, 192, 256\)"),
    ],
)
def test_bad_arguments_are_refused(
    tmp_path: Path, error: type[Exception], write: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(error, match=message):
        write(tmp_path / "sample", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("draw", [draw_street_scene, draw_ct_phantom, draw_lesion, draw_bird])
def test_drawing_depends_on_seed_and_index_alone(draw: Callable[[Any, Any], tuple[NDArray[Any], ...]]) -> None:
    first, again, seed, index = draw(3, 1), draw(3, 1), draw(4, 1), draw(3, 2)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], seed[0]) and not np.array_equal(first[0], index[0])
    with pytest.raises(ValueError, match="`index` must be ≥ 0; got -1"):
        draw(0, -1)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        draw("0", 0)


def test_interrupted_drawing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(json, "dumps", fail)
    with pytest.raises(KeyboardInterrupt):
        write_lesions(tmp_path / "sample", counts={"val": 1})
    assert list(tmp_path.iterdir()) == []


def test_broken_marker_and_file_in_place_of_the_folder(tmp_path: Path) -> None:
    root = write_lesions(tmp_path / "sample", counts={"val": 1}, seed=2)
    before, marker = contents(root), root / "sample.json"
    settings = {"sample": "lesions", "version": 2, "seed": 2, "counts": {"train": 0, "val": 1, "test": 0}}
    assert json.loads(marker.read_text(encoding="utf-8")) == settings
    marker.write_bytes(before["sample.json"][:20])
    write_lesions(root, counts={"val": 1}, seed=2)
    assert contents(root) == before
    with pytest.raises(FileExistsError, match=r"sample\.json with 'a file of that name'"):
        write_lesions(marker)


# Cityscapes.


def test_cityscapes_layout_and_label_ids(tmp_path: Path) -> None:
    root = write_cityscapes_sample(tmp_path / "sample", counts={"train": 2, "val": 1, "test": 1}, size=(96, 128))
    assert sorted(contents(root)) == [
        "gtFine/train/lefthaven/lefthaven_000000_000019_gtFine_labelIds.png",
        "gtFine/train/rightwick/rightwick_000003_000019_gtFine_labelIds.png",
        "gtFine/val/southmere/southmere_000001_000019_gtFine_labelIds.png",
        "leftImg8bit/test/eastbridge/eastbridge_000002_000019_leftImg8bit.png",
        "leftImg8bit/train/lefthaven/lefthaven_000000_000019_leftImg8bit.png",
        "leftImg8bit/train/rightwick/rightwick_000003_000019_leftImg8bit.png",
        "leftImg8bit/val/southmere/southmere_000001_000019_leftImg8bit.png",
        "sample.json",
    ]
    label = read(next(root.glob("gtFine/val/*/*.png")))
    image, scene = draw_street_scene(0, 1, size=(96, 128))
    assert np.array_equal(read(next(root.glob("leftImg8bit/val/*/*.png"))), image)
    ids = {"sky": 23, "building": 11, "pole": 17, "road": 7, "pavement": 8, "tree": 21, "signsymbol": 20, "fence": 13,
           "car": 26, "pedestrian": 24, "bicyclist": 33, "unlabelled": 0}  # fmt: skip
    for train_id, name in enumerate(class_names(CAMVID.classes)):
        assert set(label[scene == train_id]) <= {ids[name]}


# LiTS.


def test_ct_files_are_nifti_in_millimetres(tmp_path: Path) -> None:
    root = write_ct_phantom(tmp_path / "sample", count=2)
    names = ["sample.json", "segmentation-0.nii", "segmentation-1.nii.gz", "volume-0.nii", "volume-1.nii.gz"]
    assert sorted(path.name for path in root.iterdir()) == names
    volume, label, affine = draw_ct_phantom(0, 1)
    for name, array in (("volume", volume), ("segmentation", label)):
        image = nib.load(root / f"{name}-1.nii.gz")
        assert image.get_data_dtype() == array.dtype
        assert np.array_equal(image.dataobj, array)
        assert image.header.get_xyzt_units()[0] == "mm"
        for form, code in (image.get_qform(coded=True), image.get_sform(coded=True)):
            assert code == 1 and np.allclose(form, affine, atol=1e-3)


def test_ct_phantoms_have_anatomy_tissue_and_tumours_of_all_sizes() -> None:
    codes, padded, healthy, sizes = [], [], [], []
    for index in range(16):
        volume, label, affine = draw_ct_phantom(0, index)
        codes.append("".join(nib.aff2axcodes(affine)))
        padded += [index] if volume.min() == -3024 else []
        healthy += [index] if label.max() == 1 else []
        body = world(volume > -300, affine)
        liver, bone = world(label > 0, affine) - body, world(volume > 330, affine) - body
        lung = world((volume > -950) & (volume < -750), affine) - body
        # Right, anterior, superior: liver to the right, spine behind, lung above.
        assert liver[0] > 30 and bone[1] < -15 and lung[2] > 5
        assert 95 < np.median(volume[label == 1]) < 130 and 15 < volume[label == 1].std() < 35
        assert 0.03 < np.mean(label > 0) < 0.12 and np.any(label == 1, axis=(0, 1)).mean() < 1
        components, _ = ndimage.label(label == 2)
        sizes += [box[0].stop - box[0].start for box in ndimage.find_objects(components)]
    assert codes[:3] == ["RAS", "LPS", "LAS"] and set(codes) == set(codes[:3])
    assert padded == [5, 13] and healthy == [4, 9, 14]
    assert sum(size >= 18 for size in sizes) >= 5 and sum(size <= 6 for size in sizes) >= 40 and max(sizes) <= 40


def world(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0)))


# ISIC and CUB.


def test_lesion_layout_and_masks(tmp_path: Path) -> None:
    root = write_lesions(tmp_path / "sample", counts={"train": 1, "val": 1, "test": 1})
    for number, part in enumerate(("Training", "Validation", "Test")):
        image = read(root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{number:07d}.jpg")
        mask = read(root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{number:07d}_segmentation.png")
        drawn = draw_lesion(0, number)
        assert np.array_equal(mask, drawn[1]) and set(np.unique(mask)) == {0, 255}
        assert image.shape == (192, 256, 3) and np.abs(image.astype(int) - drawn[0]).mean() < 8


def test_lesions_are_large_or_small_and_darker_than_the_skin() -> None:
    pictures = [draw_lesion(0, index) for index in range(40)]
    widths = [np.ptp(np.argwhere(mask), axis=0).max() + 1 for _, mask in pictures]
    assert sum(width <= 22 for width in widths) >= 10 and sum(width >= 50 for width in widths) >= 15
    assert not any(24 < width < 50 for width in widths)
    gaps = [image[mask == 0].mean() - image[mask > 0].mean() for image, mask in pictures]
    assert np.mean(np.array(gaps) > 10) > 0.7


def test_bird_layout_and_lists(tmp_path: Path) -> None:
    root = write_birds(tmp_path / "sample", counts={"train": 5, "test": 2})
    listed = [line.split() for line in (root / "images.txt").read_text(encoding="utf-8").splitlines()]
    split = [line.split() for line in (root / "train_test_split.txt").read_text(encoding="utf-8").splitlines()]
    assert listed[0] == ["1", "001.Round_finch/Round_finch_0001_1.jpg"]
    assert [row for row, _ in listed] == [row for row, _ in split] == list("1234567")
    sections = {name: train for (_, name), (_, train) in zip(listed, split, strict=True)}
    assert list(sections.values()).count("1") == 5
    assert sections["001.Round_finch/Round_finch_0002_2.jpg"] == "0"
    assert sorted(sections) == sorted(path.relative_to(root / "images").as_posix() for path in root.glob("images/*/*"))
    assert len({name.split("/")[0] for name in sections}) == 4
    for name in sections:
        image, votes = read(root / "images" / name), read(root / "segmentations" / Path(name).with_suffix(".png"))
        assert image.shape[:2] == votes.shape and set(np.unique(votes)) == {0, 51, 102, 153, 204, 255}


def test_birds_are_large_or_small_some_are_grey_and_annotators_mostly_agree() -> None:
    birds = [draw_bird(0, index) for index in range(24)]
    assert [index for index, (image, _) in enumerate(birds) if image.ndim == 2] == [9, 10]
    assert len({votes.shape for _, votes in birds}) == 4
    widths = [np.ptp(np.argwhere(votes > 127), axis=0).max() for _, votes in birds]
    assert sum(width < 60 for width in widths) >= 8 and sum(width > 75 for width in widths) >= 8
    for _, votes in birds:
        assert 0.03 < np.mean((votes > 0) & (votes < 255)) / np.mean(votes > 127) < 1.2
