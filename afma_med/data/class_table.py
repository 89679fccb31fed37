"""The classes of a dataset as one table, and the look-up tables that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BACKGROUND",
    "VOID",
    "ClassInfo",
    "background_classes",
    "class_colors",
    "class_groups",
    "class_names",
    "classes_with_objects",
    "color_lookup",
    "named_classes",
    "raw_id_lookup",
    "raw_ids",
]

# The label value of pixels that are of no class: left out of losses and metrics.
VOID = 255
#: Names of the class that has no objects, in lower case: its pieces are what lies between them.
BACKGROUND = ("background", "skin")


class ClassInfo(NamedTuple):
    """Describe one class of a dataset's labels.

    Args:
        name: as the dataset spells it.
        raw_id: value of the class in the dataset's label files.
        train_id: index of the class for the network; several rows may share it, ``VOID`` leaves the class out.
        color: (red, green, blue), 0 to 255, in label files that are coded in colours and in pictures.
        group: ``"small"`` or ``"large"`` objects after the paper, None for neither.

    Example:
        >>> ClassInfo("pole", raw_id=2, train_id=2, color=(192, 192, 128), group="small").name
        'pole'
    """

    name: str
    raw_id: int
    train_id: int
    color: tuple[int, int, int]
    group: Literal["small", "large"] | None = None


def background_classes(names: Sequence[str]) -> list[int]:
    """Return the indices of the classes that are called background, in :data:`BACKGROUND`'s names.

    Example:
        >>> background_classes(["Background", "lesion"]), background_classes(["sky", "road"])
        ([0], [])
    """
    return [k for k, name in enumerate(names) if name.lower() in BACKGROUND]


def classes_with_objects(names: Sequence[str]) -> list[int]:
    """Return the indices of the classes with objects: all but the background or, without such a name, the first class.

    Example:
        >>> classes_with_objects(["lesion", "background"]), classes_with_objects(["sky", "pole", "car"])
        ([0], [1, 2])
    """
    background = background_classes(names) or [0]
    return [k for k in range(len(names)) if k not in background]


def class_names(classes: Sequence[ClassInfo]) -> list[str]:
    """Name the K train classes in the order of their train ids.

    Example:
        >>> from afma_med.data import CAMVID
        >>> class_names(CAMVID.classes)[:3]
        ['sky', 'building', 'pole']
    """
    return [info.name for info in _by_train_id(classes)]


def class_groups(classes: Sequence[ClassInfo]) -> dict[str, list[int]]:
    """List the train ids of the small and of the large classes.

    Example:
        >>> from afma_med.data import CAMVID
        >>> class_groups(CAMVID.classes)["small"]
        [2, 6, 9, 10]
    """
    rows = _by_train_id(classes)
    return {group: [info.train_id for info in rows if info.group == group] for group in ("small", "large")}


def named_classes(classes: Sequence[ClassInfo]) -> dict[str, list[int]]:
    """List the train ids of the small and of the large classes, and of each class by its name; no empty groups.

    Example:
        >>> from afma_med.data import CAMVID
        >>> found = named_classes(CAMVID.classes)
        >>> found["small"], found["pole"]
        ([2, 6, 9, 10], [2])
    """
    groups = {group: ids for group, ids in class_groups(classes).items() if ids}
    return groups | {name: [k] for k, name in enumerate(class_names(classes))}


def class_colors(classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """Return the colours of the train classes, (256, 3); black for other values."""
    colors = np.zeros((256, 3), dtype=np.uint8)
    for info in _by_train_id(classes):
        colors[info.train_id] = info.color
    return colors


def raw_id_lookup(classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """Return the train id of each raw id, (256,); ``VOID`` for values that the table does not list."""
    lookup = np.full(256, VOID, dtype=np.uint8)
    for info in classes:
        lookup[info.raw_id] = info.train_id
    return lookup


def raw_ids(classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """Return the raw id of each train id, (256,), the first one where several share it; others stay as they are."""
    ids = np.arange(256, dtype=np.uint8)
    for info in _by_train_id(classes):
        ids[info.train_id] = info.raw_id
    return ids


def color_lookup(classes: Sequence[ClassInfo]) -> dict[tuple[int, int, int], int]:
    """Return the train id of each colour, for label files that are coded in colours."""
    # Of classes that share a colour, as Cityscapes' pole and polegroup, the first counts.
    return {info.color: info.train_id for info in reversed(classes)}


def _by_train_id(classes: Sequence[ClassInfo]) -> list[ClassInfo]:
    """Return the first row of each train id, in order."""
    first = {info.train_id: info for info in reversed(classes) if info.train_id != VOID}
    return [first[train_id] for train_id in sorted(first)]
