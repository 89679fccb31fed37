"""MONAI transforms, on arrays and, with names in ``d``, on dictionaries: only those that MONAI does not have."""

from afma_med.transforms.class_offsets import AddClassOffsets, AddClassOffsetsd
from afma_med.transforms.object_crops import RandCropBySmallObjects, RandCropBySmallObjectsd
from afma_med.transforms.pictures import (
    ColorizeClasses,
    ColorizeClassesd,
    LoadLabeld,
    LoadRGBImage,
    LoadRGBImaged,
    MapToRawIds,
    MapToRawIdsd,
    SavePNGd,
)
from afma_med.transforms.volumes import LoadCTSliced, LoadCTVolumed, SaveLabelVolumed

__all__ = [
    "AddClassOffsets",
    "AddClassOffsetsd",
    "ColorizeClasses",
    "ColorizeClassesd",
    "LoadCTSliced",
    "LoadCTVolumed",
    "LoadLabeld",
    "LoadRGBImage",
    "LoadRGBImaged",
    "MapToRawIds",
    "MapToRawIdsd",
    "RandCropBySmallObjects",
    "RandCropBySmallObjectsd",
    "SaveLabelVolumed",
    "SavePNGd",
]
