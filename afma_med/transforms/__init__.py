"""Transforms that MONAI lacks."""

from afma_med.transforms.pictures import ColorizeClassesd, LoadPictured, MapRawLabelsd, to_rgb

__all__ = ["ColorizeClassesd", "LoadPictured", "MapRawLabelsd", "to_rgb"]
