"""The network runs in half precision, and everything else in float32."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SlidingWindowInferer
from torch import nn

from afma_med.checks import NonFiniteError
from afma_med.inferers import AutocastInferer


def test_convolutions_run_in_bfloat16_and_what_follows_does_not() -> None:
    network, image = nn.Conv2d(3, 2, 3), torch.rand(1, 3, 8, 8)
    logits = AutocastInferer()(image, network)
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), network(image), rtol=0.02, atol=0.02)
    assert network(image).dtype == torch.float32, "autocast ends with the call"
    logits.float().sum().backward()
    assert network.weight.grad is not None and network.weight.grad.dtype == torch.float32


def test_keeps_another_inferer() -> None:
    windows = SlidingWindowInferer((8, 8), sw_batch_size=2)
    got = AutocastInferer("bfloat16", windows)(torch.rand(1, 3, 20, 12), nn.Conv2d(3, 2, 1))
    assert got.shape == (1, 2, 20, 12)


@pytest.mark.parametrize("dtype", ["float32", "bf16", torch.float64])
def test_refuses_other_dtypes(dtype: str) -> None:
    with pytest.raises(ValueError, match="must be bfloat16 or float16; got"):
        AutocastInferer(dtype)


def test_float16_that_overflows_is_refused_without_gradients() -> None:
    image, network = MetaTensor(torch.ones(1, 3, 4, 4), meta={"filename_or_obj": "a.png"}), nn.Conv2d(3, 2, 1)
    nn.init.constant_(network.weight, 4e4)
    with torch.no_grad(), pytest.raises(NonFiniteError, match=r"got inf for a\.png\."):
        AutocastInferer("float16")(image, network)
    with torch.no_grad():
        assert AutocastInferer("bfloat16")(image, network).isfinite().all()
    assert not AutocastInferer("float16")(image, network).isfinite().all(), "a training looks at its loss"
