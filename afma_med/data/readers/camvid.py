"""CamVid: street scenes, 701 images, 11 classes and unlabelled.

Reference:
    Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video: A High-Definition Ground Truth Database, PRL 2009.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import dataset_folders, pair_files
from afma_med.data.dataset_reader import Item
from afma_med.data.files import as_one_form
from afma_med.data.label_pixels import read_coded_label
from afma_med.data.picture_reader import build_picture_reader
from afma_med.data.splits import read_split_files

__all__ = ["CAMVID", "CLASSES", "ORIGINAL_CLASSES"]

#: The 12 classes of the common layout; small and large as the paper groups them.
CLASSES = (
    ClassInfo("sky", 0, 0, (128, 128, 128), "large"),
    ClassInfo("building", 1, 1, (128, 0, 0), "large"),
    ClassInfo("pole", 2, 2, (192, 192, 128), "small"),
    ClassInfo("road", 3, 3, (128, 64, 128), "large"),
    ClassInfo("pavement", 4, 4, (60, 40, 222), "large"),
    ClassInfo("tree", 5, 5, (128, 128, 0), "large"),
    ClassInfo("signsymbol", 6, 6, (192, 128, 128), "small"),
    ClassInfo("fence", 7, 7, (64, 64, 128), "large"),
    ClassInfo("car", 8, 8, (64, 0, 128), "large"),
    ClassInfo("pedestrian", 9, 9, (64, 64, 0), "small"),
    ClassInfo("bicyclist", 10, 10, (0, 128, 192), "small"),
    ClassInfo("unlabelled", 11, 11, (0, 0, 0)),
)

# Colours of the 32 classes of the original release, by the class that SegNet merged them to.
_ORIGINAL_COLORS = {
    # Sky
    "sky": ((128, 128, 128),),
    # Archway, Bridge, Building, Tunnel, Wall
    "building": ((192, 0, 128), (0, 128, 64), (128, 0, 0), (64, 0, 64), (64, 192, 0)),
    # Column_Pole, TrafficCone
    "pole": ((192, 192, 128), (0, 0, 64)),
    # LaneMkgsDriv, LaneMkgsNonDriv, Road
    "road": ((128, 0, 192), (192, 0, 64), (128, 64, 128)),
    # ParkingBlock, RoadShoulder, Sidewalk
    "pavement": ((64, 192, 128), (128, 128, 192), (0, 0, 192)),
    # Tree, VegetationMisc
    "tree": ((128, 128, 0), (192, 192, 0)),
    # Misc_Text, SignSymbol, TrafficLight
    "signsymbol": ((128, 128, 64), (192, 128, 128), (0, 64, 64)),
    # Fence
    "fence": ((64, 64, 128),),
    # Car, OtherMoving, SUVPickupTruck, Train, Truck_Bus
    "car": ((64, 0, 128), (128, 64, 64), (64, 128, 192), (192, 64, 128), (192, 128, 192)),
    # Animal, CartLuggagePram, Child, Pedestrian
    "pedestrian": ((64, 128, 64), (64, 0, 192), (192, 128, 64), (64, 64, 0)),
    # Bicyclist, MotorcycleScooter
    "bicyclist": ((0, 128, 192), (192, 0, 192)),
    # Void
    "unlabelled": ((0, 0, 0),),
}
#: The classes with the colours of the original release.
ORIGINAL_CLASSES = tuple(info._replace(color=color) for info in CLASSES for color in _ORIGINAL_COLORS[info.name])

LAYOUT = """\
the common layout (pictures of any format; labels without loss, such as PNG, with values 0..11):
    train/NAME.png  trainannot/NAME.png
    val/NAME.png    valannot/NAME.png
    test/NAME.png   testannot/NAME.png
or the original release (labels coded in colours):
    701_StillsRaw_full/NAME.png
    LabeledApproved_full/NAME_L.png
    train.txt val.txt test.txt   optional, one NAME a line; otherwise the published 367/101/233 split is used"""

_ORIGINAL_IMAGES, _ORIGINAL_LABELS = "701_StillsRaw_full", "LabeledApproved_full"


def _datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    original = Path(root, _ORIGINAL_IMAGES).is_dir()
    needed = (_ORIGINAL_IMAGES, _ORIGINAL_LABELS) if original else (section, f"{section}annot")
    image_dir, label_dir = dataset_folders("CamVid", root, section, needed, layout=LAYOUT)
    if not original:
        return pair_files(image_dir, label_dir)
    known = {as_one_form(path.stem) for path in image_dir.iterdir()}
    split = read_split_files(Path(root), known)
    published = {name for name in known if _published_section(name) == section}
    names = split.names.get(section, published.difference(*split.names.values()))
    problems = [split.missing(section, known)]
    return pair_files(image_dir, label_dir, label_suffix="_L", names=names, problems=problems)


def _read_label(item: Item) -> NDArray[np.uint8]:
    """Read a label of either layout."""
    return read_coded_label(item["label"], CLASSES, color_classes=ORIGINAL_CLASSES)


def _published_section(name: str) -> str:
    """Return the section of the published split for a name, which is sequence and frame number."""
    sequence, _, frame = name.partition("_")
    number = int("".join(filter(str.isdigit, frame)) or -1)
    if sequence == "0016E5":
        return "val" if 7959 <= number <= 8159 else "train"
    if sequence == "0001TP":
        return "train" if number <= 8520 else "test"
    return {"0006R0": "train", "Seq05VD": "test"}.get(sequence, "")


CAMVID = build_picture_reader(
    "camvid",
    "CamVid",
    CLASSES,
    _datalist,
    read_label=_read_label,
    unscored=("unlabelled",),
    # The label of a bicycle without a rider is car (Sec. 4.8).
    combined_classes=MappingProxyType({"bicyclist": ("pedestrian", "car")}),
    layout=LAYOUT,
)
