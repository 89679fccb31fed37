"""Where the voxels of volumes lie, and whether two volumes share their grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple

import nibabel as nib
import numpy as np
from nibabel import orientations
from numpy.typing import NDArray

__all__ = ["Grid", "orient_grid", "require_same_grid", "same_grid"]


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
    """Turn a grid so that its axes run as asked.

    Args:
        grid: any grid.
        axes: letters of the three directions in which the indices grow, such as "PLS".

    Returns:
        (3,2) orientation for :func:`nibabel.orientations.apply_orientation`, and the new grid.

    Example:
        >>> orient_grid(Grid((4, 3, 2), np.eye(4)), "PLS")[1].shape
        (3, 4, 2)
    """
    wanted = orientations.axcodes2ornt(tuple(axes))
    transform = orientations.ornt_transform(orientations.io_orientation(grid.affine), wanted)
    rows, columns, slices = (grid.shape[int(axis)] for axis in np.argsort(transform[:, 0]))
    return transform, Grid((rows, columns, slices), grid.affine @ orientations.inv_ornt_aff(transform, grid.shape))


def same_grid(a: Grid, b: Grid, *, tolerance: float = 1e-2) -> bool:
    """Tell whether two grids, oblique or not, have the same voxels in the same order of axes.

    Args:
        a: one grid.
        b: the other.
        tolerance: how far the corners may lie apart, in voxels.

    Example:
        >>> same_grid(Grid((4, 3, 2), np.eye(4)), Grid((4, 3, 2), np.diag([1, 1, 1.5, 1])))
        False
    """
    if a.shape != b.shape:
        return False
    ends = [(-0.5, side - 0.5) for side in a.shape]
    corners = np.stack([*np.meshgrid(*ends, indexing="ij"), np.ones((2, 2, 2))]).reshape(4, 8)
    moved = np.linalg.solve(a.affine, b.affine @ corners)
    return bool(np.abs(moved - corners).max() <= tolerance)


def require_same_grid(image: Grid, label: Grid, *, paths: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse a label that, brought to the axes of its image, does not lie on it; ``paths`` are those of both.

    Raises:
        ValueError: naming both files and their grids.
    """
    if not same_grid(image, label):
        raise ValueError(
            f"`label` must lie on the grid of its image; got {paths[0]} ({image}) with {paths[1]} ({label}). "
            "Replace one of them, or remove both."
        )
