"""Nuclei in microscopy: the images of BBBC038, the Data Science Bowl of 2018, with one mask of all nuclei each.

Reference:
    Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods 2019.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.problems import list_files
from afma_med.data.splits import find_split_file, read_split_files, section_names, unlisted

__all__ = ["CLASSES", "LAYOUT", "nuclei_datalist"]

#: Background and nucleus; in mask files usually 0 and 255.
CLASSES = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("nucleus", 255, 1, (0, 158, 115)))

LAYOUT = """\
    images/NAME.png                  grey, RGB or RGBA
    masks/NAME.png                   0 and 255, or a number each: all nuclei of the image in one mask
    train.txt val.txt test.txt       a name a line
Without the text files the images are split 70/10/20, always the same way; sections without a file share what the
others do not list. With all three, every image must be in one of them. Other folders (instances) are not read."""


def nuclei_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section with their masks, as :func:`~afma_med.data.camvid_datalist` does.

    With all three split files, the training section reports images and masks that none of them lists as an error,
    because such files are more likely forgotten than left out on purpose. To train on a part of the images, move the
    others out of the folder.

    Raises:
        ValueError: if the section is unknown, or fewer than three images are to be split.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that does not pair, cannot be used or is in no split file, every name of the
            split files without an image, and split files that are empty or share names.

    Example:
        >>> nuclei_datalist("no/such/folder", "train")
        Traceback (most recent call last):
        FileNotFoundError: `no/such/folder` must hold Nuclei; no such folder. Pass the folder that holds ...
    """
    image_dir, label_dir = dataset_folders("Nuclei", root, section, ("images", "masks"), layout=LAYOUT)
    images, labels = picture_files(image_dir.iterdir()), picture_files(label_dir.iterdir())
    listed = read_split_files(Path(root), images.keys() | labels.keys())
    wanted = section_names(images.keys() | labels.keys(), section, listed)
    problems = [unlisted(find_split_file(Path(root), section), wanted, images)] if section in listed else []
    if section == "train":
        problems.append(_strays(Path(root), listed, images, labels))
    keep = wanted.__contains__
    return pair_by_name(images, labels, keep=keep, image_dir=image_dir, label_dir=label_dir, problems=problems)


def _strays(root: Path, listed: Mapping[str, set[str]], *kinds: Mapping[str, list[Path]]) -> str:
    """Return the files that no split file lists, as a problem, if there are all three split files."""
    if len(listed) < len(SECTIONS):
        return ""
    known = set().union(*listed.values())
    strays = [path for files in kinds for name, paths in files.items() if name not in known for path in paths]
    return list_files(f"files that no split file in `{root}` lists", strays)
