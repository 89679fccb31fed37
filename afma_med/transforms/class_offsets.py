"""Offsets of classes, which trade false alarms for missed objects."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, Transform
from torch import Tensor

from afma_med.data.class_table import ClassInfo, class_names, named_classes
from afma_med.transforms.pictures import apply_to_keys

__all__ = ["AddClassOffsets", "AddClassOffsetsd"]


class AddClassOffsets(Transform):
    """Add a number to the logits of each class, so that a class with a positive number wins more pixels.

    A network that is right about most pixels misses many of a rare class. With a number above 0, it misses fewer and
    gives more false alarms. The choice needs no training: compare scores on validation images. Of two classes, a
    number z for the second one moves the threshold of its probability from 0.5 to 1 / (1 + exp(z)).

    Args:
        offsets: numbers by the name of a class, or of a group of the table (``"small"``, ``"large"``). A class that is
            named itself does not take the number of its group; all other classes get 0.
        classes: table of the classes.

    Raises:
        ValueError: if a name is unknown, or a number is not finite.

    Example:
        >>> from afma_med.data import NUCLEI
        >>> AddClassOffsets({"nucleus": 0.5}, NUCLEI.classes)(torch.zeros(2, 1, 1)).flatten()
        tensor([0.0000, 0.5000])

    Reference:
        Menon, Jayasumana, Rawat, Jain, Veit, Kumar: Long-tail learning via logit adjustment, ICLR 2021.
    """

    def __init__(self, offsets: Mapping[str, float], classes: Sequence[ClassInfo]) -> None:
        known, names = named_classes(classes), class_names(classes)
        for name, offset in offsets.items():
            if name not in known:
                raise ValueError(f"`offsets` must name classes or groups of {list(known)}; got {name!r}. Correct it.")
            if not math.isfinite(offset):
                raise ValueError(f"`offsets` must be finite numbers; got {offset!r} for {name}. Use 0.5, for example.")
        self.offsets = torch.zeros(len(names))
        for name in sorted(offsets, key=names.__contains__):  # groups first, so that the class's own number stays
            self.offsets[known[name]] = float(offsets[name])

    def __call__(self, data: Tensor) -> Tensor:
        """Add the numbers to logits (K,...).

        Raises:
            ValueError: if there are not K channels.
        """
        if len(data) != len(self.offsets):
            raise ValueError(
                f"Logits must have a channel for each of the {len(self.offsets)} classes; got {len(data)}. "
                "Use the class table that the network was trained with."
            )
        return data + self.offsets.to(data).view(-1, *[1] * (data.ndim - 1))


class AddClassOffsetsd(MapTransform):
    """Add numbers to the logits of dictionaries, as :class:`AddClassOffsets` does.

    Args:
        keys: items that hold logits.
        offsets: see :class:`AddClassOffsets`.
        classes: table of the classes.
    """

    def __init__(self, keys: KeysCollection, offsets: Mapping[str, float], classes: Sequence[ClassInfo]) -> None:
        super().__init__(keys)
        self.add = AddClassOffsets(offsets, classes)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return apply_to_keys(self, self.add, data)
