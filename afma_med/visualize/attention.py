"""Compute the attention of an image."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from afma_med._ops.finite import check_finite
from afma_med._ops.tensors import without_metadata
from afma_med.functional import PatchAttention, compress_prediction, split_patches
from afma_med.grouped_attention import GroupedAttention
from afma_med.networks import AFMABlocks, AFMANet
from afma_med.networks.probing import probing

__all__ = ["AttendedImage", "AttendedPart", "attend_image", "decide", "find_afma"]


class AttendedPart(NamedTuple):
    """Hold one of several attentions of an image.

    Args:
        attention: With B = 1 and all K classes; zeros for classes that it does not hold.
        values: (K,M), as those of :class:`AttendedImage`.
        class_indices: Classes that it holds.
        feature: Encoder depth or module name of its feature map; None if a block of your own does not name it.
    """

    attention: PatchAttention
    values: Tensor
    class_indices: tuple[int, ...]
    feature: int | str | None

    @property
    def name(self) -> str:
        """Feature map and patch size, such as ``depth 2, patches of 10×10 pixels``."""
        height, width = self.attention.grid.patch_size
        depth = f"depth {self.feature}" if isinstance(self.feature, int) else self.feature
        return f"{depth or f'stride {self.attention.grid.stride}'}, patches of {height}×{width} pixels"


@dataclass(frozen=True)
class AttendedImage:
    """Prediction of a network for one image, before and after the correction, with its attention.

    Args:
        image: (C,H,W), preprocessed.
        before: (H,W) train ids of the logits before the correction; 0 and 1 if the network is binary.
        after: (H,W) train ids of the corrected logits.
        attention: Attention of this image, with B = 1. Of several depths or groups of classes, the first one; classes
            that it does not hold have zeros.
        values: (K,M) share of the class in each feature patch before the correction: V averaged over the patch.
        parts: The attentions of several depths or groups of classes; empty for one attention of all classes.
    """

    image: NDArray[np.float32]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    attention: PatchAttention
    values: Tensor
    parts: tuple[AttendedPart, ...] = ()

    def for_class(self, index: int) -> AttendedImage:
        """Return a copy with the first attention that holds a class."""
        return next((self.for_part(i) for i, part in enumerate(self.parts) if index in part.class_indices), self)

    def for_part(self, index: int) -> AttendedImage:
        """Return a copy with only one of several attentions, and the predictions of the whole network."""
        part = self.parts[index]
        return replace(self, attention=part.attention, values=part.values, parts=(part,))

    @property
    def class_indices(self) -> tuple[int, ...]:
        """Classes that ``attention`` holds."""
        return self.parts[0].class_indices if self.parts else tuple(range(len(self.values)))

    @property
    def changed(self) -> NDArray[np.bool_]:
        """(H,W) mask of the pixels where the correction changes the prediction."""
        return np.not_equal(self.before, self.after)

    @property
    def region_size(self) -> tuple[int, int]:
        """(height, width) of the part of the image that a feature patch covers, in pixels."""
        grid = self.attention.grid
        return grid.patch_size[0] * grid.stride, grid.patch_size[1] * grid.stride


def attend_image(network: nn.Module, image: Tensor) -> AttendedImage:
    """Segment an image and keep its attention.

    The network runs in eval mode without gradients. The modes of its modules are restored.

    Args:
        network: AFMANet, or a module that holds one, such as SliceWise or DistributedDataParallel.
        image: (C,H,W), preprocessed.

    Raises:
        TypeError: If the network does not hold an AFMANet.
        ValueError: If ``image`` is not 3-D, or the network does not accept it.
        NonFiniteError: If the prediction is NaN or infinite.

    Example:
        >>> import torch
        >>> net = AFMANet(nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.ConvTranspose2d(4, 2, 2, 2)), 2, feature="0")
        >>> attend_image(net, torch.rand(3, 40, 60)).before.shape
        (40, 60)
    """
    afma = find_afma(network)
    if afma is None:
        raise TypeError(
            f"`network` must be or contain an AFMANet; got {type(network).__name__}. Only AFMA has attention to show."
        )
    if image.ndim != 3:
        raise ValueError(
            f"`image` must have the 3 axes (C,H,W); got shape {tuple(image.shape)}. Pass one image, or one slice."
        )
    image = without_metadata(image)
    with probing(afma):
        logits, attention = afma.attend(image[None].to(next(afma.parameters())))
        corrected = afma.correct(logits, attention)
        parts = _list_parts(afma, logits, attention) if isinstance(attention, GroupedAttention) else ()
        shown = attention if isinstance(attention, PatchAttention) else parts[0].attention
    return AttendedImage(
        image=np.asarray(image.cpu(), dtype=np.float32),
        before=decide(logits)[0],
        after=decide(corrected)[0],
        attention=shown,
        values=_average_values(afma, logits, shown),
        parts=parts,
    )


def find_afma(network: nn.Module) -> AFMANet | None:
    """Return the first AFMANet in a network; None without one."""
    return next((module for module in network.modules() if isinstance(module, AFMANet)), None)


def decide(logits: Tensor) -> NDArray[np.uint8]:
    """Return the class of each pixel, (B,K,H,W) -> (B,H,W); 0 and 1 for a binary network with K = 1.

    Raises:
        NonFiniteError: If the largest logit of a pixel is NaN or infinite.
    """
    largest = logits.max(dim=1)
    check_finite(largest.values, logits)
    index = largest.values > 0 if logits.shape[1] == 1 else largest.indices
    return np.asarray(index.cpu(), dtype=np.uint8)


def _list_parts(afma: AFMANet, logits: Tensor, attention: GroupedAttention) -> tuple[AttendedPart, ...]:
    block, depths = afma.afma_block, list(afma.feature_channels)
    features = [depths[i] for i in block.inputs] if isinstance(block, AFMABlocks) else [None] * len(attention.parts)
    parts = []
    for part, indices, feature in zip(attention.parts, attention.classes, features, strict=True):
        query, key = (factor.new_zeros(1, logits.shape[1], *factor.shape[2:]) for factor in part[:2])
        query[:, list(indices)], key[:, list(indices)] = part.query, part.key
        whole = PatchAttention(query, key, part.grid)
        parts.append(AttendedPart(whole, _average_values(afma, logits, whole), indices, feature))
    return tuple(parts)


def _average_values(afma: AFMANet, logits: Tensor, attention: PatchAttention) -> Tensor:
    grid = attention.grid
    values = compress_prediction(logits, grid, soft=afma.variant == "paper")
    return split_patches(values, grid.patch_size)[0].mean(dim=-1)
