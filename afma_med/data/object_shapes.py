"""What becomes of a label's objects when it is resized, or seen by a network of coarse cells."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med._ops.labels import index_array
from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.data.file_threads import map_files
from afma_med.data.object_sizes import label_objects

__all__ = ["ObjectTable", "find_lost_classes", "measure_objects", "warn_of_lost_objects"]

logger = logging.getLogger(__name__)

# Share of a class's objects that resizing may lose before a training warns.
_TOLERATED = 0.1


class ObjectTable(NamedTuple):
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
    classes: int,
    *,
    longest_side: int | None = None,
    strides: Sequence[int] = (),
    spacing: Sequence[float] | None = None,
) -> ObjectTable:
    """Measure the objects of a label: connected components of one class.

    Args:
        label: (H,W) train ids. Other values, such as void, do not count.
        classes: K.
        longest_side: longest side in pixels that the label is resized to first, by nearest neighbour as bundles do.
        strides: strides of a network's feature maps, in pixels of the resized label.
        spacing: millimetres between pixels along both axes, for sizes in mm².

    Raises:
        ValueError: if a value is not a whole number.

    Example:
        >>> label = np.zeros((8, 8), dtype=np.uint8)
        >>> label[1, 1], label[4:8, 4:8] = 1, 1
        >>> table = measure_objects(label, 2, strides=(2,))
        >>> table.owner.tolist(), table.area.tolist(), table.is_skipped[:, 0].tolist()
        ([0, 1, 1], [47, 1, 16], [False, True, False])
    """
    label = index_array("label", label)
    objects = label_objects(label)
    numbers, first, pixels = np.unique(objects, return_index=True, return_counts=True)
    owner = label.ravel()[first].astype(np.int64)
    known = (numbers > 0) & (owner >= 0) & (owner < classes)
    numbers, owner, pixels = numbers[known], owner[known], pixels[known]
    resized = _resize(objects, longest_side)
    blocks = [resized[i : resized.shape[0] - 1 + i, j : resized.shape[1] - 1 + j] for i in (0, 1) for j in (0, 1)]
    thick = blocks[0][np.all([block == blocks[0] for block in blocks[1:]], axis=0)]
    counts = np.bincount(resized.ravel(), minlength=int(objects.max()) + 1)
    skipped = [~np.isin(numbers, resized[::stride, ::stride]) for stride in strides]
    return ObjectTable(
        owner=owner,
        pixels=pixels,
        size=pixels * np.float64(1 if spacing is None else np.prod(spacing)),
        area=counts[numbers].astype(np.int64),
        side=_longer_sides(objects)[numbers],
        is_thin=~np.isin(numbers, thick),
        is_skipped=np.array(skipped, dtype=bool).reshape(len(skipped), len(numbers)).T,
    )


def find_lost_classes(
    reader: DatasetReader, items: Sequence[Item], longest_side: int, *, tolerated: float = _TOLERATED
) -> dict[str, float]:
    """Find the classes that lose more than a share of their objects when images are resized.

    Args:
        reader: the dataset.
        items: items with a label, as of :class:`~afma_med.data.Survey`.
        longest_side: longest side in pixels that images are resized to.
        tolerated: the share.

    Returns:
        The share that is lost, by name of the class; without the unscored classes.
    """
    names = class_names(reader.classes)

    def count(item: Item) -> NDArray[np.int64]:
        table = measure_objects(reader.read_label(item), len(names), longest_side=longest_side)
        return np.stack(
            [np.bincount(table.owner[rows], minlength=len(names)) for rows in (slice(None), table.area == 0)]
        )

    labelled = [item for item in items if "label" in item]
    counts = map_files(count, labelled, title="Looking for objects that resizing loses", unit="label")
    total, lost = sum(counts, start=np.zeros((2, len(names)), dtype=np.int64))
    shares = {name: lost[k] / total[k] for k, name in enumerate(names) if total[k] and name not in reader.unscored}
    return {name: float(share) for name, share in shares.items() if share > tolerated}


def warn_of_lost_objects(reader: DatasetReader, items: Sequence[Item], longest_side: int | None) -> None:
    """Log a warning if the resizing of a training loses more than a tenth of a class's objects."""
    if longest_side is None:
        return
    lost = find_lost_classes(reader, items, longest_side)
    if lost:
        shares = ", ".join(f"{share:.0%} of {name}" for name, share in lost.items())
        logger.warning(
            "Resizing images to a `longest_side` of %d pixels loses objects: %s. Choose a larger `longest_side`; "
            "`afma advise` says which.",
            longest_side,
            shares,
        )


def _resize(objects: NDArray[np.int32], longest_side: int | None) -> NDArray[np.int32]:
    """Resize by nearest neighbour as torch does: pixel i takes pixel floor(i · old / new)."""
    if longest_side is None:
        return objects
    sides = [max(1, round(side * longest_side / max(objects.shape))) for side in objects.shape]
    rows, columns = (np.arange(new) * old // new for new, old in zip(sides, objects.shape, strict=True))
    resized: NDArray[np.int32] = objects[rows[:, None], columns]
    return resized


def _longer_sides(objects: NDArray[np.int32]) -> NDArray[np.int64]:
    """The longer side of each number's bounding box."""
    flat, count = objects.ravel(), int(objects.max()) + 1
    sides = np.zeros(count, dtype=np.int64)
    for axis, length in enumerate(objects.shape):
        place = np.broadcast_to(np.arange(length).reshape(-1, 1) if axis == 0 else np.arange(length), objects.shape)
        low, high = np.full(count, length), np.full(count, -1)
        np.minimum.at(low, flat, place.ravel())
        np.maximum.at(high, flat, place.ravel())
        sides = np.maximum(sides, high - low + 1)
    return sides
