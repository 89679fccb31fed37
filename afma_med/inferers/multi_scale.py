"""Predict an image at several sizes and average the predictions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor
from torch.nn.functional import interpolate, logsigmoid

from afma_med._ops.tensors import autocast_off, with_metadata_of, without_metadata

__all__ = ["MultiScaleInferer"]

_MODES = {1: "linear", 2: "bicubic", 3: "trilinear"}
_LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}


class MultiScaleInferer(Inferer):
    """Predict an image at several sizes and average the predictions, so that small objects are also seen enlarged.

    The image is resized by each factor, the network predicts each size, and the probabilities are averaged at the size
    of the image. The network is not trained again. An image of twice the size takes four times the time and memory.
    Compare the scores on validation images first: an enlargement can find small objects and lose others.

    Args:
        scales: Factors of the image's size. ``(1,)`` predicts as without this inferer.
        flip: Predict the mirrored image at each scale too.
        inferer: Inferer that calls the network, such as ``SlidingWindowInferer``, whose windows are enlarged one by
            one, or ``SliceInferer``, whose slices are; default: ``SimpleInferer()``.

    Raises:
        ValueError: If there are no scales, or one is not a finite number above 0.

    Example:
        >>> network = torch.nn.Conv2d(3, 2, 3, padding=1)
        >>> MultiScaleInferer((1, 2))(torch.rand(1, 3, 16, 20), network).shape
        torch.Size([1, 2, 16, 20])
    """

    def __init__(self, scales: Sequence[float] = (1, 2), *, flip: bool = False, inferer: Inferer | None = None) -> None:
        super().__init__()
        if not scales or not all(math.isfinite(scale) and scale > 0 for scale in scales):
            raise ValueError(f"`scales` must be finite numbers above 0; got {scales!r}. (1, 2) also sees it enlarged.")
        self.scales = tuple(scales)
        self.flip = flip
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return logits (B,K,...) of ``inputs`` (B,C,...): the logarithm of the averaged probabilities.

        Of a network with one channel, they are the logits of the averaged probability.
        """
        if self.scales == (1,) and not self.flip:
            return self.inferer(inputs, network, *args, **kwargs)
        return self.inferer(inputs, partial(self._predict, network), *args, **kwargs)

    def _predict(self, network: Callable[..., Tensor], image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Average the probabilities of one window."""
        plain = without_metadata(image)
        terms = [self._logits(network, plain, scale, *args, **kwargs) for scale in self.scales]
        if self.flip:
            mirrored = plain.flip(-1)
            terms += [self._logits(network, mirrored, scale, *args, **kwargs).flip(-1) for scale in self.scales]
        return with_metadata_of(_average(terms), image)

    def _logits(self, network: Callable[..., Tensor], image: Tensor, scale: float, *args: Any, **kwargs: Any) -> Tensor:
        size = image.shape[2:]
        if scale == 1:
            return without_metadata(network(image, *args, **kwargs))
        scaled = _resize(image, [max(1, round(scale * side)) for side in size], _MODES)
        return _resize(without_metadata(network(scaled, *args, **kwargs)), size, _LINEAR)


def _resize(x: Tensor, size: Sequence[int], modes: dict[int, str]) -> Tensor:
    mode = modes[len(size)]
    # Shrinking averages over pixels, so that thin objects do not disappear.
    shrinks = mode in ("bilinear", "bicubic") and any(new < old for new, old in zip(size, x.shape[2:], strict=True))
    with autocast_off(x):
        return interpolate(x.float(), size=tuple(size), mode=mode, align_corners=False, antialias=shrinks)


def _average(logits: Sequence[Tensor]) -> Tensor:
    """Return the logits of the mean probability, computed in logarithms, which keep small probabilities."""
    stacked = torch.stack([term.float() for term in logits])
    if stacked.shape[2] == 1:
        on, off = (torch.logsumexp(logsigmoid(sign * stacked), dim=0) for sign in (1, -1))
        return on - off
    return torch.logsumexp(stacked.log_softmax(dim=2), dim=0) - math.log(len(logits))
