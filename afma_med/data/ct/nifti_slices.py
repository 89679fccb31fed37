"""Axial slices of NIfTI volumes, upright, without loading the volume."""

from __future__ import annotations

import glob
import gzip
import hashlib
import operator
import os
import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.orientations import apply_orientation
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from afma_med.atomic_write import replacing
from afma_med.data.ct.voxel_grid import Grid, missing_geometry, orient_grid, supply_geometry
from afma_med.data.files import cache_folder, file_identity

__all__ = ["NiftiSlices", "cache_file"]

# Rows from anterior to posterior, columns from right to left, slices from inferior to superior.
_AXES = "PLS"
_CHUNK = 4 << 20  # bytes
# A temporary file that nobody has written to for this many seconds was left by a process that was killed.
_ABANDONED = 3600


class NiftiSlices:
    """Read axial slices of a NIfTI volume by memory mapping, whatever the orientation it is stored in.

    The constructor reads the header alone. The first slice of a .nii.gz unpacks it into the cache folder, which is
    ``AFMA_MED_CACHE`` or ``~/.cache/afma_med``; several processes may do so at once. No file stays open and no voxel is
    kept, so many volumes may be held and pickled.

    Args:
        path: of a .nii or .nii.gz, 3-D, or with further axes of length 1.
        geometry: spacing and orientation for a file that has none, a text of
            :func:`~afma_med.data.ct.voxel_grid.write_geometry`.

    Attributes:
        grid: of the slices, axes "PLS": rows from anterior to posterior, columns from the patient's right to left,
            slices from inferior to superior; upright in radiological display.
        stored: grid of the file's own axes.
        missing: why the file has no geometry, in words; an empty text if it has one.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: naming the file, if it is not a NIfTI volume.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/volume-0.nii"
        >>> nib.save(nib.Nifti1Image(np.zeros((4, 3, 2), dtype=np.int16), np.eye(4)), path)
        >>> slices = NiftiSlices(path)
        >>> len(slices), slices[-1].shape, slices[-1].dtype
        (2, (3, 4), dtype('float32'))
    """

    def __init__(self, path: str | os.PathLike[str], *, geometry: str = "") -> None:
        self.path = Path(path)
        with _naming(self.path):
            image: Any = nib.load(self.path)
            self.stored, self.missing = _checked_grid(image), missing_geometry(image)
            proxy = image.dataobj
            self._dtype, self._offset, self._scaling = proxy.dtype, int(proxy.offset), (proxy.slope, proxy.inter)
        self._packed = self.path.name.lower().endswith(".gz")
        self._end = self._offset + int(np.prod(self.stored.shape, dtype=np.int64)) * int(self._dtype.itemsize)
        if self.missing and geometry:
            self.stored = supply_geometry(self.stored, geometry)
        self._transform, self.grid = orient_grid(self.stored, _AXES)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(H, W, D): rows, columns, slices."""
        return self.grid.shape

    def __len__(self) -> int:
        return self.shape[2]

    def __getitem__(self, index: int) -> NDArray[np.float32]:
        """Read slice ``index``, counted from inferior, as (H,W)."""
        depth, k = len(self), operator.index(index)
        if not -depth <= k < depth:
            raise IndexError(f"`index` must be in -{depth}..{depth - 1}; got {index}. {self.path} has {depth} slices.")
        upright = apply_orientation(self._map(), self._transform)  # a view
        return self._scale(upright[..., k % depth])

    def load(self) -> NDArray[np.float32]:
        """Read the whole volume in the file's own axes, without the cache folder."""
        volume = np.empty(self.stored.shape, dtype=np.float32, order="F")
        if self._packed:
            with _naming(self.path), gzip.open(self.path) as packed:
                content = packed.read()  # to the end, where the checksum is
            self._check_length(len(content))
            raw = np.ndarray(self.stored.shape, self._dtype, content, self._offset, order="F")
        else:
            raw = self._map()
        for k in range(volume.shape[2]):
            volume[..., k] = self._scale(raw[..., k])
        return volume

    def check(self) -> None:
        """Compare the file's length with its header, without reading the voxels."""
        with _naming(self.path):
            size = _unpacked_length(self.path, self._end) if self._packed else self.path.stat().st_size
        self._check_length(size)

    def unpack(self) -> Path:
        """Return the file that is mapped: the volume's own, or its unpacked copy, written if it is not there.

        Raises:
            ValueError: naming the file, if it is cut short or damaged.
            OSError: if the cache folder cannot be written.
        """
        if not self._packed:
            self._check_length(self.path.stat().st_size)
            return self.path
        target = cache_file(self.path, ".nii")
        if not target.is_file() or target.stat().st_size < self._end:
            _unpack(self.path, target)
            self._check_length(target.stat().st_size)
        return target

    def _map(self) -> NDArray[np.generic]:
        return np.memmap(self.unpack(), self._dtype, "r", self._offset, self.stored.shape, order="F")

    def _check_length(self, size: int) -> None:
        if size < self._end:
            raise _broken(self.path, f"{size} of {self._end} bytes: it is cut short")

    def _scale(self, raw: NDArray[np.generic]) -> NDArray[np.float32]:
        """Copy stored values with slope and intercept applied, in float64 until then, for large offsets."""
        values = np.array(apply_read_scaling(np.asarray(raw), *self._scaling), dtype=np.float32, order="C")
        if not np.isfinite(values).all():
            raise _broken(self.path, f"{(~np.isfinite(values)).sum()} voxels of a slice that are NaN or infinite")
        return values


def cache_file(path: Path, suffix: str) -> Path:
    """Return the path of cached results of a file; it changes with the file's path, size and time of change."""
    key = hashlib.sha256(os.fsencode(file_identity(path))).hexdigest()[:16]
    return cache_folder() / f"{path.name.split('.nii')[0]}-{key}{suffix}"


def _unpack(source: Path, target: Path) -> None:
    try:
        with replacing(target) as temporary, gzip.open(source) as packed, temporary.open("wb") as unpacked:
            _remove_abandoned(target)
            shutil.copyfileobj(packed, unpacked, _CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _broken(source, error) from error
    except OSError as error:
        raise OSError(
            f"`AFMA_MED_CACHE` must be a folder with room for unpacked volumes; got {target.parent} ({error}). "
            "Set it to another folder, or unpack the .nii.gz files to .nii."
        ) from error


def _remove_abandoned(target: Path) -> None:
    for path in target.parent.glob(f".*.{glob.escape(target.name)}"):
        with suppress(FileNotFoundError):  # another process was faster
            if time.time() - path.stat().st_mtime > _ABANDONED:
                path.unlink()


def _unpacked_length(path: Path, expected: int) -> int:
    """Return the length of a gzip file's content; its trailer, the length modulo 2^32, is enough if it fits."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        if int.from_bytes(file.read(), "little") == expected % 2**32:
            return expected
    # The file is cut short, or has several members or bytes behind the voxels.
    with gzip.open(path) as packed:
        return sum(len(chunk) for chunk in iter(lambda: packed.read(_CHUNK), b""))


def _checked_grid(image: Any) -> Grid:
    """Return the grid of a NIfTI image of three axes; further axes of length 1 do not count."""
    if not isinstance(image, nib.Nifti1Image):
        raise ValueError(f"a {type(image).__name__}")
    shape, affine, dtype = image.shape, np.asarray(image.affine, dtype=np.float64), image.header.get_data_dtype()
    if len(shape) < 3 or set(shape[3:]) - {1} or 0 in shape:
        raise ValueError(f"voxels of shape {shape}, where one 3-D volume is needed")
    if dtype.kind not in "iuf":
        raise ValueError(f"voxels of type {dtype}, where one number each is needed")
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise ValueError(f"an affine that spans no volume, {affine[:3].tolist()}")
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turn whatever nibabel, gzip and NumPy raise about a broken file into a ValueError that names it."""
    try:
        yield
    except (MemoryError, FileNotFoundError, PermissionError):
        raise
    except Exception as error:
        raise _broken(path, error) from error


def _broken(path: Path, reason: object) -> ValueError:
    text = " ".join(str(reason).split()).rstrip(".?")
    return ValueError(
        f"`{path}` must be a whole NIfTI volume; got: {text}. Replace the file, or remove it together with its partner."
    )
