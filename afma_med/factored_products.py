"""Products with a matrix query keyᵀ, from its thin factors and in bounded memory."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from afma_med.tensors import autocast_off, has_nonzero, is_captured, item_chunks

__all__ = ["SquaredDistance", "triple_product"]


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


class SquaredDistance(torch.autograd.Function):
    """Sum of (Q Kᵀ / D - G Pᵀ / D')² over the batch, from factors.

    As a sum of inner products of small Gram matrices:
    <QᵀQ, KᵀK> / D² - 2 <QᵀG, KᵀP> / (D D') + <GᵀG, PᵀP> / D'². Its gradients are 2 Q KᵀK / D² - 2 G (KᵀP)ᵀ / (D D')
    for Q, and likewise for the others. The three terms cancel when the two attentions are close, so that float32 would
    lose the value: the Gram matrices are formed in float64, a few (image, class) pairs at a time. Where a row of G is
    all zero, nothing cancels: it takes no part in the last two terms, and float32 does for the first. A patch of a
    label holds one or two of the classes, so that most rows are such.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
        q, k, g, p = (factor.flatten(0, 1) for factor in (query, key, other_query, other_key))
        rows = _Rows(g)
        present = rows.take(g)
        kk, kp, pp = _gram(k, k), _gram(k, p), _gram(p, p)
        qq, qg, gg = rows.whole_gram(q), rows.gram(rows.take(q), present), rows.gram(present, present)
        ours, theirs = q.shape[-1], g.shape[-1]
        total = (qq * kk).sum() / ours**2 - 2 * (qg * kp).sum() / (ours * theirs) + (gg * pp).sum() / theirs**2
        ctx.rows, ctx.shape, ctx.other_needed = rows, query.shape, any(ctx.needs_input_grad[2:])
        # Of the other query, all of it is needed for gradients of the other attention only.
        ctx.save_for_backward(q, k, g if ctx.other_needed else present, p, qq, kk, kp, pp, qg, gg)
        return total.to(query.dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, g, p, qq, kk, kp, pp, qg, gg = ctx.saved_tensors
        ours, theirs, twice = q.shape[-1], g.shape[-1], 2 * grad.double()
        own, cross, other = twice / ours**2, twice / (ours * theirs), twice / theirs**2
        rows: _Rows = ctx.rows
        present = rows.take(g) if ctx.other_needed else g
        grad_q = rows.gradient(q, kk * own, present, kp.mT * cross, ctx.shape)
        gradients = [grad_q, _difference(k, qq * own, p, qg.mT * cross)]
        if ctx.other_needed:
            gradients += [_difference(g, pp * other, q, kp * cross), _difference(p, gg * other, k, qg * cross)]
        shaped = [x.view(*ctx.shape[:2], *x.shape[-2:]) for x in gradients[1:]]
        return tuple([gradients[0], *shaped, None, None][:4])


class _Rows:
    """The rows of a batch of matrices (items,N,D) that are not all zero, and products with these only.

    In a graph, whose sizes must not depend on values, all rows.
    """

    def __init__(self, x: Tensor) -> None:
        self.all = is_captured()
        if not self.all:
            self.item, self.row = has_nonzero(x).nonzero(as_tuple=True)
            self.counts = torch.bincount(self.item, minlength=x.shape[0]).tolist()

    def take(self, x: Tensor) -> Tensor:
        """(items,N,D) -> (rows,D), item by item."""
        return x if self.all else x[self.item, self.row]

    def gram(self, x: Tensor, y: Tensor) -> Tensor:
        """XᵀY of each item in float64, from rows that were taken."""
        if self.all:
            return _gram(x, y)
        pairs = zip(torch.split(x, self.counts), torch.split(y, self.counts), strict=True)
        return torch.stack([a.double().T @ b.double() for a, b in pairs])

    def whole_gram(self, x: Tensor) -> Tensor:
        """XᵀX of each item: of rows that were taken in float64, of the rest in the type of X."""
        if self.all:
            return _gram(x, x)
        grams, starts = [], torch.tensor([0, *self.counts]).cumsum(0).tolist()
        for i, (start, stop) in enumerate(itertools.pairwise(starts)):
            rest = x[i].index_fill(0, self.row[start:stop], 0)
            taken = x[i, self.row[start:stop]].double()
            grams.append((rest.T @ rest).double() + taken.T @ taken)
        return torch.stack(grams)

    def gradient(self, x: Tensor, x_matrix: Tensor, y: Tensor, y_matrix: Tensor, shape: torch.Size) -> Tensor:
        """X times its matrix less Y, the rows of it that were taken, times its own; of that shape.

        Rows that were taken in float64, the rest, where nothing cancels, in the type of X.
        """
        if self.all:
            return _difference(x, x_matrix, y, y_matrix).view(shape)
        result = x.new_empty(shape)  # written to through a view: autograd adds in place to what is no view itself
        flat = result.flatten(0, 1)
        with autocast_off(x):
            torch.bmm(x, x_matrix.to(x.dtype), out=flat)
        parts = torch.split(self.take(x), self.counts), x_matrix, torch.split(y, self.counts), y_matrix
        rows = torch.cat([_difference(*(some[None] for some in part))[0] for part in zip(*parts, strict=True)])
        flat.index_put_((self.item, self.row), rows)
        return result


def _gram(x: Tensor, y: Tensor) -> Tensor:
    """XᵀY of each item, (items,D,D') in float64."""
    chunks = item_chunks(x.shape[0], x.shape[1] * (x.shape[2] + y.shape[2]), x)
    return torch.cat([x[chunk].double().mT @ y[chunk].double() for chunk in chunks])


def _difference(x: Tensor, x_matrix: Tensor, y: Tensor, y_matrix: Tensor) -> Tensor:
    """X times its matrix less Y times its own, of each item; in float64, for the two may cancel."""
    chunks = item_chunks(x.shape[0], x.shape[1] * (x.shape[2] + y.shape[2]), x)
    parts = ((some[chunk] for some in (x, x_matrix, y, y_matrix)) for chunk in chunks)
    return torch.cat([(a.double() @ m - b.double() @ n).to(x.dtype) for a, m, b, n in parts])
