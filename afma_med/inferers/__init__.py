"""Inferers for MONAI engines."""

from afma_med.inferers.autocast import AutocastInferer
from afma_med.inferers.multi_scale import MultiScaleInferer

__all__ = ["AutocastInferer", "MultiScaleInferer"]
