"""MONAI transforms, on arrays and, with names in ``d``, on dictionaries: only those that MONAI does not have."""

from afma_med.transforms.class_offsets import AddClassOffsets, AddClassOffsetsd
from afma_med.transforms.object_crops import RandCropBySmallObjects, RandCropBySmallObjectsd
from afma_med.transforms.pictures import (
    ColorizeClasses,
    ColorizeClassesd,
    LoadImagePicture,
    LoadImagePictured,
    LoadLabeld,
    MapToRawIds,
    MapToRawIdsd,
    SaveImagePictured,
)
from afma_med.transforms.volumes import LoadImageVolumed, LoadSliced, SaveImageVolumed

__all__ = [
    "AddClassOffsets",
    "AddClassOffsetsd",
    "ColorizeClasses",
    "ColorizeClassesd",
    "LoadImagePicture",
    "LoadImagePictured",
    "LoadImageVolumed",
    "LoadLabeld",
    "LoadSliced",
    "MapToRawIds",
    "MapToRawIdsd",
    "RandCropBySmallObjects",
    "RandCropBySmallObjectsd",
    "SaveImagePictured",
    "SaveImageVolumed",
]
