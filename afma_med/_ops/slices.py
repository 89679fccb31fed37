"""Volumes as batches of slices, and back."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_slice_axis", "fold_slices", "unfold_slices"]


def fold_slices(volume: Tensor, dim: int = -1, *, neighbors: int = 0) -> Tensor:
    """Fold the slices of volumes into the batch.

    Args:
        volume: (B,C,H,W,D), or with the slices along another spatial axis.
        dim: the axis of the slices.
        neighbors: slices before and after each one that become further channels, slice-major.

    Returns:
        (B · D, C · (2 · neighbors + 1), H, W), volume by volume.

    Raises:
        ValueError: if ``volume`` is not 5-D, or ``dim`` no spatial axis.

    Example:
        >>> fold_slices(torch.rand(2, 1, 8, 9, 5)).shape, fold_slices(torch.rand(2, 1, 8, 9, 5), neighbors=1).shape
        (torch.Size([10, 1, 8, 9]), torch.Size([10, 3, 8, 9]))
    """
    if volume.ndim != 5:
        raise ValueError(
            f"`volume` must have the 5 axes (B,C,H,W,D), slices along any of the last three; got shape "
            f"{tuple(volume.shape)}. Use the 2-D network itself for images."
        )
    check_slice_axis("dim", dim)
    slices = volume.movedim(dim, 1)
    if neighbors:
        center = torch.arange(slices.shape[1], device=volume.device)
        offsets = range(-neighbors, neighbors + 1)
        slices = torch.cat([slices[:, (center + i).clamp(0, slices.shape[1] - 1)] for i in offsets], dim=2)
    return slices.flatten(0, 1)


def unfold_slices(slices: Tensor, batch: int, dim: int = -1) -> Tensor:
    """Put slices back into volumes: the inverse of :func:`fold_slices` without neighbours.

    Args:
        slices: (B · D, K, H, W).
        batch: B.
        dim: the axis of the slices in the result.

    Returns:
        (B,K,H,W,D), or with the slices along another axis.

    Example:
        >>> volume = torch.rand(2, 1, 8, 9, 5)
        >>> torch.equal(unfold_slices(fold_slices(volume, 2), 2, 2), volume)
        True
    """
    return slices.reshape(batch, -1, *slices.shape[1:]).movedim(1, dim)


def check_slice_axis(name: str, dim: int) -> None:
    """Raise ValueError unless ``dim`` is a spatial axis of (B,C,H,W,D)."""
    if dim not in (-3, -2, -1, 2, 3, 4):
        raise ValueError(
            f"`{name}` must be a spatial axis of (B,C,H,W,D): 2, 3, 4 or -3, -2, -1; got {dim!r}. -1 is the last one."
        )
