"""Nuclei in microscopy: the images of BBBC038, the Data Science Bowl of 2018, with one mask of all nuclei each.

Reference:
    Caicedo et al.: Nucleus segmentation across imaging experiments: the 2018 Data Science Bowl, Nature Methods 2019.
"""

from __future__ import annotations

import os
from pathlib import Path

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.picture_reader import build_picture_reader
from afma_med.data.problems import list_files
from afma_med.data.splits import read_split_files, section_names

__all__ = ["NUCLEI"]

LAYOUT = """\
    images/NAME.png                  grey, RGB or RGBA
    masks/NAME.png                   0 and 255, or a number each: all nuclei of the image in one mask
    train.txt val.txt test.txt       a name a line
Without the text files the images are split 70/10/20, always the same way; sections without a file share what the
others do not list. With all three, every image must be in one of them. Other folders (instances) are not read."""


def _datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    image_dir, label_dir = dataset_folders("Nuclei", root, section, ("images", "masks"), layout=LAYOUT)
    images, labels = picture_files(image_dir.iterdir()), picture_files(label_dir.iterdir())
    split = read_split_files(Path(root), images.keys() | labels.keys())
    names = section_names(images.keys() | labels.keys(), section, split.names)
    problems = [split.missing(section, images)]
    if section == "train" and len(split.names) == len(SECTIONS):
        # Files that all three split files leave out are more likely forgotten than left out on purpose.
        known = set().union(*split.names.values())
        strays = [path for files in (images, labels) for name in files if name not in known for path in files[name]]
        problems.append(list_files(f"files that no split file in `{root}` lists", strays))
    return pair_by_name(images, labels, names=names, image_dir=image_dir, label_dir=label_dir, problems=problems)


NUCLEI = build_picture_reader(
    "nuclei",
    "Nuclei",
    # In mask files usually 0 and 255.
    (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("nucleus", 255, 1, (0, 158, 115))),
    _datalist,
    layout=LAYOUT,
)
