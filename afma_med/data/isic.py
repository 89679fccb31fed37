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

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import check_section, pair_by_name, picture_files, unlabelled_items
from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.problems import missing_layout
from afma_med.data.splits import split_names

__all__ = ["CLASSES", "LAYOUT", "isic_datalist"]

#: Skin and lesion; in mask files 0 and 255.
CLASSES = (ClassInfo("skin", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (230, 159, 0)))

LAYOUT = """\
one of
    ISIC2018_Task1-2_Training_Input/ISIC_N.jpg           ISIC2018_Task1_Training_GroundTruth/ISIC_N_segmentation.png
    ISIC-2017_Training_Data/ISIC_N.jpg                   ISIC-2017_Training_Part1_GroundTruth/ISIC_N_segmentation.png
    train/images/NAME.jpg                                train/masks/NAME.png   (also NAME_segmentation, NAME_mask)
    trainx/imgxN.jpg                                     trainy/imgyN.jpg
    images/NAME.jpg                                      masks/NAME.png
with Validation and Test (Test_v2 in 2017), val (or validation) and test in the place of Training and train. Images and
masks may be pictures of any format. Without a folder for val and test, 10 % and 20 % of the training images are split
off, always the same ones."""

# Texts among the images of the challenges.
_KNOWN = ("_metadata.csv", "ATTRIBUTION.txt", "LICENSE.txt")


class _Folders(NamedTuple):
    """Folders of a section in one layout, and the beginnings of the names."""

    image_dir: str
    label_dir: str
    image_prefix: str = ""
    label_prefix: str = ""


def isic_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section of ISIC with their masks, as :func:`~afma_med.data.camvid_datalist` does.

    Items have no labels where a section has a folder of images and none of masks.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.single_objects import write_lesions
        >>> root = write_lesions(tempfile.mkdtemp() + "/lesions", counts={"train": 2, "val": 1, "test": 1})
        >>> len(isic_datalist(root, "train"))
        2
    """
    check_section(section)
    folder = Path(root)
    for layout in (_challenge_2018, _challenge_2017, _plain, _joined):
        own = {name: found for name in SECTIONS if (found := _existing(folder, layout(name)))}
        if "train" in own:
            return _list_section(folder, own, section)
    if _existing(folder, iter([flat := _Folders("images", "masks")])):
        return _list_section(folder, {"train": flat}, section)
    first = next(_challenge_2018("train")).image_dir
    raise missing_layout("ISIC", folder, folder / first, LAYOUT)


def _list_section(root: Path, own: Mapping[str, _Folders], section: str) -> list[dict[str, str]]:
    """List the section of its own folder, or its share of the training folder."""
    folders = own.get(section, own["train"])
    image_dir, label_dir = root / folders.image_dir, root / folders.label_dir
    images = picture_files(image_dir.iterdir(), name_prefix=folders.image_prefix, known=_KNOWN)
    # ISIC 2017 keeps pictures of superpixels among its images.
    images = {name: paths for name, paths in images.items() if not name.endswith("_superpixels")}
    if not label_dir.is_dir():
        return unlabelled_items(images, image_dir)
    labels: dict[str, list[Path]] = {}
    for name, paths in picture_files(label_dir.iterdir(), name_prefix=folders.label_prefix).items():
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
