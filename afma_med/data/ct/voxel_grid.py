"""Grids of voxels: where they lie, whether two volumes share one, and files that do not say it."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

__all__ = [
    "Grid",
    "grid_kind",
    "missing_geometry",
    "orient_grid",
    "require_same_grid",
    "same_grid",
    "supply_geometry",
    "write_geometry",
]

# Affines of programs that know nothing of the patient, in the axes of NIfTI and of ITK.
_IDENTITIES = (np.eye(4), np.diag([-1.0, -1.0, 1.0, 1.0]))


class Grid(NamedTuple):
    """Describe where the voxels of a volume lie.

    Args:
        shape: three numbers of voxels.
        affine: (4,4), from voxel indices to millimetres towards the patient's right, anterior, superior.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]

    def __str__(self) -> str:
        sides, axes = "×".join(map(str, self.shape)), "".join(nib.aff2axcodes(self.affine))
        spacing, origin = (np.round(x, 4).tolist() for x in (nib.affines.voxel_sizes(self.affine), self.affine[:3, 3]))
        return f"{sides} {axes}, spacing {spacing} mm, origin {origin} mm"


def orient_grid(grid: Grid, axes: str) -> tuple[NDArray[np.float64], Grid]:
    """Reorder and reverse the axes of a grid.

    Returns:
        (3,2) orientation for :func:`nibabel.orientations.apply_orientation`, and the new grid.
    """
    wanted = orientations.axcodes2ornt(tuple(axes))
    transform = orientations.ornt_transform(orientations.io_orientation(grid.affine), wanted)
    rows, columns, slices = (grid.shape[int(axis)] for axis in np.argsort(transform[:, 0]))
    return transform, Grid((rows, columns, slices), grid.affine @ orientations.inv_ornt_aff(transform, grid.shape))


def same_grid(a: Grid, b: Grid, *, tolerance: float = 1e-2) -> bool:
    """Return whether two grids, oblique or not, have the same voxels in the same order of axes."""
    if a.shape != b.shape:
        return False
    ends = [(-0.5, side - 0.5) for side in a.shape]
    corners = np.stack([*np.meshgrid(*ends, indexing="ij"), np.ones((2, 2, 2))]).reshape(4, 8)
    moved = np.linalg.solve(a.affine, b.affine @ corners)
    return bool(np.abs(moved - corners).max() <= tolerance)


def require_same_grid(image: Grid, label: Grid, *, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Raise a ValueError that names both files and their grids if a label does not lie on the grid of its image."""
    if not same_grid(image, label):
        raise ValueError(
            f"`label` must lie on the grid of its image; got {paths[0]} ({image}) with {paths[1]} ({label}). "
            "Replace one of them, or remove both."
        )


def missing_geometry(image: Any) -> str:
    """Return why a NIfTI image has no geometry, in words; an empty text if it has one."""
    if not int(image.header["sform_code"]) and not int(image.header["qform_code"]):
        return "no orientation in its header"
    return "an identity affine" if any(np.array_equal(image.affine, one) for one in _IDENTITIES) else ""


def grid_kind(grid: Grid) -> str:
    """Return the kind of geometry of a grid, in words."""
    axes = grid.affine[:3, :3] / nib.affines.voxel_sizes(grid.affine)
    if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-3):
        return "sheared axes"
    if not np.allclose(np.abs(axes).max(axis=0), 1, atol=1e-3):
        return "oblique axes"
    if np.array_equal(np.abs(grid.affine[:3, :3]), np.eye(3)):
        return "a spacing of exactly 1×1×1 mm"
    return "axes along those of the patient"


def write_geometry(spacing: Sequence[float] | None, orientation: str | None) -> str:
    """Return spacing and orientation as one text, for :func:`supply_geometry`; an empty text for neither.

    Raises:
        ValueError: if one of them is malformed.

    Example:
        >>> write_geometry([0.7, 0.7, 2.5], "lps")
        'LPS 0.7 0.7 2.5'
    """
    if spacing is None and orientation is None:
        return ""
    steps = () if spacing is None else tuple(spacing) if isinstance(spacing, Sequence) else (spacing,)
    numbers = [isinstance(step, int | float) and math.isfinite(step) and step > 0 for step in steps]
    if spacing is not None and (len(steps) != 3 or not all(numbers)):
        raise ValueError(
            f"`missing_spacing` must be three numbers of millimetres above 0; got {spacing!r}. "
            'For example: --missing_spacing "[0.7,0.7,2.5]"'
        )
    letters = "" if orientation is None else str(orientation).upper()
    if orientation is not None and sorted(map(_world_axis, letters)) != [0, 1, 2]:
        raise ValueError(
            f"`missing_orientation` must be three letters, one each of R or L, A or P, S or I; got {orientation!r}. "
            "For example: --missing_orientation LPS"
        )
    return " ".join([letters or "-", *map(str, steps)])


def supply_geometry(grid: Grid, geometry: str) -> Grid:
    """Return a grid with the spacing and orientation of a text of :func:`write_geometry`.

    Example:
        >>> str(supply_geometry(Grid((4, 3, 2), np.eye(4)), "LPS 0.7 0.7 2.5"))
        '4×3×2 LPS, spacing [0.7, 0.7, 2.5] mm, origin [0.0, 0.0, 0.0] mm'
    """
    letters, *numbers = geometry.split()
    old = nib.affines.voxel_sizes(grid.affine)
    directions = grid.affine[:3, :3] / old
    if letters != "-":
        directions = np.zeros((3, 3))
        for axis, letter in enumerate(letters):
            directions[_world_axis(letter), axis] = 1 if letter in "RAS" else -1
    affine = np.array(grid.affine)
    affine[:3, :3] = directions * (np.array(numbers, dtype=np.float64) if numbers else old)
    return Grid(grid.shape, affine)


def _world_axis(letter: str) -> int:
    """Return the axis of the patient that a letter names; -1 for other letters."""
    return next((axis for axis, pair in enumerate(("RL", "AP", "SI")) if letter in pair), -1)
