"""Soft shapes and clouds, from which lesions and birds are painted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Floats", "Numbers", "blend", "clouds", "cover", "ellipse", "to_bytes"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Numbers: TypeAlias = Sequence[float] | Floats


def ellipse(size: tuple[int, int], center: Numbers, *, axes: Numbers, angle: float) -> Floats:
    """Return each pixel's depth (H,W) below the border of an ellipse, in pixels along its short half axis.

    Args:
        size: (H, W) in pixels.
        center: (row, column).
        axes: half axes in pixels, the first along ``angle``.
        angle: radians from the columns' direction upwards.

    Example:
        >>> ellipse((1, 5), (0, 2), axes=(2, 1), angle=0.0).tolist()
        [[0.0, 0.5, 1.0, 0.5, 0.0]]
    """
    down, right = np.arange(size[0])[:, None] - center[0], np.arange(size[1]) - center[1]
    along = (right * np.cos(angle) - down * np.sin(angle)) / axes[0]
    across = (right * np.sin(angle) + down * np.cos(angle)) / axes[1]
    depth: Floats = (1 - np.hypot(along, across)) * min(axes)
    return depth


def cover(depth: Floats) -> Floats:
    """Return the share of each pixel that a shape covers, from the pixel's depth below the shape's border."""
    share: Floats = np.clip(depth + 0.5, 0, 1)
    return share


def blend(image: Floats, color: ArrayLike, share: Floats) -> None:
    """Blend ``color``, (3,) or (H,W,3), into an image (H,W,3) with the weights ``share`` (H,W)."""
    image += share[..., None] * (np.asarray(color) - image)


def clouds(rng: np.random.Generator, size: tuple[int, int], cell: int) -> Floats:
    """Draw random fractions (H,W) that change smoothly over ``cell`` pixels."""
    weights = []
    for side in size:
        tent = np.clip(1 - np.abs(np.arange(side)[:, None] / cell - np.arange(side // cell + 2)), 0, 1)
        weights.append(tent * tent * (3 - 2 * tent))
    fractions: Floats = weights[0] @ rng.random((weights[0].shape[1], weights[1].shape[1])) @ weights[1].T
    return fractions


def to_bytes(image: Floats) -> NDArray[np.uint8]:
    """Round fractions, clipped to 0 to 1, to bytes."""
    pixels: NDArray[np.uint8] = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return pixels
