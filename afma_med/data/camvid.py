"""CamVid: street scenes, 701 images, 11 classes and unlabelled.

Reference:
    Brostow, Fauqueur, Cipolla: Semantic Object Classes in Video: A High-Definition Ground Truth Database, PRL 2009.
"""

from __future__ import annotations

from afma_med.data.class_table import ClassInfo

__all__ = ["CLASSES", "ORIGINAL_CLASSES"]

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
