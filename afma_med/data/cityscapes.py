"""Cityscapes: street scenes of 50 cities, 5,000 finely annotated images, 19 classes.

Reference:
    Cordts et al.: The Cityscapes Dataset for Semantic Urban Scene Understanding, CVPR 2016.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import VOID, ClassInfo
from afma_med.data.datalist import check_section, files_by_name, missing_layout, pair_by_name, unlabelled_items
from afma_med.data.dataset_reader import SECTIONS, Item
from afma_med.data.label_pixels import read_coded_label

__all__ = ["CLASSES", "LAYOUT", "TRAIN_ID_CLASSES", "cityscapes_datalist", "read_label"]

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
    leftImg8bit/SECTION/CITY/CITY_SEQ_FRAME_leftImg8bit.png
    gtFine/SECTION/CITY/CITY_SEQ_FRAME_gtFine_labelIds.png   or _gtFine_labelTrainIds.png
with SECTION train, val and test; labels of test are withheld, and none are looked for"""

_IMAGE_SUFFIX, _LABEL_SUFFIX, _TRAIN_ID_SUFFIX = "_leftImg8bit", "_gtFine_labelIds", "_gtFine_labelTrainIds"


def cityscapes_datalist(root: str | os.PathLike[str], section: str) -> list[dict[str, str]]:
    """List the images of a section of Cityscapes with their labels.

    Args:
        root: folder that holds ``leftImg8bit`` and ``gtFine``, see ``LAYOUT``.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of cities and names; ``test`` without labels.

    Raises:
        ValueError: if the section is unknown.
        FileNotFoundError: if ``root`` or what it must hold is missing; the message shows the layout.
        DatasetError: naming every file that is unpaired, unreadable or of another size than its partner.

    Example:
        >>> import tempfile
        >>> from afma_med.samples.cityscapes_scenes import write_cityscapes_sample
        >>> root = write_cityscapes_sample(tempfile.mkdtemp() + "/sample", counts={"train": 2, "test": 1})
        >>> len(cityscapes_datalist(root, "train")), list(cityscapes_datalist(root, "test")[0])
        (2, ['image'])
    """
    check_section(section, SECTIONS)
    image_dir, label_dir = (Path(root, kind, section) for kind in ("leftImg8bit", "gtFine"))
    for folder in (image_dir, label_dir) if section != "test" else (image_dir,):
        if not folder.is_dir():
            raise missing_layout("Cityscapes", Path(root), folder, LAYOUT)
    images = files_by_name(image_dir.glob("*/*"), (".png",), name_suffix=_IMAGE_SUFFIX)
    if section == "test":
        return unlabelled_items(images, image_dir)
    labels = files_by_name(label_dir.glob("*/*"), (".png",), name_suffix=_LABEL_SUFFIX)
    if not labels:
        labels = files_by_name(label_dir.glob("*/*"), (".png",), name_suffix=_TRAIN_ID_SUFFIX)
    return pair_by_name(images, labels, image_dir=image_dir, label_dir=label_dir)


def read_label(item: Item) -> NDArray[np.uint8]:
    """Read the label of an item, ids or train ids by its name, as (H,W) train ids."""
    by_train_id = Path(item["label"]).stem.endswith(_TRAIN_ID_SUFFIX)
    return read_coded_label(item["label"], TRAIN_ID_CLASSES if by_train_id else CLASSES)
