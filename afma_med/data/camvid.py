"""CamVid: street scenes, 701 images, 11 classes and unlabelled.

Reference:
    Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video: A High-Definition Ground Truth Database, PRL 2009.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import ClassInfo
from afma_med.data.datalist import check_section, dataset_folders, pair_files
from afma_med.data.dataset_reader import Item
from afma_med.data.file_names import as_one_form
from afma_med.data.label_pixels import read_coded_label
from afma_med.data.splits import find_split_file, read_split_files, unlisted

__all__ = ["CLASSES", "LAYOUT", "ORIGINAL_CLASSES", "camvid_datalist", "read_label"]

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

#: The 32 colour-coded classes of the original release, merged to the 12 as SegNet did.
ORIGINAL_CLASSES = (
    ClassInfo("Animal", 0, 9, (64, 128, 64), "small"),
    ClassInfo("Archway", 1, 1, (192, 0, 128), "large"),
    ClassInfo("Bicyclist", 2, 10, (0, 128, 192), "small"),
    ClassInfo("Bridge", 3, 1, (0, 128, 64), "large"),
    ClassInfo("Building", 4, 1, (128, 0, 0), "large"),
    ClassInfo("Car", 5, 8, (64, 0, 128), "large"),
    ClassInfo("CartLuggagePram", 6, 9, (64, 0, 192), "small"),
    ClassInfo("Child", 7, 9, (192, 128, 64), "small"),
    ClassInfo("Column_Pole", 8, 2, (192, 192, 128), "small"),
    ClassInfo("Fence", 9, 7, (64, 64, 128), "large"),
    ClassInfo("LaneMkgsDriv", 10, 3, (128, 0, 192), "large"),
    ClassInfo("LaneMkgsNonDriv", 11, 3, (192, 0, 64), "large"),
    ClassInfo("Misc_Text", 12, 6, (128, 128, 64), "small"),
    ClassInfo("MotorcycleScooter", 13, 10, (192, 0, 192), "small"),
    ClassInfo("OtherMoving", 14, 8, (128, 64, 64), "large"),
    ClassInfo("ParkingBlock", 15, 4, (64, 192, 128), "large"),
    ClassInfo("Pedestrian", 16, 9, (64, 64, 0), "small"),
    ClassInfo("Road", 17, 3, (128, 64, 128), "large"),
    ClassInfo("RoadShoulder", 18, 4, (128, 128, 192), "large"),
    ClassInfo("Sidewalk", 19, 4, (0, 0, 192), "large"),
    ClassInfo("SignSymbol", 20, 6, (192, 128, 128), "small"),
    ClassInfo("Sky", 21, 0, (128, 128, 128), "large"),
    ClassInfo("SUVPickupTruck", 22, 8, (64, 128, 192), "large"),
    ClassInfo("TrafficCone", 23, 2, (0, 0, 64), "small"),
    ClassInfo("TrafficLight", 24, 6, (0, 64, 64), "small"),
    ClassInfo("Train", 25, 8, (192, 64, 128), "large"),
    ClassInfo("Tree", 26, 5, (128, 128, 0), "large"),
    ClassInfo("Truck_Bus", 27, 8, (192, 128, 192), "large"),
    ClassInfo("Tunnel", 28, 1, (64, 0, 64), "large"),
    ClassInfo("VegetationMisc", 29, 5, (192, 192, 0), "large"),
    ClassInfo("Void", 30, 11, (0, 0, 0)),
    ClassInfo("Wall", 31, 1, (64, 192, 0), "large"),
)

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


def camvid_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section of CamVid with their labels.

    Args:
        root: folder that holds the common layout or the original release, see ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        ValueError: if the section is unknown.
        DatasetError: naming every file that is unpaired, unreadable or of another size than its partner.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.street_scenes import write_street_scenes
        >>> root = write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2, "val": 1, "test": 1})
        >>> len(camvid_datalist(root, "train"))
        2
    """
    check_section(section)
    if Path(root, _ORIGINAL_IMAGES).is_dir():
        return _original_datalist(Path(root), section)
    folders = dataset_folders("CamVid", root, section, (section, f"{section}annot"), layout=LAYOUT)
    return pair_files(*folders)


def _original_datalist(root: Path, section: str) -> list[dict[str, str]]:
    needed = (_ORIGINAL_IMAGES, _ORIGINAL_LABELS)
    image_dir, label_dir = dataset_folders("CamVid", root, section, needed, layout=LAYOUT)
    known = {as_one_form(path.stem) for path in image_dir.iterdir()}
    listed = read_split_files(root, known)
    published = {name for name in known if _published_section(name) == section}
    wanted = listed.get(section, published.difference(*listed.values()))
    problems = [unlisted(find_split_file(root, section), wanted, known)] if section in listed else []
    keep = wanted.__contains__
    return pair_files(image_dir, label_dir, label_suffix="_L", keep=keep, problems=problems)


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the label of an item, of either layout, as (H,W) train ids."""
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
