"""Checks of CT volumes: geometry, intensities, and whether a label fits its volume."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from afma_med.atomic_write import replacing
from afma_med.data.ct.dicom_series import read_series, series_files
from afma_med.data.ct.nifti_slices import NiftiSlices, cache_file
from afma_med.data.ct.voxel_grid import grid_kind, require_same_grid
from afma_med.data.problems import DatasetWarning, list_files

__all__ = ["check_hounsfield", "check_values", "input_problems", "pair_problems", "warn_of_geometry"]

# Fat is near -100 Hounsfield units and air -1000; no view of a body is without both.
_HIGHEST_MINIMUM = -100


def check_hounsfield(lowest: float, highest: float, path: str | os.PathLike[str]) -> None:
    """Raise a ValueError that names the file if its values cannot be Hounsfield units.

    Example:
        >>> check_hounsfield(0, 1800, "volume-0.nii")
        Traceback (most recent call last):
        ValueError: `volume-0.nii` must hold Hounsfield units, -1000 for air and -100 for fat; got values from 0 to ...
    """
    if _HIGHEST_MINIMUM < lowest < highest:
        raise ValueError(
            f"`{path}` must hold Hounsfield units, -1000 for air and -100 for fat; got values from {lowest:g} to "
            f"{highest:g}, as of MR or rescaled CT. Convert the values, or remove the file together with its partner."
        )


def check_values(volume: NiftiSlices, *, unpack: bool = True) -> None:
    """Read a volume to the last voxel, once; its lowest and highest value stay in the cache folder.

    Slices are read one by one, which unpacks a .nii.gz into the cache folder, or without ``unpack`` the whole volume.

    Raises:
        ValueError: naming the file, if it is damaged, has NaN or infinite voxels, or values that cannot be Hounsfield
            units.
        OSError: if a .nii.gz cannot be unpacked for want of room or permission.
    """
    if unpack:
        volume.unpack()
    kept = cache_file(volume.path, ".range.txt")
    lowest, highest = float("nan"), float("nan")
    with suppress(OSError, ValueError):
        lowest, highest = map(float, kept.read_text(encoding="utf-8").split())
    if not lowest <= highest:
        parts = map(volume.__getitem__, range(len(volume))) if unpack else [volume.load()]
        ends = [(float(part.min()), float(part.max())) for part in parts]
        lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
        with suppress(OSError), replacing(kept) as temporary:
            temporary.write_text(f"{lowest} {highest}\n", encoding="utf-8")
    check_hounsfield(lowest, highest, volume.path)


def input_problems(item: Mapping[str, str], *, geometry: str = "") -> list[str]:
    """Return the problems of a volume to be predicted, which is read to the last voxel, one line each."""
    path = item["image"]
    try:
        if Path(path).is_dir():
            volume, _ = read_series(path)
            check_hounsfield(float(volume.min()), float(volume.max()), path)
        else:
            image = NiftiSlices(path, geometry=geometry)
            image.check()
            check_values(image, unpack=False)
    except (OSError, ValueError) as error:
        return [str(error)]
    return []


def pair_problems(item: Mapping[str, str], *, geometry: str = "") -> list[str]:
    """Return the problems of a volume and its label that headers and file lengths show, one line each."""
    volumes, problems = [], []
    for path in item.values():
        try:
            if Path(path).is_dir():
                series_files(path)
                continue
            volumes.append(NiftiSlices(path, geometry=geometry))
            volumes[-1].check()
        except (OSError, ValueError) as error:
            problems.append(str(error))
    if len(volumes) == 2 and not problems:
        try:
            require_same_grid(volumes[0].grid, volumes[1].grid, paths=tuple(item.values()))
        except ValueError as error:
            problems.append(str(error))
    return problems


def warn_of_geometry(paths: Sequence[str], *, all_paths: Iterable[Path], geometry: str = "") -> None:
    """Warn of volumes without geometry, and of those whose geometry differs in kind from most of the dataset."""
    volumes = [NiftiSlices(path, geometry=geometry) for path in paths if not Path(path).is_dir()]
    source = "supplied" if geometry else "assumed"
    without = [f"{one.path} has {one.missing}; {source}: {one.stored}" for one in volumes if one.missing]
    what = "volumes without geometry. Without the right one, slices may be upside down and sizes wrong. Set the ids "
    _warn(what + "`missing_spacing` and `missing_orientation`, or `build_lits` in Python", without)
    kinds: Counter[str] = Counter()
    for path in all_paths:
        with suppress(OSError, ValueError):
            volume = NiftiSlices(path)
            kinds.update([] if volume.missing else [grid_kind(volume.stored)])
    if kinds:
        common = kinds.most_common(1)[0][0]
        own = {one.path: grid_kind(one.stored) for one in volumes if not one.missing}
        others = [f"{path}: {kind}; assumed as its header says" for path, kind in own.items() if kind != common]
        _warn(f"volumes whose geometry differs in kind from the rest ({common})", others)


def _warn(what: str, files: Sequence[str]) -> None:
    if files:
        warnings.warn(list_files(what, files, shown=len(files)), DatasetWarning, stacklevel=3)
