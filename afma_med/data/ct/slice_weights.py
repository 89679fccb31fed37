"""How often each slice is drawn, when most slices hold nothing of interest."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from numpy.typing import ArrayLike

__all__ = ["balanced_slice_weights"]


def balanced_slice_weights(counts: ArrayLike | torch.Tensor, *, shares: Sequence[float] | None = None) -> torch.Tensor:
    """Weigh slices so that those with tumour, with liver only, and with neither are drawn equally often.

    A slice belongs to the last class, by train id, that has a pixel in it; the first class takes those without any.
    The weights of a class's slices sum to its share. Classes without slices leave theirs to the others.

    Args:
        counts: (slices,K) pixels of each class.
        shares: K non-negative numbers, how often slices of each class are drawn; default all the same.

    Returns:
        (slices,) float64 with sum 1, for :class:`torch.utils.data.WeightedRandomSampler`.

    Raises:
        ValueError: if the counts are no table, or the shares leave no slice to be drawn.

    Example:
        >>> balanced_slice_weights([[9, 0, 0], [9, 0, 0], [7, 2, 0], [7, 1, 1]]).tolist()
        [0.16666666666666666, 0.16666666666666666, 0.3333333333333333, 0.3333333333333333]
    """
    table = torch.as_tensor(counts)
    if table.ndim != 2 or not table.numel():
        raise ValueError(f"`counts` must be of shape (slices,K); got {tuple(table.shape)}. Pass one row a slice.")
    classes = table.shape[1]
    wanted = torch.tensor([1.0] * classes if shares is None else list(shares), dtype=torch.float64)
    if len(wanted) != classes or not bool((wanted >= 0).all()):
        raise ValueError(f"`shares` must be {classes} numbers ≥ 0; got {shares}. Pass one for each class.")
    own = torch.where(table > 0, torch.arange(classes), 0).amax(dim=1)
    weights = (wanted / own.bincount(minlength=classes).clamp(min=1))[own]
    if not weights.sum() > 0:
        raise ValueError(f"`shares` must leave slices to be drawn; got {shares}. Raise that of a class that occurs.")
    return weights / weights.sum()
