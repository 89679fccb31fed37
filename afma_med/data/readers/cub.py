"""CUB: the Caltech-UCSD birds of 2010 and 2011, one bird an image.

References:
    Wah et al.: The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.
    Welinder et al.: Caltech-UCSD Birds 200, CNS-TR-2010-001.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.files import as_one_form
from afma_med.data.picture_reader import build_picture_reader
from afma_med.data.problems import list_files
from afma_med.data.splits import read_lines, refuse_shared_names, split_names

__all__ = ["CUB"]

LAYOUT = """\
the folders of CUB-200-2011 with its segmentations unpacked next to them:
    images/NNN.Species/NAME.jpg
    segmentations/NNN.Species/NAME.png
    images.txt train_test_split.txt        official split of 2011: "ID PATH" and "ID 1 or 0" a line
    lists/train.txt lists/test.txt         that of 2010: "NNN.Species/NAME.jpg" a line
Without either pair of files, 20 % of the images are the test section. A tenth of the training images is the val
section, because CUB has none; both choices are always the same."""


def _datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    image_dir, label_dir = dataset_folders("CUB", root, section, ("images", "segmentations"), layout=LAYOUT)
    images, labels = _by_relative_name(image_dir), _by_relative_name(label_dir)
    split_file, training, testing = _official_split(Path(root), images.keys())
    val = split_names(training, "val")
    # The training section reports masks that have no image and are in no split.
    strays = labels.keys() - images.keys() - training - testing
    wanted = {"train": (training - val) | strays, "val": val, "test": testing}[section]
    problems = [list_files(f"names of `{split_file}` without an image", wanted - strays - images.keys())]
    return pair_by_name(images, labels, names=wanted, image_dir=image_dir, label_dir=label_dir, problems=problems)


def _by_relative_name(folder: Path) -> dict[str, list[Path]]:
    """Group pictures by name with the folder of their species, within which names are unique."""
    found: dict[str, list[Path]] = {}
    for species in sorted(path for path in folder.iterdir() if path.is_dir()):
        for name, paths in picture_files(species.iterdir()).items():
            found.setdefault(f"{as_one_form(species.name)}/{name}", []).extend(paths)
    return found


def _official_split(root: Path, names: Iterable[str]) -> tuple[Path, set[str], set[str]]:
    """Return the file of the split, and the names of training and test images."""
    listing, flags = root / "images.txt", root / "train_test_split.txt"
    if listing.is_file() and flags.is_file():
        paths, is_training = _read_columns(listing), _read_columns(flags)
        if paths.keys() != is_training.keys() or not set(is_training.values()) <= {"0", "1"}:
            raise ValueError(
                f"`{flags}` must say 1 (training) or 0 (test) for every id of `{listing}`; got "
                f"{len(is_training)} lines for {len(paths)} ids, or other ids and values. "
                "Replace both by the dataset's own."
            )
        sides: dict[str, set[str]] = {"1": set(), "0": set()}
        for image_id, path in paths.items():
            sides[is_training[image_id]].add(_plain_name(path))
        return listing, sides["1"], sides["0"]
    train, test = root / "lists" / "train.txt", root / "lists" / "test.txt"
    if train.is_file() and test.is_file():
        listed = [{_plain_name(_columns(line)[0]) for _, line in read_lines(file)} for file in (train, test)]
        refuse_shared_names({"train": listed[0], "test": listed[1]}, train.parent)
        return train, listed[0], listed[1]
    testing = split_names(names, "test")
    return root / "images", set(names) - testing, testing


def _read_columns(file: Path) -> dict[str, str]:
    """Return the second column of a text file by the first one."""
    rows = {}
    for number, line in read_lines(file):
        columns = _columns(line)
        if len(columns) != 2:
            raise ValueError(
                f"`{file}` must have two columns in every line; line {number} is {line!r}. "
                "Replace it by the dataset's own."
            )
        rows[columns[0]] = columns[1]
    return rows


def _columns(line: str) -> list[str]:
    """Split a line at spaces, tabs, commas and semicolons, and take quotes away."""
    return [word.strip("\"'") for word in re.split(r"[\s,;]+", line) if word]


def _plain_name(path: str) -> str:
    """Return species and name of an image, without suffix."""
    return "/".join(PurePosixPath(as_one_form(path).replace("\\", "/")).with_suffix("").parts[-2:])


CUB = build_picture_reader(
    "cub",
    "CUB",
    (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("bird", 255, 1, (86, 180, 233))),
    _datalist,
    layout=LAYOUT,
)
