"""Steps 8 and 9 in one: spread values over the image patches and correct the logits, without maps of the correction."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from afma_med._ops.factored_products import triple_product
from afma_med._ops.nonzeros import count_nonzero_per_row
from afma_med._ops.patches import PatchGrid, crop_to, join_patches, pad_to, split_patches
from afma_med._ops.tensors import autocast_off, gradients_by_autograd, has_nonzero, is_differentiated_again, item_chunks

__all__ = ["ModulateLogits", "modulate_by_formula", "row_scale", "spread_values"]

# Added to the count of non-zeros in step 8, as released, so that an all-zero row divides by something.
_COUNT_EPSILON = 1e-5


def row_scale(query: Tensor, key: Tensor) -> Tensor:
    """What each row of query keyᵀ is multiplied by in step 8: 1 / (D · its count of non-zeros), without gradient.

    (items,N,D), (items,M,D) -> (items,N,1).
    """
    return 1 / (query.shape[-1] * (count_nonzero_per_row(query, key) + _COUNT_EPSILON))


def spread_values(query: Tensor, key: Tensor, values: Tensor) -> Tensor:
    """Compute query keyᵀ values, each row scaled by :func:`row_scale`, (B,K,N,D)."""
    # Class by class: a graph counts in products, N × M numbers of which are enough at a time.
    factors = zip(query.detach().unbind(1), key.detach().unbind(1), strict=True)
    return triple_product(query, key.mT, values) * torch.stack([row_scale(*pair) for pair in factors], dim=1)


def modulate_by_formula(logits: Tensor, query: Tensor, key: Tensor, values: Tensor, grid: PatchGrid) -> Tensor:
    """Compute logits + logits · X in plain operations, which compilers and second derivatives follow."""
    correction = join_patches(spread_values(query, key, values), grid.image_size, grid.patch_size)
    return logits + logits * crop_to(correction, (logits.shape[2], logits.shape[3]))


class ModulateLogits(torch.autograd.Function):
    """Correct logits by logits · X, with X the joined patches of query keyᵀ values · row scale.

    A few (image, class) pairs at a time, in the backward pass too, where X is computed anew: neither X nor its patches
    exist for all of them at once. Feature patches without a value, for a class was not predicted there, are left out,
    and a class that was predicted nowhere costs nothing.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, query: Tensor, key: Tensor, values: Tensor, grid: PatchGrid) -> Tensor:
        maps, q, k, v = (x.flatten(0, 1) for x in (logits, query, key, values))
        result, scale = maps.new_empty(logits.shape), q.new_zeros(*q.shape[:2], 1)
        corrected = result.flatten(0, 1)
        for chunk, rows in _parts(v, q, all_rows=ctx.needs_input_grad[3]):
            if rows is None:
                corrected[chunk] = maps[chunk]
                continue
            scale[chunk] = row_scale(q[chunk], k[chunk])
            x = _correction(q[chunk], k[chunk, rows], v[chunk, rows], scale[chunk], maps.shape[1:], grid)
            torch.addcmul(maps[chunk], maps[chunk], x, out=corrected[chunk])
        ctx.grid = grid
        ctx.save_for_backward(logits, query, key, values, scale)
        return result

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        logits, query, key, values, scale = ctx.saved_tensors
        if is_differentiated_again():
            inputs = logits, query, key, values
            formula = functools.partial(modulate_by_formula, grid=ctx.grid)
            return *gradients_by_autograd(formula, inputs, ctx.needs_input_grad[:4], grad), None
        g, maps, q, k, v = (x.flatten(0, 1) for x in (grad, logits, query, key, values))
        # Written to through views, so that the tensors handed back are no views, to which autograd adds in place.
        gradients = [x.new_empty(x.shape) for x in (logits, query, key, values)]
        grad_maps, grad_q, grad_k, grad_v = (x.flatten(0, 1) for x in gradients)
        for chunk, rows in _parts(v, q, all_rows=ctx.needs_input_grad[3]):
            if rows is None:
                grad_maps[chunk], grad_q[chunk], grad_k[chunk] = g[chunk], 0, 0
                continue
            some_q, some_k, some_v = q[chunk], k[chunk, rows], v[chunk, rows]
            with autocast_off(q):
                x = _correction(some_q, some_k, some_v, scale[chunk], maps.shape[1:], ctx.grid)
                torch.addcmul(g[chunk], g[chunk], x, out=grad_maps[chunk])
                grad_x = pad_to((g[chunk] * maps[chunk])[None], ctx.grid.image_size)
                grad_spread = split_patches(grad_x, ctx.grid.patch_size)[0].mul_(scale[chunk])
                grad_q[chunk] = triple_product(grad_spread, some_v.mT, some_k)
                grad_k[chunk] = 0
                grad_k[chunk, rows] = triple_product(some_v, grad_spread.mT, some_q)
                if ctx.needs_input_grad[3]:
                    grad_v[chunk] = triple_product(some_k, some_q.mT, grad_spread)
        return *gradients[:3], gradients[3] if ctx.needs_input_grad[3] else None, None


def _parts(values: Tensor, query: Tensor, *, all_rows: bool) -> Iterator[tuple[slice, Tensor | slice | None]]:
    """Chunks of items, and the rows in which their values are not all zero; None where there is none.

    On the CPU only. Elsewhere to look at values and to take many small steps costs more than is saved.
    """
    items, elements = query.shape[0], query.shape[1] * query.shape[2]
    if all_rows or values.device.type != "cpu":
        yield from ((chunk, slice(None)) for chunk in item_chunks(items, elements, query))
        return
    filled = has_nonzero(values)
    for present, run in itertools.groupby(range(items), filled.any(dim=1).tolist().__getitem__):
        first, *others = run
        for chunk in item_chunks(1 + len(others), elements, query):
            part = slice(first + chunk.start, first + chunk.stop)
            yield part, filled[part].any(dim=0).nonzero()[:, 0] if present else None


def _correction(q: Tensor, k: Tensor, v: Tensor, scale: Tensor, size: torch.Size, grid: PatchGrid) -> Tensor:
    """X of a few items, (items,H,W) as large as the logits."""
    patches = triple_product(q, k.mT, v).mul_(scale)
    return crop_to(join_patches(patches[None], grid.image_size, grid.patch_size), (size[0], size[1]))[0]
