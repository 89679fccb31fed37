"""Class-weighted cross-entropies: the released code's softmax form and the text's sigmoid form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afma_med._ops.labels import as_signed, check_classes
from afma_med._ops.slices import fold_slices
from afma_med._ops.tensors import at_least_float32, is_transformed
from afma_med.checks import check_four_axes, check_tensor

__all__ = [
    "IGNORE_INDEX",
    "SigmoidCrossEntropyLoss",
    "SoftmaxCrossEntropyLoss",
    "check_label",
    "label_to_index",
    "label_to_one_hot",
]

# The label value that torch's own losses skip by default; void pixels get it.
IGNORE_INDEX = -100


class _ClassWeightedLoss(nn.Module):
    """Do what both cross-entropies have in common: class weights, the void value and the checks."""

    weight: Tensor | None

    def __init__(self, weight: Sequence[float] | Tensor | None = None, *, ignore_index: int | None = None) -> None:
        super().__init__()
        try:
            values = None if weight is None else torch.as_tensor(weight, dtype=torch.float32)
        except (TypeError, ValueError):
            values = torch.tensor(math.nan)
        if values is not None and (values.ndim != 1 or not bool((values >= 0).all()) or not values.isfinite().all()):
            raise ValueError(
                f"`weight` must be K finite numbers ≥ 0; got {weight}. "
                "afma_med.median_frequency_weights makes them from pixel counts."
            )
        self.register_buffer("weight", values, persistent=False)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            logits: (B,K,H,W), or volumes (B,K,H,W,D).
            label: (B,1,H,W) class indices or (B,K,H,W) one-hot; volumes likewise.

        Raises:
            TypeError: if one is not a tensor, or the logits are not of floating point numbers.
            ValueError: if the label's shape, values or device, or the number of class weights, do not belong to the
                logits.
        """
        check_tensor("logits", logits, "(B,K,H,W)", floating=True)
        check_tensor("label", label, "(B,1,H,W) or (B,K,H,W)")
        if logits.ndim == label.ndim == 5:
            logits, label = fold_slices(logits), fold_slices(label)
        check_label(logits, label, self.ignore_index)
        logits = at_least_float32(logits)
        return self._loss(logits, label, self._weight_for(logits))

    def _loss(self, logits: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
        raise NotImplementedError

    def _weight_for(self, logits: Tensor) -> Tensor | None:
        if self.weight is None:
            return None
        if self.weight.shape[0] != logits.shape[1]:
            raise ValueError(
                f"`weight` must have one number per class, K = {logits.shape[1]} as in the logits; "
                f"got {self.weight.shape[0]}. Give network and loss the same classes."
            )
        return self.weight.to(device=logits.device, dtype=logits.dtype)


class SoftmaxCrossEntropyLoss(_ClassWeightedLoss):
    """Average the class-weighted negative log-likelihood of the softmax over the labelled pixels.

    The released code's segmentation term: sum of w_y · (-log softmax(logits)_y) over pixels, divided by the sum of
    w_y. For K = 1 the sigmoid takes the softmax's place. Zero, not NaN, where every pixel is void.

    Args:
        weight: K class weights, or None for ones.
        ignore_index: label value of void pixels.

    Raises:
        ValueError: if the weights are no K finite non-negative numbers.

    Example:
        >>> loss = SoftmaxCrossEntropyLoss([1.0, 2.0, 2.0])
        >>> round(loss(torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)).item(), 4)
        1.0986
    """

    def _loss(self, logits: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
        if logits.shape[1] == 1:
            one_hot, valid = label_to_one_hot(label, 1, self.ignore_index)
            pixel_loss = F.binary_cross_entropy_with_logits(logits, one_hot.to(logits.dtype), reduction="none")
            pixel_weight = valid.to(logits.dtype) * (1.0 if weight is None else weight)
            return (pixel_loss * pixel_weight).sum() / pixel_weight.sum().clamp_min(torch.finfo(logits.dtype).tiny)
        index = label_to_index(label, logits.shape[1], self.ignore_index)
        total = F.cross_entropy(logits, index, weight=weight, ignore_index=IGNORE_INDEX, reduction="sum")
        valid = index != IGNORE_INDEX
        norm = valid.sum() if weight is None else (weight[index.clamp_min(0)] * valid).sum()
        return total / norm.to(total.dtype).clamp_min(torch.finfo(total.dtype).tiny)


class SigmoidCrossEntropyLoss(_ClassWeightedLoss):
    """Average the class-weighted sigmoid cross-entropy over the labelled pixels and the classes.

    The text's segmentation term (Eq. 22): every class is a yes-no question of its own,
    mean over pixels and classes of -w_k · [y_k log σ(logit_k) + (1 - y_k) log(1 - σ(logit_k))].

    Args:
        weight: K class weights, or None for ones.
        ignore_index: label value of void pixels.

    Raises:
        ValueError: if the weights are no K finite non-negative numbers.

    Example:
        >>> loss = SigmoidCrossEntropyLoss()
        >>> round(loss(torch.zeros(1, 3, 4, 4), torch.ones(1, 1, 4, 4)).item(), 4)
        0.6931
    """

    def _loss(self, logits: Tensor, label: Tensor, weight: Tensor | None) -> Tensor:
        one_hot, valid = label_to_one_hot(label, logits.shape[1], self.ignore_index)
        loss = F.binary_cross_entropy_with_logits(logits, one_hot.to(logits.dtype), reduction="none")
        if weight is not None:
            loss = loss * weight[:, None, None]
        return (loss * valid).sum() / (valid.sum() * logits.shape[1]).clamp_min(1)


def check_label(logits: Tensor, label: Tensor, ignore_index: int | None) -> None:
    """Refuse a label that does not belong to the logits.

    Raises:
        ValueError: if shapes or devices disagree, or a value is neither a class nor ``ignore_index``.
    """
    check_four_axes("logits", logits, "(B,K,H,W)")
    num_classes = logits.shape[1]
    shapes = [(logits.shape[0], channels, *logits.shape[2:]) for channels in (1, num_classes)]
    if tuple(label.shape) not in shapes:
        raise ValueError(
            f"`label` must have shape {shapes[0]} (class indices) or {shapes[1]} (one-hot) for logits of shape "
            f"{tuple(logits.shape)}; got {tuple(label.shape)}. Network, loss and label need the same classes and size; "
            "labels of shape (B,H,W) need a channel axis: label[:, None]."
        )
    if label.device != logits.device:
        raise ValueError(
            f"`label` must be on the logits' device {logits.device}; got {label.device}. Move it with .to(device)."
        )
    one_hot = label.shape[1] == num_classes
    check_classes("label", label, 1 if one_hot else num_classes - 1, one_hot=one_hot, ignore_index=ignore_index)


def label_to_one_hot(label: Tensor, num_classes: int, ignore_index: int | None) -> tuple[Tensor, Tensor]:
    """Turn a checked label into one-hot form.

    Args:
        label: (B,1,H,W) class indices or (B,K,H,W) one-hot.
        num_classes: K.
        ignore_index: label value of void pixels.

    Returns:
        (B,K,H,W) float32 one-hot, all zeros where void, and (B,1,H,W) bool, False where void.

    Example:
        >>> one_hot, valid = label_to_one_hot(torch.tensor([[[[0, 2, 255]]]]), 3, 255)
        >>> one_hot[0, :, 0].T.tolist(), valid.flatten().tolist()
        ([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], [True, True, False])
    """
    label = as_signed(label)
    void = torch.zeros_like(label, dtype=torch.bool) if ignore_index is None else label == ignore_index
    if label.shape[1] != num_classes:
        one_hot = label.new_zeros(label.shape[0], num_classes, *label.shape[2:], dtype=torch.float32)
        return one_hot.scatter_(1, label.masked_fill(void, 0).long(), (~void).float()), ~void
    if num_classes > 1:
        # A void pixel is one without a class, with the void value in it, or of the class that is to be ignored.
        is_class = ignore_index is not None and 0 <= ignore_index < num_classes
        void = label[:, ignore_index, None] == 1 if is_class else void.any(dim=1, keepdim=True)
        void = void | ~label.any(dim=1, keepdim=True)
    return label.masked_fill(void, 0).float(), ~void


def label_to_index(label: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    """Turn a checked label, indices or one-hot, into (B,H,W) class indices, void pixels at torch's own ignore value."""
    if label.shape[1] == num_classes:
        one_hot, valid = label_to_one_hot(label, num_classes, ignore_index)
        overlap = (one_hot.sum(dim=1) > 1).any()
        if torch.compiler.is_compiling():
            torch._assert_async(~overlap, "`label` must hold one class a pixel for the softmax")
        elif not is_transformed() and overlap:
            raise ValueError(
                "`label` must hold one class a pixel for the softmax; got pixels of several classes. "
                "Use SigmoidCrossEntropyLoss for classes that overlap."
            )
        return one_hot.argmax(dim=1).where(valid[:, 0], IGNORE_INDEX)
    index = as_signed(label)[:, 0].long()
    return index if ignore_index is None else index.where(index != ignore_index, IGNORE_INDEX)
