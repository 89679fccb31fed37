"""What can be known of a matrix query keyᵀ from its thin factors, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from afma_med.tensors import is_captured

__all__ = ["SquaredDistance", "count_nonzero_per_row"]

# Elements of a temporary that chunked loops may hold at once: 64 MiB in float64.
_CHUNK_ELEMENTS = 2**23


@torch.no_grad()
def count_nonzero_per_row(query: Tensor, key: Tensor) -> Tensor:
    """Count the non-zeros of each row of query keyᵀ, (B,K,N,1), a bounded number of rows at a time.

    In a trace or an exported program, where sizes are unknown, one class at a time.
    """
    key = key.transpose(-1, -2)
    if is_captured():
        counts = [(query[:, k] @ key[:, k] != 0).sum(dim=-1) for k in range(query.shape[1])]
        return torch.stack(counts, dim=1).unsqueeze(-1).to(query.dtype)
    rows = max(1, _CHUNK_ELEMENTS // (query.shape[0] * query.shape[1] * key.shape[-1]))
    counts = [(chunk @ key != 0).sum(dim=-1) for chunk in torch.split(query, rows, dim=2)]
    return torch.cat(counts, dim=2).unsqueeze(-1).to(query.dtype)


class SquaredDistance(torch.autograd.Function):
    """Sum of (Q Kᵀ / D - G G'ᵀ / D')² over the batch, from factors.

    With S = [Q / D, -G / D'] and T = [K, G'] the difference is S Tᵀ, and its sum of squares is the inner product of
    two small Gram matrices, <SᵀS, TᵀT>. Its gradients are 2 S (TᵀT) and 2 T (SᵀS). The Gram matrices cancel when the
    two attentions are close, so that float32 would lose the value: they are formed in float64, a few (image, class)
    pairs at a time. Only the factors themselves are kept for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
        ctx.save_for_backward(query, key, other_query, other_key)
        total = torch.zeros((), dtype=torch.float64, device=query.device)
        for s, t in _stacked_factors(query, key, other_query, other_key):
            total += ((s.transpose(1, 2) @ s) * (t.transpose(1, 2) @ t)).sum()
        return total.to(query.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors = ctx.saved_tensors
        depth, other_depth = factors[0].shape[-1], factors[2].shape[-1]
        needed = ctx.needs_input_grad
        parts: list[list[Tensor]] = [[], [], [], []]
        for s, t in _stacked_factors(*factors):
            gram_s, gram_t = 2 * s.transpose(1, 2) @ s, 2 * t.transpose(1, 2) @ t
            sides = (
                (s, gram_t[..., :depth]),
                (t, gram_s[..., :depth]),
                (s, gram_t[..., depth:]),
                (t, gram_s[..., depth:]),
            )
            scales = 1 / depth, 1.0, -1 / other_depth, 1.0
            for i, ((stacked, gram), scale) in enumerate(zip(sides, scales, strict=True)):
                if needed[i]:
                    parts[i].append((stacked @ gram * scale).to(factors[i].dtype))
        return tuple(
            grad * torch.cat(part).reshape(factor.shape) if part else None
            for part, factor in zip(parts, factors, strict=True)
        )


def _stacked_factors(
    query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield S and T of :class:`SquaredDistance`, (items,N,2D) and (items,M,2D) in float64, few items at a time."""
    factors = [factor.flatten(0, 1) for factor in (query, key, other_query, other_key)]
    items = max(1, _CHUNK_ELEMENTS // (query.shape[2] * (query.shape[3] + other_query.shape[3])))
    for q, k, g, pooled in zip(*(torch.split(factor, items) for factor in factors), strict=True):
        s = torch.cat([q.double() / q.shape[-1], -g.double() / g.shape[-1]], dim=-1)
        yield s, torch.cat([k.double(), pooled.double()], dim=-1)
