"""What torch.jit.script gets in place of an AFMANet: hooks and Python geometry do not exist in TorchScript."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from afma_med._ops.patches import ceil_divide
from afma_med.functional import modulate_logits
from afma_med.networks.afma_block import AFMABlock
from afma_med.networks.feature_tap import FeatureTap
from afma_med.networks.probing import InputSizes, blank_image, probing

__all__ = ["ScriptableAFMANet"]


class ScriptableAFMANet(nn.Module):
    """Give an AFMANet's corrected logits in TorchScript, in train and in eval mode; the attention stays behind.

    Host, padding and cropping are scripted, so that both modes and any size keep working; the correction, which has no
    modes, is traced. Parameters and buffers are the original's own. The tapped map waits in an attribute for the end
    of the call: threads need a copy each.

    Args:
        backbone: the host.
        tap: its feature tap.
        block: the attention.
        sizes: the image sides that the host takes.
        soft: spread class probabilities instead of the one-hot arg max.

    Raises:
        TypeError: if the tapped module gives neither a tensor nor a list of tensors.
    """

    def __init__(
        self, backbone: nn.Module, tap: FeatureTap, block: AFMABlock, *, sizes: InputSizes, soft: bool
    ) -> None:
        super().__init__()
        self.divisor, self.smallest = sizes.divisor, sizes.smallest
        self.largest = -1 if sizes.largest is None else sizes.largest
        image = blank_image(backbone, block.image_conv1.in_channels, sizes.smallest)
        with probing(backbone), warnings.catch_warnings():
            # Checks of shapes become constants, as they should: the shapes here are right by construction.
            warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
            logits, output = tap.capture(backbone, image)
            feature = tap.select(output, image)
            example = (image, feature, logits)
            self.correction = torch.jit.trace(  # type: ignore[no-untyped-call]
                _Correction(block, soft=soft), example, check_trace=False
            )
        self.cell = torch.jit.script(_Cell())
        # Tensors are shared and modules copied, so that the original keeps its own tapped module.
        tensors: dict[int, Any] = {id(tensor): tensor for tensor in (*backbone.parameters(), *backbone.buffers())}
        self.backbone = copy.deepcopy(backbone, tensors)
        copied = self.backbone.get_submodule(tap.module_name)
        tapped = _tapped(copied, self.cell, output, feature)
        for module in list(self.backbone.modules()):
            for key, hook in list(module._forward_hooks.items()):
                if isinstance(getattr(hook, "__self__", None), FeatureTap):  # other hooks are the user's
                    del module._forward_hooks[key]
            for name, child in list(module._modules.items()):  # several parents may share it, as in MONAI's DynUNet
                if child is copied:
                    module._modules[name] = tapped

    def forward(self, image: Tensor) -> Tensor:
        """Segment a batch of images, (B,C,H,W) -> (B,K,H,W)."""
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
    """Carry a map from the tapped module to the end of the forward pass; both hold this one."""

    def __init__(self) -> None:
        super().__init__()
        self.kept = torch.empty(0)

    def forward(self) -> Tensor:
        """Hand the map out, and keep it no longer."""
        kept = self.kept
        self.kept = torch.empty(0)
        return kept

    @torch.jit.export
    def keep(self, x: Tensor) -> None:
        self.kept = x


class _TappedModule(nn.Module):
    """A module whose output is the map."""

    def __init__(self, module: nn.Module, cell: nn.Module) -> None:
        super().__init__()
        self.module, self.cell = module, cell

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.module(x)
        self.cell.keep(output)  # type: ignore[operator]
        return output


class _TappedEncoder(nn.Module):
    """An encoder of whose maps one is the map."""

    def __init__(self, module: nn.Module, cell: nn.Module, index: int) -> None:
        super().__init__()
        self.module, self.cell, self.index = module, cell, index

    def forward(self, x: Tensor) -> list[Tensor]:
        outputs: list[Tensor] = self.module(x)
        self.cell.keep(outputs[self.index])  # type: ignore[operator]
        return outputs


class _Correction(nn.Module):
    """Attention and modulation in one."""

    def __init__(self, block: AFMABlock, *, soft: bool) -> None:
        super().__init__()
        self.block, self.soft = block, soft

    def forward(self, image: Tensor, feature: Tensor, logits: Tensor) -> Tensor:
        return modulate_logits(logits, self.block(image, feature), soft=self.soft)


def _tapped(module: nn.Module, cell: nn.Module, output: Any, feature: Tensor) -> nn.Module:
    if isinstance(output, Tensor):
        return _TappedModule(module, cell)
    if isinstance(output, list | tuple) and all(isinstance(x, Tensor) for x in output):
        return _TappedEncoder(module, cell, next(i for i, x in enumerate(output) if x is feature))
    raise TypeError(
        f"The tapped module must give a tensor or a list of tensors for torch.jit.script; got {type(output).__name__}. "
        "Use torch.jit.trace or torch.export."
    )
