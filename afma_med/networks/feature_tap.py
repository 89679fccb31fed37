"""Take a feature map out of a running backbone, by encoder depth or dotted module name."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from afma_med.checks import check_module
from afma_med.networks.feature_maps import FeatureError, maps_by_depth, own_list

__all__ = ["FeatureTap", "FeatureTaps", "capture_all", "check_feature", "tap_features"]

# Held while a hook moves to another module. Of the module, since taps are copied and pickled.
_MOVING = threading.Lock()


class FeatureTap:
    """Run a backbone and return one of its feature maps too, without changing the backbone.

    A forward hook stays on the tapped module, since torch.compile follows hooks that are registered once. It keeps an
    output only during :meth:`run`, per call and per thread, so that threads may share the network. The backbone's own
    state_dict does not change; copies have their own tap.

    Args:
        backbone: the segmentation network.
        feature: an encoder depth, for backbones whose ``encoder`` returns its maps as a list (the map of stride
            2^depth in an undilated encoder: 1, 2, ...), or the dotted name of a module whose output is the map.

    Raises:
        FeatureError: if the backbone has no such module, or no encoder to count depths in.
        TypeError: if ``feature`` is neither int nor str.

    Example:
        >>> import torch
        >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ConvTranspose2d(8, 2, 2, stride=2))
        >>> logits, feature = FeatureTap(backbone, "0").run(backbone, torch.rand(1, 3, 32, 32))
        >>> logits.shape, feature.shape
        (torch.Size([1, 2, 32, 32]), torch.Size([1, 8, 16, 16]))
    """

    def __init__(self, backbone: nn.Module, feature: int | str) -> None:
        check_module("backbone", backbone)
        check_feature(feature)
        names = [name for name, _ in backbone.named_modules() if name]
        if isinstance(feature, int) and "encoder" not in names:
            raise FeatureError(
                f"`feature` must be a module name for a backbone without `encoder`; got depth {feature}. "
                f"{_choices('', names)}"
            )
        if isinstance(feature, str) and feature not in names:
            raise FeatureError(
                f"`feature` must name a module of the backbone; got {feature!r}. {_choices(feature, names)}"
            )
        self.feature = feature
        self.features = (feature,)
        self.module_name = feature if isinstance(feature, str) else "encoder"
        if isinstance(backbone.get_submodule(self.module_name), torch.jit.ScriptModule):
            raise FeatureError(
                f"`feature` must name a module that is not scripted; got {self.module_name!r}, which takes no hook. "
                "Wrap the plain network first and script the whole: torch.jit.script(AFMANet(network))."
            )
        self._calls = threading.local()
        self._module: nn.Module | None = None
        self._attach(backbone.get_submodule(self.module_name))

    def run(self, backbone: nn.Module, image: Tensor) -> tuple[Any, Tensor]:
        """Run the backbone on an image.

        Args:
            backbone: the network given at construction, or a copy of it.
            image: (B,C,H,W).

        Returns:
            The backbone's output as it is, and the feature map (B,F,h,w).

        Raises:
            FeatureError: as :meth:`capture` and :meth:`select` do.
        """
        output, captured = self.capture(backbone, image)
        return output, self.select(captured, image)

    def capture(self, backbone: nn.Module, image: Tensor) -> tuple[Any, Any]:
        """Run the backbone on an image, and return its output and the tapped module's output, both unchanged.

        Args:
            backbone: the network given at construction, or a copy of it.
            image: (B,C,H,W).

        Raises:
            FeatureError: if the module does not run exactly once, or runs without gradients while the rest of the
                network trains.
        """
        output, captured = capture_all([self], backbone, image)
        return output, captured[0]

    def _follow(self, backbone: nn.Module) -> None:
        module = backbone.get_submodule(self.module_name)
        if module is not self._module:  # the hook was removed, the module replaced, or the backbone alone copied
            self._move_to(module)

    def _take(self, captures: list[tuple[Any, bool]], backbone: nn.Module) -> Any:
        """Return the only output that a forward pass captured."""
        if len(captures) != 1:
            times = f"ran {len(captures)} times, so that its map is ambiguous" if captures else "did not"
            raise FeatureError(
                f"`feature` must name a module that runs {'once ' if captures else ''}in the forward pass; "
                f"{self.module_name!r} {times}. Choose another one."
            )
        captured, had_gradients = captures[0]
        module = backbone.get_submodule(self.module_name)
        if backbone.training and torch.is_grad_enabled() and not had_gradients and _is_trained(module):
            raise FeatureError(
                f"`feature` must carry gradients while the backbone trains; it ran {self.module_name!r} without them, "
                "under torch.no_grad or torch.utils.checkpoint(use_reentrant=True). Use use_reentrant=False, or freeze "
                "the module with requires_grad_(False)."
            )
        return captured

    def remove(self) -> None:
        """Remove the hook until the next :meth:`run`, for tools that refuse hooks, such as torch.jit.script."""
        self._handle.remove()
        self._module = None

    def _move_to(self, module: nn.Module) -> None:
        with _MOVING:
            # Replicas of nn.DataParallel share the hooks of the original, which stays where it is.
            if all(getattr(hook, "__self__", None) is not self for hook in module._forward_hooks.values()):
                self.remove()
                self._attach(module)

    def _attach(self, module: nn.Module) -> None:
        self._module = module
        self._handle = module.register_forward_hook(self._capture)

    def _capture(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        captures = getattr(self._calls, "captures", None)
        if captures is not None:
            captures.append((own_list(output), torch.is_grad_enabled()))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_calls"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._calls = threading.local()

    def select(self, captured: Any, image: Tensor) -> Tensor:
        """Choose the feature map, (B,F,h,w), from the output that :meth:`capture` returned.

        Raises:
            FeatureError: if the depth does not exist, or gives anything but one 4-D map per image.
        """
        if isinstance(self.feature, int):
            captured = _at_depth(captured, self.feature, image)
        if not isinstance(captured, Tensor) or captured.ndim != 4 or captured.shape[1] == 0:
            raise FeatureError(
                f"`feature` must give a map of shape (B,F,h,w); {self.feature!r} gave {_describe(captured)}. "
                "Choose another depth or module."
            )
        if captured.shape[0] != image.shape[0]:
            raise FeatureError(
                f"`feature` must give one map per image; {self.feature!r} gave {captured.shape[0]} for "
                f"{image.shape[0]}, as encoders of image pairs do. Choose a module after the pair is fused."
            )
        return captured


class FeatureTaps:
    """Run a backbone once and return several of its feature maps, each by a :class:`FeatureTap`.

    Args:
        backbone: the segmentation network.
        features: depths and names, as for :class:`FeatureTap`.

    Raises:
        FeatureError, TypeError: as :class:`FeatureTap` does.
    """

    def __init__(self, backbone: nn.Module, features: Sequence[int | str]) -> None:
        self.features = tuple(features)
        self.taps: list[FeatureTap] = []
        try:
            for feature in features:
                self.taps.append(FeatureTap(backbone, feature))
        except Exception:
            self.remove()
            raise

    def run(self, backbone: nn.Module, image: Tensor) -> tuple[Any, ...]:
        """Run the backbone on an image; return its unchanged output, and the feature maps (B,F,h,w) in order."""
        output, captured = capture_all(self.taps, backbone, image)
        return output, *(tap.select(one, image) for tap, one in zip(self.taps, captured, strict=True))

    def remove(self) -> None:
        """Remove the hooks until the next :meth:`run`."""
        for tap in self.taps:
            tap.remove()


def tap_features(backbone: nn.Module, features: Sequence[int | str]) -> FeatureTap | FeatureTaps:
    """Tap one feature map, or several."""
    return FeatureTap(backbone, features[0]) if len(features) == 1 else FeatureTaps(backbone, features)


def capture_all(taps: Sequence[FeatureTap], backbone: nn.Module, image: Tensor) -> tuple[Any, list[Any]]:
    """Run a backbone once; return its output, and the output of each tapped module, all unchanged.

    Raises:
        FeatureError: as :meth:`FeatureTap.capture` does.
    """
    for tap in taps:
        tap._follow(backbone)
    outer = [getattr(tap._calls, "captures", None) for tap in taps]
    captures: list[list[tuple[Any, bool]]] = [[] for _ in taps]
    for tap, own in zip(taps, captures, strict=True):
        tap._calls.captures = own
    try:
        output = backbone(image)
    finally:
        for tap, before in zip(taps, outer, strict=True):
            tap._calls.captures = before
    return output, [tap._take(own, backbone) for tap, own in zip(taps, captures, strict=True)]


def check_feature(feature: object) -> None:
    """Refuse a feature that is neither an encoder depth nor a module name.

    Raises:
        TypeError: naming both.
    """
    if isinstance(feature, bool) or not isinstance(feature, int | str):
        raise TypeError(
            f"`feature` must be an encoder depth (int) or a dotted module name (str); got {feature!r}. "
            "Use 2 for an SMP network, or a name out of `dict(backbone.named_modules())`."
        )


def _at_depth(maps: Any, depth: int, image: Tensor) -> Any:
    if not isinstance(maps, Sequence):
        raise FeatureError(
            f"`feature` must be a module name for a backbone whose encoder returns one map; got depth {depth} and "
            f"{_describe(maps)}. Choose out of `dict(backbone.encoder.named_modules())`, with the prefix 'encoder.'."
        )
    maps = maps_by_depth(maps, image)
    if not 1 <= depth < len(maps):
        strides = ", ".join(f"{i}: {_describe(m)}" for i, m in enumerate(maps) if i)
        raise FeatureError(
            f"`feature` must be an encoder depth from 1 to {len(maps) - 1}; got {depth}. The maps here: {strides}."
        )
    return maps[depth]


def _is_trained(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


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
