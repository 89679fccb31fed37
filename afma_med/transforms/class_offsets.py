"""Offsets of classes, which trade false alarms for missed objects."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import get_track_meta
from monai.transforms import MapTransform, Transform
from monai.utils import convert_to_tensor
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.tensors import is_probability
from afma_med.checks import check_tensor
from afma_med.data.class_table import ClassInfo, class_names, named_classes
from afma_med.transforms.pictures import apply_to_keys

__all__ = ["AddClassOffsets", "AddClassOffsetsd"]

_BATCHES = "`channel_dim`=1 takes a batch."


class AddClassOffsets(Transform):
    """Add a number to the logits of each class, so that a class with a positive number wins more pixels.

    A network that is right about most pixels often misses a rare class. With a number above 0, it misses fewer pixels
    and gives more false alarms. The choice needs no training: compare scores on validation images. Of two classes, a
    number z for the second one moves the threshold of its probability from 0.5 to 1 / (1 + exp(z)).

    Args:
        offsets: Numbers by the name of a class, or of a group of the table (``"small"``, ``"large"``). A class that is
            named itself does not take the number of its group; all other classes get 0.
        class_table: Table of the classes.
        channel_dim: Axis of the classes. None is the first one, as in MONAI's transforms, and refuses what may be a
            batch; 1 takes batches (B,K,...), and 0 also volumes of K rows.

    Raises:
        ValueError: If a name is unknown, a number is not finite, or ``channel_dim`` is not None, 0 or 1.

    Example:
        >>> from afma_med.data import NUCLEI
        >>> AddClassOffsets({"nucleus": 0.5}, NUCLEI.classes)(torch.zeros(2, 1, 1)).flatten()
        tensor([0.0000, 0.5000])

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-tail learning via logit adjustment, ICLR 2021.
    """

    def __init__(
        self, offsets: Mapping[str, float], class_table: Sequence[ClassInfo], *, channel_dim: int | None = None
    ) -> None:
        if channel_dim not in (None, 0, 1):
            raise ValueError(f"`channel_dim` must be None, 0 or 1; got {channel_dim!r}. 1 takes batches (B,K,...).")
        self.channel_dim = channel_dim
        known, names = named_classes(class_table), class_names(class_table)
        for name, offset in offsets.items():
            if name not in known:
                raise ValueError(f"`offsets` must name classes or groups of {list(known)}; got {name!r}. Correct it.")
            if not math.isfinite(offset):
                raise ValueError(f"`offsets` must be finite numbers; got {offset!r} for {name}. Use 0.5, for example.")
        self.offsets = torch.zeros(len(names))
        for name in sorted(offsets, key=names.__contains__):  # groups first, so that the class's own number stays
            self.offsets[known[name]] = float(offsets[name])

    def __call__(self, data: Tensor | NDArray[Any]) -> Tensor:
        """Add the numbers to logits or logarithms of probabilities, (K,H,W) or (K,H,W,D), or to a batch of them.

        Returns:
            A tensor of the same shape and number type; of an array, with metadata as those of MONAI's transforms.

        Raises:
            TypeError: If they are no tensor or array of floating point numbers.
            ValueError: If there are not K channels, the axes are others or may be those of a batch, or the values are
                probabilities.
        """
        logits = convert_to_tensor(data, track_meta=get_track_meta()) if isinstance(data, np.ndarray) else data
        check_tensor("logits", logits, "(K,H,W) or (K,H,W,D)", floating=True)
        dim = self.channel_dim or 0
        self._check_axes(logits, dim)
        if is_probability(logits, dim):
            raise ValueError(
                "`logits` must be logits or logarithms of probabilities; got probabilities, which sum to 1. Leave out "
                "the softmax, or take their logarithm."
            )
        added: Tensor = logits + self.offsets.to(logits).view(-1, *[1] * (logits.ndim - 1 - dim))
        return added

    def _check_axes(self, logits: Tensor, dim: int) -> None:
        classes, shape = len(self.offsets), tuple(logits.shape)
        axes = "(B,K,H,W) or (B,K,H,W,D)" if dim else "(K,H,W) or (K,H,W,D)"
        if not 2 <= logits.ndim - dim <= 4:
            raise ValueError(f"`logits` must have the axes {axes}; got shape {shape}. {_BATCHES}")
        if shape[dim] != classes:
            raise ValueError(
                f"`logits` must be {axes}, with a channel for each of the {classes} classes; got {shape[dim]}. "
                "Use the class table that the network was trained with."
            )
        may_be_batch = getattr(logits, "is_batch", False) or (logits.ndim == 4 and shape[1] == classes)
        if self.channel_dim is None and may_be_batch:
            raise ValueError(
                f"`logits` must be {axes}; got shape {shape}, which may be a batch. {_BATCHES} 0 takes it as a volume."
            )


class AddClassOffsetsd(MapTransform):
    """Add numbers to the logits of dictionaries: the twin of :class:`AddClassOffsets`, whose other arguments it takes.

    Args:
        keys: Items that hold logits.
    """

    def __init__(
        self,
        keys: KeysCollection,
        offsets: Mapping[str, float],
        class_table: Sequence[ClassInfo],
        *,
        channel_dim: int | None = None,
    ) -> None:
        super().__init__(keys)
        self.add = AddClassOffsets(offsets, class_table, channel_dim=channel_dim)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return apply_to_keys(self, self.add, data)
