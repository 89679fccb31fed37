"""Compute the attention of one point of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.modulation import row_scale
from afma_med._ops.patches import ceil_divide
from afma_med._ops.tensors import at_least_float32, autocast_off
from afma_med.visualize.attention import AttendedImage

__all__ = ["PointAttention", "Rectangle", "Region", "attend_point"]


class Rectangle(NamedTuple):
    """Part of an image, in pixels. Row ``bottom`` and column ``right`` are the first ones outside."""

    top: int
    left: int
    bottom: int
    right: int


class Region(NamedTuple):
    """Contribution of one feature patch to the correction of an image patch.

    Args:
        patch: Index m of the feature patch.
        rectangle: Part of the image that the feature patch covers.
        attention: A[n,m].
        contribution: Contribution to the correction X, averaged over the image patch.
    """

    patch: int
    rectangle: Rectangle
    attention: float
    contribution: float


@dataclass(frozen=True)
class PointAttention:
    """Attention of the image patch at one point, and its effect on the prediction there.

    Args:
        seen: The image.
        point: (row, column) in pixels.
        patch: Index n of the image patch at the point.
        rectangle: Part of the image that this patch covers.
        maps: (K, rows, columns) attention A[n] to all feature patches, class by class.
        corrections: (K,) X averaged over the patch; logits are multiplied by 1 + X.
        class_index: Class of ``regions``, an index of ``maps``.
        regions: Regions that contribute most to the correction of this class, largest first.
    """

    seen: AttendedImage
    point: tuple[int, int]
    patch: int
    rectangle: Rectangle
    maps: NDArray[np.float32]
    corrections: NDArray[np.float32]
    class_index: int
    regions: tuple[Region, ...]

    @property
    def strongest(self) -> int:
        """Index of the class whose map has the highest peak."""
        return int(self.maps.max(axis=(1, 2)).argmax())


def attend_point(
    seen: AttendedImage, point: tuple[int, int], *, class_index: int | None = None, regions: int = 5
) -> PointAttention:
    """Compute the attention of the image patch at a point: one row of A for each class.

    By step 8, the correction X of image patch n, averaged over its pixels, is a sum over the feature patches m. Each
    term, A[n,m] / (number of non-zeros of the row) · (V[m] averaged over its pixels), is a contribution. Padding counts
    as part of a patch.

    Of several attentions, the first one that holds the class of the regions is shown; pass ``seen.for_part(i)`` for
    another one. The corrections are those of this attention alone; the network corrects with the mean over them.

    Args:
        seen: The image.
        point: (row, column) in pixels.
        class_index: Class of the regions; default: the class predicted at the point after the correction.
        regions: Number of regions to list.

    Raises:
        ValueError: If the point lies outside the image, or the class does not exist.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from afma_med import AFMANet
        >>> from afma_med.visualize.attention import attend_image
        >>> net = AFMANet(nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)), 2, feature="0")
        >>> point = attend_point(attend_image(net, torch.rand(3, 40, 60)), (25, 7))
        >>> point.patch, point.rectangle, point.maps.shape
        (12, Rectangle(top=20, left=0, bottom=30, right=10), (2, 2, 3))
    """
    (height, width), num_classes = seen.after.shape, len(seen.values)
    if not (0 <= point[0] < height and 0 <= point[1] < width):
        raise ValueError(
            f"`point` must lie in the image, rows 0 to {height - 1}, columns 0 to {width - 1}; got {tuple(point)}. "
            "Count pixels of the preprocessed image."
        )
    # A binary network has a single map.
    index = (int(seen.after[point]) if num_classes > 1 else 0) if class_index is None else class_index
    if not 0 <= index < num_classes:
        raise ValueError(
            f"`class_index` must be from 0 to {num_classes - 1}; got {index}. Pass a class of the network."
        )
    seen = seen.for_class(index)
    grid = seen.attention.grid
    columns, feature_columns = (
        ceil_divide(size[1], grid.patch_size[1]) for size in (grid.image_size, grid.feature_size)
    )
    patch = point[0] // grid.patch_size[0] * columns + point[1] // grid.patch_size[1]
    query, key = (at_least_float32(factor[0]) for factor in seen.attention[:2])
    with autocast_off(query):
        products = key @ query[:, patch, :, None]
        contributions = (products * row_scale(query[:, patch : patch + 1], key))[..., 0] * seen.values
    maps = products[..., 0] / query.shape[-1]
    return PointAttention(
        seen=seen,
        point=(int(point[0]), int(point[1])),
        patch=patch,
        rectangle=_rectangle(patch, columns, grid.patch_size, limits=(height, width)),
        maps=np.asarray(maps.view(num_classes, -1, feature_columns).cpu(), dtype=np.float32),
        corrections=np.asarray(contributions.sum(dim=1).cpu(), dtype=np.float32),
        class_index=index,
        regions=tuple(
            Region(m, _rectangle(m, feature_columns, seen.region_size, limits=(height, width)), weight, contribution)
            for m, weight, contribution in _strongest(maps[index], contributions[index], regions)
        ),
    )


def _strongest(row: Tensor, contributions: Tensor, count: int) -> list[tuple[int, float, float]]:
    """Return index, attention and contribution, not 0, of the feature patches that contribute most with either sign."""
    order = contributions.abs().argsort(descending=True, stable=True)[:count]
    order = order[contributions[order] != 0]
    return list(zip(order.tolist(), row[order].tolist(), contributions[order].tolist(), strict=True))


def _rectangle(patch: int, columns: int, size: tuple[int, int], *, limits: tuple[int, int]) -> Rectangle:
    top, left = patch // columns * size[0], patch % columns * size[1]
    sides = (min(top, limits[0]), min(left, limits[1]), min(top + size[0], limits[0]), min(left + size[1], limits[1]))
    return Rectangle(*sides)
