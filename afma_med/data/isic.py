"""ISIC skin lesions: dermoscopic images with one mask each, of the challenges of 2017 and 2018.

References:
    Codella et al.: Skin Lesion Analysis Toward Melanoma Detection, ISBI 2018.
    Codella et al.: Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import (
    PICTURES,
    check_section,
    files_by_name,
    missing_layout,
    pair_by_name,
    unlabelled_items,
)
from afma_med.data.dataset_reader import SECTIONS, Item
from afma_med.data.label_pixels import read_mask
from afma_med.data.splits import split_names

__all__ = ["CLASSES", "LAYOUT", "isic_datalist", "read_label"]

#: Skin and lesion; in mask files 0 and 255.
CLASSES = (ClassInfo("skin", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (230, 159, 0)))

LAYOUT = """\
one of
    ISIC2018_Task1-2_Training_Input/ISIC_N.jpg           ISIC2018_Task1_Training_GroundTruth/ISIC_N_segmentation.png
    ISIC-2017_Training_Data/ISIC_N.jpg                   ISIC-2017_Training_Part1_GroundTruth/ISIC_N_segmentation.png
    train/images/NAME.jpg                                train/masks/NAME.png   (also NAME_segmentation, NAME_mask)
    trainx/imgxN.jpg                                     trainy/imgyN.jpg
    images/NAME.jpg                                      masks/NAME.png
with Validation and Test (Test_v2 in 2017), val (or validation) and test in the place of Training and train. Masks may
be JPEG. Without a folder for val and test, 10 % and 20 % of the training images are split off, always the same ones."""


class _Folders(NamedTuple):
    """Where one layout keeps a section, and what its names begin and end with."""

    image_dir: str
    label_dir: str
    image_prefix: str = ""
    label_prefix: str = ""


def isic_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section of ISIC with their masks.

    Args:
        root: folder in one of the layouts of ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names; without labels where there is no folder
        of masks for a section that has a folder of images.

    Raises:
        ValueError: if the section is unknown.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable or of another size than its partner.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.single_objects import write_lesions
        >>> root = write_lesions(tempfile.mkdtemp() + "/lesions", counts={"train": 2, "val": 1, "test": 1})
        >>> len(isic_datalist(root, "train"))
        2
    """
    check_section(section, SECTIONS)
    folder = Path(root)
    for layout in (_challenge_2018, _challenge_2017, _plain, _joined):
        own = {name: found for name in SECTIONS if (found := _existing(folder, layout(name)))}
        if "train" in own:
            return _list_section(folder, own, section)
    if _existing(folder, iter([flat := _Folders("images", "masks")])):
        return _list_section(folder, {"train": flat}, section)
    first = next(_challenge_2018("train")).image_dir
    raise missing_layout("ISIC", folder, folder / first, LAYOUT)


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the mask of an item, thresholded at half, as (H,W) train ids."""
    return read_mask(item["label"])


def _list_section(root: Path, own: Mapping[str, _Folders], section: str) -> list[dict[str, str]]:
    """List a section out of its own folder, or its share of the training folder."""
    folders = own.get(section, own["train"])
    image_dir, label_dir = root / folders.image_dir, root / folders.label_dir
    images = files_by_name(image_dir.iterdir(), PICTURES, name_prefix=folders.image_prefix)
    # ISIC 2017 keeps pictures of superpixels among its images.
    images = {name: paths for name, paths in images.items() if not name.endswith("_superpixels")}
    if not label_dir.is_dir():
        return unlabelled_items(images, image_dir)
    labels: dict[str, list[Path]] = {}
    for name, paths in files_by_name(label_dir.iterdir(), PICTURES, name_prefix=folders.label_prefix).items():
        labels.setdefault(name.removesuffix("_segmentation").removesuffix("_mask"), []).extend(paths)
    split_off = [name for name in SECTIONS if name not in own]
    if section in own and (section != "train" or not split_off):
        return pair_by_name(images, labels, image_dir=image_dir, label_dir=label_dir)
    parts = {name: split_names(images.keys() | labels.keys(), name) for name in split_off}
    taken = set().union(*parts.values())
    keep = parts[section].__contains__ if section in parts else lambda name: name not in taken
    return pair_by_name(images, labels, keep=keep, image_dir=image_dir, label_dir=label_dir)


def _existing(root: Path, candidates: Iterator[_Folders]) -> _Folders | None:
    return next((folders for folders in candidates if (root / folders.image_dir).is_dir()), None)


def _challenge_2018(section: str) -> Iterator[_Folders]:
    part = {"train": "Training", "val": "Validation", "test": "Test"}[section]
    yield _Folders(f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth")


def _challenge_2017(section: str) -> Iterator[_Folders]:
    part = {"train": "Training", "val": "Validation", "test": "Test_v2"}[section]
    yield _Folders(f"ISIC-2017_{part}_Data", f"ISIC-2017_{part}_Part1_GroundTruth")


def _plain(section: str) -> Iterator[_Folders]:
    for name in (section, "validation") if section == "val" else (section,):
        yield _Folders(f"{name}/images", f"{name}/masks")


def _joined(section: str) -> Iterator[_Folders]:
    for name in (section, "validation") if section == "val" else (section,):
        yield _Folders(f"{name}x", f"{name}y", "imgx", "imgy")
