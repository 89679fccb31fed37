"""What several modules do to any tensor, or ask before they do."""

from __future__ import annotations

import contextlib

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = ["at_least_float32", "autocast_off", "is_captured", "without_metadata"]


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision: products over D, sums over pixels and counts of exact zeros need float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Leave autocast, where the tensor's device has it: the meta device has none."""
    device = x.device.type
    return contextlib.nullcontext() if device == "meta" else torch.autocast(device_type=device, enabled=False)


def is_captured() -> bool:
    """Tell whether the code runs to be recorded as a graph: traced, exported or compiled."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def without_metadata(x: Tensor) -> Tensor:
    """Leave MONAI's metadata behind, which slows every operation."""
    return x.as_tensor() if isinstance(x, MetaTensor) else x
