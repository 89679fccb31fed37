"""ISIC skin lesions: dermoscopic images with one mask each, of the challenges of 2017 and 2018.

References:
    Codella et al.: Skin Lesion Analysis Toward Melanoma Detection, ISBI 2018.
    Codella et al.: Skin Lesion Analysis Toward Melanoma Detection 2018, arXiv:1902.03368.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import check_section, pair_by_name, picture_files
from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.picture_reader import build_picture_reader
from afma_med.data.problems import missing_layout
from afma_med.data.splits import section_names

__all__ = ["ISIC"]

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


class _Folders(NamedTuple):
    """Folders of a section in one layout, and the beginnings of the names."""

    image_dir: str
    label_dir: str
    image_prefix: str = ""
    label_prefix: str = ""


_SECTIONS_2018 = {"train": ("Training",), "val": ("Validation",), "test": ("Test",)}
_SECTIONS_2017 = _SECTIONS_2018 | {"test": ("Test_v2",)}
_PLAIN_SECTIONS = {"train": ("train",), "val": ("val", "validation"), "test": ("test",)}
# Folders with the section's name in place of {}, and the names of the sections.
_LAYOUTS = (
    (_Folders("ISIC2018_Task1-2_{}_Input", "ISIC2018_Task1_{}_GroundTruth"), _SECTIONS_2018),
    (_Folders("ISIC-2017_{}_Data", "ISIC-2017_{}_Part1_GroundTruth"), _SECTIONS_2017),
    (_Folders("{}/images", "{}/masks"), _PLAIN_SECTIONS),
    (_Folders("{}x", "{}y", "imgx", "imgy"), _PLAIN_SECTIONS),
    (_Folders("images", "masks"), {"train": ("",)}),
)
# Texts among the images of the challenges.
_KNOWN = ("_metadata.csv", "ATTRIBUTION.txt", "LICENSE.txt")


def _datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List a section's own folder, or its share of the training folder; without labels where masks are withheld."""
    check_section(section)
    own = _find_folders(Path(root))
    folders = own.get(section, own["train"])
    image_dir, label_dir = Path(root, folders.image_dir), Path(root, folders.label_dir)
    images = picture_files(image_dir.iterdir(), name_prefix=folders.image_prefix, known=_KNOWN)
    # ISIC 2017 keeps pictures of superpixels among its images.
    images = {name: paths for name, paths in images.items() if not name.endswith("_superpixels")}
    if not label_dir.is_dir():
        return pair_by_name(images, None, image_dir=image_dir)
    labels: dict[str, list[Path]] = {}
    for name, paths in picture_files(label_dir.iterdir(), name_prefix=folders.label_prefix).items():
        labels.setdefault(name.removesuffix("_segmentation").removesuffix("_mask"), []).extend(paths)
    names = None
    if folders is own["train"] and len(own) < len(SECTIONS):
        # Sections with folders of their own take nothing of the training folder.
        listed: Mapping[str, set[str]] = {name: set() for name in own if name != "train"}
        names = section_names(images.keys() | labels.keys(), section, listed)
    return pair_by_name(images, labels, names=names, image_dir=image_dir, label_dir=label_dir)


def _find_folders(root: Path) -> dict[str, _Folders]:
    """Return the folders of each section that has some, in the first layout with a training section."""
    for folders, names in _LAYOUTS:
        found = {}
        for section in SECTIONS:
            filled = (_Folders(*(part.format(name) for part in folders)) for name in names.get(section, ()))
            if existing := next((one for one in filled if (root / one.image_dir).is_dir()), None):
                found[section] = existing
        if "train" in found:
            return found
    raise missing_layout("ISIC", root, root / "ISIC2018_Task1-2_Training_Input", LAYOUT)


ISIC = build_picture_reader(
    "isic",
    "ISIC",
    (ClassInfo("skin", 0, 0, (0, 0, 0)), ClassInfo("lesion", 255, 1, (230, 159, 0))),
    _datalist,
    layout=LAYOUT,
)
