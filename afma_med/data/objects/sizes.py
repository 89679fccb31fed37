"""How large the objects of a label are: connected components by size, as the paper groups them (Fig. 9, Table 4)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import SimpleITK
from numpy.typing import NDArray

from afma_med._ops.components import find_object_runs
from afma_med._ops.labels import index_array

__all__ = [
    "SIZES",
    "SizeGroups",
    "count_objects",
    "group_objects",
    "group_pixels",
    "label_objects",
    "tally_objects",
]

#: Names of the groups, from the smallest objects to the largest.
SIZES = ("small", "medium", "large")

Unit = Literal["pixels", "mm²", "mm³"]


@dataclass(frozen=True)
class SizeGroups:
    """Define which objects are small, medium and large.

    Small are those below the first bound, large those above the second, medium those between them, bounds included.

    Args:
        bounds: of the objects' area or volume; default: 32² and 96² pixels, after COCO and the paper.
        unit: ``"pixels"`` (voxels of volumes), or ``"mm²"`` (images) and ``"mm³"`` (volumes) by their spacing.

    Raises:
        ValueError: if the bounds do not grow from above zero, or the unit is unknown.

    Example:
        >>> SizeGroups((10, 20)).group_of(np.array([9, 10, 20, 21])).tolist()
        [0, 1, 1, 2]
    """

    bounds: tuple[float, float] = (32**2, 96**2)
    unit: Unit = "pixels"

    def __post_init__(self) -> None:
        if len(self.bounds) != 2 or not 0 < self.bounds[0] <= self.bounds[1]:
            raise ValueError(
                f"`bounds` must be two numbers above zero, the smaller one first; got {self.bounds}. "
                "32² and 96² pixels are (1024, 9216)."
            )
        if self.unit not in get_args(Unit):
            raise ValueError(f"`unit` must be one of {get_args(Unit)}; got {self.unit!r}. Choose one of them.")

    def group_of(self, sizes: NDArray[np.floating] | NDArray[np.integer]) -> NDArray[np.uint8]:
        """Return the group, 0 to 2, of each size."""
        groups: NDArray[np.uint8] = np.add(sizes >= self.bounds[0], sizes > self.bounds[1], dtype=np.uint8)
        return groups

    def pixel_size(self, spacing: Sequence[float] | None, axes: int) -> float:
        """Return the size of one pixel or voxel in the groups' unit.

        Raises:
            ValueError: if the unit needs a spacing and there is none, or is not that of so many axes.
        """
        if self.unit == "pixels":
            return 1.0
        if spacing is None or len(spacing) != axes or {"mm²": 2, "mm³": 3}[self.unit] != axes:
            raise ValueError(
                f"`unit` {self.unit!r} needs labels with a spacing along {2 if self.unit == 'mm²' else 3} axes; got "
                f"spacing {spacing} of {axes} axes. Choose another unit, or load labels with their spacing."
            )
        return math.prod(float(step) for step in spacing)


def label_objects(label: NDArray[np.integer]) -> NDArray[np.int32]:
    """Number the objects of a label: connected components of one value; pixels that touch at a corner are connected.

    Args:
        label: (H,W) or (H,W,D) train ids.

    Returns:
        The same shape, a number from 1 on for each object of any value; not every number occurs.

    Example:
        >>> label_objects(np.array([[1, 0, 0], [0, 1, 2]])).tolist()
        [[1, 2, 2], [2, 1, 3]]
    """
    if label.ndim == 2:
        runs = find_object_runs(label)
        return np.repeat(runs.number + np.int32(1), runs.length).reshape(label.shape)
    numbers, count = np.zeros(label.shape, dtype=np.int32), 0
    for value in np.unique(label).tolist():
        image = SimpleITK.ConnectedComponent(SimpleITK.GetImageFromArray((label == value).astype(np.uint8)), True)
        own = SimpleITK.GetArrayFromImage(image).astype(np.int32)
        numbers[own > 0] = own[own > 0] + count
        count += int(own.max())
    return numbers


def group_pixels(
    label: NDArray[np.integer],
    groups: SizeGroups,
    *,
    spacing: Sequence[float] | None = None,
    objects: NDArray[np.integer] | None = None,
) -> NDArray[np.uint8]:
    """Return for each pixel whether its object is small, medium or large.

    Args:
        label: (H,W) or (H,W,D) train ids.
        groups: bounds between the groups.
        spacing: millimetres between pixels along each axis, if the groups need them.
        objects: result of :func:`label_objects`, if it is known already.

    Returns:
        The same shape, 0 small, 1 medium, 2 large.

    Example:
        >>> group_pixels(np.array([[1, 1, 0, 1]]), SizeGroups((2, 3))).tolist()
        [[1, 1, 0, 0]]
    """
    unit = groups.pixel_size(spacing, label.ndim)
    objects = label_objects(label) if objects is None else objects
    return groups.group_of(np.bincount(objects.ravel()) * unit)[objects]


def count_objects(
    label: NDArray[np.integer],
    num_classes: int,
    *,
    groups: SizeGroups | None = None,
    spacing: Sequence[float] | None = None,
) -> NDArray[np.int64]:
    """Count the objects of each class in a label by size.

    Args:
        label: (H,W) or (H,W,D) train ids; other values, such as void, do not count.
        num_classes: K.
        groups: bounds between the groups; default: 32² and 96² pixels.
        spacing: millimetres between pixels along each axis, if the groups need them.

    Returns:
        (K,3) small, medium and large objects.

    Raises:
        ValueError: if a value is not a whole number.

    Example:
        >>> label = np.zeros((40, 40), dtype=np.uint8)
        >>> label[:2, :2] = label[5, 5] = 1
        >>> count_objects(label, 2).tolist()
        [[0, 1, 0], [2, 0, 0]]
    """
    groups = groups or SizeGroups()
    unit = groups.pixel_size(spacing, label.ndim)
    return group_objects(tally_objects(label, num_classes), num_classes, groups, pixel_size=unit)


def tally_objects(label: NDArray[np.integer], num_classes: int) -> NDArray[np.int64]:
    """Count the objects of a label that have the same class and number of pixels.

    Returns:
        (n,3) class, pixels of one object, number of objects; sorted, no class and size twice.

    Example:
        >>> tally_objects(np.array([[0, 1, 0, 1, 255]]), 2).tolist()
        [[0, 1, 2], [1, 1, 2]]
    """
    label = index_array("label", label)
    if label.ndim == 2:
        value, length, number = find_object_runs(label)
    else:
        value, length, number = label.ravel(), None, label_objects(label).ravel() - 1
    owner = np.zeros(number.max() + 1, dtype=value.dtype)
    owner[number] = value
    pixels = np.bincount(number, weights=length).astype(np.int64)
    known = (owner >= 0) & (owner < num_classes)
    keys = owner[known].astype(np.int64) * (label.size + 1) + pixels[known]
    keys, many = np.unique(keys, return_counts=True)
    return np.stack([*np.divmod(keys, label.size + 1), many], axis=1)


def group_objects(
    tally: NDArray[np.int64], num_classes: int, groups: SizeGroups, *, pixel_size: float = 1.0
) -> NDArray[np.int64]:
    """Sum the result of :func:`tally_objects` to the (K,3) small, medium and large objects of each class."""
    counted = np.zeros((num_classes, len(SIZES)), dtype=np.int64)
    np.add.at(counted, (tally[:, 0], groups.group_of(tally[:, 1] * pixel_size)), tally[:, 2])
    return counted
