"""Find points of interest: the smallest object, the corrected object, or all objects of a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import VOID, ClassInfo, class_groups, class_names, classes_with_objects
from afma_med.data.objects.sizes import label_objects

__all__ = ["corrected_object", "object_classes", "object_points", "smallest_object"]


class _Objects(NamedTuple):
    """Objects of a label in raster order of their first pixels: map of their numbers, numbers, and sizes in pixels."""

    numbers: NDArray[np.int32]
    number: NDArray[np.int32]
    pixels: NDArray[np.int64]


def object_classes(class_table: Sequence[ClassInfo], unscored: Sequence[str] = ()) -> list[int]:
    """List the train ids of the classes that have objects and are not ``unscored``.

    The background has none, nor has the first class of a dataset without a background, unless it belongs to a group.

    Example:
        >>> from afma_med.data import CAMVID, ISIC
        >>> object_classes(ISIC.classes), len(object_classes(CAMVID.classes, ["unlabelled"]))
        ([1], 11)
    """
    names = class_names(class_table)
    found = {*classes_with_objects(names)}.union(*class_groups(class_table).values())
    return [k for k, name in enumerate(names) if name not in unscored and k in found]


def smallest_object(
    label: NDArray[np.integer], *, class_indices: Sequence[int] | None = None, min_pixels: int = 1
) -> tuple[int, int] | None:
    """Find the smallest object of a label or prediction.

    An object is a connected component of one class; pixels that touch at a corner are connected.

    Args:
        label: (H,W) train ids.
        class_indices: Classes whose objects count; None for all.
        min_pixels: Smaller objects are ignored as noise.

    Returns:
        (row, column) of the object's pixel that is nearest to its centre; None without objects. Of several smallest
        objects, the first one in raster order counts.

    Raises:
        ValueError: If ``label`` is not 2-D.

    Example:
        >>> label = np.zeros((20, 20), dtype=np.uint8)
        >>> label[2:9, 2:9], label[12:15, 4:7] = 1, 1
        >>> smallest_object(label, class_indices=[1])
        (13, 5)
    """
    objects = _find_objects(label, class_indices, min_pixels)
    return _centre(objects, int(objects.pixels.argmin())) if len(objects.pixels) else None


def corrected_object(
    before: NDArray[np.integer],
    after: NDArray[np.integer],
    label: NDArray[np.integer],
    *,
    class_indices: Sequence[int] | None = None,
    max_pixels: int,
) -> tuple[int, tuple[int, int]] | None:
    """Find the small object of a label that gains the most correct pixels from a correction.

    Objects at the border of the image are ignored, because they may be parts of large ones.

    Args:
        before: (H,W) train ids, predicted before the correction.
        after: (H,W) train ids, predicted after the correction.
        label: (H,W) train ids.
        class_indices: Classes whose objects count; None for all.
        max_pixels: Small objects have fewer pixels.

    Returns:
        Gain of the object in correct pixels, and (row, column) of the corrected pixel nearest to the centre of all
        corrected pixels of the object; None if no small object gains.

    Raises:
        ValueError: If ``label`` is not 2-D.

    Example:
        >>> label = np.zeros((8, 8), dtype=np.uint8)
        >>> label[2:5, 2:5] = 1
        >>> corrected_object(0 * label, label, label, max_pixels=10)
        (9, (3, 3))
    """
    objects = _find_objects(label, class_indices, min_pixels=1)
    numbers, right = objects.numbers, (before != label) & (after == label)
    border = np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])
    whole = np.setdiff1d(objects.number[objects.pixels < max_pixels], border)
    # The number of pixels that become right or wrong, by object.
    change = right.astype(np.int64) - ((before == label) & (after != label))
    gains = np.bincount(numbers.ravel(), weights=change.ravel())[whole].astype(int)
    if gains.max(initial=0) <= 0:
        return None
    best = int(gains.argmax())
    return int(gains[best]), _nearest_to_mean(np.argwhere((numbers == whole[best]) & right))


def object_points(
    label: NDArray[np.integer], class_index: int, *, count: int = 8, min_pixels: int = 1
) -> list[tuple[int, int]]:
    """Find a point in each object of a class, the largest object first.

    Args:
        label: (H,W) train ids.
        class_index: Train id of the class.
        count: Largest number of objects.
        min_pixels: Smaller objects are ignored as noise.

    Returns:
        (row, column) of each object's pixel that is nearest to its centre.

    Raises:
        ValueError: If ``label`` is not 2-D.

    Example:
        >>> object_points(np.array([[1, 0, 0, 0], [0, 0, 1, 1]]), 1)
        [(1, 2), (0, 0)]
    """
    objects = _find_objects(label, [class_index], min_pixels)
    largest_first = np.argsort(-objects.pixels, kind="stable")[:count]
    return [_centre(objects, index) for index in largest_first.tolist()]


def _find_objects(label: NDArray[np.integer], class_indices: Sequence[int] | None, min_pixels: int) -> _Objects:
    if label.ndim != 2:
        raise ValueError(f"`label` must have the 2 axes (H,W); got shape {label.shape}. Pass one image or slice.")
    numbers = label_objects(label)
    number, first, pixels = np.unique(numbers, return_index=True, return_counts=True)
    owner = label.ravel()[first]
    wanted = np.isin(owner, class_indices) if class_indices is not None else owner != VOID
    order = np.argsort(first)
    kept = order[(wanted & (pixels >= min_pixels))[order]]
    return _Objects(numbers, number[kept], pixels[kept])


def _centre(objects: _Objects, index: int) -> tuple[int, int]:
    return _nearest_to_mean(np.argwhere(objects.numbers == objects.number[index]))


def _nearest_to_mean(pixels: NDArray[np.integer]) -> tuple[int, int]:
    row, column = pixels[((pixels - pixels.mean(axis=0)) ** 2).sum(axis=1).argmin()].tolist()
    return row, column
