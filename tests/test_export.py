"""Networks leave Python: traced and exported, they give the same at other batch and image sizes."""

from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch

from afma_med import AFMANet

SIZES = [(2, 3, 64, 96), (1, 3, 96, 64), (3, 3, 90, 70)]


@pytest.fixture(scope="module", params=["released", "paper"])
def net(request: pytest.FixtureRequest) -> AFMANet:
    torch.manual_seed(0)
    backbone = smp.Unet("resnet18", encoder_weights=None, classes=5)
    return AFMANet(backbone, 5, patch_size=4, variant=request.param).eval()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_network_is_the_same_at_other_sizes(net: AFMANet) -> None:
    traced = torch.jit.trace(net, torch.rand(*SIZES[0]))
    for size in SIZES:
        image = torch.rand(*size)
        torch.testing.assert_close(traced(image), net(image), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_exported_program_is_the_same_at_other_sizes(net: AFMANet) -> None:
    auto = torch.export.Dim.AUTO
    shapes = ({0: auto, 2: auto, 3: auto},)
    program = torch.export.export(net, (torch.rand(*SIZES[0]),), dynamic_shapes=shapes, strict=False).module()
    for size in SIZES[:2]:
        image = torch.rand(*size)
        torch.testing.assert_close(program(image), net(image), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_memory_format_does_not_matter(net: AFMANet, memory_format: torch.memory_format) -> None:
    image = torch.rand(*SIZES[0])
    torch.testing.assert_close(net(image.to(memory_format=memory_format)), net(image), rtol=1e-4, atol=1e-5)
