"""Predictions at several sizes are averaged as probabilities, at the size of the image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from monai.data import MetaTensor
from monai.inferers import SliceInferer, SlidingWindowInferer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from afma_med.checks import NonFiniteError
from afma_med.inferers import MultiScaleInferer

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


def test_mirrored_images_are_mirrored_back() -> None:
    assert torch.equal(MultiScaleInferer((1,))(IMAGE, Sizes()), Sizes()(IMAGE)), "one scale is the network alone"
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


def test_one_number_is_one_scale_and_slices_of_a_volume_are_enlarged_within_the_slice() -> None:
    network = Sizes()
    torch.testing.assert_close(MultiScaleInferer(2)(IMAGE, network), MultiScaleInferer((2,))(IMAGE, network))
    assert {*network.seen} == {(24, 40)}
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


@pytest.mark.parametrize("scales", ["2", ("a",), None, True, (1, False), (1, 1j)])
def test_scales_that_are_no_numbers_are_refused(scales: object) -> None:
    with pytest.raises(TypeError, match=r"`scales` must be numbers; got"):
        MultiScaleInferer(scales)


OTHER_SCALES = ((), (0,), (1, -1), (float("nan"),), 0, float("inf"))


@pytest.mark.parametrize(
    "options",
    [*({"scales": x} for x in OTHER_SCALES), *({"activation": x} for x in ("Softmax", None, "tanh", True))],
    ids=str,
)
def test_other_scales_and_activations_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"`(scales|activation)` must be .*; got"):
        MultiScaleInferer(**options)


MULTI_LABEL = torch.tensor([8.0, 9.0, -7.0]).view(1, 3, 1, 1)


@pytest.mark.parametrize("dtype", [torch.half, torch.float32, torch.double])
def test_labels_that_overlap_survive_with_the_sigmoid(dtype: torch.dtype) -> None:
    network = lambda image: (MULTI_LABEL + 0 * image).to(image.dtype)  # noqa: E731
    logits = MultiScaleInferer((1, 2, 0.5), flip=True, activation="sigmoid")(IMAGE.to(dtype), network)
    assert ((logits > 0) == (MULTI_LABEL > 0)).all()
    torch.testing.assert_close(logits, (MULTI_LABEL + 0 * IMAGE).to(dtype), rtol=1e-3, atol=1e-3)


def test_the_sigmoid_averages_the_probability_of_each_channel() -> None:
    network = nn.Conv2d(3, 4, kernel_size=3, padding=1)
    logits = MultiScaleInferer((1,), flip=True, activation="sigmoid")(IMAGE, network)
    mean = (network(IMAGE).sigmoid() + network(IMAGE.flip(-1)).sigmoid().flip(-1)) / 2
    torch.testing.assert_close(logits.sigmoid(), mean)
    torch.testing.assert_close(logits, mean.logit(), rtol=1e-4, atol=1e-4)
    one = MultiScaleInferer((1, 2), activation="sigmoid")(IMAGE, Sizes(1))
    assert torch.equal(one, MultiScaleInferer((1, 2))(IMAGE, Sizes(1)))


def test_outputs_without_activation_are_averaged_as_they_are() -> None:
    network = lambda image: image.softmax(1)  # noqa: E731
    mean = (network(IMAGE) + network(IMAGE.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(MultiScaleInferer((1,), flip=True, activation="none")(IMAGE, network), mean)
    with pytest.raises(ValueError, match=r"must return logits for the activation 'softmax'; got probabilities"):
        MultiScaleInferer((1, 2))(IMAGE, network)


@pytest.mark.parametrize("dtype", [torch.half, torch.bfloat16, torch.float32, torch.double])
@pytest.mark.parametrize("scales", [(1, 2), (2, 3)])
def test_the_network_gets_and_gives_its_own_number_type(dtype: torch.dtype, scales: tuple[int, ...]) -> None:
    seen = []

    def network(image: Tensor) -> Tensor:
        seen.append(image.dtype)
        return 4 * image

    for inferer in (None, SlidingWindowInferer((8, 8), sw_batch_size=2)):
        logits = MultiScaleInferer(scales, inferer=inferer)(IMAGE.to(dtype), network)
        assert {*seen} == {dtype} and logits.dtype == dtype
    exact = MultiScaleInferer(scales)(IMAGE.double(), lambda image: 4 * image)
    torch.testing.assert_close(
        MultiScaleInferer(scales)(IMAGE.to(dtype), network).double(), exact, rtol=0.02, atol=0.03
    )


def test_double_precision_is_not_lost() -> None:
    bias = torch.tensor([0.0, 1e-12], dtype=torch.double).view(1, 2, 1, 1)
    logits = MultiScaleInferer((1, 2))(IMAGE.double(), lambda image: 0 * image[:, :2] + bias)
    torch.testing.assert_close(logits[:, 1] - logits[:, 0], torch.full((2, 12, 20), 1e-12).double(), rtol=0.01, atol=0)


OUTPUTS = {
    "tuple": lambda x: (4 * x, object()),
    "levels": lambda x: [x[:, :, ::2], 4 * x],
    "stacked levels": lambda x: torch.stack([4 * x, x], dim=1),
    "dictionary": lambda x: {"aux": x, "out": 4 * x},
    "object": lambda x: SimpleNamespace(logits=4 * x, loss=None),
    "class head": lambda x: (4 * x, x.mean((2, 3)) if x.ndim == 4 else x.mean((2, 3, 4))),
}


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("image", [IMAGE, torch.rand(1, 3, 6, 8, 4)], ids=["image", "volume"])
def test_logits_are_found_in_other_outputs(name: str, image: Tensor) -> None:
    logits = MultiScaleInferer((1, 2), flip=True)(image, OUTPUTS[name])
    assert torch.equal(logits, MultiScaleInferer((1, 2), flip=True)(image, lambda x: 4 * x))
    assert type(MultiScaleInferer((1,))(image, OUTPUTS[name])) is type(OUTPUTS[name](image)), "as without the inferer"


@pytest.mark.parametrize(
    ("network", "error", "message"),
    [
        (lambda x: x[..., ::2, ::2], ValueError, r"the size of its image, \(2, 3, 12, 20\); got \(2, 3, 6, 10\)\. Enl"),
        (lambda x: x[:1], ValueError, r"got \(1, 3, 12, 20\)"),
        (lambda x: {"masks": x}, TypeError, r"must return logits .*; got dict"),
        (lambda x: x[:, 0], TypeError, r"must return logits .*; got \(2, 12, 20\)"),
        (lambda x: None, TypeError, r"must return logits .*; got NoneType"),
        (lambda x: x.argmax(1, keepdim=True), TypeError, r"floating point numbers; got torch.int64"),
    ],
)
def test_outputs_that_do_not_fit_are_refused(network: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MultiScaleInferer((1, 2))(IMAGE, network)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (IMAGE.numpy(), TypeError, r"`inputs` must be a torch tensor .*; got ndarray"),
        (IMAGE.byte(), TypeError, r"`inputs` must hold floating point numbers; got torch.uint8"),
        (IMAGE[0], ValueError, r"`inputs` must be images .*; got shape \(3, 12, 20\)"),
        (IMAGE[..., :0], ValueError, r"with pixels; got shape \(2, 3, 12, 0\)"),
    ],
)
def test_other_inputs_are_refused(image: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        MultiScaleInferer((1, 2))(image, Sizes())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("scales", [(1,), (1, 2)])
@pytest.mark.parametrize("inferer", [None, SlidingWindowInferer((8, 8), sw_batch_size=2)])
def test_predictions_that_are_not_finite_name_their_image(
    value: float, scales: tuple[int, ...], inferer: object
) -> None:
    batch = MetaTensor(IMAGE.clone(), meta={"filename_or_obj": ["a.png", "b.png"]})
    batch[1, 0, 11, 19] = value
    with pytest.raises(NonFiniteError, match=r"must be finite; got .* for b\.png\. Check"):
        MultiScaleInferer(scales, inferer=inferer)(batch, nn.Conv2d(3, 2, 1))
    with pytest.raises(NonFiniteError, match="for an image without a name"):
        MultiScaleInferer(scales, inferer=inferer)(batch.as_tensor(), nn.Conv2d(3, 2, 1))
