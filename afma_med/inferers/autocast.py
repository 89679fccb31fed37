"""Run a network in half precision on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from monai.inferers import Inferer, SimpleInferer

from afma_med._ops.finite import check_finite
from afma_med._ops.host_outputs import find_logits
from afma_med.checks import check_tensor

__all__ = ["AutocastInferer"]


class AutocastInferer(Inferer):
    """Run a network in half precision on any device. ``amp`` of MONAI's engines needs CUDA.

    Losses and metrics run outside autocast. There is no loss scaling, so use ``float16`` for inference only: without
    loss scaling, its small gradients vanish.

    Predictions without gradients are refused if they are NaN or infinite, which float16 makes of values above 65504. In
    a training, :class:`~afma_med.handlers.FiniteLossHandler` looks at the loss instead.

    Args:
        dtype: ``torch.bfloat16``, ``torch.float16``, or the name of one of them.
        inferer: Inferer that calls the network; default: ``SimpleInferer()``.

    Raises:
        ValueError: If ``dtype`` is not one of the two.

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
        """Return the output of the network for ``inputs``.

        Raises:
            TypeError: If the inputs are no tensor.
            NonFiniteError: If a prediction without gradients is NaN or infinite; the message names the image.
        """
        check_tensor("inputs", inputs, "(B,C,...)")
        with torch.autocast(inputs.device.type, dtype=self.dtype):
            output = self.inferer(inputs, network, *args, **kwargs)
        logits = find_logits(output, inputs.ndim)
        if logits is not None and not logits.requires_grad:
            check_finite(logits, inputs)
        return output
