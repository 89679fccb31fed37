"""The released form of AFMA, which builds every N × M matrix: a reference for tests and benchmarks.

It follows the paper's steps, one class after the other, and imports nothing from the package. It runs with the
parameters of any module with ``image_conv1, image_conv2, feature_conv, patch_linear1, patch_linear2``, such as an
AFMABlock. Shapes are in the letters of :mod:`afma_med.functional`; logits and labels have the image's size, which the
stride divides. An attention is a list with one (B,N,M) matrix for each class.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attend", "attention_loss", "gold_attention", "join", "label_to_one_hot", "loss", "matrix_bytes", "modulate"]
__all__ += ["run", "segmentation_loss", "split"]

COUNT_EPSILON = 1e-5
SEGMENTATION_WEIGHT = 5.0

Size = tuple[int, int]


def split(x: Tensor, patch: Size) -> Tensor:
    """(B,H,W) -> (B,N,D), zero-padded at the bottom and right."""
    return F.unfold(F.pad(x, (0, -x.shape[2] % patch[1], 0, -x.shape[1] % patch[0]))[:, None], patch, stride=patch).mT


def join(patches: Tensor, size: Size, patch: Size) -> Tensor:
    """(B,N,D) -> (B,H,W), without the padding."""
    padded = size[0] + -size[0] % patch[0], size[1] + -size[1] % patch[1]
    return F.fold(patches.mT, padded, patch, stride=patch)[:, 0, : size[0], : size[1]]


def attend(block: Any, image: Tensor, feature: Tensor, patch: Size) -> list[Tensor]:
    """Steps 1 to 5: the attention between image (B,C,H,W) and feature map (B,F,h,w)."""
    stride = image.shape[2] // feature.shape[2]
    embedded = block.image_conv2(block.image_conv1(image))
    compressed = block.feature_conv(feature) / stride**2
    result = []
    for k in range(embedded.shape[1]):
        query, key = (_project(block, split(x[:, k], patch)) for x in (embedded, compressed))
        result.append(query @ key.mT / query.shape[2])
    return result


def _project(block: Any, patches: Tensor) -> Tensor:
    projected: Tensor = block.patch_linear2(block.patch_linear1(patches))
    return projected.relu()


def modulate(logits: Tensor, attention: Sequence[Tensor], stride: int, patch: Size) -> Tensor:
    """Steps 6 to 9: logits + logits * X, X the spread patches of the average-pooled one-hot arg max."""
    pooled = F.avg_pool2d(_one_hot_prediction(logits), stride)
    corrections = []
    for k, matrix in enumerate(attention):
        count = (matrix != 0).sum(dim=2, keepdim=True).to(matrix.dtype)
        spread = matrix / (count + COUNT_EPSILON) @ split(pooled[:, k], patch).to(matrix.dtype)
        corrections.append(join(spread, (logits.shape[2], logits.shape[3]), patch))
    return logits + logits * torch.stack(corrections, dim=1)


def run(block: Any, image: Tensor, feature: Tensor, logits: Tensor, patch: Size) -> tuple[Tensor, list[Tensor]]:
    """Steps 1 to 9: the corrected logits, and the attention that corrected them."""
    attention = attend(block, image, feature, patch)
    return modulate(logits, attention, image.shape[2] // feature.shape[2], patch), attention


def _one_hot_prediction(logits: Tensor) -> Tensor:
    """1 for the likeliest class of each pixel; one class is a yes-no question."""
    if logits.shape[1] == 1:
        return (logits > 0).to(logits.dtype)
    return torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)


def gold_attention(one_hot: Tensor, stride: int, patch: Size) -> list[Tensor]:
    """Step 10: the patches of a one-hot label (B,K,H,W) against those of the label average-pooled by the stride."""
    pooled = F.avg_pool2d(one_hot, stride)
    depth = patch[0] * patch[1]
    return [split(one_hot[:, k], patch) @ split(pooled[:, k], patch).mT / depth for k in range(one_hot.shape[1])]


def attention_loss(attention: Sequence[Tensor], gold: Sequence[Tensor]) -> Tensor:
    """Mean over (B,K,N,M) of (A - A*)²."""
    return torch.stack([F.mse_loss(a, g.to(a.dtype)) for a, g in zip(attention, gold, strict=True)]).mean()


def segmentation_loss(logits: Tensor, label: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Class-weighted negative log-likelihood of the softmax, of the sigmoid for one class; label (B,1,H,W)."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits, label.to(logits.dtype))  # a single weight cancels
    return F.nll_loss(F.log_softmax(logits, dim=1), label[:, 0], class_weight)


def label_to_one_hot(label: Tensor, classes: int, dtype: torch.dtype) -> Tensor:
    """(B,1,H,W) class indices -> (B,K,H,W)."""
    if classes == 1:
        return label.to(dtype)
    return torch.zeros(len(label), classes, *label.shape[2:], dtype=dtype, device=label.device).scatter_(1, label, 1.0)


def loss(
    logits: Tensor,
    attention: Sequence[Tensor],
    label: Tensor,
    stride: int,
    *,
    patch: Size,
    class_weight: Tensor | None = None,
) -> Tensor:
    """The training loss of corrected logits and attention: 5 · NLL + 1 · MSE."""
    gold = gold_attention(label_to_one_hot(label, logits.shape[1], logits.dtype), stride, patch)
    return SEGMENTATION_WEIGHT * segmentation_loss(logits, label, class_weight) + attention_loss(attention, gold)


def matrix_bytes(image_size: Size, stride: int, *, patch: Size, maps: int, item: int = 4, training: bool) -> int:
    """Bytes of the matrices that are kept at once: the attention, and in training the gold one and the gradient."""
    image_patches, feature_patches = (
        -(-(image_size[0] // scale) // patch[0]) * -(-(image_size[1] // scale) // patch[1]) for scale in (1, stride)
    )
    return image_patches * feature_patches * maps * item * (3 if training else 1)
