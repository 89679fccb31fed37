"""Where a backbone's feature map comes from: an encoder depth or a dotted module name."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

__all__ = ["FeatureTap"]


class FeatureTap:
    """Run a backbone and take one of its feature maps along, without changing the backbone.

    A forward hook is set for the length of one call, so that copying, pickling and the backbone's own state_dict are
    untouched.

    Args:
        backbone: the segmentation network.
        feature: an encoder depth, for backbones whose ``encoder`` returns its maps as a list (the map of stride
            2^depth in an undilated encoder: 1, 2, ...), or the dotted name of a module whose output is the map.

    Raises:
        ValueError: if the backbone has no such module, or no encoder to count depths in.
        TypeError: if ``feature`` is neither int nor str.

    Example:
        >>> import torch
        >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 2, 2, stride=2))
        >>> logits, feature = FeatureTap(backbone, "0").run(backbone, torch.rand(1, 3, 32, 32))
        >>> logits.shape, feature.shape
        (torch.Size([1, 2, 32, 32]), torch.Size([1, 8, 16, 16]))
    """

    def __init__(self, backbone: nn.Module, feature: int | str) -> None:
        if isinstance(feature, bool) or not isinstance(feature, int | str):
            raise TypeError(
                f"`feature` must be an encoder depth (int) or a dotted module name (str); got {feature!r}. "
                "Use 2 for an SMP network, or a name out of `dict(backbone.named_modules())`."
            )
        names = [name for name, _ in backbone.named_modules() if name]
        if isinstance(feature, int) and "encoder" not in names:
            raise ValueError(
                f"`feature` must be a module name for a backbone without `encoder`; got depth {feature}. "
                f"{_choices('', names)}"
            )
        if isinstance(feature, str) and feature not in names:
            raise ValueError(
                f"`feature` must name a module of the backbone; got {feature!r}. {_choices(feature, names)}"
            )
        self.feature = feature
        self.module_name = feature if isinstance(feature, str) else "encoder"

    def run(self, backbone: nn.Module, image: Tensor) -> tuple[Any, Tensor]:
        """Run the backbone on an image.

        Args:
            backbone: the network given at construction, or a copy of it.
            image: (B,C,H,W).

        Returns:
            The backbone's output as it is, and the feature map (B,F,h,w).

        Raises:
            ValueError: if the module did not run, the depth does not exist, or what it gave is no 4-D map.
        """
        captured: list[Any] = []
        handle = backbone.get_submodule(self.module_name).register_forward_hook(
            lambda _module, _inputs, output: captured.append(output)
        )
        try:
            output = backbone(image)
        finally:
            handle.remove()
        if not captured:
            raise ValueError(
                f"`feature` must name a module that runs in the forward pass; {self.module_name!r} did not. "
                "Choose another one."
            )
        return output, self._select(captured[-1], image)

    def _select(self, captured: Any, image: Tensor) -> Tensor:
        if isinstance(self.feature, int):
            captured = _at_depth(captured, self.feature, image)
        if not isinstance(captured, Tensor) or captured.ndim != 4 or captured.shape[1] == 0:
            raise ValueError(
                f"`feature` must give a map of shape (B,F,h,w); {self.feature!r} gave {_describe(captured)}. "
                "Choose another depth or module."
            )
        return captured


def _at_depth(maps: Any, depth: int, image: Tensor) -> Any:
    if not isinstance(maps, Sequence):
        raise ValueError(
            f"`feature` must be a module name for a backbone whose encoder returns one map; got depth {depth} and "
            f"{_describe(maps)}. Choose out of `dict(backbone.encoder.named_modules())`, with the prefix 'encoder.'."
        )
    # Encoders of segmentation_models_pytorch list the image itself first, those of MONAI do not.
    if maps and maps[0].shape[2:] != image.shape[2:]:
        maps = [None, *maps]
    if not 1 <= depth < len(maps):
        strides = ", ".join(f"{i}: {_describe(m)}" for i, m in enumerate(maps) if i)
        raise ValueError(
            f"`feature` must be an encoder depth from 1 to {len(maps) - 1}; got {depth}. The maps here: {strides}."
        )
    return maps[depth]


def _choices(wanted: str, names: list[str]) -> str:
    """Name the module names nearest to the wanted one, then the top-level ones."""
    near = difflib.get_close_matches(wanted, names, n=5, cutoff=0.5)
    top = [name for name in names if name.count(".") <= 1]
    shown = list(dict.fromkeys(near + top))[:40]
    return f"Choose one of {shown}" + (
        f" or of the other {len(names) - len(shown)} in named_modules()." if len(names) > len(shown) else "."
    )


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"shape {tuple(value.shape)}"
    return type(value).__name__
