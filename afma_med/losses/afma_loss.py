"""The training loss: a segmentation term and the distance to the gold attention."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

from afma_med._ops.host_outputs import find_levels
from afma_med._ops.slices import fold_slices
from afma_med.checks import check_tensor
from afma_med.functional import PatchAttention, gold_attention, gold_attention_from_index
from afma_med.grouped_attention import Attention, list_parts, make_gold, mean_distance
from afma_med.losses.label_forms import own_ignore_index, segmentation_term
from afma_med.losses.segmentation import SoftmaxCrossEntropyLoss, check_label, label_to_index, label_to_one_hot

__all__ = ["AFMALoss", "AFMALossTerms"]


class AFMALossTerms(NamedTuple):
    """The two terms of the loss, unweighted scalars."""

    segmentation: Tensor
    attention: Tensor


class AFMALoss(nn.Module):
    """Add the squared distance to the gold attention to any segmentation loss.

    The overall objective (Eq. 24): segmentation_weight · segmentation + attention_weight · mean (A - A*)². Given plain
    logits, as :class:`~afma_med.AFMANet` returns them in eval mode or without ``attention_supervision``, it is the
    weighted segmentation term alone.

    With several depths or groups of classes, each attention is compared with the gold attention of its own stride,
    patch size and classes. The attention term is the mean of these distances, weighted with the number of classes of
    each. Each distance is a mean over its classes, so each class counts the same at each of its depths. Of several
    depths of all classes, it is the plain mean; classes without attention take no part.

    Args:
        segmentation: module or function (logits, label) -> scalar; default :class:`SoftmaxCrossEntropyLoss` with
            ``weight`` and ``ignore_index``, the released form. :class:`SigmoidCrossEntropyLoss` is the text's. Losses
            of torch, MONAI and segmentation_models_pytorch get the label in the form that they take, and no void
            pixels; other losses get it as it is. MONAI's ``DeepSupervisionLoss`` serves hosts with deep supervision.
        segmentation_weight: factor of the segmentation term; the released code's 5.
        attention_weight: factor of the attention term; the released code's 1.
        weight: K class weights of the default segmentation term, as ``torch.nn.CrossEntropyLoss`` takes them.
        ignore_index: label value of void pixels; they belong to no class of the gold attention. Default: that of
            ``segmentation``, if it has one.
        slice_dim: for volumes (B,K,H,W,D), the ``dim`` of the :class:`~afma_med.SliceWise` that made them; the
            segmentation loss gets the volumes as they are.

    Attributes:
        latest_terms: the :class:`AFMALossTerms` of the last call, detached, for logging.

    Raises:
        ValueError: if ``weight`` is given together with ``segmentation``, which would not use it, or the weight of a
            term is not a finite number ≥ 0.

    Warns:
        UserWarning: once, if it trains on plain logits while ``attention_weight`` is above 0.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> from afma_med import AFMANet
        >>> net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), 3, attention_supervision=True)
        >>> label = torch.randint(3, (2, 1, 64, 64))
        >>> AFMALoss(ignore_index=255)(net(torch.rand(2, 3, 64, 64)), label).backward()
    """

    def __init__(
        self,
        segmentation: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        segmentation_weight: float = 5.0,
        attention_weight: float = 1.0,
        weight: Sequence[float] | Tensor | None = None,
        ignore_index: int | None = None,
        slice_dim: int = -1,
    ) -> None:
        super().__init__()
        if segmentation is not None and weight is not None:
            raise ValueError(
                f"`weight` must be None when `segmentation` is given; got {weight}. "
                "Give the class weights to the segmentation loss itself."
            )
        for name, factor in (("segmentation_weight", segmentation_weight), ("attention_weight", attention_weight)):
            if not (isinstance(factor, int | float) and math.isfinite(factor) and factor >= 0):
                raise ValueError(f"`{name}` must be a finite number ≥ 0; got {factor!r}. 0 leaves the term out.")
        self.segmentation = segmentation or SoftmaxCrossEntropyLoss(weight, ignore_index=ignore_index)
        self.segmentation_weight = segmentation_weight
        self.attention_weight = attention_weight
        self.ignore_index = own_ignore_index(self.segmentation) if ignore_index is None else ignore_index
        self.slice_dim = slice_dim
        self.latest_terms: AFMALossTerms | None = None
        self._has_warned = False

    def forward(self, output: Any, label: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            output: (logits, attention) or logits, as AFMANet gives them; logits (B,K,H,W), or volumes (B,K,H,W,D) as
                SliceWise gives them. Of a host that returns more, its whole output: a ``DeepSupervisionLoss`` gets all
                levels, another loss the logits; auxiliary outputs take no part.
            label: (B,1,H,W) class indices or (B,K,H,W) one-hot; volumes likewise.

        Returns:
            A scalar.

        Raises:
            TypeError: if ``output`` is neither of the two, or ``label`` no tensor.
            ValueError: if the label's shape, values or device do not belong to the logits.
        """
        terms = self.terms(output, label)
        self.latest_terms = AFMALossTerms(*(term.detach() for term in terms))
        return self.segmentation_weight * terms.segmentation + self.attention_weight * terms.attention

    def terms(self, output: Any, label: Tensor) -> AFMALossTerms:
        """Compute the two terms, unweighted; the attention term is 0 for plain logits."""
        output, attention = _split_output(output)
        check_tensor("label", label, "(B,1,H,W) or (B,K,H,W)")
        levels = self._levels(output, label)
        check_tensor("logits", levels[0], "(B,K,H,W)", floating=True)
        whole, logits = label, levels[0]
        if logits.ndim == label.ndim == 5:
            logits, label = fold_slices(logits, self.slice_dim), fold_slices(label, self.slice_dim)
        # Before the segmentation loss, which may be a stock one whose own error would not say what is wrong.
        check_label(logits, label, self.ignore_index)
        segmentation = segmentation_term(self.segmentation, levels, whole, self.ignore_index)
        if attention is None:
            self._warn_without_attention()
            return AFMALossTerms(segmentation, torch.zeros_like(segmentation))
        if not _has_gradients(attention) and _is_recomputed(logits):
            raise ValueError(
                "`output` must have an attention with gradients; got one without, since torch.utils.checkpoint with "
                "use_reentrant=True drops them. Use use_reentrant=False."
            )
        gold = self._gold_attention(label, attention, logits.shape[1])
        return AFMALossTerms(segmentation, mean_distance(attention, gold, self.attention_distance))

    def attention_distance(self, attention: PatchAttention, gold: PatchAttention) -> Tensor:
        """Measure how far an attention is from the gold one (Eq. 23), a scalar; a subclass may measure otherwise."""
        return attention.squared_distance(gold)

    def _levels(self, output: Any, label: Tensor) -> list[Any]:
        """List the logits of an output; several are levels of deep supervision."""
        if isinstance(output, Tensor):
            stacked = output.ndim == label.ndim + 1 > 4 and output.shape[3:] == label.shape[2:]
            return list(output.unbind(1)) if stacked else [output]
        if output is None:
            return [output]
        levels = find_levels(output)
        if not levels or (len(levels) > 1 and not isinstance(self.segmentation, DeepSupervisionLoss)):
            raise TypeError(
                f"{_refusal(output)} For deeply supervised levels, wrap the segmentation loss in "
                "monai.losses.DeepSupervisionLoss."
            )
        return levels

    def _warn_without_attention(self) -> None:
        """Warn once where a training leaves the attention term out, which its weight asks for."""
        # A compiled graph cannot warn.
        trains = self.training and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if trains and self.attention_weight > 0 and not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"`output` must be (logits, attention) to train with `attention_weight`={self.attention_weight}; got "
                "plain logits, so the attention term is left out. Build AFMANet with attention_supervision=True and "
                "give the loss its whole output, or build the loss with attention_weight=0.",
                stacklevel=6,  # the call of the loss, past torch and `forward`
            )

    def _gold_attention(self, label: Tensor, attention: Attention, num_classes: int) -> Attention:
        dtype = list_parts(attention)[0].key.dtype
        if label.shape[1] != num_classes:
            index = label_to_index(label, num_classes, self.ignore_index)
            return make_gold(attention, lambda grid: gold_attention_from_index(index, grid, num_classes, dtype=dtype))
        one_hot, _ = label_to_one_hot(label, num_classes, self.ignore_index)
        return make_gold(attention, lambda grid: gold_attention(one_hot.to(dtype), grid))


def _has_gradients(attention: Attention) -> bool:
    return any(factor.requires_grad for part in list_parts(attention) for factor in part[:2])


def _is_recomputed(logits: Tensor) -> bool:
    """Tell whether logits come from a reentrant checkpoint, directly or through a few crops and reshapes."""
    node = logits.grad_fn
    for _ in range(8):
        if node is None or "Checkpoint" in node.name():
            break
        node = next((parent for parent, _ in node.next_functions if parent is not None), None)
    return node is not None and "Checkpoint" in node.name()


def _split_output(output: Any) -> tuple[Any, Attention | None]:
    """Return the host's output, and the attention or None."""
    attention = None
    if isinstance(output, tuple | list) and len(output) == 2 and isinstance(output[1], Attention):
        output, attention = output
    odd = isinstance(output, tuple | list) and not all(isinstance(one, Tensor | None) for one in output)
    if odd or isinstance(output, Attention):
        raise TypeError(_refusal(output))
    return output, attention


def _refusal(output: Any) -> str:
    parts = ", ".join(type(one).__name__ for one in output) if isinstance(output, tuple | list) else ""
    return (
        f"`output` must be logits or (logits, attention), as AFMANet gives them; got {type(output).__name__}"
        f"{f' of {parts}' if parts else ''}. Give the loss the network's whole output."
    )
