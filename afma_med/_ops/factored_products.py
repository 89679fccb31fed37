"""Products with a matrix query keyᵀ, from its thin factors and in bounded memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from afma_med._ops.tensors import (
    autocast_off,
    gradients_by_autograd,
    has_nonzero,
    is_captured,
    is_differentiated_again,
    is_transformed,
    item_chunks,
)

__all__ = ["squared_distance", "triple_product"]


def triple_product(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Multiply three batches of matrices, A (B C) or (A B) C, whichever takes fewer multiply-adds by its shapes.

    Args:
        a: (items,I,J).
        b: (items,J,K).
        c: (items,K,L).

    Returns:
        (items,I,L).
    """
    (rows, inner), (outer, columns) = a.shape[-2:], c.shape[-2:]
    if not is_captured() and rows * outer * (inner + columns) < inner * columns * (outer + rows):
        return (a @ b) @ c
    return a @ (b @ c)


def squared_distance(query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
    """Sum (Q Kᵀ / D - G Pᵀ / D')² over the batch.

    From Gram matrices, or from the difference itself where that is the smaller matrix: few large patches. Outside of
    autocast, for sums of squares soon exceed float16.

    Args:
        query: Q, (B,K,N,D).
        key: K, (B,K,M,D).
        other_query: G, (B,K,N,D').
        other_key: P, (B,K,M,D').

    Returns:
        A scalar; gradients flow into all four.
    """
    with autocast_off(query):
        if is_transformed():
            return _distance_by_formula(query, key, other_query, other_key)
        patches, depths = query.shape[-2] * key.shape[-2], query.shape[-1] * other_query.shape[-1]
        form = _FromDifference if not is_captured() and patches < depths else _FromGrams
        distance: Tensor = form.apply(query, key, other_query, other_key)
        return distance


def _distance_by_formula(query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
    q, k, g, p = (factor.double() for factor in (query, key, other_query, other_key))
    ours, theirs = q.shape[-1], g.shape[-1]
    own, cross, other = (q.mT @ q) * (k.mT @ k), (q.mT @ g) * (k.mT @ p), (g.mT @ g) * (p.mT @ p)
    total: Tensor = own.sum() / ours**2 - 2 * cross.sum() / (ours * theirs) + other.sum() / theirs**2
    return total.to(query.dtype)


class _FromDifference(torch.autograd.Function):
    """The sum from the N × M differences, in float64, for they may cancel; Q's gradient is 2 (difference) K / D."""

    @staticmethod
    def forward(ctx: Any, *factors: Tensor) -> Tensor:
        q, k, g, p = (factor.flatten(0, 1) for factor in factors)
        ctx.chunks = item_chunks(len(q), q.shape[1] * (q.shape[2] + g.shape[2]), q)
        difference = torch.cat([_product(q[c], k[c]) - _product(g[c], p[c]) for c in ctx.chunks])
        # Of the other attention, only its own gradients need the factors.
        ctx.others_needed = any(ctx.needs_input_grad[2:])
        ctx.save_for_backward(difference, *factors[:2], *(factors[2:] if ctx.others_needed else (None, None)))
        ctx.shapes, ctx.dtypes = zip(*((factor.shape, factor.dtype) for factor in factors), strict=True)
        return difference.square().sum().to(q.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        difference, *factors = ctx.saved_tensors
        if is_differentiated_again():
            if ctx.others_needed:
                return gradients_by_autograd(_distance_by_formula, factors, ctx.needs_input_grad, grad)
            query, key, *_ = factors
            constant: Tensor = (
                _product(query, key) - difference.view(*query.shape[:2], *difference.shape[1:])
            ).detach()

            def formula(q: Tensor, k: Tensor) -> Tensor:
                total: Tensor = (_product(q, k) - constant).square().sum()
                return total.to(q.dtype)

            return *gradients_by_autograd(formula, (query, key), ctx.needs_input_grad[:2], grad), None, None
        ours = 2 * grad.double() * difference
        gradients: list[Tensor | None] = [None] * 4
        for i, by in enumerate((ours, ours.mT, -ours, -ours.mT)):
            if ctx.needs_input_grad[i]:
                partner = factors[i ^ 1].flatten(0, 1)
                parts = [(by[c] @ partner[c].double() / partner.shape[-1]).to(ctx.dtypes[i]) for c in ctx.chunks]
                gradients[i] = torch.cat(parts).view(ctx.shapes[i])
        return tuple(gradients)


class _FromGrams(torch.autograd.Function):
    """The sum from factors alone.

    As a sum of inner products of small Gram matrices:
    <QᵀQ, KᵀK> / D² - 2 <QᵀG, KᵀP> / (D D') + <GᵀG, PᵀP> / D'². Its gradients are 2 Q KᵀK / D² - 2 G (KᵀP)ᵀ / (D D')
    for Q, and likewise for the others. The three terms cancel when the two attentions are close, so that float32 would
    lose the value: the Gram matrices are formed in float64. Where a row of G is all zero, nothing cancels: it takes no
    part in the last two terms, and float32 does for the first. A patch of a label holds one or two of the classes, so
    that most rows are such.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
        q, k, g, p = (factor.flatten(0, 1) for factor in (query, key, other_query, other_key))
        grams, ctx.parts = [], []
        for chunk, rows in _rows_with_values(g):
            some_q, some_g = rows.take(q[chunk]).double(), rows.take(g[chunk])
            g64 = some_g.double()
            grams.append((rows.gram_of_others(q[chunk]) + some_q.mT @ some_q, some_q.mT @ g64, g64.mT @ g64))
            ctx.parts.append((chunk, rows, some_g))
        qq, qg, gg = (torch.cat(matrices) for matrices in zip(*grams, strict=True))
        kk, kp, pp = _gram(k, k), _gram(k, p), _gram(p, p)
        ours, theirs = q.shape[-1], g.shape[-1]
        total = (qq * kk).sum() / ours**2 - 2 * (qg * kp).sum() / (ours * theirs) + (gg * pp).sum() / theirs**2
        ctx.shapes = [factor.shape for factor in (query, key, other_query, other_key)]
        ctx.other_needed = any(ctx.needs_input_grad[2:])
        # Of the other query, all of it is needed for gradients of the other attention only.
        kept = other_query if ctx.other_needed else None
        ctx.save_for_backward(query, key, kept, other_key, qq, kk, qg, kp, gg, pp)
        return total.to(query.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        factors, grams = list(ctx.saved_tensors[:4]), ctx.saved_tensors[4:]
        if is_differentiated_again():
            if not ctx.other_needed:
                factors[2] = _join_rows(ctx.parts).view(ctx.shapes[2])
            return gradients_by_autograd(_distance_by_formula, factors, ctx.needs_input_grad, grad)
        q, k, p = (factors[i].flatten(0, 1) for i in (0, 1, 3))
        ours, theirs, twice = q.shape[-1], p.shape[-1], 2 * grad.double()
        own, cross, other = twice / ours**2, twice / (ours * theirs), twice / theirs**2
        scales = own, own, cross, cross, other, other
        qq, kk, qg, kp, gg, pp = (scale * gram for scale, gram in zip(scales, grams, strict=True))
        # Written to through a view, for autograd adds in place to a tensor that is not a view.
        grad_query = q.new_empty(ctx.shapes[0])
        grad_q = grad_query.flatten(0, 1)
        for chunk, rows, some_g in ctx.parts:
            with autocast_off(q):
                torch.bmm(q[chunk], kk[chunk].to(q.dtype), out=grad_q[chunk])
            rows.put(grad_q[chunk], _difference(rows.take(q[chunk]), kk[chunk], some_g, kp[chunk].mT))
        grad_key = _difference(k, qq, p, qg.mT).view(ctx.shapes[1])
        if not ctx.other_needed:
            return grad_query, grad_key, None, None
        g = factors[2].flatten(0, 1)
        others = _difference(g, pp, q, kp), _difference(p, gg, k, qg)
        return grad_query, grad_key, *(x.view(shape) for x, shape in zip(others, ctx.shapes[2:], strict=True))


def _rows_with_values(x: Tensor) -> list[tuple[slice, _Rows]]:
    """Chunks of the items of (items,N,D), and in each the rows that are not all zero."""
    chunks = item_chunks(x.shape[0], x.shape[1] * x.shape[2], x)
    if is_captured():  # the sizes of a graph must not depend on values
        return [(chunk, _Rows()) for chunk in chunks]
    filled = has_nonzero(x)
    most = filled.sum(dim=1).tolist()
    indices = (filled[chunk].float().topk(max(most[chunk]), dim=1, sorted=False).indices for chunk in chunks)
    return [(chunk, _Rows(rows, x.shape[1])) for chunk, rows in zip(chunks, indices, strict=True)]


def _join_rows(parts: list[tuple[slice, _Rows, Tensor]]) -> Tensor:
    """Rebuild (items,N,D) from the rows of each chunk that are not all zero."""
    return torch.cat([rows.put_into_zeros(values) for _, rows, values in parts])


class _Rows:
    """Some rows of each matrix of (items,N,D), the same number of each: all of them, if no indices are given.

    Args:
        indices: (items,rows).
        length: N.
    """

    def __init__(self, indices: Tensor | None = None, length: int = 0) -> None:
        self.flat, self.length = None, length  # indices into all items' rows, one after the other
        if indices is not None:
            self.flat = (indices + length * torch.arange(len(indices), device=indices.device)[:, None]).flatten()

    def take(self, x: Tensor) -> Tensor:
        """(items,N,D) -> (items,rows,D)."""
        return x if self.flat is None else x.flatten(0, 1)[self.flat].view(len(x), len(self.flat) // len(x), x.shape[2])

    def put(self, x: Tensor, values: Tensor) -> None:
        """Write values (items,rows,D) to these rows of a contiguous x."""
        if self.flat is None:
            x.copy_(values)
        else:
            x.view(-1, x.shape[2])[self.flat] = values.flatten(0, 1)

    def put_into_zeros(self, values: Tensor) -> Tensor:
        """Return (items,N,D) with values (items,rows,D) in these rows, and zeros in the others."""
        if self.flat is None:
            return values
        zeros = values.new_zeros(len(values), self.length, values.shape[2])
        self.put(zeros, values)
        return zeros

    def gram_of_others(self, x: Tensor) -> Tensor:
        """XᵀX of the other rows, formed in the type of X, (items,D,D) float64."""
        if self.flat is None:
            return x.new_zeros((), dtype=torch.float64)
        others = x.flatten(0, 1).index_fill(0, self.flat, 0).view_as(x)
        return (others.mT @ others).double()


def _product(x: Tensor, y: Tensor) -> Tensor:
    """X Yᵀ / D of each item, (items,N,M) in float64."""
    return x.double() @ y.double().mT / x.shape[-1]


def _gram(x: Tensor, y: Tensor) -> Tensor:
    """XᵀY of each item, (items,D,D') in float64."""
    chunks = item_chunks(x.shape[0], x.shape[1] * (x.shape[2] + y.shape[2]), x)
    return torch.cat([x[chunk].double().mT @ y[chunk].double() for chunk in chunks])


def _difference(x: Tensor, x_matrix: Tensor, y: Tensor, y_matrix: Tensor) -> Tensor:
    """X times its matrix less Y times its own, of each item; in float64, for the two may cancel."""
    chunks = item_chunks(x.shape[0], x.shape[1] * (x.shape[2] + y.shape[2]), x)
    parts = ((some[chunk] for some in (x, x_matrix, y, y_matrix)) for chunk in chunks)
    return torch.cat([(a.double() @ m - b.double() @ n).to(x.dtype) for a, m, b, n in parts])
