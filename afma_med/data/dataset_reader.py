"""The interface of a dataset: its files, its labels, its classes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.objects.sizes import SizeGroups

__all__ = ["SECTIONS", "DatasetReader", "Inspected", "Item"]

#: The sections of every dataset.
SECTIONS = ("train", "val", "test")

#: Paths of an image and, where there is one, its label under ``"image"`` and ``"label"``; and what else a reader needs.
Item = Mapping[str, Any]


class Inspected(NamedTuple):
    """Hold what one image, or one slice of a volume, and its label contain.

    Args:
        item: input of the transforms of a training.
        size: (H, W) in pixels.
        counts: (K,) int64, the label's pixels of each class; None without a label.
        highest: the highest value of a picture of more than 8 bits; None for others.
        objects: (n,3) int64, the label's objects as of :func:`~afma_med.data.objects.sizes.tally_objects`; None without
            a label, or if they are not counted, as those of slices.
        reading: how the values of a mask were read, ``"instances"`` or ``"votes"``; empty where there was nothing to
            decide.
    """

    item: dict[str, Any]
    size: tuple[int, int]
    counts: NDArray[np.int64] | None
    highest: float | None = None
    objects: NDArray[np.int64] | None = None
    reading: str = ""


class DatasetReader(NamedTuple):
    """Describe a dataset: all that bundles, ``afma check`` and evaluation use.

    :func:`~afma_med.data.build_picture_reader` builds one of a class table and a ``datalist``.

    Args:
        name: short name, that of its default folder below ``data/``.
        title: name for people.
        classes: table of the classes, raw ids as the dataset's label files have them.
        datalist: (root, section) -> items of paths, ``{"image": path, "label": path}`` of whole images or volumes, in
            the order of their names. Raises ValueError if the section is unknown, FileNotFoundError that shows the
            layout if ``root`` or what it must hold is missing, and DatasetError that names every file that does not
            pair or cannot be used.
        inspect: item of paths -> contents of the files, one :class:`Inspected` an image or slice; raises ValueError,
            naming the file and the remedy, if they cannot be used.
        read_label: :class:`Inspected` item -> (H,W) uint8 train ids, void as ``VOID``.
        find_inputs: file or folder -> items ``{"image": path}``, for prediction.
        unscored: names of classes that are trained but left out of the scores.
        size_groups: which objects of whole images and volumes are small, medium and large.
        combined_classes: classes that consist of objects of other classes, and those parts, such as a bicyclist of a
            pedestrian and a bicycle.
        read_volume: item of paths -> (H,W,D) train ids of a whole volume and the millimetres between its voxels; None
            for datasets of images.
        layout: the files that ``datalist`` expects, as text.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> root = write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2, "val": 1, "test": 1})
        >>> len(CAMVID.datalist(root, "train"))
        2
    """

    name: str
    title: str
    classes: Sequence[ClassInfo]
    datalist: Callable[[str | os.PathLike[str], str], list[dict[str, str]]]
    inspect: Callable[[Item], list[Inspected]]
    read_label: Callable[[Item], NDArray[np.uint8]]
    find_inputs: Callable[[Path], list[dict[str, str]]]
    unscored: tuple[str, ...] = ()
    size_groups: SizeGroups = SizeGroups()
    combined_classes: Mapping[str, Sequence[str]] = MappingProxyType({})
    read_volume: Callable[[Item], tuple[NDArray[np.uint8], tuple[float, ...]]] | None = None
    layout: str = ""
