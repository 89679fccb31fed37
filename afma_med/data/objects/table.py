"""The objects of a label with their pixels, from which the centres of crops are drawn."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from afma_med._ops.components import number_components
from afma_med._ops.labels import as_tensor, check_classes, index_array
from afma_med.losses.segmentation import label_to_one_hot

__all__ = ["ObjectTable", "find_objects"]

# Pixels that are kept of an object. More of a large object would make no visible difference to crops.
_PIXELS_PER_OBJECT = 256
# Fewer classes are looked for by their own numbers.
_FEW_CLASSES = 2**12


class ObjectTable(NamedTuple):
    """Hold the objects of a label.

    Args:
        owner: (O,) class of each object.
        sizes: (O,) number of pixels or voxels of each object.
        ends: (O,) end of each object's rows in ``pixels``.
        pixels: (P,2) or (P,3) positions of pixels: all of a small object, 256 of a large one.
    """

    owner: NDArray[np.int64]
    sizes: NDArray[np.int64]
    ends: NDArray[np.int64]
    pixels: NDArray[np.int32]


def find_objects(
    label: NDArray[Any], *, class_indices: Collection[int] | None = None, ignore_index: int | None = None
) -> ObjectTable:
    """List the objects of a label: connected components of a class; pixels that touch at a corner are connected.

    Args:
        label: (1,H,W) or (1,H,W,D) class indices, or (K,H,W) or (K,H,W,D) one-hot, of any number type. Class indices
            may be any whole numbers; those below 0 belong to no object.
        class_indices: Classes whose objects are listed; default: all but 0, the background.
        ignore_index: Label value of void pixels.

    Raises:
        ValueError: If a class index is not a whole number, such as 0.9999 after a linear resampling, or a one-hot
            label has values other than 0, 1 and ``ignore_index``.

    Example:
        >>> table = find_objects(np.array([[[1, 0, 2, 2], [0, 0, 2, 2]]]))
        >>> table.owner.tolist(), table.sizes.tolist(), table.pixels[:2].tolist()
        ([1, 2], [1, 4], [[0, 0], [0, 2]])
    """
    owners, sizes, pixels = [], [np.zeros(0, dtype=np.int64)], [np.zeros((0, label.ndim - 1), dtype=np.int32)]
    counts: list[int] = []
    for k, corner, mask in _class_masks(label, ignore_index):
        if k in class_indices if class_indices is not None else k > 0:
            numbers, count = number_components(mask)
            inside = np.flatnonzero(numbers)
            owner = numbers.ravel()[inside]
            inside = inside[np.argsort(owner, kind="stable")]
            found = np.bincount(owner, minlength=count + 1)[1:]
            picks = [_pick(part) for part in np.split(inside, np.cumsum(found)[:-1])]
            counts += [len(pick) for pick in picks]
            owners += [k] * count
            sizes.append(found)
            positions = np.unravel_index(np.concatenate(picks), mask.shape)
            pixels.append((np.stack(positions, axis=1) + corner).astype(np.int32))
    ends = np.cumsum(counts, dtype=np.int64)
    return ObjectTable(np.array(owners, dtype=np.int64), np.concatenate(sizes), ends, np.concatenate(pixels))


def _class_masks(label: NDArray[Any], ignore_index: int | None) -> Iterator[tuple[int, list[int], NDArray[np.bool_]]]:
    """Yield each class that occurs, with the first corner of its bounding box and its mask in the box."""
    if len(label) == 1:
        names, numbers = _number_classes(index_array("label", label[0]), ignore_index)
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            if box is not None:
                yield names[number - 1], [side.start for side in box], numbers[box] == number
        return
    channels = as_tensor(label)
    check_classes("label", channels, 1, one_hot=True, ignore_index=ignore_index)
    one_hot, _ = label_to_one_hot(channels[None], len(channels), ignore_index)
    for k, mask in enumerate(one_hot[0].bool().numpy()):
        if mask.any():
            yield k, [0] * mask.ndim, mask


def _number_classes(index: NDArray[np.integer], ignore_index: int | None) -> tuple[Sequence[int], NDArray[np.int32]]:
    """Return the classes, and for each pixel the number of its class, from 1; 0 without a class."""
    if index.min(initial=0) >= -_FEW_CLASSES and index.max(initial=0) < _FEW_CLASSES:
        numbers = np.maximum(index.astype(np.int32) + 1, 0)
        if ignore_index is not None:
            numbers[index == ignore_index] = 0
        return range(_FEW_CLASSES), numbers
    # Memory and time grow with the largest number, so large ids get new numbers.
    known = (index >= 0) & (index != ignore_index)
    names, inverse = np.unique(index[known], return_inverse=True)
    numbers = np.zeros(index.shape, dtype=np.int32)
    numbers[known] = inverse + 1
    return names.tolist(), numbers


def _pick(pixels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pick pixels of an object at even distances in reading order."""
    if len(pixels) <= _PIXELS_PER_OBJECT:
        return pixels
    return pixels[np.linspace(0, len(pixels) - 1, _PIXELS_PER_OBJECT).astype(np.int64)]
