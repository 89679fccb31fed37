"""One check of the values of labels, for losses, metrics, transforms and pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.tensors import is_transformed, without_metadata

__all__ = ["as_signed", "as_tensor", "check_classes", "index_array", "whole_numbers"]

_REMEDY = (
    "Map the label values to the network's classes, resample labels by nearest neighbour, or name the void value with "
    "`ignore_index`."
)
# Values in a message.
_SHOWN = 10


def as_signed(label: Tensor) -> Tensor:
    """Return a label without metadata, in a type that compares with negative void values: uint8 wraps around."""
    label = without_metadata(label)
    return label if label.is_floating_point() else label.long()


def check_classes(
    name: str,
    label: Tensor,
    highest: int | None = None,
    *,
    one_hot: bool = False,
    ignore_index: int | None = None,
    remedy: str = _REMEDY,
) -> None:
    """Refuse a label with values other than classes.

    Args:
        name: Name of the label in the message.
        label: Of any shape and number type.
        highest: Largest class; None for any whole number that int64 holds.
        one_hot: Whether the label is one-hot; for the message.
        ignore_index: Label value of void pixels.
        remedy: End of the message.

    Raises:
        ValueError: If a value is neither a class nor ``ignore_index``.
    """
    signed = as_signed(label)
    bad = signed != signed.round()
    if highest is not None:
        bad = bad | (signed < 0) | (signed > highest)
    elif signed.is_floating_point():
        bad = bad | (signed.abs() >= 2.0**63)
    elif label.dtype == torch.uint64:
        bad = bad | (signed < 0)  # it has wrapped around
    if ignore_index is not None:
        bad = bad & (signed != ignore_index)
    if torch.compiler.is_compiling():  # to look at values would break the graph
        torch._assert_async(~bad.any(), f"`{name}` must hold classes or `ignore_index`; run uncompiled to see more")
    elif not is_transformed() and bool(bad.any()):
        rule = "whole numbers" if highest is None else "0 and 1" if one_hot else f"classes 0 to {highest}"
        raise ValueError(
            f"`{name}` must hold {rule}{'' if ignore_index is None else f', or {ignore_index} for void'}; "
            f"got {_list_values(label, bad)}. {remedy}"
        )


def whole_numbers(name: str, label: Tensor) -> Tensor:
    """Return a label as int64, without metadata.

    Raises:
        ValueError: If a value is not a whole number, such as 0.9999 after a linear resampling.

    Example:
        >>> whole_numbers("label", torch.tensor([0.0, 2.0]))
        tensor([0, 2])
    """
    check_classes(name, label)
    return as_signed(label).long()


def index_array(name: str, label: NDArray[Any]) -> NDArray[np.integer]:
    """Return a label as an array of integers. An array of integers or bools is returned unchanged.

    Raises:
        ValueError: If a value is not a whole number.

    Example:
        >>> index_array("label", np.array([0.0, 2.0])).tolist()
        [0, 2]
    """
    if label.dtype.kind in "bi" or (label.dtype.kind == "u" and label.dtype.itemsize < 8):
        return label
    return whole_numbers(name, as_tensor(label)).numpy()


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return any array as a tensor; torch takes neither arrays of another byte order nor flipped ones."""
    return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))


def _list_values(label: Tensor, bad: Tensor) -> str:
    plain = without_metadata(label).detach()
    plain = plain.float() if plain.dtype == torch.bfloat16 else plain
    values = np.unique(plain.numpy(force=True)[bad.numpy(force=True)])
    # str() of a float32 is 0.9999, that of the float64 with the same value 0.9998999834060669.
    return f"[{', '.join(str(value) for value in values[:_SHOWN])}]"
