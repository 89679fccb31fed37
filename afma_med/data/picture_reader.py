"""Readers of datasets of pictures: every benchmark of pictures is a class table and a list of files on top of this."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afma_med.data.class_table import ClassInfo, class_names
from afma_med.data.datalist import pair_by_name
from afma_med.data.dataset_reader import DatasetReader, Inspected, Item
from afma_med.data.files import files_below, files_by_relative_name, map_files
from afma_med.data.label_pixels import MaskReader
from afma_med.data.mask_values import MaskValues, check_mask_values
from afma_med.data.objects.sizes import tally_objects
from afma_med.data.pictures import PICTURES, count_pages, highest_deep_value, naming, oriented_size
from afma_med.data.problems import DatasetError, list_files, warn_skipped

__all__ = ["build_picture_reader", "find_pictures", "inspect_pictures", "with_mask_values"]


def build_picture_reader(
    name: str,
    title: str,
    classes: Sequence[ClassInfo],
    datalist: Callable[[str | os.PathLike[str], str], list[dict[str, str]]],
    *,
    read_label: Callable[[Item], NDArray[np.uint8]] | None = None,
    **options: Any,
) -> DatasetReader:
    """Build the reader of a dataset of pictures.

    Args:
        name: see :class:`DatasetReader`, as the next three.
        title: name for people.
        classes: table of the classes.
        datalist: (root, section) -> items of paths.
        read_label: item -> (H,W) train ids; default: a :class:`~afma_med.data.label_pixels.MaskReader`.
        **options: other fields of :class:`DatasetReader`.

    Example:
        >>> classes = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("polyp", 255, 1, (213, 94, 0)))
        >>> build_picture_reader("polyps", "Polyps", classes, lambda root, section: []).read_label
        MaskReader(mask_values='auto')
    """
    read_label = read_label or MaskReader()
    inspect = partial(inspect_pictures, read_label=read_label, num_classes=len(class_names(classes)))
    return DatasetReader(name, title, classes, datalist, inspect, read_label, find_pictures, **options)


def with_mask_values(reader: DatasetReader, mask_values: MaskValues = "auto") -> DatasetReader:
    """Return a reader that reads the values of its masks in one way; with ``"auto"``, any other reader unchanged.

    Args:
        reader: whose ``read_label`` is a :class:`~afma_med.data.label_pixels.MaskReader`.
        mask_values: ``"auto"``, ``"instances"`` or ``"votes"``, as that class takes.

    Raises:
        ValueError: if there is no such reading, or the reader has no masks.

    Example:
        >>> from afma_med.data import NUCLEI
        >>> with_mask_values(NUCLEI, "instances").read_label
        MaskReader(mask_values='instances')
    """
    check_mask_values(mask_values)
    if isinstance(reader.read_label, MaskReader) and isinstance(reader.inspect, partial):
        read_label = MaskReader(mask_values)
        return reader._replace(read_label=read_label, inspect=partial(reader.inspect, read_label=read_label))
    if mask_values != "auto":
        raise ValueError(
            f"`mask_values` must be 'auto' for labels that are no masks, as those of {reader.title}; got "
            f"{mask_values!r}. Leave it out, or give the reader a MaskReader."
        )
    return reader


def inspect_pictures(
    item: Item, *, read_label: Callable[[Item], NDArray[np.uint8]], num_classes: int
) -> list[Inspected]:
    """Read an image and its label to the last byte, and count the label's pixels and objects.

    Raises:
        ValueError: naming the file, if it cannot be read, holds several pictures, its label is of another size, or has
            bad values.
    """
    with naming(item["image"]), Image.open(item["image"]) as image:
        highest = highest_deep_value(image)
        width, height = oriented_size(image)
        if (pages := count_pages(image)) > 1:
            raise ValueError(
                f"an image file must hold one picture; this one holds {pages}. Save the one that is meant."
            )
        # JPEG at an eighth of its size is decoded in a fraction of the time, to the last byte all the same.
        image.draft(None, (1, 1))
        image.load()
    if "label" not in item:
        return [Inspected(dict(item), (height, width), None, highest)]
    label, reading = read_label.read(item["label"]) if isinstance(read_label, MaskReader) else (read_label(item), "")
    if label.shape != (height, width):
        raise ValueError(
            f"`{item['label']}` must have the size of its image, {width}×{height}; got {label.shape[1]}×"
            f"{label.shape[0]}. Replace one of them."
        )
    objects, counts = tally_objects(label, num_classes), np.zeros(num_classes, dtype=np.int64)
    np.add.at(counts, objects[:, 0], objects[:, 1] * objects[:, 2])
    return [Inspected(dict(item), (height, width), counts, highest, objects, reading)]


def find_pictures(source: Path) -> list[dict[str, str]]:
    """List a picture, or all pictures below a folder, for prediction: ``[{"image": path}, ...]``.

    Raises:
        FileNotFoundError: if there is no picture.
        DatasetError: naming every file that cannot be read, and names of several files.
    """
    paths = files_below(source)
    images = {source.stem: [source]} if source.is_file() else files_by_relative_name(source, paths, PICTURES)
    warn_skipped(paths, images)
    items = pair_by_name(images, None, image_dir=source)
    # To the last byte: a prediction of many images must not stop halfway.
    outcomes = map_files(_image_problem, items, title="Reading the images", unit="image")
    if problems := list(filter(None, outcomes)):
        raise DatasetError([list_files("files that cannot be used", problems)])
    return items


def _image_problem(item: Item) -> str:
    try:
        inspect_pictures(item, read_label=MaskReader(), num_classes=0)
    except ValueError as error:
        return str(error)
    return ""
