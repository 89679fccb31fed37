"""The two segmentation terms, the distance to the gold attention, and class weights, against the naive reference."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.losses import DiceLoss
from PIL import Image
from torch import Tensor

from _helpers import reference
from _helpers.paths import SHARED
from afma_med import (
    AFMALoss,
    PatchAttention,
    PatchGrid,
    SigmoidCrossEntropyLoss,
    SoftmaxCrossEntropyLoss,
    gold_attention,
    median_frequency_weights,
)
from afma_med.losses.segmentation import check_label, label_to_one_hot

CAMVID_LABELS = SHARED / "data" / "camvid" / "trainannot"
VOID = 255
# The label is padded, a ninth is not exact in float32, and N, M, D = 10, 2, 6.
GRID = PatchGrid((6, 9), 3, (3, 2))
LOSSES = {"softmax": SoftmaxCrossEntropyLoss, "sigmoid": SigmoidCrossEntropyLoss}
NAIVE = {"softmax": reference.released_cross_entropy, "sigmoid": reference.text_cross_entropy}
# Exact in float32, in which the losses hold them.
WEIGHTS = (0.5, 2.0, 1.25, 0.0)


def make_label(classes: int, *, size=(5, 8), void: float = 0.0, batch: int = 2) -> Tensor:
    """(B,1,H,W) class indices, a share of them void."""
    label = torch.randint(max(2, classes), (batch, 1, *size))
    return label.where(torch.rand(label.shape) >= void, VOID)


def to_one_hot(label: Tensor, classes: int) -> Tensor:
    """(B,K,H,W); void pixels are of no class."""
    return reference.one_hot(label[:, 0], classes)


def make_logits(classes: int, *, size=(5, 8), batch: int = 2) -> Tensor:
    return (3 * torch.randn(batch, classes, *size, dtype=torch.float64)).requires_grad_()


def make_attention(classes: int, *, batch: int = 2) -> PatchAttention:
    query = torch.rand(batch, classes, 10, 6, dtype=torch.float64, requires_grad=True)
    key = torch.rand(batch, classes, 2, 6, dtype=torch.float64, requires_grad=True)
    return PatchAttention(query, key, GRID)


def assert_same(ours: Tensor, naive: Tensor, inputs: list[Tensor]) -> None:
    torch.testing.assert_close(ours, naive, rtol=1e-10, atol=1e-10)
    expected = reference.gradients(naive, inputs)
    for gradient, wanted in zip(reference.gradients(ours, inputs), expected, strict=True):
        assert wanted.abs().max() > 0
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


# Segmentation terms.


@pytest.mark.parametrize("void", [None, 0.4])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("kind", LOSSES)
def test_segmentation_terms_equal_the_reference(kind, classes, weighted, void):
    logits, label = make_logits(classes), make_label(classes, void=void or 0.0)
    weights = WEIGHTS[:classes] if weighted else None
    ignore_index = None if void is None else VOID
    loss = LOSSES[kind](weights, ignore_index=ignore_index)(logits, label)
    naive = NAIVE[kind](logits, label[:, 0], weights or (1.0,) * classes, ignore_index)
    assert loss.shape == ()
    assert_same(loss, naive, [logits])


@pytest.mark.parametrize("void", [0.0, 0.4])
@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("kind", LOSSES)
def test_one_hot_and_index_labels_agree(kind, classes, void):
    logits, label = make_logits(classes), make_label(classes, void=void)
    loss = LOSSES[kind](WEIGHTS[:classes], ignore_index=VOID)
    of_index = loss(logits, label)
    one_hot = to_one_hot(label, classes)
    spelled_out = one_hot.where(label != VOID, VOID)
    torch.testing.assert_close(loss(logits, spelled_out), of_index)
    if classes > 1:
        # Pixels that are 0 for every class are void, too; of one class, 0 is an answer.
        torch.testing.assert_close(loss(logits, one_hot), of_index)


@pytest.mark.parametrize("ignored", [0, 1, 2])
@pytest.mark.parametrize("kind", [*LOSSES, "afma"])
def test_one_hot_and_index_labels_agree_where_a_class_is_ignored(kind, ignored):
    """A class such as CamVid's unlabelled may itself be the void value; in one-hot form it is a channel."""
    logits, label = make_logits(3), make_label(3)
    loss = (LOSSES | {"afma": AFMALoss})[kind](ignore_index=ignored)
    output = (logits, make_attention(3)) if kind == "afma" else logits
    torch.testing.assert_close(loss(output, to_one_hot(label, 3)), loss(output, label))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.float16, torch.float32, torch.float64])
def test_labels_of_any_number_type(dtype):
    logits, label = make_logits(3), make_label(3, void=0.3)
    for loss in (AFMALoss(ignore_index=VOID), SigmoidCrossEntropyLoss(ignore_index=VOID)):
        torch.testing.assert_close(loss(logits, label.to(dtype)), loss(logits, label))


def test_bool_labels():
    """Masks are often bool: one class, or one-hot."""
    mask, label = make_label(1), make_label(3)
    for loss in (AFMALoss(), SigmoidCrossEntropyLoss()):
        logits = make_logits(1)
        torch.testing.assert_close(loss(logits, mask.bool()), loss(logits, mask))
        logits = make_logits(3)
        torch.testing.assert_close(loss(logits, to_one_hot(label, 3).bool()), loss(logits, label))


@pytest.mark.parametrize("weights", [list(WEIGHTS), WEIGHTS, torch.tensor(WEIGHTS), torch.tensor(WEIGHTS).double()])
@pytest.mark.parametrize("kind", LOSSES)
def test_weights_may_be_a_list_or_a_tensor(kind, weights):
    logits, label = make_logits(4), make_label(4)
    naive = NAIVE[kind](logits.detach(), label[:, 0], WEIGHTS)
    torch.testing.assert_close(LOSSES[kind](weights)(logits.detach(), label), naive)
    of_both = AFMALoss(weight=weights)(logits.detach(), label)
    torch.testing.assert_close(of_both, 5 * NAIVE["softmax"](logits.detach(), label[:, 0], WEIGHTS))


@pytest.mark.parametrize("kind", LOSSES)
def test_weights_follow_the_loss_and_stay_out_of_checkpoints(kind):
    loss = LOSSES[kind](WEIGHTS)
    assert loss.state_dict() == {}
    assert loss.double().weight.dtype == torch.float64


@pytest.mark.parametrize("weights", [None, WEIGHTS, (0.0, 0.0, 0.0, 0.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [1, 4])
@pytest.mark.parametrize("kind", LOSSES)
def test_all_void_is_zero_with_zero_gradients(kind, classes, dtype, weights):
    """Crops of street scenes may hold nothing but void: 0 / 0 must not reach the optimiser."""
    logits = make_logits(classes).detach().to(dtype).requires_grad_()
    loss = LOSSES[kind](weights and weights[:classes], ignore_index=VOID)(logits, make_label(classes, void=1.0))
    loss.backward()
    assert loss.item() == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("kind", LOSSES)
def test_one_void_image_leaves_the_other_as_it_is_alone(kind):
    logits, label = make_logits(3), make_label(3)
    label[1] = VOID
    loss = LOSSES[kind]((1.0, 2.0, 0.5), ignore_index=VOID)
    torch.testing.assert_close(loss(logits, label), loss(logits[:1], label[:1]))


@pytest.mark.parametrize("kind", LOSSES)
def test_large_logits_give_finite_loss_and_gradients(kind):
    logits = torch.tensor([1e4, -1e4, 0.0]).reshape(1, 3, 1, 1).requires_grad_()
    loss = LOSSES[kind]()(logits, torch.ones(1, 1, 1, 1))
    loss.backward()
    assert loss.item() == pytest.approx({"softmax": 2e4, "sigmoid": (2e4 + math.log(2)) / 3}[kind])
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("kind", LOSSES)
def test_half_precision_logits_of_a_whole_image_give_a_finite_loss(kind, classes, dtype):
    """The sum over 90,000 pixels is beyond float16; the mean is not."""
    logits, label = torch.randn(1, classes, 300, 300).to(dtype), make_label(classes, size=(300, 300), batch=1)
    loss = LOSSES[kind]()(logits, label)
    assert loss.item() == pytest.approx(LOSSES[kind]()(logits.float(), label).item(), rel=1e-2)


@given(seed=st.integers(0, 99), kind=st.sampled_from(sorted(LOSSES)), factor=st.sampled_from([0.25, 4.0]))
def test_softmax_weights_are_relative_and_sigmoid_weights_absolute(seed, kind, factor):
    torch.manual_seed(seed)
    logits, label, weights = make_logits(3), make_label(3), (1.0, 2.0, 0.5)
    loss, scaled = (LOSSES[kind]([f * w for w in weights])(logits, label) for f in (1.0, factor))
    torch.testing.assert_close(scaled, loss if kind == "softmax" else factor * loss)


# The whole loss.


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("void", [0.0, 0.4])
@pytest.mark.parametrize("as_one_hot", [False, True])
def test_the_loss_equals_the_reference(kind, classes, void, as_one_hot):
    """5 · segmentation + MSE to the gold attention, void pixels being of no class."""
    logits, attention, label = make_logits(classes), make_attention(classes), make_label(classes, void=void)
    weights = WEIGHTS[:classes]
    if kind == "softmax":
        loss = AFMALoss(weight=weights, ignore_index=VOID)
    else:
        loss = AFMALoss(SigmoidCrossEntropyLoss(weights, ignore_index=VOID), ignore_index=VOID)
    one_hot = to_one_hot(label, classes)
    total = loss((logits, attention), one_hot.where(label != VOID, VOID) if as_one_hot else label)

    gold = reference.gold_attention(one_hot, GRID.image_size, GRID.stride, GRID.patch_size)
    segmentation = NAIVE[kind](logits, label[:, 0], weights, VOID)
    distance = reference.mean_squared_error(reference.attention(attention.query, attention.key), gold)
    assert_same(total, 5 * segmentation + distance, [logits, attention.query, attention.key])
    torch.testing.assert_close(loss.latest_terms.segmentation, segmentation.detach(), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(loss.latest_terms.attention, distance.detach(), rtol=1e-10, atol=1e-10)


def test_the_factors_weight_the_terms():
    output, label = (make_logits(3), make_attention(3)), make_label(3)
    loss = AFMALoss(segmentation_weight=0.25, attention_weight=3.0)
    total = loss(output, label)
    terms = loss.latest_terms
    torch.testing.assert_close(total, 0.25 * terms.segmentation + 3 * terms.attention)
    torch.testing.assert_close(AFMALoss(None, segmentation_weight=0.25, attention_weight=3.0)(output, label), total)


def test_latest_terms_are_those_of_the_last_call_and_hold_no_graph():
    loss, logits = AFMALoss(), make_logits(3)
    assert loss.latest_terms is None
    loss((logits, make_attention(3)), make_label(3))
    first = loss.latest_terms
    loss((logits, make_attention(3)), make_label(3))
    assert loss.latest_terms.attention != first.attention
    assert not any(term.requires_grad for term in loss.latest_terms)


def test_plain_logits_give_the_weighted_segmentation_term_alone():
    """What the network gives in eval mode, or without supervision."""
    logits, label = make_logits(3), make_label(3)
    loss = AFMALoss()
    assert_same(loss(logits, label), 5 * reference.released_cross_entropy(logits, label[:, 0], (1.0,) * 3), [logits])
    assert loss.latest_terms.attention == 0


def test_the_gold_attention_of_the_label_costs_nothing():
    label = make_label(3, size=(6, 9))
    gold = gold_attention(to_one_hot(label, 3), GRID)
    loss = AFMALoss()
    loss((make_logits(3, size=(6, 9)), gold), label)
    assert abs(loss.latest_terms.attention.item()) < 1e-15


def test_all_void_is_finite_and_leaves_only_the_size_of_the_attention():
    attention = make_attention(3)
    logits = make_logits(3)
    loss = AFMALoss(ignore_index=VOID)((logits, attention), make_label(3, void=1.0))
    torch.testing.assert_close(loss, attention.dense().square().mean())
    loss.backward()
    assert logits.grad.abs().max() == 0


def test_float32_attention_and_logits_make_a_float32_loss():
    attention = make_attention(3)
    low = PatchAttention(attention.query.detach().float(), attention.key.detach().float(), GRID)
    assert AFMALoss()((make_logits(3).float(), low), make_label(3)).dtype == torch.float32


@pytest.mark.parametrize(
    "segmentation", [DiceLoss(to_onehot_y=True, softmax=True), lambda logits, label: (logits * label).mean()]
)
def test_any_segmentation_loss_takes_the_place_of_the_first_term(segmentation):
    logits, attention, label = make_logits(3), make_attention(3), make_label(3)
    loss = AFMALoss(segmentation, segmentation_weight=2.0)
    total = loss((logits, attention), label)
    torch.testing.assert_close(loss.latest_terms.segmentation, segmentation(logits, label).detach())
    torch.testing.assert_close(total.detach(), 2 * loss.latest_terms.segmentation + loss.latest_terms.attention)


def test_a_segmentation_module_is_a_submodule():
    """So that its weights move with the loss."""
    loss = AFMALoss(SigmoidCrossEntropyLoss((1.0, 2.0)))
    assert [type(module) for module in loss.children()] == [SigmoidCrossEntropyLoss]


# Labels.


@pytest.mark.parametrize("classes", [1, 2, 3])
def test_label_to_one_hot_equals_the_reference(classes):
    label = make_label(classes, void=0.3)
    expected = to_one_hot(label, classes)
    for given_label in (label, expected.where(label != VOID, VOID)):
        one_hot, valid = label_to_one_hot(given_label, classes, VOID)
        assert one_hot.dtype == torch.float32
        assert torch.equal(one_hot.double(), expected)
        assert torch.equal(valid, label != VOID)


def everything_that_checks(ignore_index: int | None = None) -> list:
    losses = [loss(ignore_index=ignore_index) for loss in (AFMALoss, *LOSSES.values())]
    return [*losses, lambda logits, label: check_label(logits, label, ignore_index)]


@pytest.mark.parametrize("shape", [(2, 5, 8), (2, 2, 5, 8), (1, 1, 5, 8), (2, 1, 8, 5), (2, 1, 5, 9), (2, 3, 5, 8, 1)])
def test_labels_of_another_shape_are_refused(shape):
    message = r"`label` must have shape \(2, 1, 5, 8\) \(class indices\) or \(2, 3, 5, 8\) \(one-hot\) .*; got "
    for loss in everything_that_checks():
        with pytest.raises(ValueError, match=message) as refusal:
            loss(make_logits(3), torch.zeros(shape))
        assert f"got {shape}" in str(refusal.value)


@pytest.mark.parametrize("shape", [(3, 5, 8), (2, 3, 5, 8, 8)])
def test_logits_of_other_dimensions_are_refused(shape):
    for loss in everything_that_checks():
        with pytest.raises(ValueError, match=r"`logits` must have the 4 axes \(B,K,H,W\); got shape "):
            loss(torch.zeros(shape), torch.zeros(2, 1, 5, 8))


@pytest.mark.parametrize(
    ("classes", "values", "ignore_index", "message"),
    [
        (3, [0, 3, 255], None, r"classes 0 to 2; got \[3, 255\]"),
        (3, [-1, 2, 255], 255, r"classes 0 to 2, or 255 for void; got \[-1\]"),
        (3, [0.5, 1.0, 2.0], None, r"classes 0 to 2; got \[0.5\]"),
        (3, [math.nan, 1.0, 2.0], None, r"classes 0 to 2; got \[nan\]"),
        (3, [math.inf, 1.0, 2.0], 255, r"classes 0 to 2, or 255 for void; got \[inf\]"),
        (1, [0, 1, 2], None, r"0 and 1; got \[2\]"),
        (1, [0, 255, 128], 255, r"0 and 1, or 255 for void; got \[128\]"),
    ],
)
def test_label_values_that_are_no_class_are_refused_and_listed(classes, values, ignore_index, message):
    logits, label = make_logits(classes, size=(1, 3), batch=1), torch.tensor(values).reshape(1, 1, 1, 3)
    for loss in everything_that_checks(ignore_index):
        with pytest.raises(ValueError, match="`label` must hold " + message + ". .*`ignore_index`"):
            loss(logits, label)


@pytest.mark.parametrize("value", [2.0, -1.0, 0.5, math.nan])
def test_one_hot_values_other_than_0_and_1_are_refused(value):
    label = to_one_hot(make_label(3), 3)
    label[0, 0, 0, 0] = value
    for loss in everything_that_checks():
        with pytest.raises(ValueError, match=rf"`label` must hold 0 and 1; got \[{value}\]"):
            loss(make_logits(3), label)


def test_a_void_value_beyond_the_labels_type_is_not_wrapped_around():
    """In uint8, 255 == -1 holds for torch; such a label has a wrong value, not a void one."""
    label = torch.tensor([0, 1, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    for loss in everything_that_checks(-1):
        with pytest.raises(ValueError, match=r"`label` must hold classes 0 to 2, or -1 for void; got \[255\]"):
            loss(make_logits(3, size=(1, 3), batch=1), label)


def test_many_wrong_values_are_listed_in_part():
    label = torch.arange(40).reshape(1, 1, 5, 8)
    with pytest.raises(ValueError, match=r"got \[3, 4, 5, 6, 7, 8, 9, 10, 11, 12\]\."):
        AFMALoss()(make_logits(3, batch=1), label)


# Weights.


@pytest.mark.parametrize("weights", [[1.0, -0.1], [1.0, math.nan], [math.inf, 1.0], [[1.0, 2.0]], 3.0])
@pytest.mark.parametrize("make", [*LOSSES.values(), lambda weights: AFMALoss(weight=weights)])
def test_weights_that_are_no_weights_are_refused(make, weights):
    with pytest.raises(ValueError, match=r"`weight` must be K finite numbers ≥ 0; got .*median_frequency_weights"):
        make(weights)


@pytest.mark.parametrize("make", [*LOSSES.values(), lambda weights: AFMALoss(weight=weights)])
@pytest.mark.parametrize(("classes", "weights"), [(3, WEIGHTS), (3, WEIGHTS[:2]), (3, WEIGHTS[:1]), (1, WEIGHTS[:2])])
def test_another_number_of_weights_than_classes_is_refused(make, classes, weights):
    message = f"`weight` must have one number per class, K = {classes} as in the logits; got {len(weights)}"
    with pytest.raises(ValueError, match=message):
        make(weights)(make_logits(classes), make_label(classes))


def test_weights_beside_a_segmentation_loss_are_refused():
    """They would be used by neither."""
    with pytest.raises(ValueError, match="`weight` must be None when `segmentation` is given; got "):
        AFMALoss(SigmoidCrossEntropyLoss(), weight=[1.0, 2.0])


# Median frequency balancing.


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        # Frequencies 1/2, 1/2.
        ([[8, 8]], [1, 1]),
        # Class 1 only in the first image: 3/4 · … class 0 (4+8)/16, class 1 4/8; the median is their mean, 5/8.
        ([[4, 4], [8, 0]], [(5 / 8) / (3 / 4), (5 / 8) / (1 / 2)]),
        # 140/200, 10/100, 50/100: the median is 1/2.
        ([[90, 10, 0], [50, 0, 50]], [5 / 7, 5, 1]),
        # The third class is absent and has no part in the median of 3/4 and 1/4.
        ([[6, 2, 0]], [2 / 3, 2, 0]),
        # An image without any labelled pixel says nothing.
        ([[6, 2], [0, 0]], [2 / 3, 2]),
        ([[5]], [1]),
    ],
)
@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_median_frequency_weights_by_hand(counts, weights, kind):
    ours = median_frequency_weights(kind(counts))
    assert ours.dtype == torch.float32
    assert ours.tolist() == pytest.approx(weights, rel=1e-6)


@given(st.integers(1, 5).flatmap(lambda k: st.lists(st.lists(st.integers(0, 50), min_size=k, max_size=k), min_size=1)))
def test_median_frequency_weights_equal_the_reference(counts):
    if not any(any(row) for row in counts):
        return
    assert median_frequency_weights(counts).tolist() == pytest.approx(reference.median_frequency(counts), rel=1e-6)


def test_large_counts_lose_nothing():
    """Pixels of a whole data set are beyond what float32 counts exactly."""
    counts = [[2**31 + 1, 2**31 - 1]] * 3
    assert median_frequency_weights(counts).tolist() == pytest.approx(reference.median_frequency(counts), rel=1e-7)


@pytest.mark.parametrize(
    "counts", [[1, 2], [[[1, 2]]], [], [[]], [[1, -1]], [[0, 0], [0, 0]], [[math.nan, 1.0]], [[math.inf, 1.0]]]
)
def test_counts_that_are_no_counts_are_refused(counts):
    with pytest.raises(ValueError, match=r"`counts_per_image` must be pixel counts ≥ 0 of shape \(images, K\)"):
        median_frequency_weights(counts)


@pytest.mark.skipif(not CAMVID_LABELS.is_dir(), reason="CamVid does not lie beside the checkout")
def test_camvid_weights_are_those_of_the_released_code():
    paths = sorted(CAMVID_LABELS.glob("*.png"))
    assert len(paths) == 367
    counts = [np.bincount(np.asarray(Image.open(path)).ravel(), minlength=12) for path in paths]
    released = "0.2565 0.1853 4.3963 0.1369 0.9185 0.3873 3.5331 1.8127 0.7246 5.8550 8.1365 1.0974"
    assert " ".join(f"{weight:.4f}" for weight in median_frequency_weights(np.stack(counts))) == released


def test_bad_label_is_named_before_a_stock_loss_meets_it():
    class Stock(torch.nn.Module):
        def forward(self, logits, label):
            raise AssertionError("the stock loss was handed a bad label")

    with pytest.raises(ValueError, match=r"`label` must hold classes 0 to 2; got \[7\]"):
        AFMALoss(Stock())(torch.zeros(1, 3, 4, 4), torch.full((1, 1, 4, 4), 7))
