"""Predict an image at several sizes and average the predictions."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from numbers import Real
from typing import Any, Literal, get_args

import torch
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor
from torch.nn.functional import interpolate, logsigmoid

from afma_med._ops.finite import check_finite
from afma_med._ops.host_outputs import find_logits
from afma_med._ops.tensors import at_least_float32, autocast_off, is_probability, with_metadata_of, without_metadata
from afma_med.checks import check_tensor

__all__ = ["MultiScaleInferer"]

Activation = Literal["softmax", "sigmoid", "none"]

_MODES = {2: "bicubic", 3: "trilinear"}
_LINEAR = {2: "bilinear", 3: "trilinear"}


class MultiScaleInferer(Inferer):
    """Predict an image at several sizes and average the predictions, so that small objects are also seen enlarged.

    The image is resized by each factor, the network predicts each size, and the probabilities are averaged at the size
    of the image. The network is not trained again. An image of twice the size takes four times the time and memory.
    Compare the scores on validation images first: an enlargement can find small objects and lose others.

    The network gets each image in the number type of the input. Of a list, tuple, dictionary or object that it returns,
    the logits of the highest resolution are averaged, and only they are returned. They must have the size of the image
    that the network got.

    Args:
        scales: Factors of the image's size, or one factor. ``(1,)`` predicts as without this inferer, and returns the
            whole output of the network.
        flip: Predict the mirrored image at each scale too.
        activation: How logits become probabilities. ``"softmax"``: the classes exclude each other. For one channel,
            the sigmoid takes its place. ``"sigmoid"``: each channel is a yes-no question (multi-label). ``"none"``:
            the outputs themselves are averaged, such as probabilities or a regression.
        inferer: Inferer that calls the network, such as ``SlidingWindowInferer``, whose windows are enlarged one by
            one, or ``SliceInferer``, whose slices are; default: ``SimpleInferer()``.

    Raises:
        TypeError: If a scale is not a number.
        ValueError: If there are no scales, one is not a finite number above 0, or the activation is unknown.

    Example:
        >>> network = torch.nn.Conv2d(3, 2, 3, padding=1)
        >>> MultiScaleInferer((1, 2))(torch.rand(1, 3, 16, 20), network).shape
        torch.Size([1, 2, 16, 20])
    """

    def __init__(
        self,
        scales: Sequence[float] | float = (1, 2),
        *,
        flip: bool = False,
        activation: Activation = "softmax",
        inferer: Inferer | None = None,
    ) -> None:
        super().__init__()
        self.scales = _read_scales(scales)
        if activation not in get_args(Activation):
            raise ValueError(f"`activation` must be one of {get_args(Activation)}; got {activation!r}. Choose one.")
        self.flip = flip
        self.activation = activation
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Predict images (B,C,H,W) or volumes (B,C,H,W,D) of floating point numbers; other arguments go to the network.

        Returns:
            (B,K,...) logits. With the softmax, the logarithms of the averaged probabilities: the largest one is the
            class. With the sigmoid, the logits of the averaged probabilities: above 0 where these are above 0.5.
            With ``"none"``, the mean of the outputs. The number type is the wider one of input and output.

        Raises:
            TypeError: If the inputs are no tensor of floating point numbers, or the network returns no logits.
            ValueError: If the inputs have other axes or no pixels, the logits another size, or they are probabilities.
            NonFiniteError: If a prediction is NaN or infinite; the message names the image.
        """
        check_tensor("inputs", inputs, "(B,C,H,W) or (B,C,H,W,D)")
        if self.scales == (1,) and not self.flip:
            output = self.inferer(inputs, network, *args, **kwargs)
            logits = find_logits(output, inputs.ndim)
        else:
            _check_inputs(inputs)
            output = logits = self.inferer(inputs, partial(self._predict, network), *args, **kwargs)
        if logits is not None:
            check_finite(logits, inputs)
        return output

    def _predict(self, network: Callable[..., Any], image: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Average the predictions of one window."""
        plain = without_metadata(image)
        terms, dtype = [], plain.dtype
        for mirrored, scale in itertools.product((False, True) if self.flip else (False,), self.scales):
            logits = self._logits(network, plain.flip(-1) if mirrored else plain, scale, *args, **kwargs)
            # Under autocast, the network gets float32 and returns less; the average stays in float32.
            dtype = torch.promote_types(dtype, logits.dtype)
            term = logits if scale == 1 else _resize(logits, plain.shape[2:], _LINEAR)
            terms.append(term.flip(-1) if mirrored else term)
        return with_metadata_of(self._average(terms).to(dtype), image)

    def _logits(self, network: Callable[..., Any], image: Tensor, scale: float, *args: Any, **kwargs: Any) -> Tensor:
        """Return the logits of an image at a scale."""
        if scale != 1:
            size = [max(1, round(scale * side)) for side in image.shape[2:]]
            image = _resize(image, size, _MODES).to(image.dtype)
        output = network(image, *args, **kwargs)
        logits = without_metadata(_check_output(output, image))
        if self.activation == "softmax" and is_probability(logits, 1):
            raise ValueError(
                "`network` must return logits for the activation 'softmax'; got probabilities, which sum to 1. Use "
                "activation='none', or leave out the softmax of the network."
            )
        return logits

    def _average(self, logits: Sequence[Tensor]) -> Tensor:
        """Average predictions; probabilities in logarithms, which keep small ones."""
        stacked = torch.stack([at_least_float32(term) for term in logits])
        if self.activation == "none":
            return stacked.mean(dim=0)
        if self.activation == "sigmoid" or stacked.shape[2] == 1:
            on, off = (torch.logsumexp(logsigmoid(sign * stacked), dim=0) for sign in (1, -1))
            return on - off
        return torch.logsumexp(stacked.log_softmax(dim=2), dim=0) - math.log(len(logits))


def _read_scales(scales: Sequence[float] | float) -> tuple[float, ...]:
    listed = tuple(scales) if isinstance(scales, Iterable) else (scales,)
    if not all(isinstance(scale, Real) and not isinstance(scale, bool) for scale in listed):
        raise TypeError(f"`scales` must be numbers; got {scales!r}. (1, 2) also sees the image enlarged.")
    if not listed or not all(math.isfinite(scale) and scale > 0 for scale in listed):
        raise ValueError(f"`scales` must be finite numbers above 0; got {scales!r}. (1, 2) also sees it enlarged.")
    return listed


def _check_inputs(inputs: Tensor) -> None:
    check_tensor("inputs", inputs, "(B,C,H,W) or (B,C,H,W,D)", floating=True)
    if inputs.ndim not in (4, 5) or not inputs.numel():
        raise ValueError(
            f"`inputs` must be images (B,C,H,W) or volumes (B,C,H,W,D) with pixels; got shape {tuple(inputs.shape)}. "
            "Add the axis of the batch."
        )


def _check_output(output: Any, image: Tensor) -> Tensor:
    """Return the logits of an output, which must have the size of the image."""
    logits = find_logits(output, image.ndim)
    if logits is None:
        raise TypeError(
            f"`network` must return logits (B,K,...) with the {image.ndim} axes of its image; got "
            f"{tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__}. Pass a function that "
            "returns the logits."
        )
    check_tensor("logits", logits, "(B,K,...)", floating=True)
    if logits.shape[::2] + logits.shape[3:] != image.shape[::2] + image.shape[3:]:
        raise ValueError(
            f"`network` must return logits of the size of its image, {tuple(image.shape)}; got {tuple(logits.shape)}. "
            "Enlarge them in the network, such as with upsample_logits=True of AFMANet, or choose other scales."
        )
    return logits


def _resize(x: Tensor, size: Sequence[int], modes: dict[int, str]) -> Tensor:
    mode = modes[len(size)]
    # Shrinking averages over pixels, so that thin objects do not disappear.
    shrinks = mode in ("bilinear", "bicubic") and any(new < old for new, old in zip(size, x.shape[2:], strict=True))
    with autocast_off(x):
        return interpolate(at_least_float32(x), size=tuple(size), mode=mode, align_corners=False, antialias=shrinks)
