"""What blank images show of a network, at construction: the sizes that it takes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from afma_med._ops.patches import ceil_divide

__all__ = ["PROBE_SIZES", "InputSizes", "blank_image", "find_input_sizes", "find_probe_size", "probing"]

# Sides of blank images that networks are tried on, in pixels. Nearly all take the first; vision transformers of one
# fixed size take the one that they were built for.
PROBE_SIZES = (128, 224, 96, 256, 64, 160, 192, 320, 384, 448, 512, 518, 640, 1024)
_REFUSALS = (RuntimeError, ValueError, AssertionError)
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
def probing(backbone: nn.Module) -> Iterator[None]:
    """Put a network into eval mode, without gradients, and every module back into its own mode afterwards."""
    modes = {module: module.training for module in backbone.modules()}
    try:
        backbone.eval()
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


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
