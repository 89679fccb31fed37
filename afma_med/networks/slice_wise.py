"""A 2-D network over the slices of a volume."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from afma_med.checks import check_module
from afma_med.functional import PatchAttention

__all__ = ["SliceWise", "fold_slices", "unfold_slices"]


class SliceWise(nn.Module):
    """Segment a volume slice by slice with a 2-D network: slices are folded into the batch.

    To everything around it, it is a 3-D network: patches of volumes, 3-D losses and sliding windows work unchanged.

    Args:
        network2d: network (B,C,H,W) -> logits (B,K,H,W); in train mode it may return (logits, attention).
        dim: which of the volume's axes numbers the slices: -1 for (B,C,H,W,D), 2 for (B,C,D,H,W).
        slices_per_batch: at most so many slices go through the network at once; None for all. In train mode, batch
            norm sees one such batch at a time.
        neighbors: so many slices before and after each one become further channels ("2.5-D"), C · (2 · neighbors + 1)
            in all, slice-major; the outermost slices are repeated at the ends.

    Raises:
        TypeError: if ``network2d`` is no network.
        ValueError: if ``dim`` is no spatial axis, or a number is out of range.

    Example:
        >>> net = SliceWise(nn.Conv2d(1, 2, 3, padding=1), slices_per_batch=4)
        >>> net(torch.rand(2, 1, 16, 16, 10)).shape
        torch.Size([2, 2, 16, 16, 10])
    """

    def __init__(
        self, network2d: nn.Module, *, dim: int = -1, slices_per_batch: int | None = None, neighbors: int = 0
    ) -> None:
        super().__init__()
        check_module("network2d", network2d)
        _check_dim("dim", dim)
        if slices_per_batch is not None and slices_per_batch < 1:
            raise ValueError(
                f"`slices_per_batch` must be a positive int or None; got {slices_per_batch!r}. None takes all at once."
            )
        if neighbors < 0:
            raise ValueError(f"`neighbors` must be ≥ 0; got {neighbors!r}. 0 is plain 2-D.")
        self.network2d = network2d
        self.dim = dim
        self.slices_per_batch = slices_per_batch
        self.neighbors = neighbors

    def forward(self, volume: Tensor) -> Tensor | tuple[Tensor, PatchAttention]:
        """Segment a batch of volumes.

        Args:
            volume: (B,C,H,W,D), or with the slices along another axis as ``dim`` says.

        Returns:
            Logits (B,K,H,W,D); where the network returns its attention, (logits, attention) with the attention of the
            B · D slices, volume by volume.

        Raises:
            ValueError: if ``volume`` is not 5-D.
        """
        slices = fold_slices(volume, self.dim, neighbors=self.neighbors)
        chunks = torch.split(slices, self.slices_per_batch) if self.slices_per_batch else [slices]
        outputs = [self.network2d(chunk) for chunk in chunks]
        if isinstance(outputs[0], Tensor):
            return unfold_slices(torch.cat(outputs), volume.shape[0], self.dim)
        logits = torch.cat([output[0] for output in outputs])
        return unfold_slices(logits, volume.shape[0], self.dim), _concatenate([output[1] for output in outputs])


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
    _check_dim("dim", dim)
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
        dim: the axis that the slices shall lie along.

    Returns:
        (B,K,H,W,D), or with the slices along another axis.

    Example:
        >>> volume = torch.rand(2, 1, 8, 9, 5)
        >>> torch.equal(unfold_slices(fold_slices(volume, 2), 2, 2), volume)
        True
    """
    return slices.reshape(batch, -1, *slices.shape[1:]).movedim(1, dim)


def _concatenate(attentions: list[Any]) -> PatchAttention:
    query = torch.cat([attention.query for attention in attentions])
    return PatchAttention(query, torch.cat([attention.key for attention in attentions]), attentions[0].grid)


def _check_dim(name: str, dim: int) -> None:
    if dim not in (-3, -2, -1, 2, 3, 4):
        raise ValueError(
            f"`{name}` must be a spatial axis of (B,C,H,W,D): 2, 3, 4 or -3, -2, -1; got {dim!r}. -1 is the last one."
        )
