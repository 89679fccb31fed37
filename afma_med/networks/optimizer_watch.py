"""Notice an optimizer that trains the backbone and leaves AFMA out."""

from __future__ import annotations

import warnings

import torch
from torch import nn

__all__ = ["OptimizerWatch"]


class OptimizerWatch:
    """Warn once when the parameters of the backbone change between two training passes and those of the block do not.

    Every in-place change of a tensor raises its version, so that two numbers tell what an optimizer did.
    """

    def __init__(self) -> None:
        self._versions: tuple[int, int] | None = None
        self._is_done = False

    def check(self, backbone: nn.Module, block: nn.Module, *, training: bool) -> None:
        """Compare the versions of the parameters with those of the last training pass."""
        # A compiled graph knows no versions.
        if self._is_done or not training or torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return
        versions = _version(backbone), _version(block)
        before, self._versions = self._versions, versions
        if before is None or before == versions:
            return
        self._is_done = True
        if before[1] == versions[1] and any(parameter.requires_grad for parameter in block.parameters()):
            warnings.warn(
                "The optimizer changed the backbone and not the AFMA block, which stays as it was initialized. Give it "
                "all parameters, `net.parameters()`; to freeze the block, use net.afma_block.requires_grad_(False).",
                stacklevel=5,  # the call of the network, past torch and `forward`
            )


def _version(module: nn.Module) -> int:
    return sum(parameter._version for parameter in module.parameters() if parameter.requires_grad)
