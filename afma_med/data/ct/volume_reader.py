"""Readers of datasets of CT volumes, for networks that look at axial slices."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from afma_med.atomic_write import replacing
from afma_med.data.class_table import VOID, ClassInfo, class_names, raw_id_lookup
from afma_med.data.ct.dicom_series import find_series, is_dicom
from afma_med.data.ct.nifti_slices import NiftiSlices, cache_file
from afma_med.data.ct.volume_checks import check_values, input_problems, pair_problems, warn_of_geometry
from afma_med.data.ct.voxel_grid import require_same_grid
from afma_med.data.datalist import FilesByName, pair_by_name
from afma_med.data.dataset_reader import DatasetReader, Inspected, Item
from afma_med.data.files import files_below, files_by_relative_name
from afma_med.data.problems import DatasetError, warn_skipped

__all__ = [
    "VOLUMES",
    "build_volume_reader",
    "find_volumes",
    "inspect_volume",
    "map_raw_volume",
    "pair_volumes",
    "read_label_slice",
    "read_label_volume",
]

#: Suffixes of volumes, in lower case.
VOLUMES = (".nii", ".nii.gz")


def build_volume_reader(
    name: str,
    title: str,
    classes: Sequence[ClassInfo],
    datalist: Callable[[str | os.PathLike[str], str], list[dict[str, str]]],
    *,
    geometry: str = "",
    **options: Any,
) -> DatasetReader:
    """Build the reader of a dataset of volumes, see :class:`~afma_med.data.DatasetReader`.

    Args:
        name: short name.
        title: name for people.
        classes: table of the classes.
        datalist: (root, section) -> items of :func:`pair_volumes`.
        geometry: spacing and orientation for inputs that have none, see :func:`pair_volumes`.
        **options: other fields of the reader.
    """
    return DatasetReader(
        name,
        title,
        classes,
        datalist,
        inspect=partial(inspect_volume, classes=classes),
        read_label=partial(read_label_slice, classes=classes),
        find_inputs=partial(find_volumes, geometry=geometry),
        read_volume=partial(read_label_volume, classes=classes),
        **options,
    )


def pair_volumes(
    images: FilesByName,
    labels: FilesByName | None,
    *,
    root: Path,
    names: Collection[str] | None = None,
    geometry: str = "",
    check: Callable[..., list[str]] = pair_problems,
) -> list[dict[str, str]]:
    """Pair volumes with labels of the same name, or list them alone, and warn of their geometry.

    Args:
        images: files of each name.
        labels: files of each name; None for volumes without labels.
        root: folder of the dataset, for messages.
        names: which names belong to the list; None for all.
        geometry: spacing and orientation for files that have none, a text of
            :func:`~afma_med.data.ct.voxel_grid.write_geometry`; the items carry it.
        check: (item, geometry) -> its problems, one line each.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the numbers in the names.

    Raises:
        FileNotFoundError: if there is no volume.
        DatasetError: naming every file that is unpaired, unreadable, cut short, not 3-D or on another grid than its
            partner.
    """
    check = partial(check, geometry=geometry)
    items = pair_by_name(images, labels, names=names, image_dir=root, label_dir=root, check=check)
    all_paths = [path for files in images.values() for path in files]
    warn_of_geometry([item["image"] for item in items], all_paths=all_paths, geometry=geometry)
    return [item | ({"geometry": geometry} if geometry else {}) for item in sorted(items, key=_number)]


def find_volumes(source: Path, *, geometry: str = "") -> list[dict[str, str]]:
    """List a volume, or all volumes below a folder, for prediction: NIfTI files and folders of DICOM series.

    Files named segmentation-N are left out.

    Raises:
        FileNotFoundError: if there is no volume.
        DatasetError: naming every file or folder that cannot be used, and names of several files.
    """
    if source.is_file() and is_dicom(source):
        raise DatasetError([f"{source} is one file of a DICOM series: pass its folder, {source.parent}"])
    paths, series = files_below(source), find_series(source)
    found = {source.name: [source]} if source.is_file() else files_by_relative_name(source, paths, VOLUMES)
    warn_skipped([path for path in paths if path.parent not in series], found)
    images = {name: files for name, files in found.items() if not Path(name).name.startswith("segmentation-")}
    for folder in series:
        images.setdefault(str(folder.relative_to(source)), []).append(folder)
    # To the last voxel: a prediction of many volumes must not stop halfway.
    return pair_volumes(images, None, root=source, geometry=geometry, check=input_problems)


def inspect_volume(item: Item, *, classes: Sequence[ClassInfo]) -> list[Inspected]:
    """Read a volume and its label to the last voxel, and count the label's pixels in each slice.

    Reads one slice at a time, and keeps the results in the cache folder. Unpacks .nii.gz files, as a training does.

    Returns:
        One a slice, from inferior to superior; its item has the number of the slice under ``"slice"``.

    Raises:
        ValueError: naming the file, if it is damaged, has NaN or values that cannot be Hounsfield units, is not on the
            grid of its partner, or has other label values.
        OSError: if a .nii.gz cannot be unpacked for want of room or permission.
    """
    geometry = item.get("geometry", "")
    image = NiftiSlices(item["image"], geometry=geometry)
    check_values(image)
    size, paths = image.shape[:2], {key: item[key] for key in ("image", "label", "geometry") if key in item}
    if "label" not in item:
        return [Inspected({**paths, "slice": k}, size, None) for k in range(len(image))]
    label = NiftiSlices(item["label"], geometry=geometry)
    require_same_grid(image.grid, label.grid, paths=(image.path, label.path))
    return [Inspected({**paths, "slice": k}, size, row) for k, row in enumerate(_kept_counts(label, classes))]


def read_label_slice(item: Item, *, classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """Read the label of an item's ``"slice"``, counted from inferior, as (H,W) train ids, upright.

    Raises:
        ValueError: naming the file, if it is damaged or has values other than the raw ids.
        IndexError: if there is no such slice.
    """
    slices = NiftiSlices(item["label"], geometry=item.get("geometry", ""))
    return map_raw_volume(slices[item["slice"]], item["label"], classes)


def read_label_volume(item: Item, *, classes: Sequence[ClassInfo]) -> tuple[NDArray[np.uint8], tuple[float, ...]]:
    """Read the label of a whole volume along the file's own axes.

    Returns:
        (H,W,D) train ids, and the millimetres between voxels along each axis.
    """
    label = NiftiSlices(item["label"], geometry=item.get("geometry", ""))
    spacing = tuple(float(step) for step in nib.affines.voxel_sizes(label.stored.affine))
    return map_raw_volume(label.load(), label.path, classes), spacing


def map_raw_volume(
    raw: NDArray[np.floating] | NDArray[np.integer], path: str | os.PathLike[str], classes: Sequence[ClassInfo]
) -> NDArray[np.uint8]:
    """Map the raw ids of a label, a slice or a volume, to train ids; the path is for the message.

    Raises:
        ValueError: naming file and values, if there are others than the raw ids of the table.

    Example:
        >>> from afma_med.data import LITS
        >>> map_raw_volume(np.array([0.0, 2.0]), "segmentation-0.nii", LITS.classes).tolist()
        [0, 2]
    """
    with np.errstate(invalid="ignore"):  # the check below finds NaN
        ids = raw.astype(np.uint8)
    train_ids = raw_id_lookup(classes)[ids]
    strange = (ids != raw) | (train_ids == VOID)
    if strange.any():
        raise ValueError(
            f"`{path}` must hold the values {[info.raw_id for info in classes]} only; got "
            f"{np.unique(raw[strange])[:8].tolist()}. Replace the file, or remove it together with its partner."
        )
    return train_ids


def _number(item: dict[str, str]) -> tuple[int, str]:
    """Sort volume-10 behind volume-9."""
    name = Path(item["image"]).name
    return int("".join(filter(str.isdecimal, name.split(".nii")[0])) or -1), name


def _kept_counts(label: NiftiSlices, classes: Sequence[ClassInfo]) -> NDArray[np.int64]:
    """Return (D,K) pixels of each class in each slice, from the cache folder if they are there."""
    height, width, depth = label.shape
    num_classes = len(class_names(classes))
    kept = cache_file(label.path, ".counts.npy")
    try:
        counts: NDArray[np.int64] = np.load(kept)
        if counts.shape == (depth, num_classes) and (counts.sum(axis=1) == height * width).all():
            return counts
    except (OSError, ValueError, EOFError):
        pass  # not there or damaged
    slices = (map_raw_volume(label[k], label.path, classes) for k in range(depth))
    counts = np.stack([np.bincount(ids.ravel(), minlength=num_classes) for ids in slices]).astype(np.int64)
    try:
        with replacing(kept) as temporary:
            np.save(temporary, counts)
    except OSError as error:
        warnings.warn(f"Counts of {label.path} are not kept: {error}. Set AFMA_MED_CACHE to a folder.", stacklevel=3)
    return counts
