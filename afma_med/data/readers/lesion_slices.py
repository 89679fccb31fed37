"""Slices with several lesions each, such as CT of lungs, in plain folders, for cross-validation in five folds."""

from __future__ import annotations

import os
from functools import partial

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.picture_reader import build_picture_reader
from afma_med.data.splits import check_fold, fold_names

__all__ = ["LESION_SLICES", "build_lesion_slices"]

LAYOUT = """\
    images/NAME.jpg                  or another format
    masks/NAME.png                   0 and 255, or a number each: all lesions of the slice in one mask
Names are taken in the order of the numbers in them, and cut into five folds of names that follow each other, since
neighbouring slices are often of one patient. The test section is the fold of the id `fold`, 0 to 4; the val section,
an eighth of all slices, does not border on it; the train section is the rest. Other files are not read."""


def build_lesion_slices(fold: int = 0) -> DatasetReader:
    """Return the reader of lesion slices whose test section is one of five folds.

    Args:
        fold: 0 to 4.

    Raises:
        ValueError: if there is no such fold.

    Example:
        >>> build_lesion_slices(4).name
        'lesion_slices'
    """
    check_fold(fold)
    classes = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (213, 94, 0)))
    return build_picture_reader("lesion_slices", "Lesion slices", classes, partial(_datalist, fold=fold), layout=LAYOUT)


def _datalist(root: str | os.PathLike[str], section: str, *, fold: int) -> list[dict[str, str]]:
    image_dir, label_dir = dataset_folders("Lesion slices", root, section, ("images", "masks"), layout=LAYOUT)
    images, labels = picture_files(image_dir.iterdir()), picture_files(label_dir.iterdir())
    wanted = fold_names(images.keys() | labels.keys(), section, fold=fold)
    return pair_by_name(images, labels, names=wanted, image_dir=image_dir, label_dir=label_dir)


LESION_SLICES = build_lesion_slices()
