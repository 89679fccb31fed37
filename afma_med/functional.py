"""The paper as pure functions: steps 3-10 of Across Feature Map Attention (AFMA), in order, without state.

Axis letters, used in every signature, comment and error of this package:

======  ==============================================================================================
letter  meaning
======  ==============================================================================================
B       batch
K       classes
H, W    image height, width in pixels
h, w    height, width of the encoder's feature map; stride s = H / h = W / w
p       patch side in pixels; D = ph * pw numbers per patch
N       image patches, ceil(H / ph) * ceil(W / pw)
M       feature patches, ceil(h / ph) * ceil(w / pw)
======  ==============================================================================================

An attention is never stored as its (B,K,N,M) matrix. It is kept as the two thin factors whose product it is
(:class:`PatchAttention`); spreading predictions with it and comparing two of them need the factors only.

Reference:
    Sang, Zhou, Islam, Xing: Small-Object Sensitive Segmentation Using Across Feature Map Attention, TPAMI 2023.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "PatchAttention",
    "PatchGrid",
    "compress_prediction",
    "gold_attention",
    "join_patches",
    "modulate_logits",
    "split_patches",
]

# Added to the count of non-zeros in step 8, as released, so that an all-zero row divides by something.
_COUNT_EPSILON = 1e-5
# Elements of a temporary that chunked loops may hold at once: 64 MiB in float64.
_CHUNK_ELEMENTS = 2**23


class PatchGrid(NamedTuple):
    """Tell where the patches of an attention lie on the image and on the feature map.

    Args:
        image_size: (H, W) of the image as the network saw it, padding included; in pixels.
        stride: s, image pixels per feature map pixel, the same along both axes.
        patch_size: (ph, pw), the side lengths of a patch; in pixels of the map that is split.

    Example:
        >>> PatchGrid(image_size=(40, 80), stride=4, patch_size=(10, 10)).feature_size
        (10, 20)
    """

    image_size: tuple[int, int]
    stride: int
    patch_size: tuple[int, int]

    @property
    def feature_size(self) -> tuple[int, int]:
        """(h, w) of the feature map."""
        return self.image_size[0] // self.stride, self.image_size[1] // self.stride


def split_patches(x: Tensor, patch_size: int | tuple[int, int]) -> Tensor:
    """Split maps into flattened patches, row-major over the grid and inside each patch.

    Step 3 (Eq. 3) on the embedded image and step 4 (Eq. 4-5) on the embedded feature map. Sides that are no
    multiple of the patch are zero-padded at the bottom and right (the paper's footnote 2).

    Args:
        x: (B,K,H,W).
        patch_size: p, or (ph, pw), in pixels.

    Returns:
        (B,K,N,D) with N = ceil(H / ph) * ceil(W / pw) and D = ph * pw.

    Raises:
        ValueError: if ``x`` is not 4-D or ``patch_size`` is not positive.

    Example:
        >>> split_patches(torch.zeros(1, 12, 45, 60), 10).shape
        torch.Size([1, 12, 30, 100])
    """
    height, width = as_patch_size(patch_size)
    check_four_axes("x", x, "(B,K,H,W)")
    rows, columns = -(-x.shape[2] // height), -(-x.shape[3] // width)
    x = _pad_to(x, (rows * height, columns * width))
    x = x.reshape(x.shape[0], x.shape[1], rows, height, columns, width).transpose(3, 4)
    return x.reshape(x.shape[0], x.shape[1], rows * columns, height * width)


def join_patches(patches: Tensor, size: tuple[int, int], patch_size: int | tuple[int, int]) -> Tensor:
    """Join flattened patches to maps and crop the padding: the inverse of :func:`split_patches`.

    Args:
        patches: (B,K,N,D).
        size: (H, W) of the maps, in pixels.
        patch_size: p, or (ph, pw), in pixels.

    Returns:
        (B,K,H,W).

    Raises:
        ValueError: if ``patches`` is not 4-D, or N or D do not belong to ``size`` and ``patch_size``.

    Example:
        >>> x = torch.rand(1, 2, 7, 5)
        >>> torch.equal(join_patches(split_patches(x, 3), (7, 5), 3), x)
        True
    """
    height, width = as_patch_size(patch_size)
    check_four_axes("patches", patches, "(B,K,N,D)")
    rows, columns = -(-size[0] // height), -(-size[1] // width)
    expected = (rows * columns, height * width)
    if tuple(patches.shape[2:]) != expected:
        raise ValueError(
            f"`patches` must have (N, D) = {expected} for size {tuple(size)} and patch size {(height, width)}; "
            f"got {tuple(patches.shape[2:])}. Pass the size and patch size that they were split with."
        )
    x = patches.reshape(patches.shape[0], patches.shape[1], rows, columns, height, width).transpose(3, 4)
    x = x.reshape(x.shape[0], x.shape[1], rows * height, columns * width)
    return x[:, :, : size[0], : size[1]]


class PatchAttention(NamedTuple):
    """Hold an attention between image patches and feature patches, one map per class, as two thin factors.

    Step 5 (Eq. 6-7): A = query keyᵀ / D, without softmax. The gold attention is the same thing made from a label.

    Args:
        query: (B,K,N,D), the image patches.
        key: (B,K,M,D), the feature patches.
        grid: where the patches lie.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> attention = PatchAttention(torch.rand(1, 3, 4, 100), torch.rand(1, 3, 1, 100), grid)
        >>> attention.dense().shape, attention.apply(torch.rand(1, 3, 1, 100)).shape
        (torch.Size([1, 3, 4, 1]), torch.Size([1, 3, 4, 100]))
    """

    query: Tensor
    key: Tensor
    grid: PatchGrid

    def dense(self) -> Tensor:
        """Build the (B,K,N,M) matrix. For pictures and tests only: it does not fit into memory for large images."""
        query, key = at_least_float32(self.query), at_least_float32(self.key)
        with _autocast_off(query):
            return query @ key.transpose(-1, -2) / query.shape[-1]

    def apply(self, values: Tensor) -> Tensor:
        """Spread values from the feature patches over the image patches.

        Step 8 (Eq. 14-15): each row of A is divided by its count of non-zeros, then A V = query (keyᵀ V) / D, which
        never builds A. The count has no gradient.

        Args:
            values: V, (B,K,M,D).

        Returns:
            (B,K,N,D).

        Raises:
            ValueError: if ``values`` has not the shape of ``key``.
        """
        if values.shape != self.key.shape:
            raise ValueError(
                f"`values` must have the key's shape (B,K,M,D) = {tuple(self.key.shape)}; got {tuple(values.shape)}. "
                "Split them with the patch size and stride of `grid`."
            )
        query, key = at_least_float32(self.query), at_least_float32(self.key)
        with _autocast_off(query):
            count = _count_nonzero_per_row(query.detach(), key.detach())
            spread = query @ (key.transpose(-1, -2) @ values.to(key.dtype))
            return spread / (query.shape[-1] * (count + _COUNT_EPSILON))

    def squared_distance(self, other: PatchAttention) -> Tensor:
        """Average (A - A_other)² over (B,K,N,M), the AFMA loss (Eq. 23), without building either matrix.

        Args:
            other: the attention to compare with, usually the gold one.

        Returns:
            A scalar; gradients flow into the factors of both.

        Raises:
            ValueError: if the two attentions differ in B, K, N or M.
        """
        mine, others = _matrix_shape(self), _matrix_shape(other)
        if mine != others:
            raise ValueError(
                f"`other` must have the same (B,K,N,M) = {mine}; got {others}. "
                "Build the gold attention with the `grid` of the attention that it supervises."
            )
        factors = [at_least_float32(factor) for factor in (self.query, self.key, other.query, other.key)]
        total: Tensor = _SquaredDistance.apply(*factors)
        return total / math.prod(mine)


def compress_prediction(logits: Tensor, grid: PatchGrid, *, soft: bool = False) -> Tensor:
    """Average a prediction over the pixels that one feature map pixel stands for.

    Step 6 (Eq. 9-11). The released form pools the one-hot arg max, which has no gradient; the text's form pools the
    class probabilities. Pixels that were added as padding belong to no class.

    Args:
        logits: (B,K,H,W); K = 1 is binary (sigmoid).
        grid: geometry of the attention; its image size may exceed (H, W) by padding at the bottom and right.
        soft: pool probabilities instead of the one-hot arg max.

    Returns:
        (B,K,h,w), each entry in [0, 1].

    Raises:
        ValueError: if ``logits`` is not 4-D or larger than the grid's image.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> compress_prediction(torch.randn(1, 3, 20, 20), grid).sum(dim=1).unique()
        tensor([1.])
    """
    check_four_axes("logits", logits, "(B,K,H,W)")
    logits = at_least_float32(logits)
    if logits.shape[1] == 1:
        prediction = logits.sigmoid() if soft else (logits > 0).to(logits.dtype)
    elif soft:
        prediction = logits.softmax(dim=1)
    else:
        prediction = torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
    return _pool_to_feature(prediction, grid, "logits")


def modulate_logits(logits: Tensor, attention: PatchAttention, *, soft: bool = False) -> Tensor:
    """Correct a prediction by what the attention says of it.

    Step 7 (Eq. 12-13) splits the compressed prediction into patches V; step 9 (Eq. 16-18) joins the spread patches
    to X and returns logits + logits * X. Softmax or sigmoid come after.

    Args:
        logits: (B,K,H,W), the decoder's output.
        attention: the attention of the same image; its grid may be larger than (H, W) by padding.
        soft: spread the class probabilities (the text's form) instead of the one-hot arg max (the released form).

    Returns:
        (B,K,H,W), at least float32.

    Raises:
        ValueError: if ``logits`` and ``attention`` disagree in B, K or size.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> nothing = PatchAttention(torch.zeros(1, 3, 4, 100), torch.zeros(1, 3, 1, 100), grid)
        >>> logits = torch.randn(1, 3, 20, 20)
        >>> torch.equal(modulate_logits(logits, nothing), logits)
        True
    """
    check_four_axes("logits", logits, "(B,K,H,W)")
    if logits.shape[:2] != attention.key.shape[:2]:
        raise ValueError(
            f"`logits` must have the attention's (B, K) = {tuple(attention.key.shape[:2])}; "
            f"got {tuple(logits.shape[:2])}. Give network and AFMA block the same `out_channels`."
        )
    grid = attention.grid
    values = split_patches(compress_prediction(logits, grid, soft=soft), grid.patch_size)
    spread = attention.apply(values)
    correction = join_patches(spread, grid.image_size, grid.patch_size)[:, :, : logits.shape[2], : logits.shape[3]]
    return logits + logits * correction


def gold_attention(one_hot: Tensor, grid: PatchGrid) -> PatchAttention:
    """Compute the attention that a label asks for.

    Step 10 (Eq. 19-21): the label's patches against the patches of the label average-pooled by the stride. The label
    is zero-padded as the image was, so that padding attends to nothing.

    Args:
        one_hot: (B,K,H,W), 1 where a pixel is of class k, else 0; all zeros where the label is void.
        grid: geometry of the attention that is to be supervised.

    Returns:
        The gold attention, on the same grid.

    Raises:
        ValueError: if ``one_hot`` is not 4-D or larger than the grid's image.

    Example:
        >>> label = torch.randint(3, (1, 20, 20))
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> gold_attention(F.one_hot(label, 3).permute(0, 3, 1, 2), grid).dense().shape
        torch.Size([1, 3, 4, 1])
    """
    check_four_axes("one_hot", one_hot, "(B,K,H,W)")
    one_hot = one_hot if one_hot.is_floating_point() else one_hot.to(torch.get_default_dtype())
    pooled = _pool_to_feature(one_hot, grid, "one_hot")
    query = split_patches(_pad_to(one_hot, grid.image_size), grid.patch_size)
    return PatchAttention(query, split_patches(pooled, grid.patch_size), grid)


def as_patch_size(patch_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return a patch size as (height, width) in pixels.

    Raises:
        ValueError: if it is neither a positive int nor two of them.

    Example:
        >>> as_patch_size(10), as_patch_size((4, 16))
        ((10, 10), (4, 16))
    """
    sides = tuple(patch_size) if isinstance(patch_size, Sequence) else (patch_size, patch_size)
    if len(sides) != 2 or not all(is_positive_int(side) for side in sides):
        raise ValueError(
            f"`patch_size` must be a positive int or (height, width) of positive ints; got {patch_size!r}. "
            "The paper uses 10."
        )
    return int(sides[0]), int(sides[1])


def is_positive_int(value: object) -> bool:
    """Tell whether a value is a whole number above 0 of any integer type; True is none.

    Example:
        >>> is_positive_int(3), is_positive_int(0), is_positive_int(2.0), is_positive_int(True)
        (True, False, False, False)
    """
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_four_axes(name: str, x: Tensor, axes: str) -> None:
    """Refuse a tensor that is not 4-D.

    Raises:
        ValueError: naming the tensor, its axes and its shape.
    """
    if x.ndim != 4:
        raise ValueError(
            f"`{name}` must have the 4 axes {axes}; got shape {tuple(x.shape)}. "
            "Add or fold axes; afma_med works on 2-D images."
        )


def at_least_float32(x: Tensor) -> Tensor:
    """Widen half precision: products over D, sums over pixels and counts of exact zeros need float32."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _pad_to(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Zero-pad (B,K,H,W) at the bottom and right to ``size``."""
    bottom, right = size[0] - x.shape[2], size[1] - x.shape[3]
    return F.pad(x, (0, right, 0, bottom)) if bottom or right else x


def _pool_to_feature(x: Tensor, grid: PatchGrid, name: str) -> Tensor:
    """Zero-pad (B,K,H,W) to the grid's image and average-pool it by the stride to (B,K,h,w)."""
    height, width = grid.image_size
    if grid.stride < 1 or height % grid.stride or width % grid.stride:
        raise ValueError(f"`grid` must have a stride that divides its image size; got {grid}. Pad the image first.")
    if x.shape[2] > height or x.shape[3] > width:
        raise ValueError(
            f"`{name}` must not be larger than the attention's image, {height}×{width}; "
            f"got {x.shape[2]}×{x.shape[3]}. Use the label and logits of the image that the attention was made from."
        )
    return F.avg_pool2d(_pad_to(x, grid.image_size), grid.stride, grid.stride)


def _autocast_off(x: Tensor) -> torch.autocast:
    return torch.autocast(device_type=x.device.type, enabled=False)


def _matrix_shape(attention: PatchAttention) -> tuple[int, int, int, int]:
    batch, classes, image_patches, _ = attention.query.shape
    return batch, classes, image_patches, attention.key.shape[2]


@torch.no_grad()
def _count_nonzero_per_row(query: Tensor, key: Tensor) -> Tensor:
    """Count the non-zeros of each row of query keyᵀ, (B,K,N,1), a bounded number of rows at a time."""
    key = key.transpose(-1, -2)
    rows = max(1, _CHUNK_ELEMENTS // (query.shape[0] * query.shape[1] * key.shape[-1]))
    counts = [(chunk @ key).count_nonzero(dim=-1) for chunk in torch.split(query, rows, dim=2)]
    return torch.cat(counts, dim=2).unsqueeze(-1).to(query.dtype)


class _SquaredDistance(torch.autograd.Function):
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


def _stacked_factors(query: Tensor, key: Tensor, other_query: Tensor, other_key: Tensor) -> Any:
    """Yield S and T of :class:`_SquaredDistance`, (items,N,2D) and (items,M,2D) in float64, few items at a time."""
    factors = [factor.flatten(0, 1) for factor in (query, key, other_query, other_key)]
    items = max(1, _CHUNK_ELEMENTS // (query.shape[2] * (query.shape[3] + other_query.shape[3])))
    for q, k, g, pooled in zip(*(torch.split(factor, items) for factor in factors), strict=True):
        s = torch.cat([q.double() / q.shape[-1], -g.double() / g.shape[-1]], dim=-1)
        yield s, torch.cat([k.double(), pooled.double()], dim=-1)
