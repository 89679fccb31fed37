"""Operations on any tensor, and questions about how the code runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import torch
from monai.data import MetaTensor
from torch import Tensor

__all__ = [
    "at_least_float32",
    "autocast_off",
    "gradients_by_autograd",
    "has_nonzero",
    "is_captured",
    "is_differentiated_again",
    "is_probability",
    "is_transformed",
    "item_chunks",
    "with_metadata_of",
    "without_metadata",
]

# Elements that are worked on at once: 2 MiB of float32 on a CPU, 256 MiB on other devices.
_CPU_CHUNK, _DEVICE_CHUNK = 2**19, 2**26


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
    """Tell whether branches must not depend on values: in a graph (traced, exported, compiled) and in torch.func."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """Tell whether a transform of torch.func (grad, vmap, jvp) runs the code; it needs formulas autograd knows."""
    return not torch.compiler.is_compiling() and torch._C._functorch.peek_interpreter_stack() is not None


def is_differentiated_again() -> bool:
    """Tell, in a backward pass written by hand, whether its own gradient is needed (``create_graph=True``)."""
    return torch.is_grad_enabled() and not is_captured()


def gradients_by_autograd(
    formula: Callable[..., Tensor], inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Differentiate a formula so that its gradients can be differentiated again.

    Args:
        formula: the function whose backward pass it is.
        inputs: its tensors, as saved for the backward pass.
        needed: which of them need a gradient.
        grad: gradient of the formula's result.

    Returns:
        One gradient per input; None where not needed.
    """
    # Views, since one input may depend on another, and a partial derivative must not follow that path.
    views = [x.view_as(x) for x in inputs]
    wanted = [x for x, need in zip(views, needed, strict=True) if need]
    found = iter(torch.autograd.grad(formula(*views), wanted, grad, create_graph=True))
    return tuple(next(found) if need else None for need in needed)


def without_metadata(x: Tensor) -> Tensor:
    """Leave MONAI's metadata behind, which slows every operation."""
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def is_probability(x: Tensor, dim: int) -> bool:
    """Tell whether several channels are probabilities: none is negative, and they sum to 1 at every pixel.

    Maps of zeros and ones may also be logits.
    """
    if is_captured() or x.shape[dim] < 2 or not x.numel():
        return False
    plain = without_metadata(x).detach()
    rounding = 1e-4 if plain.dtype in (torch.float32, torch.float64) else 2e-2
    between = (plain > 0) & (plain < 1)
    return bool(between.any()) and bool((plain >= 0).all()) and bool(((plain.sum(dim) - 1).abs() < rounding).all())


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
