"""A 2-D network on volumes: the same as slice by slice, on any axis and batch, and inside MONAI's 3-D pipeline."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedTrainer
from monai.inferers import SliceInferer, SlidingWindowInferer
from monai.losses import DiceCELoss
from torch import Tensor, nn

from afma_med import AFMALoss, AFMANet, SigmoidCrossEntropyLoss, SliceWise
from afma_med._ops.slices import fold_slices, unfold_slices

AXES = (2, 3, 4, -1, -2, -3)


class Tiny(nn.Module):
    """Stride 2 down, then up again, without batch statistics."""

    def __init__(self, channels: int = 1, classes: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, classes, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(self.down(image).relu())


def afma(*, channels: int = 1, supervised: bool = False) -> AFMANet:
    torch.manual_seed(0)
    return AFMANet(
        Tiny(channels), 3, feature="down", in_channels=channels, patch_size=3, attention_supervision=supervised
    )


def volume(*, size: tuple[int, int, int] = (9, 11, 5), channels: int = 1) -> Tensor:
    return torch.rand(2, channels, *size)


@pytest.mark.parametrize("dim", AXES)
@pytest.mark.parametrize("slices_per_batch", [None, 1, 4, 100])
def test_equals_the_network_on_each_slice(dim: int, slices_per_batch: int | None) -> None:
    net, x = afma().eval(), volume(size=(6, 7, 8))
    expected = torch.stack([net(part) for part in x.unbind(dim)], dim=dim)
    got = SliceWise(net, dim=dim, slices_per_batch=slices_per_batch).eval()(x)
    assert got.shape == (2, 3, 6, 7, 8)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dim", AXES)
def test_unfold_undoes_fold(dim: int) -> None:
    x = volume(size=(3, 4, 5), channels=2)
    assert torch.equal(unfold_slices(fold_slices(x, dim), 2, dim), x)


def test_no_more_slices_than_asked_go_through_at_once() -> None:
    seen: list[int] = []
    net = afma()
    net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[0]))
    SliceWise(net, slices_per_batch=4)(volume())
    assert seen == [4, 4, 2]


@pytest.mark.parametrize("slices_per_batch", [None, 3])
@pytest.mark.parametrize("dim", [-1, 2])
def test_loss_on_a_volume_is_the_loss_on_its_slices(slices_per_batch: int | None, dim: int) -> None:
    net, x = afma(supervised=True), volume()
    label = torch.randint(3, x.shape)
    label[0, 0, 0] = 255
    loss = AFMALoss(ignore_index=255, weight=[1.0, 2.0, 3.0], slice_dim=dim)
    on_volume = loss(SliceWise(net, dim=dim, slices_per_batch=slices_per_batch)(x), label)
    gradients = torch.autograd.grad(on_volume, list(net.parameters()))
    on_slices = loss(net(fold_slices(x, dim)), fold_slices(label, dim))
    torch.testing.assert_close(on_volume, on_slices)
    for got, expected in zip(gradients, torch.autograd.grad(on_slices, list(net.parameters())), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_wrong_slice_dim_of_the_loss_is_refused() -> None:
    net, x = afma(supervised=True), volume()
    with pytest.raises(ValueError, match=r"same \(B,K,N,M\)|must not be larger"):
        AFMALoss(slice_dim=2)(SliceWise(net)(x), torch.randint(3, x.shape))


@pytest.mark.parametrize("segmentation", [SigmoidCrossEntropyLoss(), DiceCELoss(to_onehot_y=True, softmax=True)])
def test_any_segmentation_loss_gets_the_volume(segmentation: nn.Module) -> None:
    net, x = SliceWise(afma(supervised=True)), volume()
    label = torch.randint(3, x.shape)
    loss = AFMALoss(segmentation)
    loss(net(x), label).backward()
    logits = net.eval()(x)
    assert loss.latest_terms is not None
    torch.testing.assert_close(loss.latest_terms.segmentation, segmentation(logits, label).detach())


@pytest.mark.parametrize("neighbors", [1, 2])
def test_neighbours_become_channels(neighbors: int) -> None:
    x = volume(channels=2)
    folded = fold_slices(x, neighbors=neighbors)
    depth = x.shape[-1]
    for image in range(2):
        for i in range(depth):
            around = [x[image, ..., min(max(i + j, 0), depth - 1)] for j in range(-neighbors, neighbors + 1)]
            assert torch.equal(folded[image * depth + i], torch.cat(around))
    net = SliceWise(afma(channels=2 * (2 * neighbors + 1)).eval(), neighbors=neighbors)
    assert net(x).shape == (2, 3, 9, 11, 5)


@pytest.mark.parametrize(
    ("loss", "supervised"),
    [(DiceCELoss(to_onehot_y=True, softmax=True), False), (AFMALoss(), False), (AFMALoss(), True)],
    ids=["DiceCE", "AFMA", "AFMA supervised"],
)
def test_stock_three_dimensional_pipeline_trains(loss: nn.Module, supervised: bool) -> None:
    network = SliceWise(afma(supervised=supervised))
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": volume(), "label": torch.randint(3, (2, 1, 9, 11, 5))}] * 2,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
        decollate=False,
    )
    trainer.run()
    unchanged = [name for name, value in network.state_dict().items() if torch.equal(before[name], value)]
    assert not unchanged


def test_monai_inferers_give_the_same_prediction() -> None:
    net, x = afma().eval(), volume(size=(12, 12, 6))
    whole = SliceWise(net).eval()(x)
    by_slice = SliceInferer(roi_size=(12, 12), spatial_dim=2, sw_batch_size=3)(x, net)
    by_window = SlidingWindowInferer(roi_size=(12, 12, 2), sw_batch_size=2, overlap=0.5)(x, SliceWise(net).eval())
    torch.testing.assert_close(by_slice, whole, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(by_window, whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 1}, "`dim` must be a spatial axis"),
        ({"dim": 5}, "`dim` must be a spatial axis"),
        ({"slices_per_batch": 0}, "`slices_per_batch` must be a positive int or None; got 0"),
        ({"neighbors": -1}, "`neighbors` must be ≥ 0; got -1"),
    ],
)
def test_bad_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SliceWise(nn.Identity(), **options)


def test_an_image_is_no_volume() -> None:
    with pytest.raises(ValueError, match=r"5 axes \(B,C,H,W,D\).*got shape \(1, 1, 8, 8\)"):
        SliceWise(afma())(torch.rand(1, 1, 8, 8))
