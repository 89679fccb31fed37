"""List the feature maps of a network, and order those of an encoder by depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from afma_med._ops.patches import ceil_divide
from afma_med.checks import check_module
from afma_med.networks.probing import blank_image, find_probe_size, probing

__all__ = [
    "FeatureError",
    "FeatureInfo",
    "encoder_strides",
    "list_features",
    "maps_by_depth",
    "own_list",
    "whole_stride",
]


class FeatureError(ValueError):
    """Raised for a feature that a backbone does not have or that is not a feature map."""


class FeatureInfo(NamedTuple):
    """Describe a feature map that AFMA can compare with the image."""

    feature: int | str
    channels: int
    size: tuple[int, int]
    stride: int


def list_features(backbone: nn.Module, *, in_channels: int = 3, size: int | None = None) -> list[FeatureInfo]:
    """List the feature maps of a network that AFMA can use: encoder depths first, then modules in the order they run.

    Of modules that pass on the same map, the outermost is named. Modules that run more than once are left out.

    Args:
        backbone: the segmentation network.
        in_channels: C, channels of the image.
        size: side of the blank image that the network is run on, in pixels; None finds one that it takes.

    Returns:
        Name or depth, channels, (h, w) and stride of every map that is smaller than the image by a whole stride.

    Raises:
        TypeError: if the backbone is not a network.
        ValueError: if it runs on no blank image.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> list_features(smp.Unet("resnet18", encoder_weights=None))[1]
        FeatureInfo(feature=2, channels=64, size=(32, 32), stride=4)
    """
    check_module("backbone", backbone)
    image = blank_image(backbone, in_channels, size or find_probe_size(backbone, in_channels))
    runs: dict[str, list[Any]] = {}

    def remember(name: str, output: Any) -> None:  # a hook that returned something would replace the output
        runs.setdefault(name, []).append(own_list(output))

    handles = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: remember(name, output))
        for name, module in backbone.named_modules()
        if name and not isinstance(module, torch.jit.ScriptModule)  # which take no hooks
    ]
    try:
        with probing(backbone):
            backbone(image)
    finally:
        for handle in handles:
            handle.remove()
    outputs = {name: run[0] for name, run in runs.items() if len(run) == 1}  # of several maps, none is the map
    named: dict[int, tuple[int | str, Tensor]] = {}
    for name, output in sorted(outputs.items(), key=lambda item: item[0].count(".")):
        if isinstance(output, Tensor):
            named.setdefault(id(output), (name, output))
    order = {id(output): i for i, output in enumerate(outputs.values())}
    modules = sorted(named.values(), key=lambda item: order[id(item[1])])
    found = [*_list_depths(outputs.get("encoder"), image), *modules]
    return [info for feature, output in found if (info := _describe_map(feature, output, image)) is not None]


def encoder_strides(backbone: nn.Module, features: list[FeatureInfo]) -> list[int]:
    """List the strides that image sides should be multiples of, where the backbone has an encoder."""
    encoder: Any = getattr(backbone, "encoder", None)
    strides = [info.stride for info in features if isinstance(info.feature, int)]
    return [*strides, int(encoder.output_stride)] if hasattr(encoder, "output_stride") else strides


def whole_stride(feature_map: Tensor, image: Tensor) -> int:
    """Read the stride of a map; the image's sides need not be multiples of it.

    Raises:
        FeatureError: if no whole stride fits both axes.
    """
    (height, width), sides = feature_map.shape[2:], image.shape[2:]
    stride = round(sides[0] / max(1, height))
    ceiled = [ceil_divide(side, max(1, stride)) for side in sides]
    if stride < 1 or not all(whole - 1 <= part <= whole for part, whole in zip((height, width), ceiled, strict=True)):
        raise FeatureError(
            f"`feature` must give a map smaller than the image by one whole stride; it gave {height}×{width} for an "
            f"image of {sides[0]}×{sides[1]}. Choose another depth or module."
        )
    return stride


def maps_by_depth(maps: Sequence[Any], image: Tensor) -> list[Any]:
    """Order an encoder's maps by depth. SMP's encoders list the image itself first, those of MONAI do not."""
    first = maps[0] if maps else None
    if isinstance(first, (list, tuple)):  # torch 2.6 compiles no union of types
        maps, first = first, first[0] if first else None  # the encoders of smp.DPT return (maps, prefix tokens)
    has_image = isinstance(first, Tensor) and first.shape[2:] == image.shape[2:]
    return list(maps) if has_image else [None, *maps]


def own_list(output: Any) -> Any:
    """Copy a list of maps, since the decoder of MONAI's SegResNetDS removes maps from the list."""
    return list(output) if isinstance(output, list) else output


def _list_depths(maps: Any, image: Tensor) -> list[tuple[int, Any]]:
    return [*enumerate(maps_by_depth(maps, image))][1:] if isinstance(maps, list | tuple) else []


def _describe_map(feature: int | str, output: Any, image: Tensor) -> FeatureInfo | None:
    """What a user needs to know of a map; None for what AFMA cannot use."""
    if not isinstance(output, Tensor) or output.ndim != 4 or 0 in output.shape:
        return None
    try:
        stride = whole_stride(output, image)
    except FeatureError:
        return None
    return FeatureInfo(feature, output.shape[1], (output.shape[2], output.shape[3]), stride)
