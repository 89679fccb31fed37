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

An attention is stored as two thin factors (:class:`PatchAttention`), never as their product of (B,K,N,M) numbers.

Reference:
    Sang, Zhou, Islam, Xing: Small-Object Sensitive Segmentation Using Across Feature Map Attention, TPAMI 2023.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from afma_med._ops.factored_products import squared_distance
from afma_med._ops.modulation import ModulateLogits, modulate_by_formula, spread_values
from afma_med._ops.patches import (
    PatchGrid,
    join_patches,
    pad_to,
    pool_index_to_feature,
    pool_to_feature,
    split_patches,
)
from afma_med._ops.tensors import at_least_float32, autocast_off, is_captured, with_metadata_of, without_metadata
from afma_med.checks import check_channels, check_four_axes, check_tensor, check_values

__all__ = [
    "PatchAttention",
    "PatchGrid",
    "compress_prediction",
    "gold_attention",
    "gold_attention_from_index",
    "join_patches",
    "modulate_logits",
    "split_patches",
]


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

    def __getattr__(self, name: str) -> Any:
        # Sliding windows, for example, take every output of a network for a tensor.
        remedy = (
            "It is not a tensor: AFMANet returned (logits, attention). For logits alone, call .eval() on the network."
        )
        raise AttributeError(
            f"a {type(self).__name__} has no `{name}`. {remedy if hasattr(Tensor, name) else ''}".strip()
        )

    def dense(self) -> Tensor:
        """Build the (B,K,N,M) matrix. For tests only: it does not fit into memory for large images."""
        query, key = at_least_float32(self.query), at_least_float32(self.key)
        with autocast_off(query):
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
        check_values(values, self.key)
        query, key = at_least_float32(self.query), at_least_float32(self.key)
        with autocast_off(query):
            return spread_values(query, key, values.to(key.dtype))

    def squared_distance(self, other: PatchAttention) -> Tensor:
        """Average (A - A_other)² over (B,K,N,M), the AFMA loss (Eq. 23), without building large matrices.

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
        own = at_least_float32(self.query), at_least_float32(self.key)
        theirs = (factor if factor.dtype == torch.bool else at_least_float32(factor) for factor in other[:2])
        return squared_distance(*own, *theirs) / math.prod(mine)


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
        index = logits.max(dim=1).indices  # argmax gives the same, five times as slowly on the CPU
        return pool_index_to_feature(index, grid, num_classes=logits.shape[1], dtype=logits.dtype, name="logits")
    return pool_to_feature(prediction, grid, "logits")


def modulate_logits(
    logits: Tensor, attention: PatchAttention, *, soft: bool = False, values: Tensor | None = None
) -> Tensor:
    """Correct a prediction by what the attention says of it.

    Step 7 (Eq. 12-13) splits the compressed prediction into patches V; step 9 (Eq. 16-18) joins the spread patches
    to X and returns logits + logits * X. Softmax or sigmoid come after.

    Args:
        logits: (B,K,H,W), the decoder's output.
        attention: the attention of the same image; its grid may be larger than (H, W) by padding.
        soft: spread the class probabilities (the text's form) instead of the one-hot arg max (the released form).
        values: V, (B,K,M,D), spread in place of the prediction's own; of another image if the key is that image's.

    Returns:
        (B,K,H,W), at least float32.

    Raises:
        TypeError: if one is of another type.
        ValueError: if ``logits`` and ``attention`` disagree in B, K or size, or ``values`` has not the key's shape.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> nothing = PatchAttention(torch.zeros(1, 3, 4, 100), torch.zeros(1, 3, 1, 100), grid)
        >>> logits = torch.randn(1, 3, 20, 20)
        >>> torch.equal(modulate_logits(logits, nothing), logits)
        True
    """
    check_four_axes("logits", logits, "(B,K,H,W)")
    if not isinstance(attention, PatchAttention):
        raise TypeError(
            f"`attention` must be a PatchAttention; got {type(attention).__name__}. "
            "AFMABlock and gold_attention make one."
        )
    if logits.shape[:2] != attention.key.shape[:2]:
        raise ValueError(
            f"`logits` must have the attention's (B, K) = {tuple(attention.key.shape[:2])}; "
            f"got {tuple(logits.shape[:2])}. Give network and AFMA block the same `out_channels`."
        )
    grid = attention.grid
    if values is None:
        values = split_patches(compress_prediction(logits, grid, soft=soft), grid.patch_size)
    else:
        check_values(values, attention.key)
    query, key = at_least_float32(attention.query), at_least_float32(attention.key)
    plain, values = at_least_float32(without_metadata(logits)), without_metadata(values).to(key.dtype)
    with autocast_off(query):
        if is_captured():  # compilers find their own way to save memory
            modulated = modulate_by_formula(plain, query, key, values, grid)
        else:
            modulated = ModulateLogits.apply(plain.contiguous(), query, key, values, grid)
    return with_metadata_of(modulated, logits)


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
        >>> gold_attention(torch.nn.functional.one_hot(label, 3).permute(0, 3, 1, 2), grid).dense().shape
        torch.Size([1, 3, 4, 1])
    """
    check_four_axes("one_hot", one_hot, "(B,K,H,W)")
    one_hot = one_hot if one_hot.is_floating_point() else one_hot.to(torch.get_default_dtype())
    pooled = pool_to_feature(one_hot, grid, "one_hot")
    query = split_patches(pad_to(one_hot, grid.image_size), grid.patch_size)
    return PatchAttention(query, split_patches(pooled, grid.patch_size), grid)


def gold_attention_from_index(
    index: Tensor, grid: PatchGrid, num_classes: int, *, dtype: torch.dtype = torch.float32
) -> PatchAttention:
    """Compute what :func:`gold_attention` gives, from class indices instead of maps: faster, in less memory.

    Args:
        index: (B,H,W) integers, 0 to K - 1; negative where the label is void.
        grid: geometry of the attention that is to be supervised.
        num_classes: K.
        dtype: of the key.

    Returns:
        The gold attention, with a bool query.

    Raises:
        TypeError: if ``index`` is not a tensor.
        ValueError: if it is not 3-D or not of whole numbers, holds a value from K on, or is larger than the grid's
            image.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> gold_attention_from_index(torch.randint(3, (1, 20, 20)), grid, 3).dense().shape
        torch.Size([1, 3, 4, 1])
    """
    _check_index(index, num_classes)
    number = (index + 1).clamp_min(0)  # 0 is void, as is what pads an image
    key = pool_index_to_feature(number, grid, num_classes=num_classes + 1, dtype=dtype, name="index")[:, 1:]
    patches = split_patches(pad_to(number[:, None].short(), grid.image_size), grid.patch_size)
    numbers = torch.arange(1, num_classes + 1, dtype=patches.dtype, device=index.device)
    return PatchAttention(patches == numbers[:, None, None], split_patches(key, grid.patch_size), grid)


def _check_index(index: Tensor, num_classes: int) -> None:
    check_tensor("index", index, "(B,H,W)")
    if index.ndim != 3 or index.is_floating_point():
        raise ValueError(
            f"`index` must be whole numbers of shape (B,H,W); got {index.dtype} of shape {tuple(index.shape)}. "
            "Leave the channel axis out, and convert it with .long()."
        )
    check_channels(num_classes=num_classes)
    # Not in a graph, where values are unknown; AFMALoss has checked them before.
    if not is_captured() and index.numel() and int(index.max()) >= num_classes:
        raise ValueError(
            f"`index` must hold classes below `num_classes`={num_classes}; got {int(index.max())}. Make void negative."
        )


def _matrix_shape(attention: PatchAttention) -> tuple[int, ...]:
    return (*attention.query.shape[:3], attention.key.shape[2])
