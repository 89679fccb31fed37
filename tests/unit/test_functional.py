"""Steps 3-10 as pure functions: values and gradients against the naive reference, laws, precision, memory, refusals."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from _helpers import reference
from _helpers.memory import peak_bytes
from afma_med import AFMABlock, AFMALoss, functional
from afma_med._ops import nonzeros, tensors
from afma_med.checks import as_patch_size, check_four_axes
from afma_med.functional import (
    PatchAttention,
    PatchGrid,
    compress_prediction,
    gold_attention,
    gold_attention_from_index,
    join_patches,
    modulate_logits,
    split_patches,
)

# (H, W), patch: a multiple, no multiple, slender patches, a patch larger than the map, single pixels.
SPLITS = [
    ((6, 8), (2, 2)),
    ((7, 5), (2, 3)),
    ((4, 9), (3, 5)),
    ((9, 4), (5, 1)),
    ((2, 3), (4, 4)),
    ((3, 2), (1, 1)),
]
# image size, stride, patch size; the last two leave incomplete patches on the image, the feature map or both. The first
# has more pairs of patches (N M) than products of pixels (D D), the second fewer: two ways to one squared distance.
GRIDS = [
    PatchGrid((8, 8), 2, (2, 2)),
    PatchGrid((6, 8), 2, (3, 5)),
    PatchGrid((4, 6), 1, (3, 2)),
]


def random(*shape: int, grad: bool = False) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def patches_of(grid: PatchGrid) -> tuple[int, int, int]:
    """N, M and D, counted anew."""
    sizes = (grid.image_size, (grid.image_size[0] // grid.stride, grid.image_size[1] // grid.stride))
    image, feature = (
        math.ceil(size[0] / grid.patch_size[0]) * math.ceil(size[1] / grid.patch_size[1]) for size in sizes
    )
    return image, feature, math.prod(grid.patch_size)


def make_attention(grid: PatchGrid, *, batch: int = 2, classes: int = 3, kind: str = "signed") -> PatchAttention:
    """Random float64 factors that require a gradient.

    ``sparse`` factors are those of the released variant, ≥ 0 with many zeros; in ``shared`` ones all classes have the
    same query, as in the text's variant.
    """
    image_patches, feature_patches, depth = patches_of(grid)
    query = random(batch, 1 if kind == "shared" else classes, image_patches, depth)
    key = random(batch, classes, feature_patches, depth)
    if kind == "sparse":
        # Whole patches of zeros make zeros in the attention: a row of them, and single ones.
        query = query.relu() * (torch.rand(batch, classes, image_patches, 1) > 0.3)
        key = key.relu() * (torch.rand(batch, classes, feature_patches, 1) > 0.3)
        query[0, 0, 0], key[0, 0, 0] = 0.0, 0.0
    query.requires_grad_()
    key.requires_grad_()
    return PatchAttention(query.expand(-1, classes, -1, -1), key, grid)


def assert_same(ours: Tensor, naive: Tensor, inputs: list[Tensor] | None = None) -> None:
    """Hold values, and gradients by the inputs, to the reference."""
    torch.testing.assert_close(ours, naive, rtol=1e-10, atol=1e-10)
    if not inputs:
        return
    expected = reference.gradients(naive, inputs)
    assert any(gradient.abs().max() > 0 for gradient in expected)
    for gradient, wanted in zip(reference.gradients(ours, inputs), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


# Patches.


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("size", "patch"), SPLITS)
def test_split_patches_equals_the_reference(size, patch, classes):
    x = random(2, classes, *size, grad=True)
    patches = split_patches(x, patch)
    count = math.ceil(size[0] / patch[0]) * math.ceil(size[1] / patch[1])
    assert patches.shape == (2, classes, count, math.prod(patch))
    assert_same(patches, reference.split_patches(x, patch), [x])


@pytest.mark.parametrize(("size", "patch"), SPLITS)
def test_join_patches_equals_the_reference(size, patch):
    count = math.ceil(size[0] / patch[0]) * math.ceil(size[1] / patch[1])
    patches = random(2, 3, count, math.prod(patch), grad=True)
    joined = join_patches(patches, size, patch)
    assert joined.shape == (2, 3, *size)
    assert_same(joined, reference.join_patches(patches, size, patch), [patches])


def test_an_int_is_a_square_patch():
    x = random(1, 2, 5, 7)
    assert torch.equal(split_patches(x, 3), split_patches(x, (3, 3)))
    patches = split_patches(x, 3)
    assert torch.equal(join_patches(patches, (5, 7), 3), join_patches(patches, (5, 7), (3, 3)))


def test_split_patches_keeps_type_and_integers():
    labels = torch.arange(6, dtype=torch.uint8).reshape(1, 1, 2, 3)
    assert split_patches(labels, 2).tolist() == [[[[0, 1, 3, 4], [2, 0, 5, 0]]]]
    assert split_patches(labels, 2).dtype == torch.uint8


@given(
    shape=st.tuples(*[st.integers(1, 3)] * 2, *[st.integers(1, 11)] * 2),
    patch=st.tuples(st.integers(1, 12), st.integers(1, 12)),
)
def test_join_undoes_split(shape, patch):
    x = torch.arange(math.prod(shape), dtype=torch.float64).reshape(shape)
    assert torch.equal(join_patches(split_patches(x, patch), shape[2:], patch), x)


def test_the_padding_is_cut_off_by_join_and_gets_no_gradient():
    patches = random(1, 1, 4, 4, grad=True)
    join_patches(patches, (3, 3), 2).sum().backward()
    assert patches.grad[0, 0].tolist() == [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]


# The geometry.


@pytest.mark.parametrize(("patch_size", "pair"), [(10, (10, 10)), ((3, 5), (3, 5)), ([4, 16], (4, 16))])
def test_as_patch_size_gives_a_pair(patch_size, pair):
    assert as_patch_size(patch_size) == pair


def test_patch_grid_knows_the_feature_map():
    assert PatchGrid((40, 80), 4, (10, 10)).feature_size == (10, 20)


# The attention.

KINDS = ["signed", "sparse", "shared"]


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_dense_equals_the_reference(grid, kind, classes):
    attention = make_attention(grid, kind=kind, classes=classes)
    assert attention.dense().shape == (2, classes, *patches_of(grid)[:2])
    naive = reference.attention(attention.query, attention.key)
    assert_same(attention.dense(), naive, [attention.query, attention.key])


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_apply_equals_the_reference(grid, kind, classes):
    attention = make_attention(grid, kind=kind, classes=classes)
    values = random(*attention.key.shape, grad=True)
    spread = attention.apply(values)
    assert spread.shape == attention.query.shape
    naive = reference.spread(reference.attention(attention.query, attention.key), values)
    assert_same(spread, naive, [attention.query, attention.key, values])


def test_apply_divides_by_the_count_of_nonzeros_by_hand():
    """A = [[1, 0], [2, 3], [0, 0]] with D = 1: the rows have 1, 2 and 0 non-zeros."""
    query = torch.tensor([[1.0, 0.0], [2.0, 3.0], [0.0, 0.0]], dtype=torch.float64) * 2
    key = torch.eye(2, dtype=torch.float64)
    attention = PatchAttention(query[None, None], key[None, None], PatchGrid((3, 2), 1, (1, 2)))
    values = torch.tensor([[10.0, 20.0], [30.0, 40.0]], dtype=torch.float64)[None, None]
    expected = [[10 / 1.00001, 20 / 1.00001], [110 / 2.00001, 160 / 2.00001], [0, 0]]
    torch.testing.assert_close(attention.apply(values)[0, 0], torch.tensor(expected, dtype=torch.float64))


def test_an_all_zero_row_spreads_exact_zeros_and_finite_gradients():
    attention = make_attention(GRIDS[0], kind="sparse")
    spread = attention.apply(random(*attention.key.shape))
    assert spread[0, 0, 0].abs().max() == 0
    assert spread.abs().max() > 0
    assert all(gradient.isfinite().all() for gradient in reference.gradients(spread, [attention.query, attention.key]))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grid", GRIDS)
def test_squared_distance_equals_the_reference(grid, kind, classes):
    one, other = make_attention(grid, kind=kind, classes=classes), make_attention(grid, classes=classes)
    distance = one.squared_distance(other)
    assert distance.shape == ()
    naive = reference.mean_squared_error(
        reference.attention(one.query, one.key), reference.attention(other.query, other.key)
    )
    assert_same(distance, naive, [one.query, one.key, other.query, other.key])


def test_squared_distance_equals_the_dense_one_where_the_patches_differ_in_depth():
    one = make_attention(PatchGrid((8, 8), 2, (2, 2)))
    other = make_attention(PatchGrid((8, 16), 2, (2, 4)))
    expected = (one.dense() - other.dense()).square().mean()
    assert_same(one.squared_distance(other), expected, [one.query, one.key, other.query, other.key])


@pytest.mark.parametrize("wanted", [0, 1, 2, 3])
@pytest.mark.parametrize("grid", GRIDS)
def test_squared_distance_gives_one_factor_its_gradient_alone(grid, wanted):
    """The training path needs two of the four gradients; each must come out right without the others."""
    one, other = make_attention(grid), make_attention(grid)
    factors = [one.query, one.key, other.query, other.key]
    expected = reference.gradients((one.dense() - other.dense()).square().mean(), factors)[wanted]
    leaves = [factor.detach().requires_grad_(i == wanted) for i, factor in enumerate(factors)]
    distance = PatchAttention(*leaves[:2], one.grid).squared_distance(PatchAttention(*leaves[2:], one.grid))
    (3 * distance).backward()
    # reference.gradients weights a scalar by -1.
    torch.testing.assert_close(leaves[wanted].grad, -3 * expected, rtol=1e-10, atol=1e-12)
    assert all(leaf.grad is None for i, leaf in enumerate(leaves) if i != wanted)


@pytest.mark.parametrize("grid", [PatchGrid((4, 4), 2, (2, 2)), PatchGrid((4, 6), 2, (1, 2))])
def test_gradcheck_of_apply_and_squared_distance(grid):
    one, other = make_attention(grid, classes=2), make_attention(grid, classes=2)
    values = random(*one.key.shape, grad=True)

    def distance(*factors: Tensor) -> Tensor:
        return PatchAttention(*factors[:2], grid).squared_distance(PatchAttention(*factors[2:], grid))

    assert torch.autograd.gradcheck(lambda q, k, v: PatchAttention(q, k, grid).apply(v), (one.query, one.key, values))
    assert torch.autograd.gradcheck(distance, (one.query, one.key, other.query, other.key))


@given(classes=st.integers(1, 3), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 2**16))
def test_squared_distance_is_a_distance(classes, scale, seed):
    """Zero to itself, symmetric, never below the triangle inequality, and quadratic in a common factor."""
    torch.manual_seed(seed)
    a, b, c = (make_attention(GRIDS[1], classes=classes) for _ in range(3))
    assert abs(a.squared_distance(a).item()) < 1e-14 * a.dense().square().mean().item()
    ab, bc, ac = (x.squared_distance(y).item() for x, y in ((a, b), (b, c), (a, c)))
    assert ab == pytest.approx(b.squared_distance(a).item(), rel=1e-12)
    assert math.sqrt(ac) <= math.sqrt(ab) + math.sqrt(bc)
    scaled = (PatchAttention(x.query * scale, x.key, x.grid) for x in (a, b))
    assert next(scaled).squared_distance(next(scaled)).item() == pytest.approx(scale**2 * ab, rel=1e-9)


@pytest.mark.parametrize("patch", [5, 10])
def test_squared_distance_in_float32_keeps_its_digits_close_to_the_gold_attention(patch):
    """Sums of products cancel there: formed in float32 they are several percent off, gradients included."""
    grid = PatchGrid((40, 40), 2, (patch, patch))
    gold = make_attention(grid, classes=2, kind="sparse")
    near = [(factor * (1 + 1e-3 * torch.randn_like(factor))).detach().float() for factor in gold[:2]]
    query, key = (factor.requires_grad_() for factor in near)
    attention = PatchAttention(query, key, grid)
    gold = PatchAttention(gold.query.detach().float(), gold.key.detach().float(), grid)
    distance = attention.squared_distance(gold)
    exact = (query.double() @ key.double().mT - gold.query.double() @ gold.key.double().mT).square().mean() / patch**4
    assert exact.sqrt() < 2e-3 * gold.dense().square().mean().sqrt()
    assert distance.dtype == torch.float32
    assert distance.item() == pytest.approx(exact.item(), rel=1e-6)
    for ours, expected in zip(
        reference.gradients(distance, [query, key]), reference.gradients(exact, [query, key]), strict=True
    ):
        assert (ours - expected).abs().max() < 1e-6 * expected.abs().max()


# Compressing and modulating the prediction.

# (H, W) of the logits, geometry: without padding; the image padded to the stride; patches that are no divisor.
PREDICTIONS = [
    ((8, 8), PatchGrid((8, 8), 2, (2, 2))),
    ((7, 5), PatchGrid((8, 8), 4, (2, 2))),
    ((5, 8), PatchGrid((6, 8), 2, (3, 5))),
]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize(("size", "grid"), PREDICTIONS)
def test_compress_prediction_equals_the_reference(size, grid, classes, soft):
    logits = random(2, classes, *size, grad=True)
    pooled = compress_prediction(logits, grid, soft=soft)
    assert pooled.shape == (2, classes, *grid.feature_size)
    naive = reference.pool(reference.prediction(logits, soft=soft), grid.image_size, grid.stride)
    assert_same(pooled, naive, [logits] if soft else None)
    assert pooled.requires_grad == soft


@pytest.mark.parametrize("soft", [False, True])
def test_compressed_shares_add_up_to_the_share_of_pixels_that_are_no_padding(soft):
    pooled = compress_prediction(random(1, 4, 3, 6), PatchGrid((4, 8), 4, (2, 2)), soft=soft)
    torch.testing.assert_close(pooled.sum(dim=1), torch.tensor([[[3 / 4, 3 / 8]]], dtype=torch.float64))


def test_hard_compression_of_one_class_is_the_sign_of_the_logit():
    logits = torch.tensor([[-2.0, 0.3], [1e-6, -1e-6]]).reshape(1, 1, 2, 2)
    assert compress_prediction(logits, PatchGrid((2, 2), 1, (1, 1))).flatten().tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize(("size", "grid"), PREDICTIONS)
def test_modulate_logits_equals_the_reference(size, grid, classes, soft, kind):
    logits = random(2, classes, *size, grad=True)
    attention = make_attention(grid, classes=classes, kind=kind)
    modulated = modulate_logits(logits, attention, soft=soft)
    assert modulated.shape == logits.shape
    dense = reference.attention(attention.query, attention.key)
    naive = reference.modulate(logits, dense, grid.image_size, grid.stride, grid.patch_size, soft=soft)
    assert_same(modulated, naive, [logits, attention.query, attention.key])


@given(classes=st.integers(1, 4), soft=st.booleans(), empty=st.sampled_from(["query", "key"]), seed=st.integers(0, 99))
def test_zero_attention_changes_nothing(classes, soft, empty, seed):
    torch.manual_seed(seed)
    attention = make_attention(GRIDS[0], classes=classes)
    attention = attention._replace(**{empty: torch.zeros_like(getattr(attention, empty))})
    logits = random(2, classes, 7, 8)
    assert torch.equal(modulate_logits(logits, attention, soft=soft), logits)


@given(order=st.permutations(range(4)), soft=st.booleans(), seed=st.integers(0, 99))
def test_permuting_the_classes_permutes_everything(order, soft, seed):
    """No step mixes classes, save soft max and arg max, which treat all of them alike."""
    torch.manual_seed(seed)
    one, other = (make_attention(GRIDS[0], classes=4, kind="sparse") for _ in range(2))
    logits, values = random(2, 4, 8, 8), random(*one.key.shape)
    moved_one, moved_other = (PatchAttention(x.query[:, order], x.key[:, order], x.grid) for x in (one, other))
    torch.testing.assert_close(moved_one.dense(), one.dense()[:, order])
    torch.testing.assert_close(moved_one.apply(values[:, order]), one.apply(values)[:, order])
    torch.testing.assert_close(moved_one.squared_distance(moved_other), one.squared_distance(other))
    torch.testing.assert_close(
        modulate_logits(logits[:, order], moved_one, soft=soft), modulate_logits(logits, one, soft=soft)[:, order]
    )
    label = (logits == logits.amax(dim=1, keepdim=True)).double()
    gold, moved_gold = gold_attention(label, GRIDS[0]), gold_attention(label[:, order], GRIDS[0])
    torch.testing.assert_close(moved_gold.dense(), gold.dense()[:, order])


@given(factor=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_apply_is_linear_in_the_values_and_hard_modulation_in_the_scale_of_the_logits(factor, seed):
    torch.manual_seed(seed)
    attention = make_attention(GRIDS[1], kind="sparse")
    v, w = random(*attention.key.shape), random(*attention.key.shape)
    torch.testing.assert_close(attention.apply(v + factor * w), attention.apply(v) + factor * attention.apply(w))
    logits = random(2, 3, 6, 8)
    torch.testing.assert_close(modulate_logits(factor * logits, attention), factor * modulate_logits(logits, attention))


# The gold attention.


def random_label(batch: int, classes: int, size: tuple[int, int], void: float = 0.0) -> Tensor:
    """One-hot float64, with a share of void pixels, which are 0 for every class."""
    index = torch.randint(classes, (batch, *size))
    if classes == 1:
        return torch.randint(2, (batch, 1, *size)).double()
    one_hot = torch.nn.functional.one_hot(index, classes).permute(0, 3, 1, 2).double()
    return one_hot * (torch.rand(batch, 1, *size) >= void)


@pytest.mark.parametrize("void", [0.0, 0.4])
@pytest.mark.parametrize("classes", [1, 2, 3])
@pytest.mark.parametrize(("size", "grid"), PREDICTIONS)
def test_gold_attention_equals_the_reference(size, grid, classes, void):
    label = random_label(2, classes, size, void)
    gold = gold_attention(label, grid)
    image_patches, feature_patches, depth = patches_of(grid)
    assert gold.query.shape == (2, classes, image_patches, depth)
    assert gold.key.shape == (2, classes, feature_patches, depth)
    assert gold.grid == grid
    assert_same(gold.dense(), reference.gold_attention(label, grid.image_size, grid.stride, grid.patch_size))


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool])
def test_gold_attention_takes_integer_labels(dtype):
    label = random_label(1, 3, (8, 8))
    gold = gold_attention(label.to(dtype), GRIDS[0])
    assert gold.query.dtype == torch.get_default_dtype()
    torch.testing.assert_close(gold.dense().double(), gold_attention(label, GRIDS[0]).dense())


@given(seed=st.integers(0, 2**16), classes=st.integers(1, 3), patch=st.sampled_from([(2, 2), (1, 4), (4, 2)]))
def test_gold_attention_without_stride_is_symmetric_and_a_share(seed, classes, patch):
    """At stride 1 a label is compared with itself; entries are shares of pixels, so they lie in [0, 1]."""
    torch.manual_seed(seed)
    dense = gold_attention(random_label(1, classes, (4, 4)), PatchGrid((4, 4), 1, patch)).dense()
    assert torch.equal(dense, dense.mT)
    assert dense.min() >= 0
    assert dense.max() <= 1


@given(rows=st.integers(0, 1), columns=st.integers(0, 2), seed=st.integers(0, 99))
def test_rolling_the_label_by_feature_patches_rolls_the_gold_attention(rows, columns, seed):
    """A roll by s·p pixels moves feature patches by one and image patches by s."""
    torch.manual_seed(seed)
    grid = PatchGrid((12, 24), 3, (2, 4))
    label = random_label(1, 2, grid.image_size)
    rolled = label.roll((rows * 6, columns * 12), dims=(2, 3))
    dense = gold_attention(label, grid).dense().reshape(1, 2, 6, 6, 2, 2)
    expected = dense.roll((rows * 3, columns * 3, rows, columns), dims=(2, 3, 4, 5))
    torch.testing.assert_close(gold_attention(rolled, grid).dense().reshape(expected.shape), expected)


def test_gold_attention_of_an_image_of_one_class_is_one_and_of_padding_zero():
    gold = gold_attention(torch.ones(1, 1, 4, 4), PatchGrid((8, 4), 2, (2, 2))).dense()[0, 0]
    assert gold[:4].tolist() == [[1, 0], [1, 0], [1, 0], [1, 0]]
    assert gold[4:].abs().max() == 0


# Precision.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_factors_are_multiplied_in_float32(dtype):
    """300 · 300 · 4 is beyond float16; float32 is what the golden numbers are in."""
    attention = make_attention(GRIDS[0])
    low = PatchAttention((attention.query * 300).to(dtype), (attention.key * 300).to(dtype), attention.grid)
    same = PatchAttention(low.query.float(), low.key.float(), low.grid)
    values = random(*low.key.shape).to(dtype)
    for ours, expected in (
        (low.dense(), same.dense()),
        (low.apply(values), same.apply(values.float())),
        (low.squared_distance(low._replace(key=-low.key)), same.squared_distance(same._replace(key=-same.key))),
        (modulate_logits(random(2, 3, 8, 8).to(dtype), low), None),
    ):
        assert ours.dtype == torch.float32
        assert ours.isfinite().all()
        if expected is not None:
            assert torch.equal(ours, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_logits_and_labels(dtype):
    logits = random(1, 3, 8, 8).to(dtype)
    for soft in (False, True):
        pooled = compress_prediction(logits, GRIDS[0], soft=soft)
        assert pooled.dtype == torch.float32
        assert torch.equal(pooled, compress_prediction(logits.float(), GRIDS[0], soft=soft))
    label = random_label(1, 3, (8, 8))
    torch.testing.assert_close(
        gold_attention(label.to(dtype), GRIDS[0]).dense().double(), gold_attention(label, GRIDS[0]).dense()
    )


def test_autocast_changes_nothing():
    attention, gold = make_attention(GRIDS[0]), make_attention(GRIDS[0])
    one, other = (PatchAttention(a.query.detach().float(), a.key.detach().float(), a.grid) for a in (attention, gold))
    logits, values = torch.randn(2, 3, 8, 8), torch.randn(*one.key.shape)

    def everything() -> list[Tensor]:
        modulated = [modulate_logits(logits, one, soft=soft) for soft in (False, True)]
        return [one.dense(), one.apply(values), one.squared_distance(other), *modulated]

    plain = everything()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = everything()
        assert (logits[0, 0] @ logits[0, 0]).dtype == torch.bfloat16
    assert all(torch.equal(a, b) for a, b in zip(plain, lowered, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_does_not_round_the_distance_of_a_trained_attention(dtype):
    """Sums of squares exceed float16 in the patches that hold none of a class."""
    grid = PatchGrid((240, 320), 4, (10, 10))
    factors = [20 * torch.rand(1, 3, patches, 100) for patches in (768, 48)]
    attention = PatchAttention(*(factor.requires_grad_() for factor in factors), grid)
    label = torch.zeros(1, 240, 320, dtype=torch.long)
    label[:, 80:160], label[:, 160:] = 1, 2
    gold = gold_attention_from_index(label, grid, 3)

    def distance_and_gradients() -> tuple[Tensor, ...]:
        distance = attention.squared_distance(gold)
        return distance, *torch.autograd.grad(distance, attention[:2])

    plain = distance_and_gradients()
    with torch.autocast("cpu", dtype=dtype):
        lowered = distance_and_gradients()
    assert plain[0].isfinite()
    assert all(torch.equal(a, b) for a, b in zip(plain, lowered, strict=True))


# Two ways to the same numbers: by the formula, as in graphs, and as it is run.


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_modulation_is_the_formula(monkeypatch, grid, soft):
    attention = make_attention(grid, kind="sparse")
    logits = random(2, 3, grid.image_size[0] - 1, grid.image_size[1], grad=True)
    inputs = [logits, attention.query, attention.key]
    run = modulate_logits(logits, attention, soft=soft)
    monkeypatch.setattr(functional, "is_captured", lambda: True)
    assert_same(run, modulate_logits(logits, attention, soft=soft), inputs)


def test_modulated_logits_keep_their_metadata():
    """A batch of MONAI's cannot be taken apart unless its metadata are left behind meanwhile."""
    attention = make_attention(GRIDS[1])
    logits = random(2, 3, *GRIDS[1].image_size, grad=True)
    batch = list_data_collate([MetaTensor(item, meta={"name": name}) for name, item in zip("ab", logits, strict=True)])
    modulated = modulate_logits(batch, attention)
    assert isinstance(modulated, MetaTensor)
    assert [item.meta["name"] for item in decollate_batch(modulated)] == ["a", "b"]
    assert_same(modulated.as_tensor(), modulate_logits(logits, attention), [attention.key, attention.query])


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gold_attention_from_indices_is_that_from_maps(grid, dtype):
    one_hot = random_label(2, 3, grid.image_size)[:, :, :-1].clone()
    one_hot[:, :, 1, :2] = 0  # void
    index = one_hot.argmax(dim=1).where(one_hot.any(dim=1), -100)
    from_index = gold_attention_from_index(index, grid, 3, dtype=dtype)
    from_maps = gold_attention(one_hot.to(dtype), grid)
    assert from_index.query.dtype == torch.bool
    assert torch.equal(from_index.query.to(dtype), from_maps.query)
    torch.testing.assert_close(from_index.key, from_maps.key, rtol=1e-7 if dtype == torch.float32 else 1e-15, atol=0)


def test_gradients_under_autocast_are_those_without():
    attention = make_attention(GRIDS[1], kind="sparse")
    factors = [factor.detach().float().requires_grad_() for factor in attention[:2]]
    attention, logits = PatchAttention(*factors, GRIDS[1]), torch.randn(2, 3, *GRIDS[1].image_size)
    gold = gold_attention(random_label(2, 3, GRIDS[1].image_size).float(), GRIDS[1])

    def gradients() -> tuple[Tensor, ...]:
        loss = modulate_logits(logits, attention).square().sum() + attention.squared_distance(gold)
        return torch.autograd.grad(loss, factors)

    plain = gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(gradients(), plain, strict=True))


# Memory.


@pytest.mark.parametrize("elements", [1, 50, 700])
@pytest.mark.parametrize("grid", GRIDS)
def test_chunks_change_no_number(monkeypatch, grid, elements):
    attention = make_attention(grid, kind="sparse")
    other, values = make_attention(grid), random(*attention.key.shape)
    factors = [attention.query, attention.key, other.query, other.key]
    logits = random(*attention.key.shape[:2], *grid.image_size, grad=True)
    logits.data[0, 1] -= 9  # a class that is not predicted

    def everything() -> list[Tensor]:
        spread, distance = attention.apply(values), attention.squared_distance(other)
        modulated = [modulate_logits(logits, attention, soft=soft) for soft in (False, True)]
        gradients = [*reference.gradients(spread, factors[:2]), *reference.gradients(distance, factors)]
        for one in modulated:
            gradients += reference.gradients(one, [logits, *factors[:2]])
        return [spread, distance, *modulated, *gradients]

    whole = everything()
    monkeypatch.setattr(tensors, "_CPU_CHUNK", elements)
    monkeypatch.setattr(nonzeros, "_CHUNK_ELEMENTS", elements)
    for chunked, expected in zip(everything(), whole, strict=True):
        torch.testing.assert_close(chunked, expected, rtol=1e-12, atol=1e-14)


class _Made(TorchDispatchMode):
    """Write down shape and type of every tensor that any operation makes, backward pass included."""

    def __init__(self) -> None:
        super().__init__()
        self.tensors: list[tuple[tuple[int, ...], torch.dtype]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else [result]
        self.tensors += [(tuple(output.shape), output.dtype) for output in outputs if isinstance(output, Tensor)]
        return result

    def has_matrix(self, image_patches: int, feature_patches: int) -> bool:
        sides = {(image_patches, feature_patches), (feature_patches, image_patches)}
        return any(shape[-2:] in sides for shape, _ in self.tensors)

    def largest(self, *dtypes: torch.dtype) -> int:
        return max(math.prod(shape) for shape, dtype in self.tensors if dtype in dtypes)


def test_training_never_builds_the_matrix(monkeypatch):
    """Neither forward nor backward may hold N × M numbers, not even for one class."""
    chunk = 12_800
    monkeypatch.setattr(tensors, "_CPU_CHUNK", chunk)
    monkeypatch.setattr(nonzeros, "_CHUNK_ELEMENTS", chunk)
    batch, classes, grid = 2, 3, PatchGrid((80, 160), 2, (5, 2))
    image_patches, feature_patches, depth = patches_of(grid)
    factors = [torch.rand(batch, classes, n, depth, requires_grad=True) for n in (image_patches, feature_patches)]
    attention = PatchAttention(*factors, grid)
    logits = torch.randn(batch, classes, *grid.image_size, requires_grad=True)
    label = random_label(batch, classes, grid.image_size).float()
    with _Made() as made:
        loss = modulate_logits(logits, attention).square().mean()
        loss = loss + attention.squared_distance(gold_attention(label, grid))
        loss.backward()
    assert all(factor.grad.abs().max() > 0 for factor in factors)
    assert not made.has_matrix(image_patches, feature_patches)
    # The largest tensors have the image's size; copies in float64 are made of a few classes at a time.
    assert made.largest(torch.float32, torch.int64, torch.bool) <= batch * classes * image_patches * depth
    assert made.largest(torch.float64) <= chunk
    # The same measurement does see the matrix where it is built.
    with _Made() as made:
        attention.dense().square().mean().backward()
    assert made.has_matrix(image_patches, feature_patches)
    assert made.largest(torch.float32) == batch * classes * image_patches * feature_patches


@pytest.mark.parametrize("stride", [1, 2, 8])
@pytest.mark.parametrize(
    "size", [(240, 320), *(pytest.param(size, marks=pytest.mark.slow) for size in ((640, 480), (640, 960)))]
)
def test_training_adds_a_few_times_the_size_of_the_logits(size, stride):
    """The bound that AFMABlock's docstring states; at several sizes, for what is built of N × M would outgrow it."""
    batch, classes = 2, 5
    block, loss = AFMABlock(8, classes), AFMALoss()
    image, label = torch.randn(batch, 3, *size), torch.randint(classes, (batch, 1, size[0] // 20, size[1] // 20))
    label = label.repeat_interleave(20, dim=2).repeat_interleave(20, dim=3)
    feature = torch.randn(batch, 8, *(side // stride for side in size), requires_grad=True)
    logits = torch.randn(batch, classes, *size, requires_grad=True)

    def train(*, with_afma: bool) -> None:
        attention = block(image, feature) if with_afma else None
        output = (modulate_logits(logits, attention), attention) if with_afma else logits
        loss(output, label).backward()
        for leaf in (logits, feature, *block.parameters()):
            leaf.grad = None

    bare, ours = peak_bytes(lambda: train(with_afma=False)), peak_bytes(lambda: train(with_afma=True))
    logits_bytes = logits.numel() * logits.element_size()
    assert 3 * logits_bytes < ours - bare < (5 + 7 / stride**2) * logits_bytes + 16 * 2**20


# Refusals.

GRID = PatchGrid((8, 8), 2, (2, 2))


def attention_of(*, batch: int = 1, classes: int = 3, image_patches: int = 16, feature_patches: int = 4):
    return PatchAttention(random(batch, classes, image_patches, 4), random(batch, classes, feature_patches, 4), GRID)


@pytest.mark.parametrize("patch_size", [0, -3, (2, 0), (2, -1), (2,), (2, 2, 2), 2.0, (2.0, 2.0), "10", None])
def test_a_patch_size_that_is_no_positive_int_is_refused(patch_size):
    for refuse in (
        lambda: as_patch_size(patch_size),
        lambda: split_patches(random(1, 1, 4, 4), patch_size),
        lambda: join_patches(random(1, 1, 4, 4), (4, 4), patch_size),
    ):
        with pytest.raises(ValueError, match=r"`patch_size` must be a positive int or .*; got .*The paper uses 10"):
            refuse()


@pytest.mark.parametrize("shape", [(4,), (3, 8, 8), (1, 3, 8, 8, 8)])
@pytest.mark.parametrize(
    ("name", "axes", "call"),
    [
        ("x", "(B,K,H,W)", lambda x: split_patches(x, 2)),
        ("patches", "(B,K,N,D)", lambda x: join_patches(x, (8, 8), 2)),
        ("logits", "(B,K,H,W)", lambda x: compress_prediction(x, GRID)),
        ("logits", "(B,K,H,W)", lambda x: modulate_logits(x, attention_of())),
        ("one_hot", "(B,K,H,W)", lambda x: gold_attention(x, GRID)),
        ("any name", "(B,C,H,W)", lambda x: check_four_axes("any name", x, "(B,C,H,W)")),
    ],
)
def test_wrong_dimensions_are_refused_with_the_axes_and_the_shape(name, axes, call, shape):
    with pytest.raises(ValueError) as refusal:
        call(random(*shape))
    assert f"`{name}` must have the 4 axes {axes}; got shape {shape}" in str(refusal.value)


@pytest.mark.parametrize("shape", [(1, 1, 9, 4), (1, 1, 4, 9), (1, 1, 4, 16)])
def test_join_refuses_patches_of_another_split(shape):
    message = r"`patches` must have \(N, D\) = \(4, 4\) for size \(4, 4\) and patch size \(2, 2\); got "
    with pytest.raises(ValueError, match=message):
        join_patches(random(*shape), (4, 4), 2)


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (1, 3, 4, 9), (2, 3, 4, 4), (1, 1, 4, 4), (3, 4, 4)])
def test_apply_refuses_values_that_are_not_like_the_key(shape):
    with pytest.raises(ValueError, match=r"`values` must have the key's shape \(B,K,M,D\) = \(1, 3, 4, 4\); got "):
        attention_of().apply(random(*shape))


@pytest.mark.parametrize("other", [{"batch": 2}, {"classes": 1}, {"image_patches": 9}, {"feature_patches": 1}])
def test_squared_distance_refuses_an_attention_of_another_shape(other):
    with pytest.raises(ValueError, match=r"`other` must have the same \(B,K,N,M\) = \(1, 3, 16, 4\); got .*`grid`"):
        attention_of().squared_distance(attention_of(**other))


@pytest.mark.parametrize("size", [(9, 8), (8, 9), (16, 16)])
@pytest.mark.parametrize(
    ("name", "call"),
    [
        ("logits", lambda x: compress_prediction(x, GRID)),
        ("logits", lambda x: modulate_logits(x, attention_of())),
        ("one_hot", lambda x: gold_attention(x, GRID)),
    ],
)
def test_maps_larger_than_the_image_are_refused(name, call, size):
    message = f"`{name}` must not be larger than the attention's image, 8×8; got {size[0]}×{size[1]}"
    with pytest.raises(ValueError, match=message):
        call(random(1, 3, *size))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (1, 4, 8, 8), (1, 1, 8, 8)])
def test_modulate_logits_refuses_another_batch_or_class_count(shape):
    with pytest.raises(ValueError, match=r"`logits` must have the attention's \(B, K\) = \(1, 3\); got .*out_channels"):
        modulate_logits(random(*shape), attention_of())


@pytest.mark.parametrize(("image_size", "stride"), [((8, 9), 2), ((9, 8), 2), ((8, 8), 0), ((8, 8), 3)])
def test_a_stride_that_does_not_divide_the_image_is_refused(image_size, stride):
    for call in (compress_prediction, gold_attention):
        with pytest.raises(ValueError, match=r"`grid` must have a stride that divides its image size; got .*Pad"):
            call(random(1, 3, 8, 8), PatchGrid(image_size, stride, (2, 2)))
