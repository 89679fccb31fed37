"""A 2-D network over the slices of a volume."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from afma_med._ops.slices import check_slice_axis, fold_slices, unfold_slices
from afma_med.checks import check_module
from afma_med.functional import PatchAttention
from afma_med.grouped_attention import Attention, map_parts

__all__ = ["SliceWise"]


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
        TypeError: if ``network2d`` is not a network.
        ValueError: if ``dim`` is not a spatial axis, or a number is out of range.

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
        check_slice_axis("dim", dim)
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

    def forward(self, volume: Tensor) -> Tensor | tuple[Tensor, Attention]:
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
        if isinstance(outputs[0], Tensor) and outputs[0].ndim == 4:
            return unfold_slices(torch.cat(outputs), volume.shape[0], self.dim)
        if not isinstance(outputs[0], tuple) or not isinstance(outputs[0][-1], Attention):
            raise TypeError(
                f"`network2d` must return logits (B,K,H,W) or (logits, attention); got {type(outputs[0]).__name__}. "
                "Build it without deep supervision and auxiliary outputs."
            )
        logits = torch.cat([output[0] for output in outputs])
        return unfold_slices(logits, volume.shape[0], self.dim), map_parts(
            _concatenate, *(output[1] for output in outputs)
        )


def _concatenate(*attentions: PatchAttention) -> PatchAttention:
    query = torch.cat([attention.query for attention in attentions])
    return PatchAttention(query, torch.cat([attention.key for attention in attentions]), attentions[0].grid)
