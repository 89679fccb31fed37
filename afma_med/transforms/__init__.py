"""MONAI dictionary transforms: only what MONAI lacks."""

from afma_med.transforms.pictures import (
    ColorizeClassesd,
    LoadImagePictured,
    LoadLabeld,
    MapToRawIdsd,
    SaveImagePictured,
)
from afma_med.transforms.volumes import LoadImageVolumed, LoadSliced, SaveImageVolumed

__all__ = [
    "ColorizeClassesd",
    "LoadImagePictured",
    "LoadImageVolumed",
    "LoadLabeld",
    "LoadSliced",
    "MapToRawIdsd",
    "SaveImagePictured",
    "SaveImageVolumed",
]
