"""Checks of arguments that several modules share."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

from torch import Tensor

__all__ = ["RunError", "as_patch_size", "check_channels", "check_four_axes", "is_positive_int"]


class RunError(RuntimeError):
    """Tell what ended a run and what to do; bundles print it without a traceback."""


def as_patch_size(patch_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a patch size as (height, width) in pixels.

    Raises:
        ValueError: if it is neither a positive int nor two of them.

    Example:
        >>> as_patch_size(10), as_patch_size((4, 16))
        ((10, 10), (4, 16))
    """
    sides = tuple(patch_size) if isinstance(patch_size, Sequence) else (patch_size, patch_size)
    if len(sides) != 2 or not all(is_positive_int(side) for side in sides):
        raise ValueError(
            f"`patch_size` must be a positive int or (height, width) of positive ints; got {patch_size!r}. "
            "The paper uses 10."
        )
    return int(sides[0]), int(sides[1])


def is_positive_int(value: object) -> bool:
    """Tell whether a value is a whole number above 0 of any integer type; True is none.

    Example:
        >>> is_positive_int(3), is_positive_int(0), is_positive_int(2.0), is_positive_int(True)
        (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_four_axes(name: str, x: Tensor, axes: str) -> None:
    """Refuse a tensor that is not 4-D.

    Raises:
        ValueError: naming the tensor, its axes and its shape.
    """
    if x.ndim != 4:
        raise ValueError(
            f"`{name}` must have the 4 axes {axes}; got shape {tuple(x.shape)}. "
            "Add or fold axes; afma_med works on 2-D images."
        )


def check_channels(**channels: int) -> None:
    """Refuse a number of channels that is not positive.

    Raises:
        ValueError: naming the argument.
    """
    for name, value in channels.items():
        if not is_positive_int(value):
            raise ValueError(f"`{name}` must be a positive int; got {value!r}. Pass the number of channels.")
