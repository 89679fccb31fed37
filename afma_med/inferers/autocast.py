"""What MONAI's inferers lack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

__all__ = ["AutocastInferer"]


class AutocastInferer(Inferer):
    """Run a network in half precision on any device; ``amp`` of MONAI's engines does so on CUDA only.

    Losses and metrics, called after it, are outside of autocast. There is no loss scaling: ``float16``, whose small
    gradients vanish without it, is for inference.

    Args:
        dtype: ``torch.bfloat16``, ``torch.float16`` or its name.
        inferer: how the network is called; default: ``SimpleInferer()``.

    Raises:
        ValueError: if ``dtype`` is another one.

    Example:
        >>> network = torch.nn.Conv2d(3, 2, 1)
        >>> AutocastInferer()(torch.rand(1, 3, 8, 8), network).dtype
        torch.bfloat16
    """

    def __init__(self, dtype: torch.dtype | str = torch.bfloat16, inferer: Inferer | None = None) -> None:
        super().__init__()
        found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
        if found not in (torch.bfloat16, torch.float16):
            raise ValueError(f"`dtype` must be bfloat16 or float16; got {dtype}. Leave the inferer out for float32.")
        self.dtype: torch.dtype = found
        self.inferer = SimpleInferer() if inferer is None else inferer

    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what the network returns for ``inputs``, on whose device autocast is entered."""
        with torch.autocast(inputs.device.type, dtype=self.dtype):
            return self.inferer(inputs, network, *args, **kwargs)
