"""Hosts that return more than logits, or something else than logits."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import monai.networks.nets as monai_nets
import pytest
import segmentation_models_pytorch as smp
import torch
import torchvision
from monai.losses import DeepSupervisionLoss, DiceCELoss
from torch import Tensor, nn

from afma_med import AFMALoss, AFMANet, PatchAttention, SliceWise
from afma_med.networks.padded_network import PaddedNetwork

CLASSES, SIZE = 3, (45, 70)


def dynunet() -> nn.Module:
    return monai_nets.DynUNet(
        2, 3, CLASSES, [3] * 4, [1, 2, 2, 2], [2] * 3, filters=(4, 8, 8, 8), deep_supervision=True, deep_supr_num=2
    )


def segresnet() -> nn.Module:
    return monai_nets.SegResNetDS(2, 4, 3, CLASSES, blocks_down=(1, 1, 1), dsdepth=2)


def mednext() -> nn.Module:
    ones = (1, 1, 1, 1)
    return monai_nets.MedNeXt(
        2, 4, 3, CLASSES, ones, ones, 1, blocks_down=ones, blocks_up=ones, blocks_bottleneck=1, deep_supervision=True
    )


SUPERVISED = {
    "DynUNet": (dynunet, "downsamples.0"),
    "SegResNetDS": (segresnet, 1),
    "MedNeXt": (mednext, "down_blocks.0"),
}


def levels_of(output: Any) -> list[Tensor]:
    return list(output.unbind(1)) if isinstance(output, Tensor) else list(output)


@pytest.mark.parametrize("name", SUPERVISED)
def test_deep_supervision_trains(name: str) -> None:
    torch.manual_seed(0)
    make, feature = SUPERVISED[name]
    net = AFMANet(make(), feature=feature, attention_supervision=True, patch_size=4)
    image, label = torch.rand(2, 3, *SIZE), torch.randint(CLASSES, (2, 1, *SIZE))
    output, attention = net.train()(image)
    levels = levels_of(output)
    assert len(levels) > 1
    assert levels[0].shape == (2, CLASSES, *SIZE)
    assert isinstance(attention, PatchAttention)
    loss = AFMALoss(DeepSupervisionLoss(DiceCELoss(to_onehot_y=True, softmax=True)))
    total = loss((output, attention), label)
    expected = loss.segmentation(levels, label.float())
    torch.testing.assert_close(loss.latest_terms.segmentation, expected.detach())
    total.backward()
    used = gradients_of(make(), attention.grid.image_size)
    missing = {n for n, p in net.named_parameters() if p.grad is None}
    assert not {n for n in missing if n.removeprefix("backbone.") in used}
    assert not {n for n in missing if n.startswith("afma_block")}
    assert net.eval()(image).shape == (2, CLASSES, *SIZE)


def gradients_of(host: nn.Module, size: tuple[int, ...]) -> set[str]:
    sum(level.sum() for level in levels_of(host.train()(torch.rand(2, 3, *size)))).backward()
    return {name for name, parameter in host.named_parameters() if parameter.grad is not None}


@pytest.mark.parametrize("name", SUPERVISED)
def test_lower_levels_are_those_of_the_host(name: str) -> None:
    """At a size that needs no padding; the highest level differs, since it is corrected."""
    torch.manual_seed(0)
    make, feature = SUPERVISED[name]
    net = AFMANet(make(), feature=feature, patch_size=4).train()
    image = torch.rand(2, 3, 64, 64)
    alone = levels_of(net.backbone(image))
    levels = levels_of(net(image))
    logits, attention = net.attend(image)
    for found, expected in zip(levels[1:], alone[1:], strict=True):
        torch.testing.assert_close(found, expected)
    torch.testing.assert_close(logits, alone[0])
    torch.testing.assert_close(levels[0], net.correct(logits, attention))
    assert not torch.equal(levels[0], alone[0])


@pytest.mark.parametrize("name", SUPERVISED)
def test_probing_in_train_mode_leaves_no_trace(name: str) -> None:
    make, feature = SUPERVISED[name]
    host = make().eval()
    state = {key: value.clone() for key, value in host.state_dict().items()}
    torch.manual_seed(0)
    random = torch.rand(1)
    torch.manual_seed(0)
    AFMANet(host, feature=feature, patch_size=4).backbone.requires_grad_(True)
    assert all(torch.equal(state[key], value) for key, value in host.state_dict().items())
    assert not any(module.training for module in host.modules())
    torch.manual_seed(0)
    PaddedNetwork(host)
    assert torch.equal(torch.rand(1), random), "the baseline draws no random numbers"


class Pair(NamedTuple):
    logits: Tensor
    depth: Tensor


@dataclasses.dataclass
class Record:
    logits: Tensor
    hidden: Tensor | None = None


class ModelOutput(OrderedDict):
    """As the outputs of transformers: a dictionary with attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


class Host(nn.Module):
    """A host that returns what a function makes of its logits."""

    def __init__(self, finish: Callable[[Tensor], Any], *, stride: int = 1) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 8, 4, stride=4)
        self.up = nn.ConvTranspose2d(8, CLASSES, 4 // stride, stride=4 // stride)
        self.finish = finish

    def forward(self, pixel_values: Tensor) -> Any:
        return self.finish(self.up(self.down(pixel_values)))


FORMS: dict[str, tuple[Callable[[Tensor], Any], Callable[[Any], Tensor], type]] = {
    "torchvision": (lambda x: {"out": x, "aux": x + 1}, lambda y: y["out"], dict),
    "transformers": (lambda x: ModelOutput(logits=x, hidden_states=None), lambda y: y.logits, ModelOutput),
    "tuple": (lambda x: (x, x.mean(dim=(2, 3))), lambda y: y[0], tuple),
    "list": (lambda x: [x, nn.functional.avg_pool2d(x, 2)], lambda y: y[0], list),
    "coarse first": (lambda x: [nn.functional.avg_pool2d(x, 2), x], lambda y: y[1], list),
    "named tuple": (lambda x: Pair(x, x[:, :1]), lambda y: y.logits, Pair),
    "dataclass": (lambda x: Record(x), lambda y: y.logits, Record),
    "stacked": (lambda x: torch.stack([x, x + 1], dim=1), lambda y: y[:, 0], Tensor),
}


@pytest.mark.parametrize("name", FORMS)
def test_output_keeps_its_form_with_corrected_logits(name: str) -> None:
    torch.manual_seed(0)
    finish, logits_of, kind = FORMS[name]
    net = AFMANet(Host(finish), feature="down", patch_size=4).eval()
    image = torch.rand(2, 3, *SIZE)
    output = net(image)
    assert type(output) is kind
    logits, attention = net.attend(image)
    torch.testing.assert_close(logits_of(output), net.correct(logits, attention))
    assert logits_of(output).shape == (2, CLASSES, *SIZE)
    baseline = PaddedNetwork(net.backbone).eval()(image)
    torch.testing.assert_close(logits_of(baseline), logits)


def test_the_rest_of_the_output_is_cropped_as_the_image_was_padded() -> None:
    finish = lambda x: (x, nn.functional.avg_pool2d(x, 2), x.mean(dim=(2, 3)))  # noqa: E731
    net = AFMANet(Host(finish), feature="down", patch_size=4).eval()
    full, half, vector = net(torch.rand(1, 3, *SIZE))
    assert (full.shape, half.shape, vector.shape) == ((1, 3, 45, 70), (1, 3, 23, 35), (1, 3))


def test_auxiliary_head_of_smp() -> None:
    host = smp.Unet("resnet18", encoder_weights=None, classes=CLASSES, aux_params={"classes": 5})
    net = AFMANet(host, attention_supervision=True)
    image, label = torch.rand(2, 3, *SIZE), torch.randint(CLASSES, (2, 1, *SIZE))
    (masks, labels), attention = net.train()(image)
    assert (masks.shape, labels.shape) == ((2, CLASSES, *SIZE), (2, 5))
    loss = AFMALoss()
    torch.testing.assert_close(loss(((masks, labels), attention), label), loss((masks, attention), label))


def test_dictionary_of_torchvision_trains() -> None:
    host = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=CLASSES
    )
    net = AFMANet(host, feature="backbone.4", attention_supervision=True)
    output = net.train()(torch.rand(2, 3, *SIZE))
    assert output[0]["out"].shape == (2, CLASSES, *SIZE)
    AFMALoss()(output, torch.randint(CLASSES, (2, 1, *SIZE))).backward()
    assert net.afma_block.feature_conv.weight.grad.any()


def test_logits_of_a_lower_resolution_are_enlarged_on_request() -> None:
    torch.manual_seed(0)
    host = Host(lambda x: ModelOutput(logits=x), stride=4)
    with pytest.raises(ValueError, match=r"gave \(1, 3, 32, 32\). Give upsample_logits=True"):
        AFMANet(host, feature="down")
    net = AFMANet(host, feature="down", patch_size=4, upsample_logits=True).eval()
    image = torch.rand(2, 3, 48, 72)
    assert net(image[..., :45, :70]).logits.shape == (2, CLASSES, *SIZE)
    expected = nn.functional.interpolate(host(image).logits, scale_factor=4, mode="bilinear")
    torch.testing.assert_close(net.attend(image)[0], expected)
    baseline = PaddedNetwork(host, upsample_logits=True).eval()
    torch.testing.assert_close(baseline(image).logits, expected)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax", "softmax2d", "logsoftmax", "tanh", "clamp"])
def test_activation_of_smp_is_refused(activation: str) -> None:
    host = smp.Unet("resnet18", encoder_weights=None, classes=CLASSES, activation=activation)
    with pytest.raises(ValueError, match=r"must return logits; got the result of \w+. Build it without an activation"):
        AFMANet(host)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "activate",
    [
        torch.sigmoid,
        lambda x: x.softmax(dim=1),
        lambda x: nn.functional.interpolate(x.sigmoid()[..., ::2, ::2], scale_factor=2),
        lambda x: {"out": torch.cat([1 - x[:, :1].sigmoid(), x[:, 1:].sigmoid()], dim=1)},
        lambda x: x.clone().sigmoid_(),
    ],
    ids=["sigmoid", "softmax", "resized", "in a dictionary", "in place"],
)
def test_activation_in_either_mode_is_refused(activate: Callable[[Tensor], Any], train: bool) -> None:
    host = Host(lambda x: activate(x) if host.training is train else x)
    with pytest.raises(ValueError, match=r"`backbone` must return logits; got the result of"):
        AFMANet(host, feature="down")


def test_logits_that_look_like_probabilities_pass() -> None:
    host = Host(lambda x: x * 0 + 1 / CLASSES)
    assert AFMANet(host, feature="down").out_channels == CLASSES


def test_classes_instead_of_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="`backbone` must"):
        AFMANet(Host(lambda x: x.argmax(dim=1, keepdim=True)), 1, feature="down")


def test_other_outputs_in_train_mode_are_refused_at_construction() -> None:
    host = Host(lambda x: {"loss": x.mean()} if host.training else x)
    with pytest.raises(ValueError, match="gave dict"):
        AFMANet(host, feature="down")


def test_host_that_cannot_train_here_is_wrapped() -> None:
    def finish(x: Tensor) -> Tensor:
        if host.training:
            raise RuntimeError("needs a GPU")
        return x

    host = Host(finish)
    assert AFMANet(host, feature="down").eval()(torch.rand(1, 3, 16, 16)).shape == (1, CLASSES, 16, 16)


def test_slices_of_volumes_take_logits_alone() -> None:
    net = SliceWise(AFMANet(Host(lambda x: {"out": x}), feature="down"))
    with pytest.raises(TypeError, match=r"`network2d` must return logits .* got dict"):
        net(torch.rand(1, 3, 16, 16, 2))
