"""CUB: the Caltech-UCSD birds of 2010 and 2011, one bird an image.

References:
    Wah et al.: The Caltech-UCSD Birds-200-2011 Dataset, CNS-TR-2011-001.
    Welinder et al.: Caltech-UCSD Birds 200, CNS-TR-2010-001.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import DatasetError, check_section, files_by_name, missing_layout, pair_by_name
from afma_med.data.dataset_reader import SECTIONS, Item
from afma_med.data.label_pixels import read_mask
from afma_med.data.splits import refuse_shared_names, split_names, unlisted

__all__ = ["CLASSES", "LAYOUT", "cub_datalist", "read_label"]

#: Ground and bird; in mask files 0 and 255.
CLASSES = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("bird", 255, 1, (86, 180, 233)))

LAYOUT = """\
the folders of CUB-200-2011 with its segmentations unpacked beside them:
    images/NNN.Species/NAME.jpg
    segmentations/NNN.Species/NAME.png
    images.txt train_test_split.txt        official split of 2011: "ID PATH" and "ID 1 or 0" a line
    lists/train.txt lists/test.txt         that of 2010: "NNN.Species/NAME.jpg" a line
Without either pair of files, 20 % of the images are the test section. A tenth of the training images is the val
section, which CUB has not; both choices are always the same."""


def cub_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section of CUB with their masks.

    Args:
        root: folder that holds ``images`` and ``segmentations``, see ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the species and names.

    Raises:
        ValueError: if the section is unknown, or a split file cannot be understood.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable or of another size than its partner, and every
            name of the split without an image.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.single_objects import write_birds
        >>> root = write_birds(tempfile.mkdtemp() + "/birds", counts={"train": 10, "test": 2})
        >>> [len(cub_datalist(root, section)) for section in ("train", "val", "test")]
        [9, 1, 2]
    """
    check_section(section, SECTIONS)
    image_dir, label_dir = Path(root, "images"), Path(root, "segmentations")
    for folder in (image_dir, label_dir):
        if not folder.is_dir():
            raise missing_layout("CUB", Path(root), folder, LAYOUT)
    # Names are unique in their folder, so they are taken with it.
    images = _by_relative_name(image_dir, (".jpg", ".jpeg", ".png"))
    labels = _by_relative_name(label_dir, (".png",))
    split_file, training, testing = _official_split(Path(root), images.keys())
    val = split_names(training, "val")
    # A mask that no split names and that has no image belongs to some section, or nobody would hear of it.
    strays = labels.keys() - images.keys() - training - testing
    wanted = {"train": (training - val) | strays, "val": val, "test": testing}[section]
    problems: list[str] = []
    try:
        pairs = pair_by_name(images, labels, keep=wanted.__contains__, image_dir=image_dir, label_dir=label_dir)
    except DatasetError as error:
        pairs, problems = error.items, error.problems
    problems += filter(None, [unlisted(split_file, wanted - strays, images)])
    if problems:
        raise DatasetError(problems, pairs)
    return pairs


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the mask of an item, bird where at least half of the annotators say so, as (H,W) train ids."""
    return read_mask(item["label"])


def _by_relative_name(folder: Path, suffixes: tuple[str, ...]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for species in sorted(path for path in folder.iterdir() if path.is_dir()):
        for name, paths in files_by_name(species.iterdir(), suffixes).items():
            found[f"{species.name}/{name}"] = paths
    return found


def _official_split(root: Path, names: Iterable[str]) -> tuple[Path, set[str], set[str]]:
    """The file that says so, and the names of training and test images."""
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
            sides[is_training[image_id]].add(str(Path(path).with_suffix("")))
        return listing, sides["1"], sides["0"]
    train, test = root / "lists" / "train.txt", root / "lists" / "test.txt"
    if train.is_file() and test.is_file():
        listed = [
            {str(Path(line).with_suffix("")) for line in file.read_text(encoding="utf-8").split()}
            for file in (train, test)
        ]
        refuse_shared_names({"train": listed[0], "test": listed[1]}, train.parent)
        return train, listed[0], listed[1]
    testing = split_names(names, "test")
    return root / "images", set(names) - testing, testing


def _read_columns(path: Path) -> dict[str, str]:
    """First and second column of a text file."""
    lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    if any(len(line) != 2 for line in lines):
        raise ValueError(f"`{path}` must have two columns in every line. Replace it by the dataset's own.")
    return {line[0]: line[1] for line in lines}
