"""What an attention says of one point of an image, in numbers; drawn by attention_figure.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from afma_med._ops.modulation import row_scale
from afma_med._ops.patches import PatchGrid, ceil_divide
from afma_med._ops.tensors import at_least_float32, without_metadata
from afma_med.functional import PatchAttention, compress_prediction, modulate_logits, split_patches
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing

__all__ = [
    "AttendedImage",
    "PointAttention",
    "Rectangle",
    "Region",
    "attend_image",
    "attend_point",
    "decide",
    "find_afma",
]


class Rectangle(NamedTuple):
    """Bound a part of an image, in pixels; bottom and right are the first row and column that it does not hold."""

    top: int
    left: int
    bottom: int
    right: int


class Region(NamedTuple):
    """Describe what one feature patch adds to the correction of an image patch.

    Args:
        patch: m, index of the feature patch.
        rectangle: the part of the image that the feature patch covers.
        attention: A[n,m].
        contribution: its part of the correction X, averaged over the image patch.
    """

    patch: int
    rectangle: Rectangle
    attention: float
    contribution: float


@dataclass(frozen=True)
class AttendedImage:
    """Keep what a network makes of one image, before and after the attention corrects it.

    Args:
        image: (C,H,W), as the network saw it.
        before: (H,W) train ids by the logits before the correction; 0 and 1 where the network is binary.
        after: (H,W) train ids by the corrected logits.
        attention: of this image alone, B = 1.
        values: (K,M) the class's share of each feature patch in the prediction before: V averaged over the patch.
    """

    image: NDArray[np.float32]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    attention: PatchAttention
    values: Tensor

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(H,W) where the correction changes the prediction."""
        changed: NDArray[np.bool_] = self.before != self.after
        return changed

    @property
    def region_size(self) -> tuple[int, int]:
        """(height, width) that a feature patch covers of the image, in pixels."""
        grid = self.attention.grid
        return grid.patch_size[0] * grid.stride, grid.patch_size[1] * grid.stride


@dataclass(frozen=True)
class PointAttention:
    """Say what the patch at one point of an image attends to, and what that does to the prediction there.

    Args:
        seen: the image.
        point: (row, column) in pixels.
        patch: n, index of the image patch at the point.
        rectangle: the part of the image that this patch covers.
        maps: (K, rows, columns) A[n], the patch's attention to all feature patches, class by class.
        corrections: (K,) X averaged over the patch: logits are multiplied by 1 + X.
        class_index: the class in question, an index of ``maps``.
        regions: what contributes most to the correction of this class, largest first.
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


def attend_image(network: nn.Module, image: Tensor) -> AttendedImage:
    """Segment an image and keep its attention.

    The network runs in eval mode without gradients; its modules' own modes are restored.

    Args:
        network: an AFMANet, or what holds one: a SliceWise, a network under DistributedDataParallel.
        image: (C,H,W), preprocessed.

    Raises:
        TypeError: if there is no AFMANet in the network.
        ValueError: if ``image`` is not 3-D or not what the network takes.

    Example:
        >>> import torch
        >>> net = AFMANet(nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)), 2, feature="0")
        >>> attend_image(net, torch.rand(3, 40, 60)).before.shape
        (40, 60)
    """
    afma = find_afma(network)
    if afma is None:
        raise TypeError(
            f"`network` must be an AFMANet or hold one; got {type(network).__name__}. Only AFMA has attention to show."
        )
    if image.ndim != 3:
        raise ValueError(
            f"`image` must have the 3 axes (C,H,W); got shape {tuple(image.shape)}. Pass one image, or one slice."
        )
    image = without_metadata(image)
    with probing(afma):
        logits, attention = afma.attend(image[None].to(next(afma.parameters())))
        soft = afma.variant == "paper"
        corrected = modulate_logits(logits, attention, soft=soft)
        values = split_patches(compress_prediction(logits, attention.grid, soft=soft), attention.grid.patch_size)
    return AttendedImage(
        image=np.asarray(image.cpu(), dtype=np.float32),
        before=decide(logits)[0],
        after=decide(corrected)[0],
        attention=attention,
        values=values[0].mean(dim=-1),
    )


def attend_point(
    seen: AttendedImage, point: tuple[int, int], *, class_index: int | None = None, regions: int = 5
) -> PointAttention:
    """Look at the attention of the image patch at a point: one row of A for each class, never the matrix.

    Step 8 written out: the correction X of image patch n, averaged over its pixels, is the sum over the feature patches
    m of A[n,m] / (count of non-zeros of the row) · (V[m] averaged over its pixels), each of which is a contribution.
    Pixels that pad a patch count as its own.

    Args:
        seen: the image.
        point: (row, column) in pixels.
        class_index: the class in question; default: the one predicted there after the correction.
        regions: how many contributions to list.

    Raises:
        ValueError: if the point lies outside the image, or there is no such class.

    Example:
        >>> import torch
        >>> net = AFMANet(nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)), 2, feature="0")
        >>> point = attend_point(attend_image(net, torch.rand(3, 40, 60)), (25, 7))
        >>> point.patch, point.rectangle, point.maps.shape
        (12, Rectangle(top=20, left=0, bottom=30, right=10), (2, 2, 3))
    """
    (height, width), classes = seen.after.shape, len(seen.values)
    if not (0 <= point[0] < height and 0 <= point[1] < width):
        raise ValueError(
            f"`point` must lie in the image, rows 0 to {height - 1}, columns 0 to {width - 1}; got {tuple(point)}. "
            "Count pixels of the image as the network sees it."
        )
    # A binary network has one map, whatever it predicts.
    index = (int(seen.after[point]) if classes > 1 else 0) if class_index is None else class_index
    if not 0 <= index < classes:
        raise ValueError(f"`class_index` must be from 0 to {classes - 1}; got {index}. Pass a class of the network.")
    grid = seen.attention.grid
    patch = point[0] // grid.patch_size[0] * _columns(grid.image_size, grid) + point[1] // grid.patch_size[1]
    query, key = (at_least_float32(factor[0]) for factor in seen.attention[:2])
    products = key @ query[:, patch, :, None]
    contributions = (products * row_scale(query[:, patch : patch + 1], key))[..., 0] * seen.values
    maps = products[..., 0] / query.shape[-1]
    return PointAttention(
        seen=seen,
        point=(int(point[0]), int(point[1])),
        patch=patch,
        rectangle=_rectangle(patch, _columns(grid.image_size, grid), grid.patch_size, limits=(height, width)),
        maps=_array(maps.view(classes, -1, _columns(grid.feature_size, grid))),
        corrections=_array(contributions.sum(dim=1)),
        class_index=index,
        regions=_strongest_regions(seen, maps[index], contributions[index], regions),
    )


def find_afma(network: nn.Module) -> AFMANet | None:
    """Return the AFMANet that a network is or holds; None for one without.

    Example:
        >>> find_afma(nn.Conv2d(3, 2, 1)) is None
        True
    """
    return next((module for module in network.modules() if isinstance(module, AFMANet)), None)


def decide(logits: Tensor) -> NDArray[np.uint8]:
    """Return the class of each pixel, (B,K,H,W) -> (B,H,W); 0 and 1 for the binary K = 1.

    Example:
        >>> import torch
        >>> decide(torch.tensor([[[[-1.0, 2.0]]]])).tolist(), decide(torch.eye(2)[None, :, None]).tolist()
        ([[[0, 1]]], [[[0, 1]]])
    """
    index = logits[:, 0] > 0 if logits.shape[1] == 1 else logits.max(dim=1).indices
    decided: NDArray[np.uint8] = index.cpu().numpy().astype(np.uint8)
    return decided


def _strongest_regions(seen: AttendedImage, row: Tensor, contributions: Tensor, count: int) -> tuple[Region, ...]:
    """The feature patches that contribute most, in either direction; those that contribute nothing are left out."""
    order = contributions.abs().argsort(descending=True, stable=True)[:count].tolist()
    grid, limits = seen.attention.grid, (seen.after.shape[0], seen.after.shape[1])
    columns = _columns(grid.feature_size, grid)
    return tuple(
        Region(m, _rectangle(m, columns, seen.region_size, limits=limits), row[m].item(), contribution)
        for m in order
        if (contribution := contributions[m].item()) != 0
    )


def _rectangle(patch: int, columns: int, size: tuple[int, int], *, limits: tuple[int, int]) -> Rectangle:
    top, left = patch // columns * size[0], patch % columns * size[1]
    sides = (min(top, limits[0]), min(left, limits[1]), min(top + size[0], limits[0]), min(left + size[1], limits[1]))
    return Rectangle(*sides)


def _columns(size: tuple[int, int], grid: PatchGrid) -> int:
    return ceil_divide(size[1], grid.patch_size[1])


def _array(x: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = x.cpu().numpy().astype(np.float32)
    return array
