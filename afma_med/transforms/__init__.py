"""MONAI dictionary transforms: only what MONAI lacks."""

from afma_med.transforms.pictures import ColorizeClassesd, LoadLabeld, LoadPictured, MapToRawIdsd, SavePictured
from afma_med.transforms.volumes import LoadSliced, LoadVolumed, SaveLabelVolumed

__all__ = [
    "ColorizeClassesd",
    "LoadLabeld",
    "LoadPictured",
    "LoadSliced",
    "LoadVolumed",
    "MapToRawIdsd",
    "SaveLabelVolumed",
    "SavePictured",
]
