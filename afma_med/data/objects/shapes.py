"""The objects of a label after resizing, and as a network of coarse cells sees them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from afma_med._ops.labels import index_array
from afma_med.data.objects.sizes import label_objects

__all__ = ["ObjectShapes", "measure_objects"]


class ObjectShapes(NamedTuple):
    """Hold the objects of a 2-D label, one entry each.

    Args:
        owner: (n,) class of each object.
        pixels: (n,) before resizing.
        size: (n,) the same, or mm² with a spacing.
        area: (n,) pixels after resizing; 0 where resizing lost the object.
        side: (n,) the longer side of the bounding box in pixels, before resizing.
        is_thin: (n,) bool, thinner than two pixels everywhere after resizing.
        is_skipped: (n, strides) bool, no pixel left after nearest-neighbour downsampling by each stride.
    """

    owner: NDArray[np.int64]
    pixels: NDArray[np.int64]
    size: NDArray[np.float64]
    area: NDArray[np.int64]
    side: NDArray[np.int64]
    is_thin: NDArray[np.bool_]
    is_skipped: NDArray[np.bool_]


def measure_objects(
    label: NDArray[np.integer],
    num_classes: int,
    *,
    longest_side: int | None = None,
    strides: Sequence[int] = (),
    spacing: Sequence[float] | None = None,
) -> ObjectShapes:
    """Measure the objects of a label: connected components of one class.

    Args:
        label: (H,W) train ids. Other values, such as void, do not count.
        num_classes: K.
        longest_side: longest side in pixels that the label is resized to first, by nearest neighbour as bundles do.
        strides: strides of a network's feature maps, in pixels of the resized label.
        spacing: millimetres between pixels along both axes, for sizes in mm².

    Raises:
        ValueError: if a value is not a whole number.

    Example:
        >>> label = np.zeros((8, 8), dtype=np.uint8)
        >>> label[1, 1], label[4:8, 4:8] = 1, 1
        >>> found = measure_objects(label, 2, strides=(2,))
        >>> found.owner.tolist(), found.area.tolist(), found.is_skipped[:, 0].tolist()
        ([0, 1, 1], [47, 1, 16], [False, True, False])
    """
    label = index_array("label", label)
    objects = label_objects(label)
    numbers, first, pixels = np.unique(objects, return_index=True, return_counts=True)
    owner = label.ravel()[first].astype(np.int64)
    known = (numbers > 0) & (owner >= 0) & (owner < num_classes)
    numbers, owner, pixels = numbers[known], owner[known], pixels[known]
    resized = _resize(objects, longest_side)
    blocks = [resized[i : resized.shape[0] - 1 + i, j : resized.shape[1] - 1 + j] for i in (0, 1) for j in (0, 1)]
    thick = blocks[0][np.all([block == blocks[0] for block in blocks[1:]], axis=0)]
    counts = np.bincount(resized.ravel(), minlength=int(objects.max()) + 1)
    skipped = [~np.isin(numbers, resized[::stride, ::stride]) for stride in strides]
    boxes = ndimage.find_objects(objects)
    sides = [max(axis.stop - axis.start for axis in boxes[number - 1]) for number in numbers.tolist()]
    return ObjectShapes(
        owner=owner,
        pixels=pixels,
        size=pixels * np.float64(1 if spacing is None else np.prod(spacing)),
        area=counts[numbers].astype(np.int64),
        side=np.array(sides, dtype=np.int64),
        is_thin=~np.isin(numbers, thick),
        is_skipped=np.array(skipped, dtype=bool).reshape(len(skipped), len(numbers)).T,
    )


def _resize(objects: NDArray[np.int32], longest_side: int | None) -> NDArray[np.int32]:
    """Resize by nearest neighbour as torch does: pixel i takes pixel floor(i · old / new)."""
    if longest_side is None:
        return objects
    sides = [max(1, round(side * longest_side / max(objects.shape))) for side in objects.shape]
    rows, columns = (np.arange(new) * old // new for new, old in zip(sides, objects.shape, strict=True))
    resized: NDArray[np.int32] = objects[rows[:, None], columns]
    return resized
