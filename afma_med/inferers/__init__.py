"""What MONAI's inferers lack."""

from afma_med.inferers.autocast import AutocastInferer

__all__ = ["AutocastInferer"]
