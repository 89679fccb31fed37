"""Patches: where they lie, and how maps are split into them and joined again."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from afma_med._ops.tensors import at_least_float32, is_captured
from afma_med.checks import as_patch_size, check_four_axes

__all__ = [
    "PatchGrid",
    "ceil_divide",
    "count_patches",
    "crop_to",
    "join_patches",
    "join_patches_into",
    "pad_to",
    "pool_index_to_feature",
    "pool_to_feature",
    "split_patches",
]


class PatchGrid(NamedTuple):
    """Tell where the patches of an attention lie on the image and on the feature map.

    Args:
        image_size: (H, W) of the image as the network saw it, padding included; in pixels.
        stride: s, image pixels per feature map pixel, the same along both axes.
        patch_size: (ph, pw), the side lengths of a patch; in pixels of the map that is split.

    Example:
        >>> PatchGrid(image_size=(40, 80), stride=4, patch_size=(10, 10)).feature_size
        (10, 20)
    """

    image_size: tuple[int, int]
    stride: int
    patch_size: tuple[int, int]

    @property
    def feature_size(self) -> tuple[int, int]:
        """(h, w) of the feature map."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride


def split_patches(x: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """Split maps into flattened patches, row-major over the grid and inside each patch.

    Step 3 (Eq. 3) on the embedded image and step 4 (Eq. 4-5) on the embedded feature map. Sides that are no
    multiple of the patch are zero-padded at the bottom and right (the paper's footnote 2).

    Args:
        x: (B,K,H,W).
        patch_size: p, or (ph, pw), in pixels.

    Returns:
        (B,K,N,D) with N = ceil(H / ph) * ceil(W / pw) and D = ph * pw.

    Raises:
        ValueError: if ``x`` is not 4-D or ``patch_size`` is not positive.

    Example:
        >>> split_patches(torch.zeros(1, 12, 45, 60), 10).shape
        torch.Size([1, 12, 30, 100])
    """
    height, width = as_patch_size(patch_size)
    check_four_axes("x", x, "(B,K,H,W)")
    rows, columns = ceil_divide(x.shape[2], height), ceil_divide(x.shape[3], width)
    x = pad_to(x, (rows * height, columns * width))
    x = x.reshape(x.shape[0], x.shape[1], rows, height, columns, width).transpose(3, 4)
    return x.reshape(x.shape[0], x.shape[1], rows * columns, height * width)


def join_patches(patches: Tensor, size: tuple[int, int], patch_size: int | tuple[int, int]) -> Tensor:
    """Join flattened patches to maps and crop the padding: the inverse of :func:`split_patches`.

    Args:
        patches: (B,K,N,D).
        size: (H, W) of the maps, in pixels.
        patch_size: p, or (ph, pw), in pixels.

    Returns:
        (B,K,H,W).

    Raises:
        ValueError: if ``patches`` is not 4-D, or N or D do not belong to ``size`` and ``patch_size``.

    Example:
        >>> x = torch.rand(1, 2, 7, 5)
        >>> torch.equal(join_patches(split_patches(x, 3), (7, 5), 3), x)
        True
    """
    height, width = as_patch_size(patch_size)
    check_four_axes("patches", patches, "(B,K,N,D)")
    rows, columns = ceil_divide(size[0], height), ceil_divide(size[1], width)
    expected = (rows * columns, height * width)
    if tuple(patches.shape[2:]) != expected:
        raise ValueError(
            f"`patches` must have (N, D) = {expected} for size {tuple(size)} and patch size {(height, width)}; "
            f"got {tuple(patches.shape[2:])}. Pass the size and patch size that they were split with."
        )
    x = patches.reshape(patches.shape[0], patches.shape[1], rows, columns, height, width).transpose(3, 4)
    x = x.reshape(x.shape[0], x.shape[1], rows * height, columns * width)
    return crop_to(x, size)


def join_patches_into(maps: Tensor, patches: Tensor, patch_size: tuple[int, int]) -> None:
    """Write what :func:`join_patches` gives into contiguous maps (B,K,H,W), at once where the patches fit."""
    (height, width), size = patch_size, (maps.shape[2], maps.shape[3])
    if size[0] % height or size[1] % width:
        maps.copy_(join_patches(patches, size, patch_size))
        return
    rows, columns = size[0] // height, size[1] // width
    blocks = maps.view(*maps.shape[:2], rows, height, columns, width).transpose(3, 4)
    blocks.copy_(patches.view(*maps.shape[:2], rows, columns, height, width))


def crop_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Crop (B,K,H,W) at the bottom and right to ``size``: the inverse of :func:`pad_to`."""
    if torch.compiler.is_compiling():  # whether a slice is contiguous would be one more thing to insist on
        rows, columns = (torch.arange(side, device=x.device) for side in size)
        return x.index_select(2, rows).index_select(3, columns)
    return x[:, :, : size[0], : size[1]]


def pad_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero-pad (B,K,H,W) at the bottom and right to ``size``."""
    bottom, right = size[0] - x.shape[2], size[1] - x.shape[3]
    # A graph must pad at other sizes too, even if the size that it was made with needs none.
    return F.pad(x, (0, right, 0, bottom)) if is_captured() or bottom or right else x


def count_patches(size: tuple[int, int], patch_size: tuple[int, int]) -> int:
    """Count the patches of (H, W), the last ones padded."""
    return ceil_divide(size[0], patch_size[0]) * ceil_divide(size[1], patch_size[1])


def ceil_divide(side: int, divisor: int) -> int:
    """Divide and round up. Not -(-a // b): ONNX rounds the quotient of a negative number towards zero."""
    return (side + divisor - 1) // divisor


def pool_to_feature(x: Tensor, grid: PatchGrid, name: str) -> Tensor:
    """Zero-pad (B,K,H,W) to the grid's image and average-pool it by the stride to (B,K,h,w)."""
    _check_size(x, grid, name)
    return F.avg_pool2d(pad_to(at_least_float32(x), grid.image_size), grid.stride, grid.stride)


def pool_index_to_feature(index: Tensor, grid: PatchGrid, *, num_classes: int, dtype: torch.dtype, name: str) -> Tensor:
    """What :func:`pool_to_feature` makes of a one-hot (B,K,H,W), from its class indices (B,H,W), by counting them."""
    _check_size(index, grid, name)
    (batch, height, width), (rows, columns) = index.shape, grid.feature_size
    row, column = (torch.arange(side, device=index.device) // grid.stride for side in (height, width))
    maps = torch.arange(batch, device=index.device)[:, None, None] * num_classes + index
    cell = ((maps * rows + row[:, None]) * columns + column).flatten()
    counts = index.new_zeros(batch * num_classes * rows * columns, dtype=dtype)  # of the index, as vmap requires
    counts = counts.scatter_add_(0, cell, torch.ones_like(cell, dtype=dtype))
    return counts.view(batch, num_classes, rows, columns) / grid.stride**2


def _check_size(x: Tensor, grid: PatchGrid, name: str) -> None:
    """Refuse a grid that cannot be pooled, or a map that is larger than its image."""
    height, width = grid.image_size
    if grid.stride < 1 or height % grid.stride or width % grid.stride:
        raise ValueError(f"`grid` must have a stride that divides its image size; got {grid}. Pad the image first.")
    if x.shape[-2] > height or x.shape[-1] > width:
        raise ValueError(
            f"`{name}` must not be larger than the attention's image, {height}×{width}; "
            f"got {x.shape[-2]}×{x.shape[-1]}. Use the label and logits of the image that the attention was made from."
        )
