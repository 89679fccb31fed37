"""Tapped hosts for torch.jit.script, which knows neither hooks nor Python geometry."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afma_med._ops.patches import ceil_divide
from afma_med.grouped_attention import correct_logits
from afma_med.networks.afma_block import AFMABlock
from afma_med.networks.afma_blocks import AFMABlocks
from afma_med.networks.feature_tap import FeatureTap, FeatureTaps, capture_all
from afma_med.networks.probing import InputSizes, blank_image, probing

__all__ = ["AttentionCorrection", "ScriptableHost"]


class ScriptableHost(nn.Module):
    """Compute the corrected logits of a tapped host in TorchScript, in train and in eval mode, and nothing else.

    Host, padding and cropping are scripted, so that both modes and any size keep working; the correction, which has no
    modes, is traced. Parameters and buffers are the original's own. Threads may share the scripted network: the tapped
    maps travel as a value of the graph.

    Args:
        backbone: the host.
        tap: its feature tap.
        correction: traced: (padded image (B,C,H,W), maps (B,F,h,w), logits (B,K,H,W)) -> corrected logits.
        in_channels: C.
        sizes: the image sides that the host takes.

    Raises:
        TypeError: if the host does not return logits alone, if the tapped module returns neither a tensor nor a list
            of tensors, if it runs under a condition, or if several modules are tapped.
    """

    def __init__(
        self,
        backbone: nn.Module,
        tap: FeatureTap | FeatureTaps,
        correction: nn.Module,
        *,
        in_channels: int,
        sizes: InputSizes,
    ) -> None:
        super().__init__()
        taps = tap.taps if isinstance(tap, FeatureTaps) else [tap]
        name = _only_module(taps)
        image = blank_image(backbone, in_channels, sizes.smallest)
        with probing(backbone), warnings.catch_warnings():
            # Checks of shapes become constants, as they should: the shapes here are right by construction.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            logits, outputs = capture_all(taps, backbone, image)
            if not isinstance(logits, Tensor):
                raise TypeError(
                    f"`backbone` must return logits alone for torch.jit.script; got {type(logits).__name__}. "
                    "Wrap it in a module that returns its logits, or use torch.export."
                )
            features = [one.select(output, image) for one, output in zip(taps, outputs, strict=True)]
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                correction, (image, features, logits), check_trace=False
            )
        host = _tap_copy(backbone, name, outputs[0], features)
        scripted = torch.jit.script(_ScriptedHost(host, traced, sizes))
        _pass_maps_as_value(scripted.forward.graph)  # type: ignore[attr-defined]
        self.scripted = scripted
        self.training = backbone.training

    def forward(self, image: Tensor) -> Tensor:
        """Segment a batch of images, (B,C,H,W) -> (B,K,H,W)."""
        logits: Tensor = self.scripted(image)
        return logits


class _ScriptedHost(nn.Module):
    """Host and correction, with the tapped maps in the host's cell."""

    def __init__(self, host: nn.Module, correction: nn.Module, sizes: InputSizes) -> None:
        super().__init__()
        self.backbone, self.correction = host, correction
        self.cell = next(module for module in host.modules() if getattr(module, "original_name", "") == _Cell.__name__)
        self.divisor, self.smallest = sizes.divisor, sizes.smallest
        self.largest = -1 if sizes.largest is None else sizes.largest

    def forward(self, image: Tensor) -> Tensor:
        height, width = image.shape[2], image.shape[3]
        if self.largest >= 0 and max(height, width) > self.largest:
            raise ValueError("`image` is larger than the one size that the backbone takes. Resize or crop it.")
        bottom = max(ceil_divide(height, self.divisor) * self.divisor, self.smallest) - height
        right = max(ceil_divide(width, self.divisor) * self.divisor, self.smallest) - width
        padded = F.pad(image, [0, right, 0, bottom])
        logits = self.backbone(padded)
        corrected: Tensor = self.correction(padded, self.cell(), logits[:, :, :height, :width])
        return corrected


class _Cell(nn.Module):
    """Stand for the tapped maps between tapped module and correction, until the graph passes them as a value."""

    def __init__(self) -> None:
        super().__init__()
        self.tapped_maps = [torch.empty(0)]  # an empty list has no type in TorchScript

    def forward(self) -> list[Tensor]:
        return self.tapped_maps

    @torch.jit.export
    def keep(self, maps: list[Tensor]) -> None:
        self.tapped_maps = maps


class _TappedModule(nn.Module):
    """A module whose output is the map."""

    def __init__(self, module: nn.Module, cell: nn.Module) -> None:
        super().__init__()
        self.module, self.cell = module, cell

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.module(x)
        self.cell.keep([output])  # type: ignore[operator]
        return output


class _TappedEncoder(nn.Module):
    """An encoder that returns the maps among others."""

    def __init__(self, module: nn.Module, cell: nn.Module, indices: list[int]) -> None:
        super().__init__()
        self.module, self.cell, self.indices = module, cell, indices

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.module(x)
        self.cell.keep([outputs[i] for i in self.indices])  # type: ignore[operator]
        return outputs


class AttentionCorrection(nn.Module):
    """The correction of AFMANet: attention and modulation in one."""

    def __init__(self, block: AFMABlock | AFMABlocks, *, soft: bool) -> None:
        super().__init__()
        self.block, self.soft = block, soft

    def forward(self, image: Tensor, features: list[Tensor], logits: Tensor) -> Tensor:
        return correct_logits(logits, self.block(image, *features), soft=self.soft)


def _only_module(taps: Sequence[FeatureTap]) -> str:
    names = list(dict.fromkeys(tap.module_name for tap in taps))
    if len(names) > 1:
        raise TypeError(
            f"`feature` must name maps of one module for torch.jit.script; got those of {', '.join(names)}. "
            "Use depths of the encoder, torch.jit.trace or torch.export."
        )
    return names[0]


def _tap_copy(backbone: nn.Module, name: str, output: Any, features: Sequence[Tensor]) -> nn.Module:
    """Copy the modules of a host, share its tensors, and let the tapped module of the copy keep the maps."""
    tensors: dict[int, Any] = {id(tensor): tensor for tensor in (*backbone.parameters(), *backbone.buffers())}
    host = copy.deepcopy(backbone, tensors)
    tapped = host.get_submodule(name)
    keeping = _keep_maps(tapped, torch.jit.script(_Cell()), output, features)
    for module in list(host.modules()):
        for key, hook in list(module._forward_hooks.items()):
            if isinstance(getattr(hook, "__self__", None), FeatureTap):  # other hooks are the user's
                del module._forward_hooks[key]
        for child_name, child in list(module._modules.items()):  # several parents may share it, as in MONAI's DynUNet
            if child is tapped:
                module._modules[child_name] = keeping
    return host


def _keep_maps(module: nn.Module, cell: nn.Module, output: Any, features: Sequence[Tensor]) -> nn.Module:
    if isinstance(output, Tensor):
        return _TappedModule(module, cell)
    if isinstance(output, list | tuple) and all(isinstance(x, Tensor) for x in output):
        indices = [next(i for i, x in enumerate(output) if x is feature) for feature in features]
        return _TappedEncoder(module, cell, indices)
    raise TypeError(
        f"The tapped module must return a tensor or a list of tensors for torch.jit.script; got "
        f"{type(output).__name__}. Use torch.jit.trace or torch.export."
    )


def _pass_maps_as_value(graph: Any) -> None:
    """Replace the cell's attribute by the value that is written to it: an attribute would be shared between threads."""
    torch._C._jit_pass_inline(graph)
    writes, reads = (
        [node for node in graph.findAllNodes(f"prim::{kind}Attr") if node.s("name") == "tapped_maps"]
        for kind in ("Set", "Get")
    )
    if len(writes) != 1 or writes[0] not in list(graph.nodes()):
        raise TypeError(
            "The tapped module must run once, and under no condition or loop, for torch.jit.script. "
            "Use torch.jit.trace or torch.export, or tap another module."
        )
    for read in reads:
        read.output().replaceAllUsesWith(list(writes[0].inputs())[1])
    for node in (*reads, *writes):
        node.destroy()
    torch._C._jit_pass_dce(graph)
