"""Predictions at several sizes are averaged as probabilities, at the size of the image."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from afma_med import AFMANet
from afma_med.inferers import MultiScaleInferer
from afma_med.networks import create_backbone

IMAGE = torch.rand(2, 3, 12, 20, generator=torch.Generator().manual_seed(0))


class Sizes(nn.Module):
    """Returns the image's own first channels, and remembers the sizes that it saw."""

    def __init__(self, classes: int = 2) -> None:
        super().__init__()
        self.classes = classes
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape[2:]))
        return 4 * image[:, : self.classes]


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_average_is_that_of_a_plain_computation(classes: int) -> None:
    network = Sizes(classes)
    logits = MultiScaleInferer((1, 2, 0.5))(IMAGE, network)
    assert network.seen == [(12, 20), (24, 40), (6, 10)]
    as_probability = (lambda x: x.sigmoid()) if classes == 1 else (lambda x: x.softmax(1))
    expected = [network(IMAGE)]
    for scale, antialias in ((2.0, True), (0.5, False)):
        scaled = interpolate(
            IMAGE,
            scale_factor=scale,
            mode="bicubic",
            align_corners=False,
            antialias=scale < 1,
            recompute_scale_factor=True,
        )
        expected.append(
            interpolate(network(scaled), size=(12, 20), mode="bilinear", align_corners=False, antialias=antialias)
        )
    mean = torch.stack([as_probability(x) for x in expected]).mean(0)
    torch.testing.assert_close(as_probability(logits), mean)


def test_one_scale_is_the_network_alone() -> None:
    assert torch.equal(MultiScaleInferer((1,))(IMAGE, Sizes()), Sizes()(IMAGE))


def test_mirrored_images_are_mirrored_back() -> None:
    logits = MultiScaleInferer((1,), flip=True)(IMAGE, Sizes())
    torch.testing.assert_close(logits.softmax(1), Sizes()(IMAGE).softmax(1))
    network = nn.Conv2d(3, 2, kernel_size=3, padding=1)
    mean = (network(IMAGE).softmax(1) + network(IMAGE.flip(-1)).softmax(1).flip(-1)) / 2
    torch.testing.assert_close(MultiScaleInferer((1,), flip=True)(IMAGE, network).softmax(1), mean)


def test_small_probabilities_survive() -> None:
    sure = lambda image: torch.stack([image[:, 0] * 0 + 300, image[:, 0] * 0], dim=1)  # noqa: E731
    logits = MultiScaleInferer((1, 2))(IMAGE, sure)
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], torch.full((2, 12, 20), 300.0))


def test_windows_are_enlarged_one_by_one() -> None:
    network = Sizes()
    windows = SlidingWindowInferer((8, 8), sw_batch_size=4)
    assert MultiScaleInferer((1, 2), inferer=windows)(IMAGE, network).shape == (2, 2, 12, 20)
    assert set(network.seen) == {(8, 8), (16, 16)}


def test_slices_of_a_volume_are_enlarged_within_the_slice() -> None:
    network, volume = Sizes(), torch.rand(1, 3, 8, 10, 4)
    slices = SliceInferer(roi_size=(-1, -1), spatial_dim=2, sw_batch_size=2)
    assert MultiScaleInferer((1, 2), inferer=slices)(volume, network).shape == (1, 2, 8, 10, 4)
    assert set(network.seen) == {(8, 10), (16, 20)}


def test_volumes_and_metadata() -> None:
    image = MetaTensor(torch.rand(1, 3, 8, 10, 4), meta={"filename_or_obj": "a.nii"})
    logits = MultiScaleInferer((1, 1.5))(image, Sizes())
    assert logits.shape == (1, 2, 8, 10, 4) and logits.meta["filename_or_obj"] == "a.nii"


def test_half_precision_is_averaged_in_float32() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = MultiScaleInferer((1, 2))(IMAGE, nn.Conv2d(3, 2, kernel_size=1))
    assert logits.dtype == torch.float32


def test_network_with_afma() -> None:
    network = AFMANet(create_backbone("Unet", "resnet18", classes=3), 3).eval()
    with torch.inference_mode():
        logits = MultiScaleInferer((1, 1.5), flip=True)(torch.rand(1, 3, 50, 70), network)
    assert logits.shape == (1, 3, 50, 70) and logits.isfinite().all()


@pytest.mark.parametrize("scales", [(), (0,), (1, -1), (float("nan"),)])
def test_other_scales_are_refused(scales: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match=r"`scales` must be finite numbers above 0; got"):
        MultiScaleInferer(scales)
