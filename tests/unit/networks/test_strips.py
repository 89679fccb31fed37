"""In inference, large images are corrected strip by strip: the same logits in less memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from _helpers.memory import peak_bytes
from afma_med import AFMANet
from afma_med.networks import afma_block
from afma_med.networks.tapped_host import HostRun


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[slice]:
    """The strips that were made, of 20 rows of a 90×120 image with 3 classes."""
    monkeypatch.setattr(afma_block, "_CPU_STRIP", 3 * 25 * 128)
    monkeypatch.setattr(afma_block, "_LEAST_STRIPS", 1)
    made: list[slice] = []
    whole = afma_block.AFMABlock.in_strips

    def counting(block: afma_block.AFMABlock, image: Tensor, feature: Tensor) -> Iterator[tuple[slice, object]]:
        for rows, attention in whole(block, image, feature):
            made.append(rows)
            yield rows, attention

    monkeypatch.setattr(afma_block.AFMABlock, "in_strips", counting)
    return made


def build(**options: object) -> AFMANet:
    """A network whose correction is as large as its logits."""
    torch.manual_seed(0)
    net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), **options).eval()
    with torch.no_grad():
        net.afma_block.feature_conv.weight.mul_(30_000)
        net.afma_block.image_conv2.bias.add_(1)
    return net


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("patch_size", [10, (7, 12)])
@pytest.mark.parametrize("batch", [1, 2])
def test_strips_give_the_same_logits(counted: list[slice], variant: str, patch_size: int, batch: int) -> None:
    net, image = build(variant=variant, patch_size=patch_size), torch.rand(batch, 3, 90, 120)
    expected = net(image)
    assert not counted, "with gradients, there is one attention"
    with torch.no_grad():
        assert (expected - net.backbone(nn.functional.pad(image, (0, 8, 0, 6)))[:, :, :90, :120]).abs().max() > 0.1
        torch.testing.assert_close(net(image), expected.detach(), rtol=1e-5, atol=1e-5)
    step = 20 if patch_size == 10 else 21
    one = [slice(start, min(start + step, 96)) for start in range(0, 96, step)]
    assert counted == one * batch


def test_small_images_have_one_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    net = build()
    monkeypatch.setattr(afma_block.AFMABlock, "in_strips", None)
    with torch.no_grad():
        net(torch.rand(1, 3, 90, 120))


class OwnCorrection(AFMANet):
    def correct(self, logits: Tensor, attention: object, values: object = None) -> Tensor:
        return logits


def add_hook(net: AFMANet) -> None:
    net.afma_block.register_forward_hook(lambda *given: None)


def replace_layer(net: AFMANet) -> None:
    net.afma_block.image_conv2 = nn.Conv2d(64, 3, 7, padding=3)


def correct_otherwise(net: AFMANet) -> None:
    net.__class__ = OwnCorrection


@pytest.mark.parametrize("change", [AFMANet.train, add_hook, replace_layer, correct_otherwise])
def test_what_needs_the_whole_attention_has_it(counted: list[slice], change: Callable[[AFMANet], object]) -> None:
    net = build()
    change(net)
    with torch.no_grad():
        assert net(torch.rand(2, 3, 90, 120)).shape == (2, 3, 90, 120)
    assert not counted


class OwnBlock(afma_block.AFMABlock):
    def forward(self, image: Tensor, feature: Tensor, query: Tensor | None = None) -> object:
        return super().forward(image, feature / 2, query)


def test_blocks_that_attend_otherwise_attend_to_the_whole(counted: list[slice]) -> None:
    """The control with the resized image, whose block reads no feature map, and a user's own block."""
    image, own = torch.rand(1, 3, 90, 120), build()
    own.afma_block.__class__ = OwnBlock
    for net in (build(source="image"), own):
        expected = net(image).detach()
        with torch.no_grad():
            torch.testing.assert_close(net(image), expected)
    assert not counted


def test_several_attentions_are_computed_whole(counted: list[slice]) -> None:
    with torch.no_grad():
        AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), feature=[2, 3]).eval()(torch.rand(1, 3, 90, 120))
    assert not counted


@pytest.mark.parametrize("depth", [2, *(pytest.param(depth, marks=pytest.mark.slow) for depth in (1, 3))])
def test_inference_adds_little_more_than_its_result(depth: int) -> None:
    """The bound that AFMABlock's docstring states."""
    size, classes = (1600, 2000), 8
    net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=classes), feature=depth).eval()
    logits, image = torch.randn(1, classes, *size), torch.rand(1, 3, *size)
    feature = torch.rand(1, net.feature_channels[depth], *(side // 2**depth for side in size))
    run = HostRun(logits, logits, image, [feature])
    with torch.no_grad():
        added = peak_bytes(lambda: net._correct_in_strips(run))
        assert added < (1 + 4 / 4**depth) * logits.nbytes + 128 * 2**20
        whole = peak_bytes(lambda: net.correct(logits, net.afma_block(image, feature)))
    assert added < 0.9 * whole
