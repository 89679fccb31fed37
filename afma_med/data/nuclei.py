"""Nuclei in microscopy: the images of BBBC038, the Data Science Bowl of 2018, with one mask of all nuclei each.

Reference:
    Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import (
    PICTURES,
    DatasetError,
    check_section,
    files_by_name,
    list_files,
    missing_layout,
    pair_by_name,
)
from afma_med.data.dataset_reader import SECTIONS, Item
from afma_med.data.label_pixels import read_mask
from afma_med.data.splits import read_split_files, section_names, unlisted

__all__ = ["CLASSES", "LAYOUT", "nuclei_datalist", "read_label"]

#: Background and nucleus; in mask files 0 and 255.
CLASSES = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("nucleus", 255, 1, (0, 158, 115)))

LAYOUT = """\
    images/NAME.png                  grey, RGB or RGBA
    masks/NAME.png                   0 and 255: all nuclei of the image in one mask
    train.txt val.txt test.txt       a name a line, without .png
Without the text files the images are split 70/10/20, always the same way; sections without a file share what the
others do not list. With all three, every image must be in one of them. Other folders (instances) are not read."""


def nuclei_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section with their masks.

    With all three split files, images and masks that none of them lists are an error, reported with the training
    section: such files are more likely forgotten than left out on purpose. To train on a part of the images, move the
    others out of the folder.

    Args:
        root: folder of ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        ValueError: if the section is unknown, or fewer than three images are to be split.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable, of another size than its partner or in no split
            file, every name of the split files without an image, and split files that are empty or share names.

    Example:
        >>> nuclei_datalist("no/such/folder", "train")
        Traceback (most recent call last):
        FileNotFoundError: `no/such/folder` must hold Nuclei; no such folder. Pass the folder that holds ...
    """
    check_section(section, SECTIONS)
    folder = Path(root)
    image_dir, label_dir = folder / "images", folder / "masks"
    for needed in (image_dir, label_dir):
        if not needed.is_dir():
            raise missing_layout("Nuclei", folder, needed, LAYOUT)
    images = files_by_name(image_dir.iterdir(), PICTURES)
    labels = files_by_name(label_dir.iterdir(), (".png",))
    listed = read_split_files(folder)
    wanted = section_names(images.keys() | labels.keys(), section, listed)
    problems: list[str] = []
    try:
        pairs = pair_by_name(images, labels, keep=wanted.__contains__, image_dir=image_dir, label_dir=label_dir)
    except DatasetError as error:
        pairs, problems = error.items, error.problems
    problems += filter(None, [unlisted(folder / f"{section}.txt", wanted, images)] if section in listed else [])
    if section == "train":
        problems += filter(None, [_strays(folder, listed, images, labels)])
    if problems:
        raise DatasetError(problems, pairs)
    return pairs


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the mask of an item, thresholded at half, as (H,W) train ids."""
    return read_mask(item["label"])


def _strays(root: Path, listed: Mapping[str, set[str]], *kinds: Mapping[str, list[Path]]) -> str:
    """Say which files no split file lists; empty unless there are all of the split files."""
    if len(listed) < len(SECTIONS):
        return ""
    known = set().union(*listed.values())
    strays = [path for files in kinds for name, paths in files.items() if name not in known for path in paths]
    return list_files(f"files that no split file in `{root}` lists", strays)
