"""Seeded dermoscopic pictures of one skin lesion each, with hairs, freckles, ink and ruler around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from afma_med.checks import check_int
from afma_med.samples.soft_shapes import Floats, blend, clouds, cover, ellipse, to_bytes

__all__ = ["draw_lesion"]

_SIZE = (192, 256)


def draw_lesion(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one dermoscopic image and its mask; the same arguments give the same pixels.

    Args:
        seed: which sample, ≥ 0.
        index: which image of the sample, ≥ 0.

    Returns:
        The image (192,256,3), red, green, blue; and the mask (192,256), 0 skin, 255 lesion.

    Example:
        >>> image, mask = draw_lesion(0, 3)
        >>> image.shape, np.unique(mask).tolist()
        ((192, 256, 3), [0, 255])
    """
    rng = np.random.default_rng([check_int("seed", seed), check_int("index", index)])
    skin = np.array([0.86, 0.66, 0.56]) * rng.uniform(0.75, 1.08) + rng.uniform(-0.04, 0.04, 3)
    pores = 0.86 + 0.16 * clouds(rng, _SIZE, 60) + 0.12 * clouds(rng, _SIZE, 3)
    image = skin * pores[..., None]
    brown = np.array([0.46, 0.28, 0.19]) * rng.uniform(0.7, 1.2) + rng.uniform(-0.05, 0.05, 3)
    for _ in range(int(rng.integers(0, 16))):
        center, radius = rng.uniform(0, 1, 2) * _SIZE, rng.uniform(0.8, 2.2)
        spot = ellipse(_SIZE, center, axes=(radius, radius * rng.uniform(0.7, 1)), angle=rng.uniform(0, 3))
        blend(image, brown, 0.8 * cover(spot))
    mask = _draw_mole(image, rng, brown)
    _draw_artefacts(image, rng)
    image += rng.uniform(0.01, 0.03) * rng.standard_normal(image.shape)
    return to_bytes(image), np.where(mask, 255, 0).astype(np.uint8)


def _draw_mole(image: Floats, rng: np.random.Generator, brown: Floats) -> NDArray[np.bool_]:
    """Draw the lesion, 8 to 20 or 60 to 150 pixels across, with a ragged, soft border; return where it is."""
    small = rng.random() < 0.4
    radius = rng.uniform(4, 10) if small else rng.uniform(30, 75)
    center = rng.uniform(0.25, 0.75, 2) * _SIZE if small else rng.uniform(0.42, 0.58, 2) * _SIZE
    oval = ellipse(_SIZE, center, axes=(radius, radius * rng.uniform(0.7, 1)), angle=rng.uniform(0, 3))
    depth = oval
    for cell, share in ((max(3, int(radius / 1.2)), 0.7), (max(2, int(radius / 4)), 0.25)):
        depth = depth + share * radius * (clouds(rng, _SIZE, cell) - 0.5)
    # Clouds far off the ellipse must not make islands.
    depth = np.minimum(depth, oval + 0.18 * radius)
    blotches = 0.65 + 0.5 * clouds(rng, _SIZE, max(3, int(radius / 2))) + 0.25 * clouds(rng, _SIZE, 4)
    soft = rng.uniform(1.5, 3) + 0.12 * radius
    blend(image, brown * blotches[..., None], rng.uniform(0.55, 1.0) * np.clip(0.5 + depth / soft, 0, 1))
    return np.asarray(depth > 0)


def _draw_artefacts(image: Floats, rng: np.random.Generator) -> None:
    """Draw hairs, and at times ink, a ruler and the dark corners of the lens."""
    rows, columns = np.ogrid[: _SIZE[0], : _SIZE[1]]
    strokes = [(rng.uniform(0.4, 1.0), (0.14, 0.10, 0.08), 0.85)] * int(rng.choice((0, 0, 3, 8, 14)))
    strokes += [(rng.uniform(2.5, 4.5), (0.36, 0.24, 0.52), 0.6)] * int(rng.random() < 0.2)
    for width, color, strength in strokes:
        turn, at = rng.uniform(0, np.pi), rng.uniform(0, 1, 2) * _SIZE
        along = (rows - at[0]) * np.sin(turn) + (columns - at[1]) * np.cos(turn)
        across = (rows - at[0]) * np.cos(turn) - (columns - at[1]) * np.sin(turn)
        line = width - np.abs(across - rng.uniform(-0.006, 0.006) * along * along)
        blend(image, color, strength * cover(np.minimum(line, rng.uniform(30, 110) - np.abs(along))))
    if rng.random() < 0.2:
        start, long = rng.uniform(0, 20), np.where(columns // 10 % 5 == 0, 14, 8)
        ticks = (rows > _SIZE[0] - long) & ((columns + int(start)) % 10 < 1)
        blend(image, (0.1, 0.1, 0.1), 0.8 * ticks)
    if rng.random() < 0.4:
        radius = np.hypot(rows - _SIZE[0] / 2, columns - _SIZE[1] / 2)
        blend(image, (0.03, 0.02, 0.02), np.clip((radius - rng.uniform(112, 135)) / rng.uniform(4, 25), 0, 1))
