"""Slices with several lesions each, such as CT of lungs, in plain folders, for cross-validation in five folds."""

from __future__ import annotations

import os

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.folds import fold_names

__all__ = ["CLASSES", "LAYOUT", "lesion_slices_datalist"]

#: Background and lesion; in mask files 0 and 255.
CLASSES = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (213, 94, 0)))

LAYOUT = """\
    images/NAME.jpg                  or another format
    masks/NAME.png                   0 and 255, or a number each: all lesions of the slice in one mask
Names are taken in the order of the numbers in them, and cut into five folds of names that follow each other, since
neighbouring slices are often of one patient. The test section is the fold of the id `fold`, 0 to 4; the val section,
an eighth of all slices, does not border on it; the train section is the rest. Other files are not read."""


def lesion_slices_datalist(root: str | os.PathLike[str], section: str, *, fold: int = 0) -> list[dict[str, str]]:
    """List the slices of a section with their masks, as :func:`~afma_med.data.camvid_datalist` does.

    Args:
        root: folder of ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.
        fold: which fifth of the slices is the test section, 0 to 4.

    Raises:
        ValueError: if the section or the fold is unknown, or there are fewer than five slices.

    Example:
        >>> lesion_slices_datalist("no/such/folder", "train", fold=1)
        Traceback (most recent call last):
        FileNotFoundError: `no/such/folder` must hold Lesion slices; no such folder. Pass the folder that holds ...
    """
    image_dir, label_dir = dataset_folders("Lesion slices", root, section, ("images", "masks"), layout=LAYOUT)
    images, labels = picture_files(image_dir.iterdir()), picture_files(label_dir.iterdir())
    wanted = fold_names(images.keys() | labels.keys(), section, fold=fold)
    return pair_by_name(images, labels, keep=wanted.__contains__, image_dir=image_dir, label_dir=label_dir)
