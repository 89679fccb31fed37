"""Images as people see them, out of what networks see."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["stretch_image"]


def stretch_image(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Stretch a preprocessed image to black and white, for the eye.

    Args:
        image: (C,H,W) in any range; the first three channels are shown, or the first one in grey.

    Returns:
        (H,W,3) uint8.

    Example:
        >>> stretch_image(np.array([[[-1.0, 1.0]]])).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    shown = np.broadcast_to(image[:3] if len(image) >= 3 else image[:1], (3, *image.shape[1:]))
    low, high = float(shown.min()), float(shown.max())
    stretched = (shown - low) / max(high - low, 1e-12) * 255
    pixels: NDArray[np.uint8] = stretched.round().astype(np.uint8).transpose(1, 2, 0)
    return pixels
