"""Connected components by a flood fill in plain Python: the naive reference of all scores of objects."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

Pixel = tuple[int, ...]


def flood(mask: NDArray[np.bool_]) -> list[set[Pixel]]:
    """Return the objects of a mask as sets of pixels, in raster order; pixels that touch at a corner are connected."""
    left, found = {tuple(pixel) for pixel in np.argwhere(mask).tolist()}, []
    while left:
        queue, component = [min(left)], set()
        left -= {*queue}
        while queue:
            pixel = queue.pop()
            component.add(pixel)
            near = {tuple(np.add(pixel, step).tolist()) for step in itertools.product((-1, 0, 1), repeat=mask.ndim)}
            queue += near & left
            left -= near
        found.append(component)
    return found
