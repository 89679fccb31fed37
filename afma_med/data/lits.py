"""LiTS: abdominal CT volumes with liver and tumours, for networks that look at axial slices.

Reference:
    Bilic et al.: The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from afma_med.atomic_write import replacing
from afma_med.data.class_table import VOID, ClassInfo, class_names, raw_id_lookup
from afma_med.data.datalist import check_section, files_below, files_by_name, pair_by_name, unlabelled_items
from afma_med.data.dataset_reader import Inspected, Item
from afma_med.data.dicom_series import find_series, is_dicom
from afma_med.data.nifti_slices import NiftiSlices, cache_file
from afma_med.data.problems import DatasetError, missing_layout
from afma_med.data.slice_weights import balanced_slice_weights
from afma_med.data.splits import find_split_file, read_split_files, section_names, unlisted
from afma_med.data.volume_checks import check_values, input_problems, pair_problems, warn_of_geometry
from afma_med.data.voxel_grid import require_same_grid

__all__ = [
    "CLASSES",
    "LAYOUT",
    "balanced_slice_weights",
    "find_volumes",
    "inspect_volume",
    "lits_datalist",
    "map_raw_volume",
    "read_label_slice",
    "read_label_volume",
]

#: Blue and orange are distinct in every kind of colour vision.
CLASSES = (
    ClassInfo("background", 0, 0, (0, 0, 0)),
    ClassInfo("liver", 1, 1, (0, 114, 178), "large"),
    ClassInfo("tumour", 2, 2, (230, 159, 0), "small"),
)

LAYOUT = """\
these files, in one folder or in folders of any names (such as "Training Batch 1"), .nii or .nii.gz:
    volume-N.nii  segmentation-N.nii   values 0 background, 1 liver, 2 tumour
    test-volume-N.nii                  optional, without labels: the section test
    train.txt val.txt test.txt         optional, directly in the folder, one volume's name a line
Without train.txt, val.txt and test.txt, 10 % of the volumes are split off for val and 20 % for test, always the same
ones. If there are test-volume-N.nii, those 20 % stay in train."""

_SUFFIXES = (".nii", ".nii.gz")
_Files = Mapping[str, Sequence[Path]]


def lits_datalist(root: str | os.PathLike[str], section: str, *, geometry: str = "") -> list[dict[str, str]]:
    """List the volumes of a section of LiTS with their labels.

    Args:
        root: folder of the files of ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.
        geometry: spacing and orientation for files that have none, a text of
            :func:`~afma_med.data.voxel_grid.write_geometry`; the items carry it.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the numbers; without labels for the published test
        volumes.

    Raises:
        ValueError: if the section is unknown, or there are fewer than three volumes to be split.
        FileNotFoundError: if ``root`` holds no volume; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable, cut short, not 3-D or on another grid than its
            partner.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.ct_phantom import write_ct_phantom
        >>> root = write_ct_phantom(tempfile.mkdtemp() + "/phantoms", count=4)
        >>> [len(lits_datalist(root, section)) for section in ("train", "val", "test")]
        [2, 1, 1]
    """
    check_section(section)
    folder = Path(root)
    paths = [path for path in files_below(folder) if path.name.lower().endswith(_SUFFIXES)]
    images = files_by_name(paths, _SUFFIXES, name_prefix="volume-")
    labels = files_by_name(paths, _SUFFIXES, name_prefix="segmentation-")
    withheld = files_by_name(paths, _SUFFIXES, name_prefix="test-volume-")
    if not images and not withheld:
        raise missing_layout("LiTS", folder, folder / "volume-0.nii", LAYOUT)
    known = {f"volume-{name}" for name in images} | {f"test-volume-{name}" for name in withheld}
    listed = read_split_files(folder, known)
    tests: _Files = {}
    if section in listed:
        if problem := unlisted(find_split_file(folder, section), listed[section], known):
            raise DatasetError([problem])
        tests = {name: files for name, files in withheld.items() if f"test-volume-{name}" in listed[section]}
        names = {name for name in images if f"volume-{name}" in listed[section]}
    elif section == "test" and withheld:
        tests, names = withheld, set()
    else:
        taken = {key: {name.removeprefix("volume-") for name in own} for key, own in listed.items()}
        if withheld:
            taken.setdefault("test", set())
        names = section_names(images.keys() | labels.keys(), section, taken)
    items = _list_items(images, labels, names, root=folder, geometry=geometry) if names or not tests else []
    return items + (_list_items(tests, None, tests, root=folder, geometry=geometry) if tests else [])


def find_volumes(source: Path, *, geometry: str = "") -> list[dict[str, str]]:
    """List a volume, or all volumes below a folder, for prediction: NIfTI files and folders of DICOM series.

    Args:
        source: .nii, .nii.gz, folder of one DICOM series, or a folder of any of these.
        geometry: see :func:`lits_datalist`.

    Returns:
        ``[{"image": path}, ...]`` in the order of the numbers; files named segmentation-N are left out.

    Raises:
        FileNotFoundError: if there is no volume.
        DatasetError: naming every file or folder that cannot be used, and names of several files.
    """
    if source.is_file() and is_dicom(source):
        raise DatasetError([f"{source} is one file of a DICOM series: pass its folder, {source.parent}"])
    names: dict[str, list[Path]] = {source.name: [source]} if source.is_file() else {}
    for path in sorted(files_below(source)):
        for name, paths in files_by_name([path], _SUFFIXES).items():
            if not name.startswith("segmentation-"):
                names.setdefault(str(path.relative_to(source).with_name(name)), []).extend(paths)
    for folder in find_series(source):
        names.setdefault(str(folder.relative_to(source)), []).append(folder)
    _list_items(names, None, names, root=source, geometry=geometry)
    # To the last voxel: a prediction of many volumes must not stop halfway.
    check = partial(input_problems, geometry=geometry)
    return _sorted_items(unlabelled_items(names, source, check=check), geometry)


def inspect_volume(item: Item, *, cache_dir: str | os.PathLike[str] | None = None) -> list[Inspected]:
    """Read a volume and its label to the last voxel, and count the label's pixels in each slice.

    Reads one slice at a time, and keeps the results in the cache folder. Unpacks .nii.gz files, as a training does.

    Args:
        item: paths under ``"image"`` and, if there is one, ``"label"``.
        cache_dir: see :class:`~afma_med.data.nifti_slices.NiftiSlices`.

    Returns:
        One a slice, from inferior to superior; its item has the number of the slice under ``"slice"``.

    Raises:
        ValueError: naming the file, if it is damaged, has NaN or values that cannot be Hounsfield units, is not on the
            grid of its partner, or has other label values.
        OSError: if a .nii.gz cannot be unpacked for want of room or permission.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.ct_phantom import write_ct_phantom
        >>> folder = tempfile.mkdtemp()
        >>> item = lits_datalist(write_ct_phantom(folder + "/phantoms", count=3), "val")[0]
        >>> slices = inspect_volume(item, cache_dir=folder + "/cache")
        >>> slices[5].item["slice"], slices[5].counts.shape
        (5, (3,))
    """
    geometry = item.get("geometry", "")
    image = NiftiSlices(item["image"], cache_dir=cache_dir, geometry=geometry)
    check_values(image)
    size, paths = image.shape[:2], {key: item[key] for key in ("image", "label", "geometry") if key in item}
    if "label" not in item:
        return [Inspected({**paths, "slice": k}, size, None) for k in range(len(image))]
    label = NiftiSlices(item["label"], cache_dir=cache_dir, geometry=geometry)
    require_same_grid(image.grid, label.grid, paths=(image.path, label.path))
    return [Inspected({**paths, "slice": k}, size, row) for k, row in enumerate(_kept_counts(label))]


def read_label_slice(item: Item, *, cache_dir: str | os.PathLike[str] | None = None) -> NDArray[np.uint8]:
    """Read the label of a slice as (H,W) train ids, upright.

    Args:
        item: path under ``"label"``, number of the slice, from inferior, under ``"slice"``.
        cache_dir: see :class:`~afma_med.data.nifti_slices.NiftiSlices`.

    Raises:
        ValueError: naming the file, if it is damaged or has values other than the raw ids.
        IndexError: if there is no such slice.
    """
    slices = NiftiSlices(item["label"], cache_dir=cache_dir, geometry=item.get("geometry", ""))
    return map_raw_volume(slices[item["slice"]], item["label"])


def map_raw_volume(raw: NDArray[np.floating] | NDArray[np.integer], path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Map the values of a label, a slice or a volume, to train ids.

    Args:
        raw: raw ids of any shape.
        path: the file that they come from, for the message.

    Raises:
        ValueError: naming file and values, if there are others than the raw ids of ``CLASSES``.

    Example:
        >>> map_raw_volume(np.array([0.0, 2.0]), "segmentation-0.nii").tolist()
        [0, 2]
    """
    with np.errstate(invalid="ignore"):  # the check below finds NaN
        ids = raw.astype(np.uint8)
    train_ids = raw_id_lookup(CLASSES)[ids]
    strange = (ids != raw) | (train_ids == VOID)
    if strange.any():
        raise ValueError(
            f"`{path}` must hold the values {[info.raw_id for info in CLASSES]} only; got "
            f"{np.unique(raw[strange])[:8].tolist()}. Replace the file, or remove it together with its partner."
        )
    return train_ids


def read_label_volume(item: Item) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Read the label of a whole volume along the file's own axes.

    Args:
        item: path under ``"label"``.

    Returns:
        (H,W,D) train ids, and the millimetres between voxels along each axis.

    Raises:
        ValueError: naming the file, if it is damaged or has values other than the raw ids.
    """
    label = NiftiSlices(item["label"], geometry=item.get("geometry", ""))
    spacing = tuple(float(step) for step in nib.affines.voxel_sizes(label.stored.affine))
    return map_raw_volume(label.load(), label.path), spacing


def _list_items(
    images: _Files, labels: _Files | None, names: Mapping[str, object] | set[str], *, root: Path, geometry: str
) -> list[dict[str, str]]:
    """Pair volumes with labels, or list them alone, in the order of the numbers in their names."""
    check = partial(pair_problems, geometry=geometry)
    if labels is None:
        items = unlabelled_items(images, root, check=check)
    else:
        keep = names.__contains__
        items = pair_by_name(images, labels, keep=keep, image_dir=root, label_dir=root, check=check)
    all_paths = [path for files in images.values() for path in files]
    warn_of_geometry([item["image"] for item in items], all_paths=all_paths, geometry=geometry)
    return _sorted_items(items, geometry)


def _sorted_items(items: list[dict[str, str]], geometry: str) -> list[dict[str, str]]:
    return [item | ({"geometry": geometry} if geometry else {}) for item in sorted(items, key=_number)]


def _number(item: dict[str, str]) -> tuple[int, str]:
    """Sort volume-10 behind volume-9."""
    name = Path(item["image"]).name
    return int("".join(filter(str.isdecimal, name.split(".nii")[0])) or -1), name


def _kept_counts(label: NiftiSlices) -> NDArray[np.int64]:
    """Return (D,K) pixels of each class in each slice, from the cache folder if they are there."""
    height, width, depth = label.shape
    classes = len(class_names(CLASSES))
    kept = cache_file(label.path, ".counts.npy", cache_dir=label.cache_dir)
    try:
        counts: NDArray[np.int64] = np.load(kept)
        if counts.shape == (depth, classes) and (counts.sum(axis=1) == height * width).all():
            return counts
    except (OSError, ValueError, EOFError):
        pass  # not there or damaged
    slices = (map_raw_volume(label[k], label.path) for k in range(depth))
    counts = np.stack([np.bincount(ids.ravel(), minlength=classes) for ids in slices]).astype(np.int64)
    try:
        with replacing(kept) as temporary:
            np.save(temporary, counts)
    except OSError as error:
        warnings.warn(f"Counts of {label.path} are not kept: {error}. Set AFMA_MED_CACHE to a folder.", stacklevel=3)
    return counts
