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

from afma_med.data import CAMVID
from afma_med.data.class_table import class_names
from afma_med.samples.cityscapes_scenes import write_cityscapes_sample
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


@functools.cache
def bird(index: int) -> tuple[NDArray[Any], ...]:
    return draw_bird(0, index)


@pytest.fixture(scope="module")
def phantoms() -> list[tuple[NDArray[np.int16], NDArray[np.uint8], NDArray[np.float64]]]:
    return [draw_ct_phantom(0, index) for index in range(16)]


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


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (0.5, TypeError)])
def test_bad_seed_is_refused(writer: Writer, seed: Any, error: type[Exception], tmp_path: Path) -> None:
    with pytest.raises(error, match="`seed` must be"):
        writer[0](tmp_path / "sample", seed=seed)
    assert list(tmp_path.iterdir()) == []


def test_bad_counts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`counts` must name sections of \['train', 'test'\]; got 'val'"):
        write_birds(tmp_path, counts={"val": 1})
    with pytest.raises(ValueError, match=r"`counts\['val'\]` must be ≥ 0; got -1"):
        write_lesions(tmp_path, counts={"val": -1})
    with pytest.raises(TypeError, match=r"`count` must be an integer ≥ 0; got 1\.5"):
        write_ct_phantom(tmp_path, count=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("draw", [draw_ct_phantom, draw_lesion, draw_bird])
def test_drawing_depends_on_seed_and_index_alone(draw: Callable[[Any, Any], tuple[NDArray[Any], ...]]) -> None:
    first, again, seed, index = draw(3, 1), draw(3, 1), draw(4, 1), draw(3, 2)
    assert all(np.array_equal(*pair) for pair in zip(first, again, strict=True))
    assert not np.array_equal(first[0], seed[0]) and not np.array_equal(first[0], index[0])
    with pytest.raises(ValueError, match="`index` must be ≥ 0; got -1"):
        draw(0, -1)
    with pytest.raises(TypeError, match="`seed` must be an integer"):
        draw("0", 0)


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


def test_ct_orientations_spacings_and_shapes_differ(phantoms: list[Any]) -> None:
    codes = ["".join(nib.aff2axcodes(affine)) for _, _, affine in phantoms]
    assert codes[:3] == ["RAS", "LPS", "LAS"] and set(codes) == set(codes[:3])
    spacings = np.array([nib.affines.voxel_sizes(affine) for _, _, affine in phantoms])
    assert np.all((spacings > [2, 2, 3 - 1e-6]) & (spacings < [3, 3, 5]))
    assert len({volume.shape for volume, _, _ in phantoms}) > 12
    for volume, label, _ in phantoms:
        assert volume.shape == label.shape and (volume.dtype, label.dtype) == (np.int16, np.uint8)
        assert all(112 <= side <= 144 for side in volume.shape[:2]) and 20 <= volume.shape[2] <= 32


def test_anatomy_lies_right_in_the_world_whatever_the_orientation(phantoms: list[Any]) -> None:
    def world(mask: NDArray[np.bool_], affine: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(nib.affines.apply_affine(affine, np.argwhere(mask).mean(axis=0)))

    for volume, label, affine in phantoms:
        body = world(volume > -300, affine)
        liver, bone = world(label > 0, affine) - body, world(volume > 330, affine) - body
        lung = world((volume > -950) & (volume < -750), affine) - body
        # Right, anterior, superior: liver to the right, spine behind, lung above.
        assert liver[0] > 30 and bone[1] < -15 and lung[2] > 10


def test_ct_values_are_those_of_tissue(phantoms: list[Any]) -> None:
    padded = [index for index, (volume, _, _) in enumerate(phantoms) if volume.min() == -3024]
    assert padded == [5, 13]
    for volume, label, _ in phantoms:
        assert 95 < np.median(volume[label == 1]) < 130
        assert 15 < volume[label == 1].std() < 35
        assert 0.03 < np.mean(label > 0) < 0.12
        assert np.any(label == 1, axis=(0, 1)).mean() < 1
        if label.max() == 2:
            assert 45 < np.median(volume[label == 2]) < 85


def test_large_and_small_tumours_and_livers_without(phantoms: list[Any]) -> None:
    assert [index for index, (_, label, _) in enumerate(phantoms) if label.max() == 1] == [4, 9, 14]
    widths = [width for _, label, _ in phantoms for width in extents(label == 2)]
    assert sum(width >= 18 for width in widths) >= 8
    assert sum(width <= 6 for width in widths) >= 40
    assert max(widths) <= 36


def extents(mask: NDArray[np.bool_]) -> list[int]:
    """Extent along the first axis of each connected part, found by growing from a voxel."""
    todo, widths = set(map(tuple, np.argwhere(mask).tolist())), []
    while todo:
        stack, rows = [todo.pop()], set()
        while stack:
            i, j, k = stack.pop()
            rows.add(i)
            near = {(i + 1, j, k), (i - 1, j, k), (i, j + 1, k), (i, j - 1, k), (i, j, k + 1), (i, j, k - 1)} & todo
            todo -= near
            stack += near
        widths.append(len(rows))
    return widths


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
    assert sum(width <= 22 for width in widths) >= 10
    assert sum(width >= 50 for width in widths) >= 15
    assert not any(22 < width < 50 for width in widths)
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


def test_some_birds_are_gray_and_sizes_differ(tmp_path: Path) -> None:
    root = write_birds(tmp_path / "sample", counts={"train": 6})
    modes = [Image.open(path).mode for path in sorted(root.glob("images/*/*"), key=lambda path: len(path.name))]
    assert sorted(modes) == ["L"] + ["RGB"] * 5
    pictures = [bird(index)[0] for index in range(35)]
    assert [index for index, picture in enumerate(pictures) if picture.ndim == 2] == [9, 10, 33, 34]
    assert len({picture.shape[:2] for picture in pictures}) == 4


def test_birds_are_large_or_small_and_annotators_mostly_agree() -> None:
    votes = [bird(index)[1] for index in range(24)]
    widths = [np.ptp(np.argwhere(vote > 127), axis=0).max() for vote in votes]
    assert sum(width < 60 for width in widths) >= 8 and sum(width > 75 for width in widths) >= 8
    for vote in votes:
        torn = np.mean((vote > 0) & (vote < 255)) / np.mean(vote > 127)
        assert 0.05 < torn < 1.2


def test_marker_holds_the_settings(tmp_path: Path) -> None:
    root = write_lesions(tmp_path / "sample", counts={"val": 1}, seed=2)
    found = json.loads((root / "sample.json").read_text(encoding="utf-8"))
    assert found == {"sample": "lesions", "version": 1, "seed": 2, "counts": {"train": 0, "val": 1, "test": 0}}
