"""Argument checks that several modules share."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from numbers import Integral

from torch import Tensor, nn

__all__ = [
    "NonFiniteError",
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
    """An error that ends a run and names the remedy. Bundles print it without a traceback."""


class NonFiniteError(RunError, ValueError):
    """Predictions or weights with NaN or infinite values."""


def as_patch_size(patch_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a patch size as (height, width) in pixels.

    Raises:
        ValueError: If it is neither a positive int nor two of them.

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
    """Return whether a value is a positive integer. A bool is not.

    Example:
        >>> is_positive_int(3), is_positive_int(0), is_positive_int(2.0), is_positive_int(True)
        (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_tensor(name: str, x: object, axes: str, *, floating: bool = False) -> None:
    """Raise TypeError if a value is not a tensor or, with ``floating``, not a floating point tensor."""
    if not isinstance(x, Tensor):
        raise TypeError(
            f"`{name}` must be a torch tensor {axes}; got {type(x).__name__}. Convert it with torch.as_tensor."
        )
    if floating and not x.is_floating_point():
        raise TypeError(f"`{name}` must hold floating point numbers; got {x.dtype}. Convert it with .float().")


def check_four_axes(name: str, x: Tensor, axes: str) -> None:
    """Raise TypeError if a value is not a tensor, and ValueError if it does not have four axes."""
    check_tensor(name, x, axes)
    if x.ndim != 4:
        raise ValueError(
            f"`{name}` must have the 4 axes {axes}; got shape {tuple(x.shape)}. "
            "Add or fold axes; afma_med works on 2-D images."
        )


def check_values(values: Tensor, key: Tensor) -> None:
    """Raise ValueError if attention values (B,K,M,D) do not have the shape of the key."""
    check_tensor("values", values, "(B,K,M,D)")
    if values.shape != key.shape:
        raise ValueError(
            f"`values` must have the key's shape (B,K,M,D) = {tuple(key.shape)}; got {tuple(values.shape)}. "
            "Split them with the patch size and stride of `grid`, and compute key and values from the same image."
        )


def check_image(image: Tensor) -> None:
    """Raise TypeError or ValueError if a value is not a floating point tensor (B,C,H,W) with pixels."""
    check_four_axes("image", image, "(B,C,H,W)")
    check_tensor("image", image, "(B,C,H,W)", floating=True)
    if 0 in image.shape[2:]:
        raise ValueError(f"`image` must have pixels; got shape {tuple(image.shape)}. Check the image.")


def check_module(name: str, module: object) -> None:
    """Raise TypeError if a value is not a network but, for example, its class."""
    if not isinstance(module, nn.Module):
        got = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise TypeError(f"`{name}` must be a torch.nn.Module; got {got}. Build the network and pass it.")


def explain_mismatch(image: Tensor, network: nn.Module, error: RuntimeError) -> None:
    """Raise a clear error if a network failed because device or dtype differ from those of the image.

    Call it after the failure only, because some networks move or convert their input.

    Raises:
        ValueError: If the devices differ.
        TypeError: If the dtypes differ.
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
    """Raise ValueError if a number of channels is not a positive int."""
    for name, value in channels.items():
        if not is_positive_int(value):
            raise ValueError(f"`{name}` must be a positive int; got {value!r}. Pass the number of channels.")


def check_int(name: str, value: int, *, least: int = 0) -> int:
    """Return an integer argument as int.

    Raises:
        TypeError: If it is not an integer.
        ValueError: If it is less than ``least``.

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
