"""Every host, in train and eval mode, at a small size that is a multiple of nothing."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from _helpers import hosts
from _helpers.hosts import CLASSES, HOSTS, Host
from _helpers.paths import ROOT
from afma_med import AFMALoss, AFMANet
from afma_med.networks import FeatureInfo, list_features
from afma_med.networks.feature_maps import FeatureError

PAGE = ROOT / "docs" / "hosts.md"
SIZE = (45, 70)
CASES = [
    pytest.param(
        host,
        feature,
        id=f"{host.name}-{feature}",
        marks=() if host.fast and feature in (2, "model.0") else pytest.mark.slow,
    )
    for host in HOSTS
    for feature in host.features
]


def wrap(host: Host, feature: int | str, **options: object) -> AFMANet:
    torch.manual_seed(0)
    return AFMANet(host.make(), CLASSES, feature=feature, patch_size=4, **options)


@pytest.mark.parametrize(("host", "feature"), CASES)
def test_host_trains_and_predicts(host: Host, feature: int | str) -> None:
    net = wrap(host, feature, attention_supervision=True)
    image, label = torch.rand(2, 3, *SIZE), torch.randint(CLASSES, (2, 1, *SIZE))
    logits, attention = net.train()(image)
    assert logits.shape == (2, CLASSES, *SIZE)
    alone = host.make()
    alone.load_state_dict(net.backbone.state_dict())
    used = gradients_of(alone, attention.grid.image_size)
    AFMALoss()((logits, attention), label).backward()
    check_gradients(net, used)

    net.attention_supervision = False
    net.zero_grad()
    logits = net(image)
    assert logits.shape == (2, CLASSES, *SIZE)
    AFMALoss()(logits, label).backward()
    check_gradients(net, used)

    with torch.no_grad():
        prediction = net.eval()(image[:1])
    assert prediction.shape == (1, CLASSES, *SIZE)
    assert prediction.isfinite().all()


def gradients_of(backbone: nn.Module, size: tuple[int, int]) -> set[str]:
    """Names of the parameters that the host itself uses: some hosts have ones that they never use."""
    backbone.train()(torch.rand(2, 3, *size)).sum().backward()
    return {name for name, parameter in backbone.named_parameters() if parameter.grad is not None}


def check_gradients(net: AFMANet, used: set[str]) -> None:
    missing = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not [name for name in missing if name.removeprefix("backbone.") in used], "wrapping cut gradients off"
    assert all(name.startswith("backbone.") for name in missing)
    assert all(parameter.grad.isfinite().all() for parameter in net.parameters() if parameter.grad is not None)


@pytest.mark.parametrize(("host", "feature"), CASES)
def test_listing_names_the_feature_with_its_true_stride(host: Host, feature: int | str) -> None:
    net = wrap(host, feature).eval()
    side = net.input_sizes.largest or 128
    listed = {info.feature: info for info in list_features(net.backbone)}
    _, found = net.feature_tap.run(net.backbone, torch.rand(1, 3, side, side))
    assert listed[feature] == FeatureInfo(feature, found.shape[1], tuple(found.shape[2:]), side // found.shape[2])


def test_listing_names_the_outermost_of_modules_that_pass_on_one_map() -> None:
    down = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1)))
    net = nn.ModuleDict({"down": down, "up": nn.Upsample(scale_factor=2)})
    net.forward = lambda image: net["up"](net["down"](image))
    assert list_features(net, size=32) == [FeatureInfo("down", 4, (16, 16), 2), FeatureInfo("up", 4, (32, 32), 1)]


def test_listing_leaves_the_network_as_it_was() -> None:
    net = HOSTS[0].make().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    list_features(net)
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


@pytest.mark.parametrize("feature", [6, "encoder.layer9", "model"])
def test_error_for_a_wrong_feature_prints_the_listing(feature: int | str) -> None:
    with pytest.raises(
        FeatureError, match=r"(?s)`feature` must.*The maps of this network.*\n  2 +64 channels  stride 4\n"
    ):
        wrap(HOSTS[0], feature)


@pytest.mark.parametrize("encoder", ["mit_b0", "tu-convnext_atto"])
def test_depth_that_an_encoder_lacks_is_refused(encoder: str) -> None:
    host = Host(encoder, hosts._smp("unet", encoder), ())
    with pytest.raises(FeatureError, match=r"must give a map of shape \(B,F,h,w\); 1 gave shape \(1, 0,"):
        wrap(host, 1)


def test_image_smaller_than_the_host_s_minimum_is_padded() -> None:
    net = wrap(next(host for host in HOSTS if host.name == "smp.PAN"), 2).eval()
    assert net.input_sizes.smallest == 128
    assert net(torch.rand(1, 3, 9, 130)).shape == (1, CLASSES, 9, 130)


@pytest.mark.parametrize("size", [(161, 20), (20, 400)])
def test_image_larger_than_a_host_of_one_size_is_refused(size: tuple[int, int]) -> None:
    net = wrap(next(host for host in HOSTS if host.name == "monai UNETR"), "encoder2").eval()
    assert net.input_sizes == (160, 160, 160)
    with pytest.raises(ValueError, match=rf"`image` must not be larger than 160×160, .* {max(size)}\. .*Sliding"):
        net(torch.rand(1, 3, *size))


@pytest.mark.parametrize("size", [(4, 4), (1, 1), (33, 5)])
@pytest.mark.parametrize("patch_size", [4, (2, 9), (16, 1)])
def test_any_size_down_to_a_pixel(size: tuple[int, int], patch_size: int | tuple[int, int]) -> None:
    net = AFMANet(
        next(h for h in HOSTS if h.name == "monai UNet").make(), CLASSES, feature="model.0", patch_size=patch_size
    )
    assert net.eval()(torch.rand(1, 3, *size)).shape == (1, CLASSES, *size)


@pytest.mark.parametrize("classes", [1, 2, 20, 150])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_number_of_classes_and_channels(classes: int, channels: int) -> None:
    import monai.networks.nets as monai_nets

    backbone = monai_nets.UNet(2, channels, classes, (4, 8), (2,))
    net = AFMANet(backbone, classes, feature="model.0", in_channels=channels, patch_size=4, attention_supervision=True)
    label = torch.randint(max(2, classes), (1, 1, 12, 10))
    loss = AFMALoss()(net.train()(torch.rand(1, channels, 12, 10)), label)
    loss.backward()
    assert loss.isfinite()


def test_page_has_the_table_of_these_hosts() -> None:
    assert hosts.table() in PAGE.read_text(encoding="utf-8")


def test_page_has_the_segnet_of_these_tests() -> None:
    assert inspect.getsource(hosts.SegNet) in PAGE.read_text(encoding="utf-8")
