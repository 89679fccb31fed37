"""Slices with several lesions each, such as CT of lungs, in plain folders, for cross-validation in five folds."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import PICTURES, check_section, files_by_name, missing_layout, pair_by_name
from afma_med.data.dataset_reader import SECTIONS, Item
from afma_med.data.folds import fold_names
from afma_med.data.label_pixels import read_mask

__all__ = ["CLASSES", "LAYOUT", "lesion_slices_datalist", "read_label"]

#: Background and lesion; in mask files 0 and 255.
CLASSES = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (213, 94, 0)))

LAYOUT = """\
    images/NAME.jpg                  or .png
    masks/NAME.png                   0 and 255: all lesions of the slice in one mask
Names are taken in the order of the numbers in them, and cut into five folds of names that follow each other, since
neighbouring slices are often of one patient. The test section is the fold of the id `fold`, 0 to 4; the val section,
an eighth of all slices, does not border on it; the train section is the rest. Other files are not read."""


def lesion_slices_datalist(root: str | os.PathLike[str], section: str, *, fold: int = 0) -> list[dict[str, str]]:
    """List the slices of a section with their masks.

    Args:
        root: folder of ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.
        fold: which fifth of the slices is the test section, 0 to 4.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names as text.

    Raises:
        ValueError: if the section or the fold is unknown, or there are fewer than five slices.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable or of another size than its partner.

    Example:
        >>> lesion_slices_datalist("no/such/folder", "train", fold=1)
        Traceback (most recent call last):
        FileNotFoundError: `no/such/folder` must hold Lesion slices; no such folder. Pass the folder that holds ...
    """
    check_section(section, SECTIONS)
    folder = Path(root)
    image_dir, label_dir = folder / "images", folder / "masks"
    for needed in (image_dir, label_dir):
        if not needed.is_dir():
            raise missing_layout("Lesion slices", folder, needed, LAYOUT)
    images = files_by_name(image_dir.iterdir(), PICTURES)
    labels = files_by_name(label_dir.iterdir(), (".png",))
    wanted = fold_names(images.keys() | labels.keys(), section, fold=fold)
    return pair_by_name(images, labels, keep=wanted.__contains__, image_dir=image_dir, label_dir=label_dir)


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the mask of an item, thresholded at half, as (H,W) train ids."""
    return read_mask(item["label"])
