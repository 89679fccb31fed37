"""Inferers for MONAI engines."""

from afma_med.inferers.autocast import AutocastInferer

__all__ = ["AutocastInferer"]
