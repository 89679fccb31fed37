"""Checks of arguments that several modules share."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Integral

from torch import Tensor, nn

__all__ = [
    "RunError",
    "as_patch_size",
    "check_channels",
    "check_four_axes",
    "check_image",
    "check_int",
    "check_module",
    "check_tensor",
    "check_values",
    "explain_mismatch",
    "is_positive_int",
]


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


def check_tensor(name: str, x: object, axes: str, *, floating: bool = False) -> None:
    """Refuse what is no tensor, or, if asked for, one of whole numbers.

    Raises:
        TypeError: naming the argument and what it is.
    """
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` must be a torch tensor {axes}; got {type(x).__name__}. Convert it with torch.as_tensor."
        )
    if floating and not x.is_floating_point():
        raise TypeError(f"`{name}` must be of floating point numbers; got {x.dtype}. Convert it with .float().")


def check_four_axes(name: str, x: Tensor, axes: str) -> None:
    """Refuse what is no tensor, or not 4-D.

    Raises:
        TypeError: if it is no tensor.
        ValueError: naming the tensor, its axes and its shape.
    """
    check_tensor(name, x, axes)
    if x.ndim != 4:
        raise ValueError(
            f"`{name}` must have the 4 axes {axes}; got shape {tuple(x.shape)}. "
            "Add or fold axes; afma_med works on 2-D images."
        )


def check_values(values: Tensor, key: Tensor) -> None:
    """Refuse values that cannot be spread with a key.

    Raises:
        TypeError: if they are no tensor.
        ValueError: if they have not the key's shape.
    """
    check_tensor("values", values, "(B,K,M,D)")
    if values.shape != key.shape:
        raise ValueError(
            f"`values` must have the key's shape (B,K,M,D) = {tuple(key.shape)}; got {tuple(values.shape)}. "
            "Split them with the patch size and stride of `grid`, and take key and values from the same image."
        )


def check_image(image: Tensor) -> None:
    """Refuse what no network can take as a batch of images.

    Raises:
        TypeError: if it is no tensor of floating point numbers.
        ValueError: if it has not 4 axes, or no pixels.
    """
    check_four_axes("image", image, "(B,C,H,W)")
    check_tensor("image", image, "(B,C,H,W)", floating=True)
    if 0 in image.shape[2:]:
        raise ValueError(f"`image` must have pixels; got shape {tuple(image.shape)}. Look at what was loaded.")


def check_module(name: str, module: object) -> None:
    """Refuse what is no network, such as a class in place of one.

    Raises:
        TypeError: naming the argument and what it is.
    """
    if not isinstance(module, nn.Module):
        got = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise TypeError(f"`{name}` must be a torch.nn.Module; got {got}. Build the network and pass it.")


def explain_mismatch(image: Tensor, network: nn.Module, error: RuntimeError) -> None:
    """Say what is wrong if a network failed because its parameters lie elsewhere than the image, or have another dtype.

    Asked after the failure only: there are networks that move and convert what they are given.

    Raises:
        ValueError: if devices differ.
        TypeError: if dtypes differ.
    """
    parameter = next(network.parameters(), image)
    if parameter.device != image.device:
        raise ValueError(
            f"`image` must be on the network's device {parameter.device}; got {image.device}. "
            "Move one of them with .to(device)."
        ) from error
    if parameter.dtype != image.dtype:
        raise TypeError(
            f"`image` must have the network's dtype {parameter.dtype}; got {image.dtype}. Convert one with .to(dtype), "
            "or use torch.autocast."
        ) from error


def check_channels(**channels: int) -> None:
    """Refuse a number of channels that is not positive.

    Raises:
        ValueError: naming the argument.
    """
    for name, value in channels.items():
        if not is_positive_int(value):
            raise ValueError(f"`{name}` must be a positive int; got {value!r}. Pass the number of channels.")


def check_int(name: str, value: int, *, least: int = 0) -> int:
    """Return an integer argument as int, or refuse it.

    Raises:
        TypeError: if it is no integer.
        ValueError: if it is too small.

    Example:
        >>> check_int("seed", 3)
        3
    """
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer ≥ {least}; got {value!r}. Pass an int.") from None
    if number < least:
        raise ValueError(f"`{name}` must be ≥ {least}; got {number}. Pass a larger number.")
    return number
