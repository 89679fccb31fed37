"""Fast forms of AFMABlock's layers: two convolutions as one, and patches projected a few maps at a time."""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afma_med._ops.patches import count_patches, join_patches_into, split_patches
from afma_med._ops.tensors import (
    autocast_off,
    gradients_by_autograd,
    is_captured,
    is_differentiated_again,
    item_chunks,
)

__all__ = ["convolve_twice", "input_dtype", "is_plain_conv", "is_plain_linear", "is_unhooked", "project_patches"]


def is_plain_conv(layer: nn.Module, kernel_size: int) -> bool:
    """Tell whether a layer computes the square convolution of odd side that AFMABlock built, and nothing more."""
    if type(layer) is not nn.Conv2d or not is_unhooked(layer) or layer.bias is None:
        return False
    same = (kernel_size,) * 2, (kernel_size // 2,) * 2, (1, 1), (1, 1), 1, "zeros"
    geometry = layer.kernel_size, layer.padding, layer.stride, layer.dilation, layer.groups, layer.padding_mode
    return geometry == same


def is_plain_linear(layer: nn.Module) -> bool:
    """Tell whether a layer multiplies by its weight, and does nothing more."""
    return type(layer) is nn.Linear and is_unhooked(layer) and layer.bias is None


def input_dtype(layer: nn.Module) -> torch.dtype:
    """Return the dtype that a layer takes: its own floating-point dtype; float32 if it has none, as if quantized."""
    # The weight first: replicas of nn.DataParallel have no parameters.
    tensors = (x for x in (getattr(layer, "weight", None), *layer.parameters()) if isinstance(x, Tensor))
    return next((x.dtype for x in tensors if x.is_floating_point()), torch.float32)


def is_unhooked(layer: nn.Module) -> bool:
    """Tell whether a call of the layer runs its class's `forward` alone."""
    hooks = layer._forward_hooks, layer._forward_pre_hooks, layer._backward_hooks, layer._backward_pre_hooks
    return not any(hooks) and "forward" not in layer.__dict__


def convolve_twice(image: Tensor, first: nn.Conv2d, second: nn.Conv2d) -> Tensor:
    """A zero-padded 7×7 and a zero-padded 3×3 convolution with nothing between, as one 9×9 convolution.

    They differ at the image's border: one pixel outside of it, where the second convolution pads with zeros, the
    composed one goes by what the first would give there. Its contribution is taken away again.

    Args:
        image: (B,C,H,W).
        first: 7×7, padding 3.
        second: 3×3, padding 1.

    Returns:
        (B,K,H,W).
    """
    w1, b1, w2, b2 = first.weight, first.bias, second.weight, second.bias
    # Not in channels_last: patches are split from contiguous maps, and a GPU takes longer for three channels in it.
    image = image.contiguous()
    kernel = F.conv2d(w1.transpose(0, 1), w2.flip(2, 3), padding=2).transpose(0, 1).contiguous()
    bias = F.linear(b1, w2.sum(dim=(2, 3)), b2)  # type: ignore[arg-type]
    composed = F.conv2d(image, kernel, bias, padding=4)
    # The first convolution one pixel outside the image reads three rows (columns) of it; corners go with the rows.
    rows, columns = max(0, 3 - image.shape[2]), max(0, 3 - image.shape[3])
    top = F.conv2d(F.pad(image[:, :, :3], (4, 4, 4, rows)), w1, b1)
    bottom = F.conv2d(F.pad(image[:, :, -3:], (4, 4, rows, 4)), w1, b1)
    left = F.conv2d(F.pad(image[..., :3], (4, columns, 3, 3)), w1, b1)
    right = F.conv2d(F.pad(image[..., -3:], (columns, 4, 3, 3)), w1, b1)
    horizontal = F.conv2d(top, w2[:, :, :1]), F.conv2d(bottom, w2[:, :, 2:])
    vertical = F.conv2d(left, w2[..., :1], padding=(1, 0)), F.conv2d(right, w2[..., 2:], padding=(1, 0))
    if is_captured():
        return _subtract_border(composed, *horizontal, *vertical)
    corrected: Tensor = _SubtractBorder.apply(composed, *horizontal, *vertical)
    return corrected


def project_patches(maps: Tensor, matrix: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """Split maps into patches, multiply each by a matrix and take what is positive.

    Args:
        maps: (B,K,H,W).
        matrix: (D,D).
        patch_size: (ph, pw), in pixels.

    Returns:
        (B,K,N,D).
    """
    if is_captured():
        return _project_by_formula(maps, matrix, patch_size)
    # Maps in channels_last would be copied whole for each few of them.
    projected: Tensor = _ProjectPatches.apply(maps.contiguous(), matrix, patch_size)
    return projected


def _project_by_formula(maps: Tensor, matrix: Tensor, patch_size: tuple[int, int]) -> Tensor:
    return F.linear(split_patches(maps, patch_size), matrix).relu()


def _subtract_border(x: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    height, width = x.shape[2] - 1, x.shape[3] - 1
    x = x - F.pad(top, (0, 0, 0, height)) - F.pad(bottom, (0, 0, height, 0))
    return x - F.pad(left, (0, width)) - F.pad(right, (width, 0))


class _SubtractBorder(torch.autograd.Function):
    """Subtract from the outermost rows and columns in place, which costs no copy of the whole, backward either."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
        ctx.mark_dirty(x)
        x[:, :, :1] -= top
        x[:, :, -1:] -= bottom
        x[..., :1] -= left
        x[..., -1:] -= right
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        return grad, -grad[:, :, :1], -grad[:, :, -1:], -grad[..., :1], -grad[..., -1:]


class _ProjectPatches(torch.autograd.Function):
    """:func:`project_patches`, a few maps at a time, so that patches before the projection exist for these only."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, matrix: Tensor, patch_size: tuple[int, int]) -> Tensor:
        ctx.patch_size = patch_size
        patches = count_patches((maps.shape[2], maps.shape[3]), patch_size)
        result = maps.new_empty(*maps.shape[:2], patches, matrix.shape[0])
        flat = result.flatten(0, 1)
        for chunk in _chunks(maps):
            torch.matmul(_split(maps, chunk, patch_size), matrix.T, out=flat[chunk]).relu_()
        ctx.save_for_backward(maps, matrix, result)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        maps, matrix, result = ctx.saved_tensors
        if is_differentiated_again():
            formula = functools.partial(_project_by_formula, patch_size=ctx.patch_size)
            return *gradients_by_autograd(formula, (maps, matrix), ctx.needs_input_grad[:2], grad), None
        grad_maps, grad_matrix = torch.empty_like(maps), torch.zeros_like(matrix)
        flat, grads, results = (x.flatten(0, 1) for x in (grad_maps, grad, result))
        for chunk in _chunks(maps):
            with autocast_off(maps):
                kept = torch.ops.aten.threshold_backward(grads[chunk], results[chunk], 0)
                join_patches_into(flat[None, chunk], (kept @ matrix)[None], ctx.patch_size)
                grad_matrix += kept.flatten(0, 1).T @ _split(maps, chunk, ctx.patch_size).flatten(0, 1)
        return grad_maps, grad_matrix, None


def _chunks(maps: Tensor) -> list[slice]:
    return item_chunks(maps.shape[0] * maps.shape[1], maps.shape[2] * maps.shape[3], maps)


def _split(maps: Tensor, chunk: slice, patch_size: tuple[int, int]) -> Tensor:
    """The patches of some maps, (items,N,D)."""
    return split_patches(maps.flatten(0, 1)[None, chunk], patch_size)[0]
