"""Cityscapes: street scenes of 50 cities, 5,000 finely annotated images, 19 classes.

Reference:
    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import VOID, ClassInfo
from afma_med.data.datalist import dataset_folders, pair_by_name, picture_files
from afma_med.data.dataset_reader import Item
from afma_med.data.label_pixels import read_coded_label
from afma_med.data.picture_reader import build_picture_reader

__all__ = ["CITYSCAPES", "CLASSES"]

#: The official table: ids of the label files, train ids, colours; small and large as the paper groups them.
CLASSES = (
    ClassInfo("unlabeled", 0, VOID, (0, 0, 0)),
    ClassInfo("ego vehicle", 1, VOID, (0, 0, 0)),
    ClassInfo("rectification border", 2, VOID, (0, 0, 0)),
    ClassInfo("out of roi", 3, VOID, (0, 0, 0)),
    ClassInfo("static", 4, VOID, (0, 0, 0)),
    ClassInfo("dynamic", 5, VOID, (111, 74, 0)),
    ClassInfo("ground", 6, VOID, (81, 0, 81)),
    ClassInfo("road", 7, 0, (128, 64, 128), "large"),
    ClassInfo("sidewalk", 8, 1, (244, 35, 232), "large"),
    ClassInfo("parking", 9, VOID, (250, 170, 160)),
    ClassInfo("rail track", 10, VOID, (230, 150, 140)),
    ClassInfo("building", 11, 2, (70, 70, 70), "large"),
    ClassInfo("wall", 12, 3, (102, 102, 156), "large"),
    ClassInfo("fence", 13, 4, (190, 153, 153), "large"),
    ClassInfo("guard rail", 14, VOID, (180, 165, 180)),
    ClassInfo("bridge", 15, VOID, (150, 100, 100)),
    ClassInfo("tunnel", 16, VOID, (150, 120, 90)),
    ClassInfo("pole", 17, 5, (153, 153, 153), "small"),
    ClassInfo("polegroup", 18, VOID, (153, 153, 153)),
    ClassInfo("traffic light", 19, 6, (250, 170, 30), "small"),
    ClassInfo("traffic sign", 20, 7, (220, 220, 0), "small"),
    ClassInfo("vegetation", 21, 8, (107, 142, 35), "large"),
    ClassInfo("terrain", 22, 9, (152, 251, 152), "large"),
    ClassInfo("sky", 23, 10, (70, 130, 180), "large"),
    ClassInfo("person", 24, 11, (220, 20, 60), "small"),
    ClassInfo("rider", 25, 12, (255, 0, 0), "small"),
    ClassInfo("car", 26, 13, (0, 0, 142), "large"),
    ClassInfo("truck", 27, 14, (0, 0, 70), "large"),
    ClassInfo("bus", 28, 15, (0, 60, 100), "large"),
    ClassInfo("caravan", 29, VOID, (0, 0, 90)),
    ClassInfo("trailer", 30, VOID, (0, 0, 110)),
    ClassInfo("train", 31, 16, (0, 80, 100), "large"),
    ClassInfo("motorcycle", 32, 17, (0, 0, 230), "small"),
    ClassInfo("bicycle", 33, 18, (119, 11, 32), "small"),
)

#: The same classes for label files that hold train ids.
TRAIN_ID_CLASSES = tuple(info._replace(raw_id=info.train_id) for info in CLASSES if info.train_id != VOID)

LAYOUT = """\
the official folders:
    leftImg8bit/SECTION/CITY/CITY_SEQ_FRAME_leftImg8bit.png  or a JPEG or other picture
    gtFine/SECTION/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png   or _gtFine_labelTrainIds.png
with SECTION train, val and test; labels of test are withheld and not read"""

_IMAGE_SUFFIX, _LABEL_SUFFIX, _TRAIN_ID_SUFFIX = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds"
# Other files of the official folders.
_KNOWN = tuple(f"_gtFine_{kind}" for kind in ("polygons.json", "color.png", "instanceIds.png", "instanceTrainIds.png"))
_KNOWN += tuple(f"{suffix}.png" for suffix in (_LABEL_SUFFIX, _TRAIN_ID_SUFFIX))


def _datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    needed = [f"leftImg8bit/{section}", f"gtFine/{section}"][: 1 if section == "test" else 2]
    image_dir, *label_dirs = dataset_folders("Cityscapes", root, section, needed, layout=LAYOUT)
    images = picture_files(image_dir.glob("*/*"), name_suffix=_IMAGE_SUFFIX)
    if not label_dirs:
        return pair_by_name(images, None, image_dir=image_dir)
    paths = list(label_dirs[0].glob("*/*"))
    labels = picture_files(paths, name_suffix=_LABEL_SUFFIX, known=_KNOWN)
    if not labels:
        labels = picture_files(paths, name_suffix=_TRAIN_ID_SUFFIX, known=_KNOWN)
    return pair_by_name(images, labels, image_dir=image_dir, label_dir=label_dirs[0])


def _read_label(item: Item) -> NDArray[np.uint8]:
    """Read a label of ids or of train ids, by its name."""
    by_train_id = Path(item["label"]).stem.endswith(_TRAIN_ID_SUFFIX)
    return read_coded_label(item["label"], TRAIN_ID_CLASSES if by_train_id else CLASSES)


CITYSCAPES = build_picture_reader(
    "cityscapes",
    "Cityscapes",
    CLASSES,
    _datalist,
    read_label=_read_label,
    combined_classes=MappingProxyType({"rider": ("person", "bicycle", "motorcycle")}),
    layout=LAYOUT,
)
