"""The learnable part: parameters as released, values and gradients against the naive reference, refusals."""

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from _helpers import reference
from _helpers.paths import GOLDEN_FOLDER
from afma_med import AFMABlock, PatchGrid, modulate_logits
from afma_med._ops import tensors
from afma_med.networks import embedding

GOLDEN = sorted(GOLDEN_FOLDER.glob("*.npz"))
VARIANTS = ["released", "paper"]


def make_block(variant: str = "released", *, classes: int = 2, patch_size=(2, 3)) -> AFMABlock:
    """A block of few numbers, for 2 image channels and 3 feature channels."""
    return AFMABlock(3, classes, in_channels=2, patch_size=patch_size, embed_channels=4, variant=variant)


def make_input(*, stride: int = 2, size=(6, 8), batch: int = 1) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, 2, *size), torch.randn(batch, 3, size[0] // stride, size[1] // stride)


# Parameters.


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_parameter_names_and_shapes_are_the_released_ones(path):
    with np.load(path) as golden:
        released = {key: golden[key].shape for key in golden.files if key.startswith("param_")}
        block = AFMABlock(
            golden["feature"].shape[1], int(golden["meta_num_classes"]), patch_size=int(golden["meta_patch_size"])
        )
    ours = {"param_" + name.replace(".", "_"): tuple(value.shape) for name, value in block.state_dict().items()}
    assert ours == released


def test_the_released_form_has_the_published_number_of_parameters():
    """Table 5's +0.06 M: depth 2 of a ResNet-101 has 256 channels."""
    block = AFMABlock(feature_channels=256, out_channels=12)
    assert sum(parameter.numel() for parameter in block.parameters()) == 59_480


def test_the_text_form_has_one_image_filter_and_no_projection():
    shapes = {name: tuple(value.shape) for name, value in make_block("paper", classes=5).named_parameters()}
    assert shapes == {
        "image_conv1.weight": (4, 2, 7, 7),
        "image_conv1.bias": (4,),
        "image_conv2.weight": (1, 4, 3, 3),
        "image_conv2.bias": (1,),
        "feature_conv.weight": (5, 3, 1, 1),
        "feature_conv.bias": (5,),
    }


def test_the_projection_has_twice_as_many_hidden_numbers_as_a_patch():
    block = make_block(patch_size=(2, 3))
    assert block.patch_linear1.weight.shape == (12, 6)
    assert block.patch_linear2.weight.shape == (6, 12)
    assert block.patch_linear1.bias is None
    assert block.patch_linear2.bias is None


# Values.


@pytest.mark.parametrize(("size", "stride"), [((6, 8), 2), ((8, 8), 4)], ids=str)
@pytest.mark.parametrize("classes", [1, 2])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_block_equals_the_reference_in_values_and_gradients(variant, classes, size, stride):
    block = make_block(variant, classes=classes).double()
    image, feature = (x.double().requires_grad_() for x in make_input(size=size, stride=stride))
    attention = block(image, feature)
    assert attention.grid == PatchGrid(size, stride, (2, 3))
    parameters = dict(block.named_parameters())
    naive = reference.block_attention(image, feature, parameters, (2, 3), paper=variant == "paper")
    assert naive.abs().max() > 1e-6
    torch.testing.assert_close(attention.dense(), naive, rtol=1e-10, atol=1e-10)
    inputs = {"image": image, "feature": feature} | parameters
    ours = reference.gradients(attention.dense(), list(inputs.values()))
    expected = reference.gradients(naive, list(inputs.values()))
    for name, gradient, wanted in zip(inputs, ours, expected, strict=True):
        assert wanted.abs().max() > 0, name
        assert torch.allclose(gradient, wanted, rtol=1e-10, atol=1e-10), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_batch_is_its_images(variant):
    block = make_block(variant)
    image, feature = make_input(batch=3)
    together = block(image, feature).dense()
    alone = [block(image[i : i + 1], feature[i : i + 1]).dense() for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_permuting_the_filters_permutes_the_attention():
    block = make_block(classes=3)
    image, feature = make_input()
    before, order = block(image, feature).dense(), [2, 0, 1]
    with torch.no_grad():
        for conv in (block.image_conv2, block.feature_conv):
            conv.weight.copy_(conv.weight[order].clone())
            conv.bias.copy_(conv.bias[order].clone())
    torch.testing.assert_close(block(image, feature).dense(), before[:, order])


@pytest.mark.parametrize("variant", VARIANTS)
def test_factor_shapes_and_signs(variant):
    """The released factors are ≥ 0 with exact zeros; the text's query is one map for all classes."""
    attention = make_block(variant, classes=3)(*make_input(batch=2))
    assert attention.query.shape == (2, 3, 9, 6)
    assert attention.key.shape == (2, 3, 4, 6)
    if variant == "released":
        assert attention.query.min() == 0 < attention.query.max()
    else:
        assert attention.query.min() < 0
        assert torch.equal(attention.query[:, 0], attention.query[:, 2])


@pytest.mark.parametrize("variant", VARIANTS)
def test_autocast_gives_float32_factors_and_changes_no_number(variant):
    block, (image, feature) = make_block(variant), make_input()
    feature = feature.bfloat16()
    plain = block(image, feature.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = block(image, feature)
        # Autocast is on: the same layer, called alone, does come out in bfloat16.
        assert block.image_conv1(image).dtype == torch.bfloat16
    for ours, expected in zip(lowered[:2], plain[:2], strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, expected)


def test_metadata_is_left_behind():
    block, (image, feature) = make_block(), make_input()
    attention = block(MetaTensor(image), MetaTensor(feature))
    assert type(attention.query) is type(attention.key) is Tensor
    assert torch.equal(attention.query, block(image, feature).query)


def test_embeddings_are_maps_of_the_input_size():
    block = make_block(classes=5)
    image, feature = make_input()
    assert block.embed_image(image).shape == (1, 5, 6, 8)
    assert block.embed_feature(feature, 2).shape == (1, 5, 3, 4)
    torch.testing.assert_close(block.embed_feature(feature, 4), block.embed_feature(feature, 2) / 4)


@pytest.mark.parametrize("size", [(20, 33), (9, 6), (5, 9), (5, 5), (4, 9), (1, 1)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_one_convolution_is_both_convolutions(variant, size):
    """On the outermost ring too; values and gradients."""
    block = make_block(variant).double()
    image = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    inputs = [image, *block.image_conv1.parameters(), *block.image_conv2.parameters()]
    got, expected = block.embed_image(image), block.image_conv2(block.image_conv1(image))
    torch.testing.assert_close(got, expected)
    weight = torch.randn_like(expected)
    gradients = (torch.autograd.grad(embedded, inputs, weight) for embedded in (got, expected))
    for one, both in zip(*gradients, strict=True):
        torch.testing.assert_close(one, both)


@pytest.mark.parametrize("size", [(20, 33), (5, 5), (1, 1)])
def test_embedding_and_projection_are_their_formulas(monkeypatch, size):
    """As in graphs and as run, a few maps at a time; values and gradients."""
    block = make_block().double()
    image = torch.randn(2, 2, *size, dtype=torch.float64, requires_grad=True)
    feature = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    inputs = [image, feature, *block.parameters()]

    def factors_and_gradients() -> list[Tensor]:
        attention = block(image, feature)
        loss = (attention.query * torch.arange(float(attention.query.numel())).view_as(attention.query)).sum()
        return [*attention[:2], *torch.autograd.grad(loss + attention.key.square().sum(), inputs)]

    as_run = factors_and_gradients()
    monkeypatch.setattr(tensors, "_CPU_CHUNK", 1)
    one_by_one = factors_and_gradients()
    monkeypatch.setattr(embedding, "is_captured", lambda: True)
    for result in (as_run, one_by_one):
        for got, expected in zip(result, factors_and_gradients(), strict=True):
            torch.testing.assert_close(got, expected)


def test_the_representation_tells_patch_size_and_variant():
    assert "patch_size=(2, 3), variant='paper'" in repr(make_block("paper"))


# Refusals.


@pytest.mark.parametrize("argument", ["feature_channels", "out_channels", "in_channels", "embed_channels"])
@pytest.mark.parametrize("value", [0, -1, 2.0, None])
def test_channel_numbers_that_are_no_positive_int_are_refused(argument, value):
    arguments = {"feature_channels": 4, "out_channels": 2} | {argument: value}
    with pytest.raises(ValueError, match=f"`{argument}` must be a positive int; got {value}"):
        AFMABlock(**arguments)


@pytest.mark.parametrize("patch_size", [0, -1, (3, 0), 2.5])
def test_a_patch_size_that_is_no_positive_int_is_refused(patch_size):
    with pytest.raises(ValueError, match="`patch_size` must be a positive int"):
        AFMABlock(4, 2, patch_size=patch_size)


@pytest.mark.parametrize("variant", ["Released", "text", "", None])
def test_an_unknown_variant_is_refused_with_the_choices(variant):
    with pytest.raises(ValueError, match=r"`variant` must be one of \('released', 'paper'\); got "):
        AFMABlock(4, 2, variant=variant)


@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 2, 6, 8, 8)])
def test_wrong_dimensions_are_refused(shape):
    image, feature = make_input()
    with pytest.raises(ValueError, match=r"`image` must have the 4 axes \(B,C,H,W\); got shape "):
        make_block()(torch.zeros(shape), feature)
    with pytest.raises(ValueError, match=r"`feature` must have the 4 axes \(B,F,h,w\); got shape "):
        make_block()(image, torch.zeros(shape))


def test_wrong_channels_are_refused_with_the_argument_to_change():
    image, feature = make_input()
    with pytest.raises(ValueError, match=r"`image` must have 2 channels; got 1\. .* in_channels=1"):
        make_block()(image[:, :1], feature)
    with pytest.raises(ValueError, match=r"`feature` must have 3 channels; got 2\. .* feature_channels=2"):
        make_block()(image, feature[:, :2])


def test_different_batches_are_refused():
    image, feature = make_input(batch=2)
    with pytest.raises(ValueError, match="`feature` must have the image's batch size 2; got 1"):
        make_block()(image, feature[:1])


@pytest.mark.parametrize("size", [(3, 3), (2, 4), (4, 4), (7, 8), (12, 16), (6, 4)])
def test_a_feature_map_without_a_whole_stride_is_refused(size):
    message = f"`feature` must be smaller than the image by one whole stride on both axes; got {size[0]}×{size[1]} for "
    with pytest.raises(ValueError, match=message + "an image of 6×8"):
        make_block()(torch.zeros(1, 2, 6, 8), torch.zeros(1, 3, *size))


def test_a_patch_too_large_to_project_is_refused():
    with pytest.raises(
        ValueError, match=r"`patch_size` must have at most 16384 pixels.*got \(1000, 1000\), D = 1000000"
    ):
        AFMABlock(4, 2, patch_size=1000)
    assert AFMABlock(4, 2, patch_size=1000, variant="paper")(
        torch.rand(1, 3, 8, 8), torch.rand(1, 4, 4, 4)
    ).key.shape == (
        1,
        2,
        1,
        1000000,
    )


def test_a_patch_larger_than_the_map_is_padded_to():
    attention = AFMABlock(4, 2, patch_size=10)(torch.rand(1, 3, 8, 8), torch.rand(1, 4, 4, 4))
    assert attention.query.shape == attention.key.shape == (1, 2, 1, 100)


@pytest.mark.parametrize("memory_format", [torch.channels_last, torch.contiguous_format])
def test_gradients_do_not_depend_on_the_memory_format(memory_format: torch.memory_format) -> None:
    """Several images and several classes, for then a channels_last map cannot be flattened without a copy."""
    block = AFMABlock(3, 4, in_channels=2, patch_size=4)
    image, feature = torch.rand(2, 2, 12, 16), torch.rand(2, 3, 6, 8)

    def gradients(like: torch.memory_format) -> list[torch.Tensor]:
        attention = block(image.contiguous(memory_format=like), feature.contiguous(memory_format=like))
        return list(torch.autograd.grad(attention.dense().square().sum(), list(block.parameters())))

    # Whatever was in memory before is no number.
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True)
    try:
        for ours, expected in zip(gradients(memory_format), gradients(torch.contiguous_format), strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-7)
    finally:
        torch.use_deterministic_algorithms(False)


def count_copies(block: AFMABlock, layout: torch.memory_format) -> int:
    """Copies of tensors in a forward and backward pass of attention and correction."""
    image, feature = torch.rand(2, 3, 80, 120), torch.rand(2, 8, 20, 30)
    logits = torch.randn(2, 5, 80, 120).contiguous(memory_format=layout).requires_grad_()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        attention = block(*(x.contiguous(memory_format=layout) for x in (image, feature)))
        modulate_logits(logits, attention).sum().backward()
    return sum(event.count for event in profile.key_averages() if event.key == "aten::copy_")


def test_channels_last_maps_are_not_copied_for_each_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """They were: a network in channels_last, as in all bundles, took three times as long for its attention."""
    monkeypatch.setattr(tensors, "_CPU_CHUNK", 1)  # each map is a chunk
    block = AFMABlock(8, 5).to(memory_format=torch.channels_last)
    plain, last = (count_copies(block, layout) for layout in (torch.contiguous_format, torch.channels_last))
    assert last <= plain + 10
