"""A head on several encoder maps corrects any host's logits."""

from __future__ import annotations

import copy
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from monai.losses import DiceCELoss
from monai.networks.nets import BasicUNet
from torch import Tensor, nn

from afma_med import HypercolumnNet, SliceWise
from afma_med.bundle.run import build_network
from experiments.lab.studies import build_studied_network


def unet(classes: int = 3, in_channels: int = 3) -> nn.Module:
    return smp.Unet("resnet18", encoder_weights=None, classes=classes, in_channels=in_channels)


@pytest.fixture(scope="module")
def network() -> HypercolumnNet:
    torch.manual_seed(0)
    return HypercolumnNet(unet())


def test_it_computes_what_the_trained_study_computed(network: HypercolumnNet) -> None:
    """The evidence for it is that of the study `plain_head`."""
    study = build_studied_network(copy.deepcopy(network.backbone), 3, study="plain_head")
    head = network.hypercolumn_head
    with torch.no_grad():
        study.embed_query[0].weight.copy_(torch.cat([layer.weight for layer in head.embed], dim=1))
    study.embed_query[1].load_state_dict(head.score[0].state_dict())
    study.embed_query[3].load_state_dict(head.score[2].state_dict())
    study.head.load_state_dict(head.score[3].state_dict())
    image = torch.rand(2, 3, 70, 90)
    with torch.no_grad():
        assert study.head_gain.equal(head.gain)
        torch.testing.assert_close(network.eval()(image), study.eval()(image))
        torch.testing.assert_close(network.train()(image), study.train()(image))


@pytest.mark.parametrize("size", [(33, 70), (64, 64), (90, 120)])
def test_logits_have_the_size_of_the_image(network: HypercolumnNet, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert network.eval()(torch.rand(1, 3, *size)).shape == (1, 3, *size)


def test_the_scores_are_added_to_the_host_s_logits(network: HypercolumnNet) -> None:
    silent, image = copy.deepcopy(network).eval(), torch.rand(1, 3, 64, 96)
    silent.hypercolumn_head.gain.data.zero_()
    with torch.no_grad():
        torch.testing.assert_close(silent(image), silent.backbone(image))
        assert not network.eval()(image).equal(silent(image))


def test_any_loss_trains_host_and_head() -> None:
    net, label = HypercolumnNet(unet()), torch.randint(3, (2, 1, 64, 64))
    DiceCELoss(softmax=True, to_onehot_y=True)(net.train()(torch.rand(2, 3, 64, 64)), label).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_volumes_slice_by_slice() -> None:
    net = SliceWise(HypercolumnNet(unet(2, in_channels=1), in_channels=1), slices_per_batch=2)
    assert net.train()(torch.rand(1, 1, 64, 64, 4)).shape == (1, 2, 64, 64, 4)


def test_hosts_with_named_modules() -> None:
    host = BasicUNet(spatial_dims=2, in_channels=1, out_channels=2, features=(8, 8, 16, 16, 32, 8))
    net = HypercolumnNet(host, feature=["conv_0", "down_1", "down_2"], in_channels=1).eval()
    assert net(torch.rand(1, 1, 50, 60)).shape == (1, 2, 50, 60)


def test_deeply_supervised_outputs_pass_through() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            net = unet()
            self.encoder, self.decoder, self.head = net.encoder, net.decoder, net.segmentation_head

        def forward(self, image: Tensor) -> list[Tensor]:
            logits = self.head(self.decoder(self.encoder(image)))
            return [logits, logits[:, :, ::2, ::2]]

    output = HypercolumnNet(Deep()).train()(torch.rand(2, 3, 60, 64))
    assert [tuple(level.shape[2:]) for level in output] == [(60, 64), (30, 32)]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["script", "export", "compile"])
def test_graphs_give_the_same_logits(network: HypercolumnNet, how: str) -> None:
    net, image = copy.deepcopy(network).eval(), torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        expected = net(image)
        if how == "script":
            graph: Any = torch.jit.script(net)
        elif how == "export":
            sides = {2: torch.export.Dim("h", min=1, max=8) * 32, 3: torch.export.Dim("w", min=1, max=8) * 32}
            graph = torch.export.export(net, (image,), dynamic_shapes=(sides,), strict=False).module()
        else:
            graph = torch.compile(net, backend="eager", fullgraph=True)
        torch.testing.assert_close(graph(image), expected, rtol=1e-4, atol=1e-5)
        larger = torch.rand(1, 3, 128, 64)
        torch.testing.assert_close(graph(larger), net(larger), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_keeps_the_head_in_float32(network: HypercolumnNet, dtype: torch.dtype) -> None:
    with torch.no_grad(), torch.autocast("cpu", dtype=dtype):
        found = network.eval()(torch.rand(1, 3, 64, 64))
    assert found.dtype == torch.float32
    assert found.isfinite().all()


def test_threads_may_share_it(network: HypercolumnNet) -> None:
    images = [torch.rand(1, 3, side, 64) for side in (64, 96, 128, 70)]
    net = network.eval()
    with torch.no_grad():
        expected = [net(image) for image in images]

    def run(image: Tensor) -> Tensor:
        with torch.no_grad():
            return net(image)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(run, images * 3))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(found, expected * 3, strict=True))


def test_copies_have_their_own_taps(network: HypercolumnNet) -> None:
    image, net = torch.rand(1, 3, 64, 64), copy.deepcopy(network).eval()
    stored = io.BytesIO()
    torch.save(net, stored)
    stored.seek(0)
    with torch.no_grad():
        assert torch.load(stored, weights_only=False)(image).equal(net(image))


def test_a_bundle_builds_it_by_one_id() -> None:
    net = build_network(unet(), afma=True, variant="hypercolumn", feature=[2, 3], attention_supervision=True)
    assert isinstance(net, HypercolumnNet)
    assert net.feature_tap.features == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"feature": []}, "`feature` must name at least one feature map; got none"),
        ({"feature": [2, 9]}, r"`feature` must be an encoder depth from 1 to 5; got 9.*list_features"),
        ({"hidden_channels": 0}, "`hidden_channels` must be"),
        ({"out_channels": 4}, "4"),
        ({"in_channels": 1}, "`in_channels`=1"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"(?s){message}"):
        HypercolumnNet(unet(), **options)


def test_a_bundle_refuses_maps_by_class() -> None:
    with pytest.raises(ValueError, match="`feature` must be a list of depths"):
        build_network(unet(), afma=True, variant="hypercolumn", feature={"small": 2})
