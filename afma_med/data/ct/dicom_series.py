"""DICOM series of CT slices as volumes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from afma_med.data.ct.voxel_grid import Grid
from afma_med.data.files import files_below

__all__ = ["find_series", "is_dicom", "read_series", "series_files"]

# In voxels: tags are rounded, but one missing slice moves the next ones by half a voxel at least.
_TOLERANCE = 0.2
_POSITION, _MODALITY = "0020|0032", "0008|0060"


def find_series(root: Path) -> list[Path]:
    """List the folders, ``root`` included, that hold DICOM files."""
    return sorted({path.parent for path in files_below(root) if is_dicom(path)})


def is_dicom(path: Path) -> bool:
    """Return whether a file is a DICOM image, by its suffix or the letters behind the preamble.

    Example:
        >>> is_dicom(Path("DICOMDIR")), is_dicom(Path("a.dcm"))
        (False, True)
    """
    # The table of contents of a disc.
    if path.name.upper() == "DICOMDIR":
        return False
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def series_files(folder: str | os.PathLike[str]) -> list[str]:
    """List the files of the one CT series in a folder, in the order of their positions.

    Raises:
        ValueError: naming the folder, if it holds no series or several, or the series is not CT.
    """
    gdcm, series = SimpleITK.ImageSeriesReader, tuple[str, ...]()
    if Path(folder).is_dir():
        series = gdcm.GetGDCMSeriesIDs(str(folder))
    if len(series) == 1:
        files = list(gdcm.GetGDCMSeriesFileNames(str(folder), series[0]))
        _check_modality(folder, files[0])
        return files
    if not series:
        raise ValueError(
            f"`{folder}` must hold the DICOM files of one series; got none. Pass the folder that holds them."
        )
    counts = [len(gdcm.GetGDCMSeriesFileNames(str(folder), uid)) for uid in series]
    listed = "".join(f"\n  {uid} ({count} files)" for uid, count in zip(series, counts, strict=True))
    raise ValueError(
        f"`{folder}` must hold the DICOM files of one series; got {len(series)}:{listed}\n"
        "Move each series to a folder of its own and pass the one to be predicted."
    )


def read_series(folder: str | os.PathLike[str]) -> tuple[NDArray[np.float32], Grid]:
    """Read the volume of the one DICOM series in a folder.

    Returns:
        (X,Y,Z) Hounsfield units, by the files' rescale slope and intercept; X along the rows of the slices, Y down
        their columns, Z from slice to slice; and its grid.

    Raises:
        ValueError: naming the folder, if it holds no series or several, the series is not CT, files cannot be read, or
            slices are missing.
    """
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(series_files(folder))
    reader.MetaDataDictionaryArrayUpdateOn()
    try:
        image = reader.Execute()
    except RuntimeError as error:
        raise _unusable(folder, str(error).strip().splitlines()[-1]) from error
    if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
        raise _unusable(folder, f"size {image.GetSize()} with {image.GetNumberOfComponentsPerPixel()} components")
    volume = SimpleITK.GetArrayViewFromImage(image).transpose().astype(np.float32)
    columns, rows, slices = volume.shape
    grid = Grid((columns, rows, slices), _affine(image))
    files = len(reader.GetFileNames())
    if files > 1:
        _check_positions(folder, grid, [_position(reader, k) for k in range(files)])
    return volume, grid


def _check_modality(folder: object, file: str) -> None:
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unusable(folder, str(error).strip().splitlines()[-1]) from error
    modality = reader.GetMetaData(_MODALITY).strip() if reader.HasMetaDataKey(_MODALITY) else "CT"
    # OT, "other", is what programs write that convert images; the values decide there.
    if modality not in ("CT", "OT"):
        raise ValueError(
            f"`{folder}` must hold a CT series, whose values are Hounsfield units; got the modality {modality}. "
            "Pass the folder of a CT series."
        )


def _affine(image: SimpleITK.Image) -> NDArray[np.float64]:
    """Return the affine towards right, anterior, superior; DICOM counts towards left and posterior."""
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    affine[:3, 3] = image.GetOrigin()
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine


def _position(reader: SimpleITK.ImageSeriesReader, k: int) -> list[float]:
    if not reader.HasMetaDataKey(k, _POSITION):
        return [float("nan")] * 3
    return [float(number) for number in reader.GetMetaData(k, _POSITION).split("\\")]


def _check_positions(folder: object, grid: Grid, positions: list[list[float]]) -> None:
    """Refuse slices that do not lie where one affine puts them: missing, repeated, unevenly spaced or tilted ones."""
    millimetres = np.array(positions) * (-1, -1, 1)
    lies = np.linalg.solve(grid.affine, np.c_[millimetres, np.ones(len(positions))].T)[:3]
    expected = np.zeros_like(lies)
    expected[2] = np.arange(len(positions))
    # The negation catches NaN too, where there is no position.
    far = np.flatnonzero(~(np.abs(lies - expected).max(axis=0) <= _TOLERANCE))
    if len(far):
        raise _unusable(folder, f"slice {far[0] + 1} of {len(positions)} at {positions[far[0]]} mm, out of line")


def _unusable(folder: object, reason: str) -> ValueError:
    return ValueError(
        f"`{folder}` must hold the evenly spaced slices of one DICOM series; got: {reason.rstrip('.')}. "
        "Complete the series, or convert it to NIfTI with a tool that resamples it."
    )
