"""What several modules do to any tensor, or ask before they do."""

from __future__ import annotations

import contextlib

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = [
    "at_least_float32",
    "autocast_off",
    "has_nonzero",
    "is_captured",
    "item_chunks",
    "with_metadata_of",
    "without_metadata",
]

# Elements that are worked on at once: 2 MiB of float32 on a CPU, 64 MiB on other devices.
_CPU_CHUNK, _DEVICE_CHUNK = 2**19, 2**24


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision and bool: products over D, sums over pixels and counts of exact zeros need float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16, torch.bool) else x


def autocast_off(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Leave autocast, where the tensor's device has it: the meta device has none."""
    device = x.device.type
    return contextlib.nullcontext() if device == "meta" else torch.autocast(device_type=device, enabled=False)


def has_nonzero(x: Tensor) -> Tensor:
    """Tell which rows of (...,D) hold anything but zeros; `any` does too, many times slower on the CPU."""
    lowest, highest = torch.aminmax(x.view(torch.uint8) if x.dtype == torch.bool else x, dim=-1)
    return (lowest != 0) | (highest != 0)


def is_captured() -> bool:
    """Tell whether the code runs to be recorded as a graph: traced, exported or compiled."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def without_metadata(x: Tensor) -> Tensor:
    """Leave MONAI's metadata behind, which slows every operation."""
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def with_metadata_of(x: Tensor, source: Tensor) -> Tensor:
    """Give MONAI's metadata of another tensor, if it has any."""
    if not isinstance(source, MetaTensor):
        return x
    copied: Tensor = MetaTensor(x).copy_meta_from(source)
    return copied


def item_chunks(items: int, elements: int, like: Tensor) -> list[slice]:
    """Divide a batch of items of so many elements each into chunks that are worked on one after the other.

    Temporaries then have the size of a chunk: on a CPU small enough to stay in its cache, elsewhere large enough to
    keep it busy. A graph has one chunk, for their number must not depend on sizes.
    """
    if is_captured():
        return [slice(0, items)]
    step = max(1, (_CPU_CHUNK if like.device.type == "cpu" else _DEVICE_CHUNK) // max(1, elements))
    return [slice(start, min(start + step, items)) for start in range(0, items, step)]
