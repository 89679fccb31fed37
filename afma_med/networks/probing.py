"""Run networks on blank images at construction: find the sizes that they take and check what they return."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from afma_med._ops.host_outputs import find_logits
from afma_med._ops.patches import ceil_divide

__all__ = [
    "PROBE_SIZES",
    "InputSizes",
    "blank_image",
    "check_host_output",
    "check_uncompiled",
    "find_input_sizes",
    "find_probe_size",
    "probing",
    "watch_activations",
]

# Sides of blank images that networks are tried on, in pixels. Nearly all take the first; vision transformers of one
# fixed size take the one that they were built for.
PROBE_SIZES = (128, 224, 96, 256, 64, 160, 192, 320, 384, 448, 512, 518, 640, 1024)
_REFUSALS = (RuntimeError, ValueError, AssertionError)
# Names in aten of the activations that networks end with, and of operations that keep their values.
_ACTIVATIONS = {"sigmoid", "softmax", "log_softmax", "tanh", "hardsigmoid", "clamp", "argmax"}
_RESHAPES = {
    *("view", "unsafe_view", "permute", "transpose", "slice", "select", "squeeze", "unsqueeze", "clone", "alias"),
    *("upsample_bilinear2d", "upsample_nearest2d", "upsample_bicubic2d", "cat", "stack", "expand", "to_copy", "detach"),
}
# Below, AFMABlock embeds images in another way, of which a trace would make a constant.
_SMALLEST_SIDE = 5


class InputSizes(NamedTuple):
    """Tell which image sides a network takes, in pixels: multiples of ``divisor`` from ``smallest`` to ``largest``."""

    divisor: int
    smallest: int
    largest: int | None

    def side_for(self, side: int) -> int:
        """The side to pad an image's side to.

        Raises:
            ValueError: if the image is larger than the only size that the network takes.
        """
        if self.largest is not None and side > self.largest:
            raise ValueError(
                f"`image` must not be larger than {self.largest}×{self.largest}, the one size of this backbone; "
                f"got a side of {side}. Resize or crop it, or use monai.inferers.SlidingWindowInferer with that window."
            )
        padded = ceil_divide(side, self.divisor) * self.divisor
        if self.smallest <= self.divisor:
            return padded
        # While tracing, sizes are tensors; while exporting, symbols.
        at_least: Any = torch.clamp_min if isinstance(padded, Tensor) else torch.sym_max
        larger: int = at_least(padded, self.smallest)
        return larger


@contextlib.contextmanager
def probing(backbone: nn.Module, *, train: bool = False) -> Iterator[None]:
    """Put a network into eval or train mode, without gradients, and restore its modes, buffers and random state."""
    modes = {module: module.training for module in backbone.modules()}
    buffers = [(buffer, buffer.clone()) for buffer in backbone.buffers()] if train else []
    devices = {p.device for p in backbone.parameters() if p.device.type == "cuda"}
    try:
        backbone.train(train)
        with torch.no_grad(), torch.random.fork_rng(devices, enabled=train):
            yield
    finally:
        for module, training in modes.items():
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


class watch_activations(TorchDispatchMode):  # type: ignore[no-untyped-call]  # noqa: N801 -- used as a function
    """Remember which tensors came out of a sigmoid, a softmax or the like, resized or reshaped afterwards or not."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._activated: list[tuple[Tensor, str]] = []

    def find(self, x: Tensor) -> str | None:
        """Return the name of the activation that made a tensor, if one did."""
        return next((name for tensor, name in self._activated if tensor is x), None)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.strip("_")
        if isinstance(output, Tensor):
            if name in _ACTIVATIONS or not output.is_floating_point():
                self._activated.append((output, name))
            elif name in _RESHAPES:
                found = (self.find(x) for x in tree_leaves(args) if isinstance(x, Tensor))
                self._activated.extend((output, before) for before in found if before)
        return output


def blank_image(backbone: nn.Module, in_channels: int, size: int) -> Tensor:
    """Make a blank square image, (1,C,size,size), on the device and in the type of the network's parameters."""
    parameter = next(backbone.parameters(), torch.empty(0))
    return torch.zeros(1, in_channels, size, size, device=parameter.device, dtype=parameter.dtype)


def find_probe_size(backbone: nn.Module, in_channels: int) -> int:
    """Find a side of blank images that the network takes.

    Raises:
        ValueError: if it fails on all of ``PROBE_SIZES``.
    """
    first: Exception | None = None
    for size in PROBE_SIZES:
        try:
            with probing(backbone):
                backbone(blank_image(backbone, in_channels, size))
            return size
        except _REFUSALS as error:
            first = first or error
    raise ValueError(
        f"`backbone` must run on images of `in_channels`={in_channels} channels; on one of {PROBE_SIZES[0]}×"
        f"{PROBE_SIZES[0]} pixels it failed: {first}. Give backbone and AFMANet the same number of image channels; "
        f"square images of the sides {PROBE_SIZES} were tried."
    ) from first


def find_input_sizes(run: Callable[[int], Tensor], *, known: int, stride: int, strides: Sequence[int]) -> InputSizes:
    """Find the image sides that a network takes, by running it.

    Args:
        run: side of a blank image -> logits.
        known: a side that works.
        stride: of the tapped feature map, which must divide the sides.
        strides: all that the network's encoder has; empty where they are unknown.
    """

    def works(size: int) -> bool:
        try:
            return tuple(run(size).shape[2:]) == (size, size)
        except _REFUSALS:
            return False

    if not works(known // 2) and not works(2 * known):
        return InputSizes(known, known, known)
    divisor = math.lcm(stride, *strides)
    # On an odd multiple, so that a host that needs more than the divisor fails.
    while divisor < known and not works((known // divisor | 1) * divisor):
        divisor *= 2
    smallest = divisor
    while smallest < known and (smallest < _SMALLEST_SIDE or not works(smallest)):
        smallest *= 2
    return InputSizes(divisor, smallest, None)


def check_uncompiled(backbone: nn.Module) -> None:
    """Refuse a network that torch.compile made: its graphs do not see the hook of the feature tap.

    Raises:
        ValueError: naming the order that works.
    """
    if hasattr(backbone, "_orig_mod") or getattr(backbone, "_compiled_call_impl", None) is not None:
        raise ValueError(
            "`backbone` must be a network that is not compiled yet; got one that torch.compile made. "
            "Wrap the plain network first and compile the whole: torch.compile(AFMANet(network))."
        )


def check_host_output(
    output: Any, image: Tensor, out_channels: int | None, *, upsample: bool, activations: watch_activations
) -> Tensor:
    """Return the logits (B,K,h,w) of a network's output for a blank image; refuse an output that cannot be corrected.

    Args:
        output: as the network returned it.
        image: the blank image.
        out_channels: K, None for any.
        upsample: whether logits may be smaller than the image.
        activations: the mode that the network ran in.

    Raises:
        ValueError: if there are no logits of that shape, or they are probabilities already.
    """
    logits = find_logits(output)
    batch, _, *size = image.shape
    shape: Any = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
    if logits is not None:
        shape = tuple(logits.shape)
        enlarged = upsample and shape[2] <= size[0]
        if shape[:2] == (batch, out_channels or shape[1]) and (enlarged or shape[2:] == (*size,)):
            return _check_no_activation(logits, activations)
    expected = "K" if out_channels is None else out_channels
    stated = "" if out_channels is None else f" for `out_channels`={out_channels}"
    remedy = (
        "Give the backbone and AFMANet the same number of classes, and wrap it to return logits of the image's size."
    )
    if logits is not None and shape[2] < size[0] and not upsample:
        remedy = "Give upsample_logits=True to enlarge its logits."
    raise ValueError(
        f"`backbone` must give logits of shape (B, {expected}, H, W){stated}; a {batch}×{size[0]}×{size[1]} image gave "
        f"{shape}. {remedy}"
    )


def _check_no_activation(logits: Tensor, activations: watch_activations) -> Tensor:
    activation = activations.find(logits)
    if activation is not None:
        raise ValueError(
            f"`backbone` must return logits; got the result of {activation}. Build it without an activation "
            "(activation=None in segmentation_models_pytorch), and apply yours to the corrected logits."
        )
    return logits
