"""Logits in the outputs of hosts that return more: levels of deep supervision, auxiliary outputs, dictionaries."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from afma_med._ops.patches import ceil_divide, crop_to

__all__ = ["crop_output", "find_levels", "find_logits", "replace_logits", "upsample_to"]

# Names of the logits in the dictionaries of torchvision and transformers.
_KEYS = ("out", "logits")


def find_logits(output: Any, axes: int = 4) -> Tensor | None:
    """Find the logits (B,K,H,W) of the highest resolution in the output of a segmentation network.

    Args:
        output: logits, or a list, tuple or dictionary with logits, an object with ``logits``, or deeply supervised
            levels stacked as (B,levels,K,H,W).
        axes: Number of axes of the logits: 4, or 5 for volumes (B,K,H,W,D).

    Returns:
        The logits, or None if there are none.
    """
    if isinstance(output, Tensor):
        return output[:, 0] if output.ndim == axes + 1 else output if output.ndim == axes else None
    if isinstance(output, Mapping):
        return next((find_logits(output[key], axes) for key in _KEYS if key in output), None)
    if hasattr(output, "logits"):
        return find_logits(output.logits, axes)
    if not isinstance(output, Sequence):
        return None
    maps = [level for level in output if isinstance(level, Tensor) and level.ndim == axes]
    return max(maps, key=lambda level: level.shape[2], default=None)  # the first, if several are as large


def find_levels(output: Any) -> list[Tensor]:
    """List the logits of a list, tuple, dictionary or object: all levels of deep supervision, the largest first."""
    logits = find_logits(output)
    levels = output if isinstance(output, Sequence) else [logits]
    classes = None if logits is None else logits.shape[1]
    found = [level for level in levels if isinstance(level, Tensor) and level.ndim == 4 and level.shape[1] == classes]
    return sorted(found, key=lambda level: -level.shape[2])


def replace_logits(output: Any, logits: Tensor, replacement: Tensor) -> Any:
    """Return the output with other logits in place of those that :func:`find_logits` found, and the rest unchanged."""
    if isinstance(output, Tensor):
        rest = output[:, 1:] if output.ndim == 5 else None
        return replacement if rest is None else torch.cat([replacement[:, None], rest.to(replacement.dtype)], dim=1)
    return _map_tensors(output, lambda x: replacement if x is logits else x)


def crop_output(output: Any, size: tuple[int, int], padded: tuple[int, int]) -> Any:
    """Crop all maps of an output, of any whole stride, as a padded image is cropped to its size (H, W)."""
    if size == padded:
        return output

    def crop(x: Tensor) -> Tensor:
        if x.ndim not in (4, 5) or any(whole % side for whole, side in zip(padded, x.shape[-2:], strict=True)):
            return x
        height, width = (
            ceil_divide(side, whole // part) for side, whole, part in zip(size, padded, x.shape[-2:], strict=True)
        )
        return crop_to(x, (height, width)) if x.ndim == 4 else x[..., :height, :width]

    return crop(output) if isinstance(output, Tensor) else _map_tensors(output, crop)


def upsample_to(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize logits bilinearly to (H, W)."""
    return logits if logits.shape[2:] == size else F.interpolate(logits, size, mode="bilinear", align_corners=False)


def _map_tensors(output: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply a function to the tensors of an output, and keep its type."""
    if isinstance(output, Tensor):
        return function(output)
    if isinstance(output, Mapping):
        mapped: Any = copy.copy(output)  # which keeps the class, such as the outputs of transformers
        for key, value in output.items():
            mapped[key] = _map_tensors(value, function)
        return mapped
    if hasattr(output, "_replace"):
        return output._replace(**{name: _map_tensors(getattr(output, name), function) for name in output._fields})
    if isinstance(output, list | tuple):
        return type(output)(_map_tensors(value, function) for value in output)
    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        return dataclasses.replace(output, logits=_map_tensors(output.logits, function))  # type: ignore[attr-defined]
    if hasattr(output, "logits"):
        mapped = copy.copy(output)
        mapped.logits = _map_tensors(output.logits, function)
        return mapped
    return output
