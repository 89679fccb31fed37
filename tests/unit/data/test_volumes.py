"""Volumes come upright slice by slice, pair with their labels on one grid, and go back to exactly that grid."""

from __future__ import annotations

import gzip
import itertools
import os
import pickle
import shutil
import time
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from monai.data import DataLoader, Dataset, MetaTensor, decollate_batch
from monai.transforms import Compose, Invertd, Orientation, Orientationd, Spacingd, SpatialPadd
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from _helpers.paths import SHARED
from afma_med.data import LITS, DatasetError, balanced_slice_weights
from afma_med.data.ct.dicom_series import find_series, read_series
from afma_med.data.ct.nifti_slices import NiftiSlices
from afma_med.data.ct.volume_reader import find_volumes
from afma_med.data.ct.voxel_grid import Grid, same_grid
from afma_med.transforms.volumes import LoadCTSliced, LoadCTVolumed, SaveLabelVolumed

SHARED_LITS = SHARED / "data" / "lits-sample"
ORIENTATIONS = [
    "".join(codes) for signs in itertools.product("RL", "AP", "SI") for codes in itertools.permutations(signs)
]
SHAPE = (6, 5, 4)
# Turned about two axes: no axis of the voxels is one of the patient.
OBLIQUE = np.array([[0.9, -0.2, 0.3, -20], [0.25, 1.1, -0.4, 30], [-0.2, 0.35, 2.6, 5], [0, 0, 0, 1]])


def affine_of(axes: str, shape: tuple[int, ...] = SHAPE, spacing: tuple[float, ...] = (0.7, 0.8, 2.5)) -> np.ndarray:
    """Affine of a volume that is stored along these axes and begins at one place in space."""
    scaled = np.diag([*spacing, 1.0])
    scaled[:3, 3] = (-11, 7, 90)
    return scaled @ np.linalg.inv(inv_ornt_aff(axcodes2ornt(tuple(axes)), shape))


def ramp(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) * 7 - 1024).astype(np.int16)


def write_volume(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine_of("LPS") if affine is None else affine)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, path)
    return path


def write_pair(root: Path, number: int, *, suffix: str = ".nii", label: np.ndarray | None = None) -> dict[str, str]:
    label = np.zeros(SHAPE, np.uint8) if label is None else label
    image = write_volume(root / f"volume-{number}{suffix}", ramp())
    return {"image": str(image), "label": str(write_volume(root / f"segmentation-{number}{suffix}", label))}


def stacked(slices: NiftiSlices) -> np.ndarray:
    return np.stack([slices[k] for k in range(len(slices))], axis=-1)


def write_series(folder: Path, voxels: np.ndarray, *, uid: str = "1.2.3.4", tilt: float = 0.0) -> Path:
    """A CT series (X,Y,Z): Hounsfield units stored with slope 1 and intercept -1024, 2.5 mm apart."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = SimpleITK.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(voxels.shape[2]):
        plane = SimpleITK.GetImageFromArray(voxels[:, :, k].T.copy())
        plane.SetSpacing((0.7, 0.8))
        tags = {
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0008|0018": f"{uid}.{k + 1}",
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": uid,
            "0020|0013": str(k + 1),
            "0020|0032": f"-10\\{20 + tilt * k}\\{2.5 * k - 300}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0028|1052": "-1024",
            "0028|1053": "1",
        }
        for tag, value in tags.items():
            plane.SetMetaData(tag, value)
        # Named against the order of the positions.
        writer.SetFileName(str(folder / f"{voxels.shape[2] - k:03}.dcm"))
        writer.Execute(plane)
    return folder


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_slices_are_upright_in_every_orientation(tmp_path: Path, axes: str) -> None:
    path = write_volume(tmp_path / "volume-0.nii", ramp(), affine_of(axes))
    slices, stored = NiftiSlices(path), nib.load(path)
    assert "".join(nib.aff2axcodes(stored.affine)) == axes
    whole = MetaTensor(torch.from_numpy(ramp())[None], affine=torch.from_numpy(stored.affine))
    expected = Orientation("PLS", labels=None)(whole)
    assert np.array_equal(stacked(slices), expected[0].numpy())
    assert slices[0].dtype == np.float32 and slices[0].flags["C_CONTIGUOUS"]
    assert np.allclose(slices.grid.affine, expected.affine.numpy())
    assert slices.shape == tuple(expected.shape[1:])


def test_negative_and_foreign_indices(tmp_path: Path) -> None:
    slices = NiftiSlices(write_volume(tmp_path / "volume-0.nii", ramp()))
    assert np.array_equal(slices[-1], slices[3])
    for index in (4, -5):
        with pytest.raises(
            IndexError, match=rf"`index` must be in -4\.\.3; got {index}\. .*volume-0\.nii has 4 slices"
        ):
            slices[index]


@pytest.mark.parametrize("axes", ["LPS", "SRA"])
def test_packed_and_plain_volumes_are_the_same(tmp_path: Path, axes: str) -> None:
    plain = NiftiSlices(write_volume(tmp_path / "volume-0.nii", ramp(), affine_of(axes)))
    packed = NiftiSlices(write_volume(tmp_path / "volume-0.nii.gz", ramp(), affine_of(axes)))
    assert not (tmp_path / "cache").exists(), "nothing is unpacked before it is needed"
    assert np.array_equal(stacked(plain), stacked(packed))
    assert np.array_equal(plain.load(), packed.load()) and np.array_equal(plain.load(), ramp())
    assert len(list((tmp_path / "cache").iterdir())) == 1, "unpacked once, no temporary file left"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_slope_and_intercept_are_applied(tmp_path: Path, suffix: str) -> None:
    image = nib.Nifti1Image(ramp(), affine_of("RAS"))
    image.header.set_slope_inter(0.5, -1024)
    path = tmp_path / f"volume-0{suffix}"
    nib.save(image, path)
    with path.open("rb") as raw, gzip.open(path) as packed:
        header = nib.Nifti1Header.from_fileobj(packed if suffix.endswith("gz") else raw)
    assert header.get_slope_inter() == (0.5, -1024)
    slices = NiftiSlices(path)
    assert np.array_equal(slices.load(), nib.load(path).get_fdata().astype(np.float32))
    assert np.array_equal(slices[2], slices.load()[::-1, ::-1, 2].T)


def test_big_endian_float_nifti2_and_a_fourth_axis(tmp_path: Path) -> None:
    header = nib.Nifti2Header(endianness=">")
    header.set_data_dtype(">f4")
    nib.save(nib.Nifti2Image(ramp()[..., None].astype(">f4"), affine_of("LPS"), header), tmp_path / "volume-0.nii")
    assert np.array_equal(stacked(NiftiSlices(tmp_path / "volume-0.nii")), ramp().transpose(1, 0, 2))


def test_a_changed_file_is_unpacked_anew(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "volume-0.nii.gz", ramp())
    assert NiftiSlices(path)[0][0, 0] == -1024
    write_volume(path, ramp() + 1)
    os.utime(path, ns=(1, 1))
    assert NiftiSlices(path)[0][0, 0] == -1023


def test_a_damaged_unpacked_file_is_replaced_and_leftovers_removed(tmp_path: Path) -> None:
    slices = NiftiSlices(write_volume(tmp_path / "volume-0.nii.gz", ramp()))
    unpacked = slices.unpack()
    os.truncate(unpacked, 400)
    old, young = unpacked.with_name(f".a.{unpacked.name}"), unpacked.with_name(f".b.{unpacked.name}")
    for path in (old, young):
        path.touch()
    os.utime(old, (time.time() - 9999,) * 2)
    assert np.array_equal(stacked(slices), ramp().transpose(1, 0, 2))
    assert not old.exists() and young.exists(), "a young one may belong to another process"


def test_cache_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_volume(tmp_path / "volume-0.nii.gz", ramp())
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFMA_MED_CACHE", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"`AFMA_MED_CACHE` must be a folder with room .*file"):
        NiftiSlices(path)[0]


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slices = NiftiSlices(write_volume(tmp_path / "volume-0.nii.gz", ramp()))

    def fail(_source: Any, target: Any, _length: int) -> None:
        target.write(b"begin")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError, match="No space left on device"):
        slices[0]
    assert list((tmp_path / "cache").iterdir()) == []


def damage(path: Path, how: str) -> Path:
    content = path.read_bytes()
    middle = len(content) // 2
    damaged = {
        "empty": b"",
        "garbage": b"not a volume at all" * 99,
        "cut header": content[:100],
        "cut": content[: middle + 100],
        "trailer": content[:-2],
    }
    path.write_bytes(damaged[how])
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("how", ["empty", "garbage", "cut header", "cut", "trailer"])
def test_damaged_files_are_named(tmp_path: Path, suffix: str, how: str) -> None:
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = damage(write_volume(tmp_path / f"volume-0{suffix}", noise), how)
    message = r"volume-0\.nii.*` must be a whole NIfTI volume; got: .*\. Replace the file, or remove it together"
    for use in (lambda: NiftiSlices(path).check(), lambda: NiftiSlices(path)[0], lambda: NiftiSlices(path).load()):
        with pytest.raises(ValueError, match=message):
            use()


def test_flipped_bit_is_found_when_unpacking(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-999, 999, (20, 20, 20)).astype(np.int16)
    path = write_volume(tmp_path / "volume-0.nii.gz", noise)
    content = bytearray(path.read_bytes())
    content[-8] ^= 1  # of the checksum
    path.write_bytes(content)
    for use in (lambda: NiftiSlices(path)[0], lambda: NiftiSlices(path).load()):
        with pytest.raises(ValueError, match="must be a whole NIfTI volume; got: CRC check failed"):
            use()
    with pytest.raises(ValueError, match="must be a whole NIfTI volume"):
        LITS.inspect({"image": str(path)})


def test_gzip_of_several_members_is_whole(tmp_path: Path) -> None:
    content = write_volume(tmp_path / "volume-0.nii", ramp()).read_bytes()
    path = tmp_path / "volume-0.nii.gz"
    path.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]) + gzip.compress(b""))
    NiftiSlices(path).check()
    assert np.array_equal(NiftiSlices(path).load(), ramp())


@pytest.mark.parametrize(
    ("voxels", "reason"),
    [
        (np.zeros((4, 4, 4, 2), np.int16), r"shape \(4, 4, 4, 2\), where one 3-D volume"),
        (np.zeros((4, 4), np.int16), r"shape \(4, 4\), where one 3-D volume"),
        (np.zeros((4, 4, 4), np.complex64), "voxels of type complex64"),
        (np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")]), "voxels of type"),
    ],
)
def test_what_is_no_volume_is_refused(tmp_path: Path, voxels: np.ndarray, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        NiftiSlices(write_volume(tmp_path / "volume-0.nii", voxels))


def test_an_affine_without_volume_is_refused(tmp_path: Path) -> None:
    image = nib.Nifti1Image(ramp(), None)
    image.header["sform_code"], image.header["srow_x"] = 1, [1, 0, 0, 0]
    nib.save(image, tmp_path / "volume-0.nii")
    with pytest.raises(ValueError, match="an affine that spans no volume"):
        NiftiSlices(tmp_path / "volume-0.nii")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_voxels_that_are_no_numbers_are_refused(tmp_path: Path, suffix: str, value: float) -> None:
    voxels = ramp().astype(np.float32)
    voxels[0, 0, 1] = value
    slices = NiftiSlices(write_volume(tmp_path / f"volume-0{suffix}", voxels))
    with pytest.raises(ValueError, match=rf"volume-0\{suffix}` must be a whole NIfTI volume; got: 1 voxels"):
        [slices[k] for k in range(len(slices))]
    with pytest.raises(ValueError, match="NaN or infinite"):
        slices.load()
    assert np.isfinite(slices[len(slices) - 1]).all() or np.isfinite(slices[0]).all(), "whole slices are still read"


def read_slice(slices: NiftiSlices) -> np.ndarray:
    return slices[1]


def test_several_processes_unpack_one_file(tmp_path: Path) -> None:
    slices = NiftiSlices(write_volume(tmp_path / "volume-0.nii.gz", ramp()))
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        planes = list(pool.map(read_slice, [slices] * 4))
    assert all(np.array_equal(plane, ramp()[:, :, 1].T) for plane in planes)
    assert len(list((tmp_path / "cache").iterdir())) == 1


def test_no_file_stays_open_and_pickles_are_small(tmp_path: Path) -> None:
    slices = [NiftiSlices(write_volume(tmp_path / f"volume-{i}.nii", ramp())) for i in range(20)]
    before = len(os.listdir("/proc/self/fd"))
    assert all(one[0].size for one in slices)
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(pickle.dumps(slices[0])) < 3000


@pytest.mark.parametrize("axes", ["LPS", "SLP"])
def test_a_large_volume_is_not_held(tmp_path: Path, axes: str) -> None:
    """512×512×200 int16, 100 MB, as a sparse file: the heap must not grow by more than a few slices of 1 MB."""
    shape = (512, 512, 200) if axes == "LPS" else (200, 512, 512)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape(shape)
    header.set_sform(affine_of(axes, shape), code=1)
    header["magic"], header["vox_offset"] = b"n+1", 352
    path = tmp_path / "volume-0.nii"
    path.write_bytes(header.binaryblock + bytes(4))
    os.truncate(path, 352 + int(np.prod(shape)) * 2)
    tracemalloc.start()
    try:
        assert [NiftiSlices(path)[k].shape for k in (0, 100)] == [(512, 512)] * 2
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_same_grid_measures_in_voxels() -> None:
    grid = Grid(SHAPE, OBLIQUE)
    for share, same in ((0.001, True), (0.5, False)):
        moved = OBLIQUE.copy()
        moved[:3, 3] += share * OBLIQUE[:3, 2]
        assert same_grid(grid, Grid(SHAPE, moved)) is same
    assert not same_grid(grid, Grid((5, 6, 4), OBLIQUE))


def test_label_in_another_orientation_pairs(tmp_path: Path) -> None:
    write_volume(tmp_path / "volume-0.nii", ramp(), affine_of("RAS"))
    turned = nib.load(tmp_path / "volume-0.nii").as_reoriented(
        nib.orientations.ornt_transform(axcodes2ornt("RAS"), axcodes2ornt("SLP"))
    )
    label = (np.asarray(turned.dataobj) % 3).astype(np.uint8)
    nib.save(nib.Nifti1Image(label, turned.affine), tmp_path / "segmentation-0.nii")
    item = {"image": str(tmp_path / "volume-0.nii"), "label": str(tmp_path / "segmentation-0.nii")}
    (tmp_path / "train.txt").write_text("volume-0.nii\n", encoding="utf-8")
    assert LITS.datalist(tmp_path, "train") == [item]
    for loaded in (LoadCTVolumed()(item), LoadCTSliced()({**item, "slice": 2})):
        assert loaded["label"].dtype == torch.uint8 and loaded["image"].dtype == torch.float32
        assert np.array_equal(loaded["label"].numpy(), loaded["image"].numpy().astype(np.int16) % 3)
    assert torch.equal(LoadCTVolumed()(item)["label"].affine, LoadCTVolumed()(item)["image"].affine)


@pytest.mark.parametrize(
    ("shape", "affine"), [((5, 6, 4), affine_of("LPS", (5, 6, 4))), (SHAPE, affine_of("LPS") + np.eye(4)[2] * 0.3)]
)
def test_other_grids_are_refused(tmp_path: Path, shape: tuple[int, ...], affine: np.ndarray) -> None:
    item = write_pair(tmp_path, 0)
    write_volume(Path(item["label"]), np.zeros(shape, np.uint8), affine)
    message = r"grid of its image; got .*volume-0\.nii \(.*spacing.*origin.*\) with .*segmentation-0\.nii \(.*spacing"
    (tmp_path / "train.txt").write_text("volume-0", encoding="utf-8")
    for use in (
        lambda: LITS.datalist(tmp_path, "train"),
        lambda: LITS.inspect(item),
        lambda: LoadCTVolumed()(item),
        lambda: LoadCTSliced()({**item, "slice": 0}),
    ):
        with pytest.raises(ValueError, match=message):
            use()


@pytest.fixture
def ten_volumes(tmp_path: Path) -> Path:
    for number in range(2, 12):
        batch = tmp_path / "lits" / ("Training Batch 1" if number < 6 else "Training Batch 2")
        write_pair(batch, number, suffix=".nii" if number % 2 else ".nii.gz")
    return tmp_path / "lits"


def numbers(items: list[dict[str, str]]) -> list[int]:
    return [int(Path(item["image"]).name.split(".")[0].rsplit("-", 1)[1]) for item in items]


def test_split_is_complete_disjoint_and_in_numeric_order(ten_volumes: Path) -> None:
    parts = [numbers(LITS.datalist(ten_volumes, section)) for section in ("train", "val", "test")]
    assert [len(part) for part in parts] == [7, 1, 2]
    assert sorted(itertools.chain(*parts)) == list(range(2, 12))
    assert all(part == sorted(part) for part in parts)


def test_linked_folders_are_followed(ten_volumes: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    for batch in ten_volumes.iterdir():
        (tmp_path / "linked" / batch.name).symlink_to(batch)
    assert numbers(LITS.datalist(tmp_path / "linked", "train")) == numbers(LITS.datalist(ten_volumes, "train"))


def test_test_volumes_are_the_section_test(ten_volumes: Path) -> None:
    before = {section: numbers(LITS.datalist(ten_volumes, section)) for section in ("train", "val", "test")}
    for number in (0, 10, 9):
        write_volume(ten_volumes / "test" / f"test-volume-{number}.nii", ramp())
    items = LITS.datalist(ten_volumes, "test")
    assert numbers(items) == [0, 9, 10] and all(set(item) == {"image"} for item in items)
    assert numbers(LITS.datalist(ten_volumes, "val")) == before["val"]
    assert numbers(LITS.datalist(ten_volumes, "train")) == sorted(before["train"] + before["test"])
    damage(ten_volumes / "test" / "test-volume-9.nii", "cut")
    with pytest.raises(DatasetError, match=r"1 files that cannot be used:\n.*test-volume-9\.nii.*cut short"):
        LITS.datalist(ten_volumes, "test")


def test_split_files(ten_volumes: Path) -> None:
    write_volume(ten_volumes / "test-volume-0.nii.gz", ramp())
    (ten_volumes / "val.txt").write_text("volume-10.nii.gz\nvolume-9\n\n", encoding="utf-8")
    (ten_volumes / "test.txt").write_text("volume-3.nii\ntest-volume-0.nii.gz\n", encoding="utf-8")
    assert numbers(LITS.datalist(ten_volumes, "val")) == [9, 10]
    items = LITS.datalist(ten_volumes, "test")
    assert numbers(items) == [3, 0] and ["label" in item for item in items] == [True, False]
    (ten_volumes / "train.txt").write_text("volume-2\nvolume-99\n", encoding="utf-8")
    with pytest.raises(DatasetError, match="without an image:\n  volume-99"):
        LITS.datalist(ten_volumes, "train")


def test_all_problems_in_one_error(ten_volumes: Path) -> None:
    (ten_volumes / "train.txt").write_text("\n".join(f"volume-{number}" for number in range(2, 12)), encoding="utf-8")
    first, second = ten_volumes / "Training Batch 1", ten_volumes / "Training Batch 2"
    (first / "segmentation-2.nii.gz").unlink()
    damage(first / "volume-3.nii", "cut")
    damage(first / "segmentation-4.nii.gz", "empty")
    write_volume(second / "volume-7.nii", np.zeros((4, 4, 4, 2), np.int16))
    write_volume(second / "volume-8.nii", ramp())
    (second / "._volume-9.nii").write_bytes(b"left by another system")
    with pytest.raises(DatasetError) as caught:
        LITS.datalist(ten_volumes, "train")
    text = str(caught.value)
    for part in ("1 images without a label", "volume-2.nii.gz", "1 names with several files", "volume-8.nii and",
                 "3 files that cannot be used", "cut short", "segmentation-4.nii.gz", "(4, 4, 4, 2)"):  # fmt: skip
        assert part in text
    assert sorted(numbers(caught.value.items)) == [5, 6, 9, 10, 11]


def test_two_volumes_cannot_be_split(tmp_path: Path) -> None:
    write_pair(tmp_path, 0)
    with pytest.raises(ValueError, match="at least 3 images or volumes"):
        LITS.datalist(tmp_path, "train")


def test_inspect_counts_every_slice_and_keeps_the_counts(tmp_path: Path) -> None:
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2, 1], label[4, 4, 3] = 1, 2
    item = write_pair(tmp_path, 0, suffix=".nii.gz", label=label)
    found = LITS.inspect(item)
    assert [one.item for one in found] == [{**item, "slice": k} for k in range(4)]
    assert {one.size for one in found} == {(5, 6)}
    assert np.stack([one.counts for one in found]).tolist() == [[30, 0, 0], [28, 2, 0], [30, 0, 0], [29, 0, 1]]
    assert found[0].counts is not None and found[0].counts.dtype == np.int64
    assert np.array_equal(LITS.read_label(found[3].item), label[:, :, 3].T)
    kept = next((tmp_path / "cache").glob("*.npy"))
    np.save(kept, np.load(kept)[:, ::-1])
    assert LITS.inspect(item)[0].counts.tolist() == [0, 0, 30], "the second time, the counts are those that were kept"
    for broken in (b"", b"garbage", kept.read_bytes()[:90]):
        kept.write_bytes(broken)
        assert LITS.inspect(item)[1].counts.tolist() == [28, 2, 0]
    assert np.load(kept)[1].tolist() == [28, 2, 0]


def test_inspect_without_label_and_without_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    item = write_pair(tmp_path, 0)
    assert all(one.counts is None for one in LITS.inspect({"image": item["image"]}))
    (tmp_path / "file").touch()
    monkeypatch.setenv("AFMA_MED_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"Counts of .*segmentation-0\.nii are not kept.*AFMA_MED_CACHE"):
        assert len(LITS.inspect(item)) == 4


@pytest.mark.parametrize(
    ("value", "kind"), [(3, np.uint8), (-1, np.int16), (0.5, np.float32), (256, np.int16), (255, np.uint8)]
)
def test_other_label_values_are_named(tmp_path: Path, value: float, kind: type) -> None:
    label = np.zeros(SHAPE, kind)
    label[1, 1, 2] = value
    item = write_pair(tmp_path, 0, label=label)
    message = rf"segmentation-0\.nii` must hold the values \[0, 1, 2\] only; got \[{value:.3g}(\.0)?\]"
    for use in (
        lambda: LITS.inspect(item),
        lambda: LoadCTVolumed()(item),
        lambda: LoadCTSliced()({**item, "slice": 2}),
        lambda: LITS.read_label({**item, "slice": 2}),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_balanced_slices_are_drawn_equally_often() -> None:
    counts = torch.tensor([[9, 0, 0]] * 90 + [[5, 4, 0]] * 9 + [[5, 3, 1], [8, 0, 1]])
    weights = balanced_slice_weights(counts)
    assert weights.dtype == torch.float64
    assert [part.sum().item() for part in weights.split([90, 9, 2])] == pytest.approx([1 / 3] * 3)
    assert [part.sum().item() for part in balanced_slice_weights(counts, shares=(0, 1, 3)).split([90, 9, 2])] == [
        0, pytest.approx(0.25), pytest.approx(0.75)]  # fmt: skip
    assert balanced_slice_weights(np.array([[9, 0, 0], [8, 1, 0]])).tolist() == [0.5, 0.5], "no tumour anywhere"
    assert balanced_slice_weights([[0, 0, 0]]).tolist() == [1]
    with pytest.raises(ValueError, match=r"`counts` must be of shape \(slices,K\); got \(3,\)"):
        balanced_slice_weights([1, 2, 3])
    with pytest.raises(ValueError, match="`shares` must be 3 numbers ≥ 0"):
        balanced_slice_weights(counts, shares=(1, -1, 1))
    with pytest.raises(ValueError, match="`shares` must leave slices"):
        balanced_slice_weights([[9, 0, 0]], shares=(0, 1, 1))


def test_slices_through_a_data_loader(tmp_path: Path) -> None:
    item = write_pair(tmp_path, 0, suffix=".nii.gz")
    items = [one.item for one in LITS.inspect(item)] + [{"image": item["image"], "slice": 0}]
    load = LoadCTSliced(allow_missing_keys=True)
    batch = next(iter(DataLoader(Dataset(items[:4], load), batch_size=4, num_workers=2)))
    assert batch["image"].shape == (4, 1, 5, 6) and batch["label"].shape == (4, 1, 5, 6)
    assert decollate_batch(batch)[3]["image"].meta["filename_or_obj"] == item["image"]
    assert set(load(items[4])) == {"image", "slice"}
    with pytest.raises(KeyError):
        LoadCTSliced()(items[4])


def test_find_volumes_below_a_folder(tmp_path: Path) -> None:
    write_pair(tmp_path / "in", 10)
    write_pair(tmp_path / "in", 9)
    write_volume(tmp_path / "in" / "more" / "patient.nii.gz", ramp())
    series = write_series(tmp_path / "in" / "series", ramp())
    found = [Path(item["image"]) for item in find_volumes(tmp_path / "in")]
    assert [path.name for path in found] == ["patient.nii.gz", "series", "volume-9.nii", "volume-10.nii"]
    for single in (found[0], series):
        assert find_volumes(single) == [{"image": str(single)}]
    write_series(series, ramp(), uid="1.2.3.5")
    write_series(series / "deeper", ramp(), uid="1.2.3.6")
    shutil.copy(series / "deeper" / "001.dcm", series / "other.dcm")
    damage(found[0], "cut")
    with pytest.raises(DatasetError, match=r"(?s)2 files that cannot be used.*patient.*one series; got 2:.*Move each"):
        find_volumes(tmp_path / "in")
    with pytest.raises(FileNotFoundError, match="found none"):
        find_volumes(tmp_path / "nowhere")


def test_dicom_series_is_the_same_as_its_nifti(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "series", ramp())
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    SimpleITK.WriteImage(reader.Execute(), str(tmp_path / "volume-0.nii.gz"))
    series = LoadCTVolumed("image")({"image": str(folder)})["image"]
    volume = LoadCTVolumed("image")({"image": str(tmp_path / "volume-0.nii.gz")})["image"]
    assert np.array_equal(series[0].numpy(), ramp()), "Hounsfield units, in the order of positions, not of names"
    assert torch.equal(series, volume) and series.shape == volume.shape
    assert torch.allclose(series.affine, volume.affine, atol=1e-4)
    assert nib.aff2axcodes(series.affine.numpy()) == ("L", "P", "S")
    assert series.affine[:3, 3].tolist() == [10, -20, -300]
    label = tmp_path / "segmentation-0.nii"
    write_volume(label, (ramp() % 3).astype(np.uint8)[::-1], nib.load(tmp_path / "volume-0.nii.gz").affine @ np.array(
        [[-1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]))  # fmt: skip
    item = LoadCTVolumed()({"image": str(folder), "label": str(label)})
    assert np.array_equal(item["label"][0].numpy(), ramp() % 3)


def test_dicom_folders_that_are_no_series(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty` must hold the DICOM files of one series; got none"):
        LoadCTVolumed("image")({"image": str(tmp_path / "empty")})
    folder = write_series(tmp_path / "two", ramp())
    write_series(tmp_path / "b", ramp(), uid="1.2.3.5")
    for path in (tmp_path / "b").iterdir():
        path.rename(folder / f"b{path.name}")
    with pytest.raises(ValueError, match=r"(?s)got 2:\n  1\.2\.3\.4\S* \(4 files\)\n  1\.2\.3\.5\S* \(4 files\)\nMove"):
        LoadCTVolumed("image")({"image": str(folder)})
    gap = write_series(tmp_path / "gap", ramp((6, 5, 8)))
    (gap / "003.dcm").unlink()
    with pytest.raises(ValueError, match=r"gap` must hold the evenly spaced slices .*out of line"):
        read_series(gap)
    with pytest.raises(ValueError, match=r"evenly spaced slices .*out of line"):
        read_series(write_series(tmp_path / "tilted", ramp(), tilt=0.4))
    cut = write_series(tmp_path / "cut", ramp())
    (cut / "002.dcm").write_bytes((cut / "002.dcm").read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"cut` must hold"):
        read_series(cut)
    assert [path.name for path in find_series(tmp_path)] == ["cut", "gap", "tilted", "two"]


def geometry(path: Path) -> list[object]:
    header = nib.load(path).header
    fields = ["dim", "pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x",
              "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"]  # fmt: skip
    return [type(header).__name__, *(np.asarray(header[field]).tolist() for field in fields)]


def save_and_compare(source: Path, folder: Path, affine: torch.Tensor | None = None) -> Path:
    """Predict "value modulo 3" in PLS, invert, save, and compare geometry and every voxel with the source."""
    steps = Compose(
        [LoadCTVolumed("image"), Orientationd("image", "PLS", labels=None), SpatialPadd("image", (32, 32, -1))]
    )
    item = steps({"image": str(source)})
    item["pred"] = MetaTensor((item["image"] + 9999).long() % 3, meta=item["image"].meta)
    item = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(item)
    saved = SaveLabelVolumed("pred", folder, class_table=LITS.classes)(item)
    assert saved.keys() == item.keys() and saved["pred"] is item["pred"]
    (path,) = folder.iterdir()
    assert geometry(path) == geometry(source)
    assert np.array_equal(nib.load(path).affine, nib.load(source).affine)
    label = np.asarray(nib.load(path).dataobj)
    assert label.dtype == np.uint8 and np.array_equal(label, (np.asarray(nib.load(source).dataobj) + 9999) % 3)
    return path


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("codes", [(0, 2), (1, 0), (1, 1), (0, 0), (1, 4)])
@pytest.mark.parametrize("oblique", [False, True])
def test_saved_label_has_the_geometry_of_its_volume(
    tmp_path: Path, suffix: str, codes: tuple[int, int], oblique: bool
) -> None:
    turn = np.linalg.qr(OBLIQUE[:3, :3])[0]
    affine = affine_of("PIR")
    if oblique:
        affine[:3, :3] = turn @ affine[:3, :3]
    image = nib.Nifti1Image(ramp(), affine)
    image.set_qform(affine, int(codes[0]))
    image.set_sform(affine, int(codes[1]))
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"name of a patient"
    path = tmp_path / "in" / f"volume-3{suffix}"
    path.parent.mkdir()
    nib.save(image, path)
    saved = save_and_compare(path, tmp_path / "out")
    assert saved.name == "segmentation-3.nii.gz"
    assert b"patient" not in gzip.decompress(saved.read_bytes())


def test_a_fourth_axis_and_nifti2_are_kept(tmp_path: Path) -> None:
    image = nib.Nifti2Image(ramp()[..., None], affine_of("ASL"))
    (tmp_path / "in").mkdir()
    nib.save(image, tmp_path / "in" / "test-volume-3.nii")
    loaded = LoadCTVolumed("image")({"image": str(tmp_path / "in" / "test-volume-3.nii")})["image"]
    SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes)({"pred": loaded * 0 + 2})
    saved = tmp_path / "out" / "test-segmentation-3.nii.gz"
    assert geometry(saved) == geometry(tmp_path / "in" / "test-volume-3.nii")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_LITS.is_dir(), reason="no LiTS beside the checkout")
@pytest.mark.parametrize("name", ["volume-0.nii", "volume-1.nii.gz", "volume-2.nii.gz", "volume-3.nii.gz"])
def test_real_volumes_come_back_on_their_grid(tmp_path: Path, name: str) -> None:
    save_and_compare(SHARED_LITS / name, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_LITS.is_dir(), reason="no LiTS beside the checkout")
def test_real_volumes_pair_and_are_upright() -> None:
    items = [item for section in ("train", "val", "test") for item in LITS.datalist(SHARED_LITS, section)]
    assert sorted(numbers(items)) == [0, 1, 2, 3]
    for item in items:
        found = LITS.inspect(item)
        liver = [one for one in found if one.counts is not None and one.counts[1]]
        assert liver and not any(one.counts[2] for one in found)
        label = LITS.read_label(liver[len(liver) // 2].item)
        body = LoadCTSliced("image")(liver[len(liver) // 2].item)["image"][0] > -300
        # The liver is on the patient's right, the left of the picture.
        assert np.argwhere(label == 1)[:, 1].mean() < torch.argwhere(body.as_tensor())[:, 1].float().mean()


def test_inverse_of_spacing_and_a_batch(tmp_path: Path) -> None:
    image = write_volume(tmp_path / "volume-1.nii", ramp((12, 10, 6)), affine_of("RPI", (12, 10, 6)))
    steps = Compose(
        [
            LoadCTVolumed("image"),
            Orientationd("image", "PLS", labels=None),
            Spacingd("image", (1.0, 1.0, 2.5), mode="nearest"),
        ]
    )
    batch = next(iter(DataLoader(Dataset([{"image": str(image)}], steps), batch_size=1)))
    batch["pred"] = MetaTensor(torch.ones_like(batch["image"]), meta=batch["image"].meta)
    undo = Invertd("pred", steps, orig_keys="image", nearest_interp=True)
    item = undo(decollate_batch(batch)[0])
    SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes)(item)
    assert geometry(tmp_path / "out" / "segmentation-1.nii.gz") == geometry(image)


def test_label_of_a_dicom_series_and_subfolders(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "in" / "a" / "patient", ramp())
    steps = Compose([LoadCTVolumed("image"), Orientationd("image", "PLS", labels=None)])
    item = next(iter(DataLoader(Dataset([{"image": str(folder)}], steps), batch_size=1)))
    item["pred"] = MetaTensor((item["image"] + 9999).long() % 3, meta=item["image"].meta)
    item = Invertd("pred", steps, orig_keys="image", nearest_interp=True)(decollate_batch(item)[0])
    SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes, input_dir=tmp_path / "in")(item)
    saved = nib.load(tmp_path / "out" / "a" / "patient_segmentation.nii.gz")
    expected = read_series(folder)[1].affine
    assert np.allclose(saved.affine, expected, atol=1e-5)
    assert np.allclose(saved.get_qform(), expected, atol=1e-4) and saved.header.get_xyzt_units()[0] == "mm"
    assert (int(saved.header["sform_code"]), int(saved.header["qform_code"])) == (1, 1)
    assert np.array_equal(np.asarray(saved.dataobj), (ramp().astype(int) + 9999) % 3)


def test_saving_refuses_what_does_not_fit(tmp_path: Path) -> None:
    path = write_volume(tmp_path / "in" / "volume-1.nii", ramp((5, 5, 5)), affine_of("LAS", (5, 5, 5)))
    image = LoadCTVolumed("image")({"image": str(path)})["image"] * 0
    save = SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes)
    with pytest.raises(ValueError, match=r"volume-1\.nii` must lie on the volume's own grid, 5×5×5 LAS.*Invertd"):
        save({"pred": image[:, :4]})
    with pytest.raises(ValueError, match=r"must lie on the volume's own grid"):
        save({"pred": Orientation("PLS", labels=None)(image)})
    with pytest.raises(ValueError, match=r"must hold the train ids \[0, 1, 2\] only; got \[3\.0\]"):
        save({"pred": image + 3})
    with pytest.raises(TypeError, match=r"`pred` must be a MetaTensor that names its volume; got Tensor"):
        save({"pred": image.as_tensor()})
    with pytest.raises(ValueError, match=r"`output_dir` must be another folder than that of the volumes"):
        SaveLabelVolumed("pred", tmp_path / "in", class_table=LITS.classes)({"pred": image})
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())
    with pytest.raises(KeyError):
        save({})
    assert SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes, allow_missing_keys=True)({}) == {}
