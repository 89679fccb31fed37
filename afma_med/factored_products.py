"""What can be known of a matrix query keyᵀ from its thin factors, in bounded memory."""

from __future__ import annotations

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
    """Sum of (Q Kᵀ / D - G Pᵀ / D')² over the batch, from factors.

    As a sum of inner products of small Gram matrices:
    <QᵀQ, KᵀK> / D² - 2 <QᵀG, KᵀP> / (D D') + <GᵀG, PᵀP> / D'². Its gradients are 2 Q KᵀK / D² - 2 G (KᵀP)ᵀ / (D D')
    for Q, and likewise for the others. The three terms cancel when the two attentions are close, so that float32 would
    lose the value: the Gram matrices are formed in float64, a few (image, class) pairs at a time. Of G only the rows
    that are not all zero take part: a patch of a label holds one or two of the classes.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Tensor:
        q, k, g, p = (factor.flatten(0, 1) for factor in (query, key, other_query, other_key))
        rows = _Rows(g)
        present = rows.take(g)
        qq, kk, kp, pp = _gram(q, q), _gram(k, k), _gram(k, p), _gram(p, p)
        qg, gg = rows.gram(rows.take(q), present), rows.gram(present, present)
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
        # Where a row of G is zero nothing cancels, and float32 is enough.
        grad_q = rows.put(q @ (kk * own).to(q.dtype), rows.difference(rows.take(q), kk * own, present, kp.mT * cross))
        gradients = [grad_q, _difference(k, qq * own, p, qg.mT * cross)]
        if ctx.other_needed:
            gradients += [_difference(g, pp * other, q, kp * cross), _difference(p, gg * other, k, qg * cross)]
        shaped = [gradient.reshape(*ctx.shape[:2], *gradient.shape[1:]) for gradient in gradients]
        return tuple(shaped) if ctx.other_needed else (*shaped, None, None)


class _Rows:
    """The rows of a batch of matrices (items,N,D) that are not all zero, and products with these only.

    In a graph, whose sizes must not depend on values, all rows.
    """

    def __init__(self, x: Tensor) -> None:
        self.all = is_captured()
        if not self.all:
            self.item, self.row = x.any(dim=-1).nonzero(as_tuple=True)
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

    def difference(self, x: Tensor, x_matrix: Tensor, y: Tensor, y_matrix: Tensor) -> Tensor:
        """What :func:`_difference` gives for rows that were taken."""
        if self.all:
            return _difference(x, x_matrix, y, y_matrix)
        items = zip(torch.split(x, self.counts), x_matrix, torch.split(y, self.counts), y_matrix, strict=True)
        return torch.cat([_difference(*item) for item in items])

    def put(self, x: Tensor, rows: Tensor) -> Tensor:
        """Put rows where others were taken, in place."""
        if self.all:
            return rows
        return x.index_put_((self.item, self.row), rows)


def _gram(x: Tensor, y: Tensor) -> Tensor:
    """XᵀY of each item, (items,D,D') in float64, few items at a time."""
    items = max(1, _CHUNK_ELEMENTS // (x.shape[1] * (x.shape[2] + y.shape[2])))
    chunks = zip(torch.split(x, items), torch.split(y, items), strict=True)
    return torch.cat([a.double().transpose(1, 2) @ b.double() for a, b in chunks])


def _difference(x: Tensor, x_matrix: Tensor, y: Tensor, y_matrix: Tensor) -> Tensor:
    """X times its matrix less Y times its own, of each item; in float64, for the two may cancel."""
    return (x.double() @ x_matrix - y.double() @ y_matrix).to(x.dtype)
