"""A wrapper of segmentation losses in which each object counts equally, however small it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss
from numpy.typing import NDArray
from torch import Tensor, nn

from afma_med._ops.components import ArrayCache, component_regions
from afma_med._ops.slices import fold_slices
from afma_med._ops.tensors import at_least_float32, is_transformed, without_metadata
from afma_med.checks import check_tensor
from afma_med.losses.label_forms import NEIGHBORHOOD_LOSSES, own_ignore_index, segmentation_term
from afma_med.losses.segmentation import (
    IGNORE_INDEX,
    SoftmaxCrossEntropyLoss,
    check_label,
    label_to_index,
    label_to_one_hot,
)

__all__ = ["InstanceBalancedLoss"]

_CACHE_BYTES = 2**28


class InstanceBalancedLoss(nn.Module):
    """Mix a segmentation loss with its mean over the objects of the label, in which each object counts equally.

    An object is a connected component of a class. For each class, every pixel of an image belongs to the nearest
    object of the class. The wrapped loss is computed on the region of each object alone, and the balanced term is the
    mean over all objects of all classes in the batch. The loss is (1 - mixing) · plain + mixing · balanced. An image
    without objects is one region. Void pixels belong to no region.

    The regions are found on the CPU, with one distance transform for each class in each image: about 3 ms for 256×256
    pixels. They are kept in memory, 256 MiB at most, for labels that come again. Cross-entropies are then summed by
    region in one pass over the pixels. Any other loss is called once for each object, so that its time
    grows with the number of objects. ``torch.compile`` leaves the balanced term uncompiled.

    Args:
        loss: Loss of torch, MONAI or segmentation_models_pytorch, which gets the label in the form that it takes, or a
            function (logits, label) -> scalar. It gets the pixels of a region as logits (1,K,P,1) and a label
            (1,1,P,1) or (1,K,P,1), so that it must not look at neighbours. Default: :class:`SoftmaxCrossEntropyLoss`.
        mixing: Weight of the balanced term, 0 to 1.
        ignore_index: Label value of void pixels; default: that of ``loss``, if it has one.
        include_background: Balance the components of class 0 too, if there are several classes.
        spacing: Distance between pixels along each axis, such as millimetres in volumes; default: 1.

    Raises:
        ValueError: If ``mixing`` is not from 0 to 1, or the loss looks at neighbours or levels of deep supervision.

    Example:
        >>> from monai.losses import DiceCELoss
        >>> loss = InstanceBalancedLoss(DiceCELoss(to_onehot_y=True, softmax=True), mixing=0.5)
        >>> loss(torch.zeros(2, 3, 32, 32), torch.randint(3, (2, 1, 32, 32))).shape
        torch.Size([])

    Reference:
        Kofler et al.: blob loss: Instance Imbalance Aware Loss Functions for Semantic Segmentation, IPMI 2023.
        Jaus et al.: Every Component Counts, AAAI 2025 (the regions).
    """

    def __init__(
        self,
        loss: Callable[[Tensor, Tensor], Tensor] | None = None,
        *,
        mixing: float = 0.5,
        ignore_index: int | None = None,
        include_background: bool = False,
        spacing: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if not (math.isfinite(mixing) and 0 <= mixing <= 1):
            raise ValueError(f"`mixing` must be from 0 to 1; got {mixing!r}. 0 is the plain loss, 1 the balanced one.")
        if isinstance(loss, DeepSupervisionLoss):
            raise ValueError(
                "`loss` must be a loss of one level; got DeepSupervisionLoss. Wrap the other way round: "
                "DeepSupervisionLoss(InstanceBalancedLoss(loss))."
            )
        if type(loss).__name__ in NEIGHBORHOOD_LOSSES:
            raise ValueError(
                f"`loss` must be a loss without neighbourhoods; got {type(loss).__name__}. Use another loss, or add it "
                "to an InstanceBalancedLoss."
            )
        self.loss = loss or SoftmaxCrossEntropyLoss(ignore_index=ignore_index)
        self.mixing = mixing
        self.ignore_index = own_ignore_index(self.loss) if ignore_index is None else ignore_index
        self.include_background = include_background
        self.spacing = spacing
        self._cache = ArrayCache(_CACHE_BYTES)

    def forward(self, logits: Tensor, label: Tensor) -> Tensor:
        """Compute the loss, a scalar.

        Args:
            logits: (B,K,H,W) or (B,K,H,W,D).
            label: (B,1,...) class indices of any number type, or (B,K,...) one-hot.

        Raises:
            TypeError: If one is not a tensor, or the logits are not floating point numbers.
            ValueError: If the label's shape, values or device do not belong to the logits, or torch.func hides them.
        """
        check_tensor("logits", logits, "(B,K,H,W)", floating=True)
        check_tensor("label", label, "(B,1,H,W) or (B,K,H,W)")
        if logits.ndim == label.ndim == 5:
            check_label(fold_slices(logits), fold_slices(label), self.ignore_index)
        else:
            check_label(logits, label, self.ignore_index)
        plain = segmentation_term(self.loss, [logits], label, self.ignore_index)
        if self.mixing == 0:
            return plain
        if is_transformed():
            raise ValueError(
                "`mixing` must be 0 inside of torch.func, which hides the label's values; got "
                f"{self.mixing}. Compute gradients with backward()."
            )
        balanced: Tensor = self._balanced(logits, without_metadata(label))
        return (1 - self.mixing) * plain + self.mixing * balanced

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def _balanced(self, logits: Tensor, label: Tensor) -> Tensor:
        """Return the mean of the loss over all regions of the batch."""
        total, count = logits.new_zeros(()), 0
        for number, owners in enumerate(self._regions(label, logits.shape[1])):
            image = slice(number, number + 1)
            sum_of_means, regions = self._sum_over_regions(logits[image], label[image], owners)
            total, count = total + sum_of_means, count + regions
        return total / count if count else 0.0 * logits.sum()

    def _sum_over_regions(
        self, logits: Tensor, label: Tensor, owners: Sequence[NDArray[np.int32]]
    ) -> tuple[Tensor, int]:
        """Return the sum of the losses of an image's regions, and the number of regions."""
        loss: Any = self.loss
        num_classes = logits.shape[1]
        if type(loss) not in (nn.CrossEntropyLoss, SoftmaxCrossEntropyLoss) or num_classes == 1 or _is_summed(loss):
            return _call_by_region(loss, logits.flatten(2)[0], label.flatten(2)[0], owners)
        index = label_to_index(label, num_classes, self.ignore_index)
        index = index.where(index != loss.ignore_index, IGNORE_INDEX) if loss.ignore_index is not None else index
        logits = at_least_float32(logits)
        weight = None if loss.weight is None else loss.weight.to(logits)
        smoothing = getattr(loss, "label_smoothing", 0.0)
        values = F.cross_entropy(
            logits, index, weight, ignore_index=IGNORE_INDEX, reduction="none", label_smoothing=smoothing
        )
        valid = (index != IGNORE_INDEX).to(logits.dtype)
        weights = valid if weight is None else valid * weight[index.clamp_min(0)]
        return _weigh_by_region(values.flatten(), weights.flatten(), owners)

    def _regions(self, label: Tensor, num_classes: int) -> list[list[NDArray[np.int32]]]:
        """Return the regions of each image, numbered from 1, for each class that has objects; 0 is void."""
        if label.shape[1] == num_classes:
            one_hot, valid = label_to_one_hot(label, num_classes, self.ignore_index)
            values = one_hot.where(valid, IGNORE_INDEX)
        else:
            values = label_to_index(label, num_classes, self.ignore_index)[:, None]
        find = partial(self._find_regions, num_classes=num_classes)
        arrays = values.detach().to(torch.int16).cpu().numpy()
        return [self._cache.get(array, find, num_classes, self.include_background, self.spacing) for array in arrays]

    def _find_regions(self, label: NDArray[np.int16], num_classes: int) -> list[NDArray[np.int32]]:
        valid = label[0] != IGNORE_INDEX
        first = 0 if self.include_background or num_classes == 1 else 1
        if len(label) == num_classes:
            masks = [channel == 1 for channel in label[first:]]
        else:
            masks = [label[0] == k for k in np.unique(label).tolist() if k >= first]
        found = [component_regions(mask, spacing=self.spacing) for mask in masks]
        owners = [np.where(valid, owner, 0).astype(np.int32) for owner, count in found if count]
        return owners or [valid.astype(np.int32)]


def _is_summed(loss: Any) -> bool:
    return getattr(loss, "reduction", "mean") != "mean"


def _weigh_by_region(values: Tensor, weights: Tensor, owners: Sequence[NDArray[np.int32]]) -> tuple[Tensor, int]:
    """Return the sum of the weighted means of all regions as one weighted sum over the pixels, in one pass.

    Args:
        values: (P,) losses of the pixels, times their weights.
        weights: (P,) weights of the pixels.
        owners: Number of each pixel's region, once for each class.

    Returns:
        The sum, and the number of regions with weights.
    """
    plain = weights.detach().double().cpu().numpy()
    scale, count = np.zeros_like(plain), 0
    for owner in owners:
        sums = np.bincount(owner.ravel(), weights=plain)
        sums[0] = 0  # void
        scale += np.divide(1, sums, out=np.zeros_like(sums), where=sums > 0)[owner.ravel()]
        count += np.count_nonzero(sums)
    return (values * torch.from_numpy(scale).to(values)).sum(), count


def _call_by_region(
    loss: Any, logits: Tensor, label: Tensor, owners: Sequence[NDArray[np.int32]]
) -> tuple[Tensor, int]:
    """Call a loss on the pixels of each region: logits (K,P), label (1,P) or (K,P)."""
    total, count = logits.new_zeros(()), 0
    for owner in owners:
        flat = torch.from_numpy(owner.ravel()).to(logits.device)
        parts = torch.split(flat.argsort(stable=True), flat.bincount().tolist())[1:]
        for pixels in parts:
            if len(pixels):
                some_logits, some_label = (x[None, :, pixels, None] for x in (logits, label))
                total, count = total + segmentation_term(loss, [some_logits], some_label, None), count + 1
    return total, count
