"""The balanced loss equals naive loops over components, and works with any loss, label and host of losses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch
from monai.data import MetaTensor
from monai.losses import DeepSupervisionLoss, DiceCELoss, DiceLoss, FocalLoss, HausdorffDTLoss
from torch import Tensor, nn

import afma_med._ops.components as components
from afma_med import AFMALoss, AFMANet, InstanceBalancedLoss, SigmoidCrossEntropyLoss, SoftmaxCrossEntropyLoss

SHAPES = [(2, 3, 13, 11), (2, 3, 6, 5, 7)]


def some_label(shape: tuple[int, ...], *, void: bool = False) -> Tensor:
    """Class indices (B,1,...) with several objects of two classes of three, one of them large."""
    random = np.random.default_rng(0)
    label = torch.from_numpy((random.random((shape[0], 1, *shape[2:])) < 0.06).astype(np.uint8))
    label[:, :, :3, :4] = 1
    label[0, :, -1] = 2 * label[0, :, -1]
    label[0, :, 4, ..., -2:] = 2
    if void:
        label[torch.from_numpy(random.random(label.shape) < 0.1)] = 255
    return label


def naive(loss: Callable[[Tensor, Tensor], Tensor], logits: Tensor, label: Tensor, first: int = 1) -> Tensor:
    """The mean of a loss of packed pixels (1,K,P,1), (1,1,P,1) over the regions of all images and classes."""
    terms = []
    for one, own in zip(logits, label, strict=True):
        valid = own[0] != 255
        for k in range(first, max(2, logits.shape[1])):
            mask = (own[0] == k).numpy()
            owner, count = components.component_regions(mask)  # tests/unit/_ops compares these with plain Python
            for j in range(1, count + 1):
                kept = torch.from_numpy(owner == j) & valid
                terms.append(loss(one[:, kept][None, ..., None], own[:, kept][None, ..., None]))
    return torch.stack(terms).mean()


def index_loss(loss: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda logits, label: loss(logits, label[:, 0].long())


def one_hot_loss(loss: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    def call(logits: Tensor, label: Tensor) -> Tensor:
        return loss(logits, torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1).float())

    return call


WEIGHT = torch.tensor([0.5, 2.0, 3.0])
DICE = DiceCELoss(to_onehot_y=True, softmax=True)
LOSSES = {
    "default": (None, index_loss(nn.CrossEntropyLoss())),
    "softmax": (SoftmaxCrossEntropyLoss(WEIGHT, ignore_index=255), index_loss(nn.CrossEntropyLoss(WEIGHT))),
    "cross entropy": (
        nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1),
        index_loss(nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.1)),
    ),
    "sigmoid": (SigmoidCrossEntropyLoss(ignore_index=255), one_hot_loss(nn.BCEWithLogitsLoss())),
    "binary": (nn.BCEWithLogitsLoss(), one_hot_loss(nn.BCEWithLogitsLoss())),
    "dice": (DICE, lambda logits, label: DICE(logits, label.long())),
    "focal": (FocalLoss(to_onehot_y=True), lambda logits, label: FocalLoss(to_onehot_y=True)(logits, label.long())),
    "smp": (smp.losses.DiceLoss("multiclass"), index_loss(smp.losses.DiceLoss("multiclass"))),
}


@pytest.mark.parametrize("void", [False, True], ids=["", "void"])
@pytest.mark.parametrize("shape", SHAPES, ids=["2-D", "3-D"])
@pytest.mark.parametrize("name", LOSSES)
def test_balanced_term_equals_naive_loops(name: str, shape: tuple[int, ...], void: bool) -> None:
    loss, packed = LOSSES[name]
    logits, label = torch.randn(shape, generator=torch.Generator().manual_seed(0)), some_label(shape, void=void)
    if name == "smp" and len(shape) == 5:
        pytest.skip("takes images")
    logits.requires_grad_()
    found = InstanceBalancedLoss(loss, mixing=1.0, ignore_index=255)(logits, label)
    expected = naive(packed, logits, label)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(value, logits)[0] for value in (found, expected)))


@pytest.mark.parametrize("mixing", [0.0, 0.25, 1.0])
def test_the_terms_are_mixed(mixing: float) -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11))
    plain, balanced = SoftmaxCrossEntropyLoss()(logits, label), naive(LOSSES["default"][1], logits, label)
    found = InstanceBalancedLoss(mixing=mixing)(logits, label)
    torch.testing.assert_close(found, (1 - mixing) * plain + mixing * balanced)


@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.float32, torch.float64])
@pytest.mark.parametrize("loss", [SoftmaxCrossEntropyLoss(), DICE], ids=["softmax", "dice"])
def test_label_types_and_forms_give_one_value(loss: nn.Module, dtype: torch.dtype) -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11))
    balanced = InstanceBalancedLoss(loss)
    expected = balanced(logits, label)
    one_hot = torch.nn.functional.one_hot(label[:, 0].long(), 3).movedim(-1, 1)
    for form in (label.to(dtype), MetaTensor(label.to(dtype)), one_hot.to(dtype)):
        torch.testing.assert_close(balanced(logits, form), expected)


def test_one_class_has_its_foreground_as_objects() -> None:
    logits, label = torch.randn(2, 1, 13, 11), (some_label((2, 1, 13, 11)) == 1).float()
    expected = naive(nn.BCEWithLogitsLoss(), logits, label)
    for loss in (nn.BCEWithLogitsLoss(), SoftmaxCrossEntropyLoss(), SigmoidCrossEntropyLoss()):
        torch.testing.assert_close(InstanceBalancedLoss(loss, mixing=1)(logits, label), expected)


def test_background_can_be_balanced_too() -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11))
    found = InstanceBalancedLoss(mixing=1, include_background=True)(logits, label)
    torch.testing.assert_close(found, naive(LOSSES["default"][1], logits, label, first=0))


def test_an_error_on_a_small_object_costs_as_much_as_on_a_large_one() -> None:
    label = torch.zeros(1, 1, 32, 32)
    label[..., :16, :16] = label[..., 30, 30] = 1
    right = torch.where(label == 1, 9.0, -9.0)
    missed = [right.clone(), right.clone()]
    missed[0][..., :16, :16] = missed[1][..., 30, 30] = -9
    dice = DiceLoss(sigmoid=True)
    plain = [float(dice(logits, label)) for logits in missed]
    balanced = [float(InstanceBalancedLoss(dice, mixing=1)(logits, label)) for logits in missed]
    assert plain[0] > 100 * plain[1]
    assert balanced == pytest.approx([0.5, 0.5], abs=0.02)


@pytest.mark.parametrize("loss", [None, DICE], ids=["softmax", "dice"])
def test_one_object_or_none_gives_the_plain_loss(loss: Any) -> None:
    logits = torch.randn(1, 2, 9, 9)
    for label in (torch.zeros(1, 1, 9, 9), torch.ones(1, 1, 9, 9), torch.eye(9)[None, None]):
        found = [InstanceBalancedLoss(loss, mixing=mixing)(logits, label) for mixing in (0.0, 1.0)]
        torch.testing.assert_close(*found)


@pytest.mark.parametrize("loss", [None, DICE], ids=["softmax", "dice"])
def test_void_labels_cost_nothing(loss: Any) -> None:
    logits = torch.randn(2, 3, 8, 8, requires_grad=True)
    value = InstanceBalancedLoss(loss, ignore_index=255)(logits, torch.full((2, 1, 8, 8), 255))
    value.backward()
    assert value == 0 and (logits.grad == 0).all()


def test_an_image_of_void_does_not_count() -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11))
    label[1] = 255
    whole, alone = (InstanceBalancedLoss(DICE, mixing=1, ignore_index=255)(logits[:n], label[:n]) for n in (2, 1))
    torch.testing.assert_close(whole, alone)


def test_classes_of_weight_zero_do_not_divide_by_zero() -> None:
    label = torch.ones(1, 1, 4, 4)
    loss = InstanceBalancedLoss(SoftmaxCrossEntropyLoss([1.0, 0.0]))
    assert loss(torch.randn(1, 2, 4, 4), label) == 0


def test_thousands_of_objects() -> None:
    label = torch.zeros(1, 1, 128, 128)
    label[..., ::2, ::2] = 1
    logits = torch.randn(1, 2, 128, 128)
    means = nn.CrossEntropyLoss(reduction="none")(logits, label[:, 0].long())
    found = InstanceBalancedLoss(mixing=1)(logits, label)
    assert found.isfinite() and means.min() < found < means.max()


def test_spacing_decides_which_object_is_nearest() -> None:
    label = torch.zeros(1, 1, 1, 5, 5)
    label[..., 0, 0] = label[..., 4, 1] = label[..., 0, 4] = 1
    logits = torch.randn(1, 2, 1, 5, 5)
    values = {InstanceBalancedLoss(mixing=1, spacing=spacing)(logits, label).item() for spacing in (None, (1, 9, 1))}
    assert len(values) == 2


def test_regions_of_a_label_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    number = components.number_components
    monkeypatch.setattr(components, "number_components", lambda mask: calls.append(1) or number(mask))
    loss, label = InstanceBalancedLoss(), some_label((2, 3, 13, 11))
    assert (label == 2).flatten(1).any(1).tolist() == [True, False]
    for _ in range(3):
        loss(torch.randn(2, 3, 13, 11), label)
    assert len(calls) == 3  # two classes in the first image, one in the second
    loss(torch.randn(2, 3, 13, 11), label.flip(2))
    assert len(calls) == 6


def test_it_works_inside_of_afma_loss_and_deep_supervision() -> None:
    net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=3), attention_supervision=True)
    label = torch.zeros(2, 1, 64, 64, dtype=torch.uint8)
    label[:, :, 3:5, 3:5], label[:, :, 30:50, 30:50], label[:, :, 60] = 1, 2, 255
    loss = AFMALoss(InstanceBalancedLoss(nn.CrossEntropyLoss(), ignore_index=255))
    assert loss.ignore_index == 255
    loss(net(torch.rand(2, 3, 64, 64)), label).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    levels = [torch.randn(2, 3, 64, 64), torch.randn(2, 3, 32, 32)]
    deep = AFMALoss(DeepSupervisionLoss(InstanceBalancedLoss(DICE, ignore_index=255)), attention_weight=0)
    single = InstanceBalancedLoss(DICE, ignore_index=255)
    small = torch.nn.functional.interpolate(label.float(), (32, 32), mode="nearest-exact")
    expected = single(levels[0], label) + 0.5 * single(levels[1], small)
    torch.testing.assert_close(deep(levels, label), 5 * expected)


def test_functions_get_the_pixels_of_a_region() -> None:
    shapes = []

    def loss(logits: Tensor, label: Tensor) -> Tensor:
        shapes.append((logits.shape, label.shape))
        return logits.mean()

    InstanceBalancedLoss(loss)(torch.randn(1, 3, 13, 11), some_label((1, 3, 13, 11)))
    assert shapes[0] == ((1, 3, 13, 11), (1, 1, 13, 11))
    assert all(logits[:2] == (1, 3) and label == (1, 1, *logits[2:]) for logits, label in shapes[1:])
    assert sum(logits[2] for logits, _ in shapes[1:]) == 2 * 13 * 11  # each pixel once for each of two classes


def test_half_precision_is_summed_in_float32() -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11))
    half = InstanceBalancedLoss()(logits.bfloat16(), label)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, InstanceBalancedLoss()(logits, label), rtol=0.02, atol=0)


@pytest.mark.parametrize("loss", [None, DICE], ids=["softmax", "dice"])
def test_compiled_loss_has_the_same_value(loss: Any) -> None:
    logits, label = torch.randn(1, 3, 13, 11, requires_grad=True), some_label((1, 3, 13, 11))
    balanced = InstanceBalancedLoss(loss)
    torch.testing.assert_close(torch.compile(balanced, backend="eager")(logits, label), balanced(logits, label))


def test_torch_func_is_refused() -> None:
    logits, label = torch.randn(1, 3, 13, 11), some_label((1, 3, 13, 11))
    with pytest.raises(ValueError, match=r"`mixing` must be 0 inside of torch\.func"):
        torch.func.grad(lambda x: InstanceBalancedLoss()(x, label))(logits)
    assert torch.func.grad(lambda x: InstanceBalancedLoss(mixing=0)(x, label))(logits).shape == logits.shape


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["softmax", "dice"])
def test_a_gpu_gives_the_same_value(name: str) -> None:
    logits, label = torch.randn(2, 3, 13, 11), some_label((2, 3, 13, 11), void=True)
    loss = InstanceBalancedLoss(LOSSES[name][0], ignore_index=255)
    found = loss.cuda()(logits.cuda(), label.cuda())
    torch.testing.assert_close(found.cpu(), loss.cpu()(logits, label))


@pytest.mark.parametrize(
    ("loss", "options", "message"),
    [
        (None, {"mixing": 1.5}, "`mixing` must be from 0 to 1; got 1.5"),
        (None, {"mixing": float("nan")}, "`mixing` must be from 0 to 1; got nan"),
        (DeepSupervisionLoss(DICE), {}, "`loss` must be a loss of one level; got DeepSupervisionLoss"),
        (HausdorffDTLoss(), {}, "`loss` must be a loss without neighbourhoods; got HausdorffDTLoss"),
    ],
)
def test_bad_arguments_are_refused(loss: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        InstanceBalancedLoss(loss, **options)


def test_bad_input_is_refused() -> None:
    loss = InstanceBalancedLoss()
    with pytest.raises(ValueError, match=r"`label` must hold classes 0 to 2; got \[255"):
        loss(torch.randn(1, 3, 8, 8), torch.full((1, 1, 8, 8), 255))
    with pytest.raises(ValueError, match="`label` must have shape"):
        loss(torch.randn(1, 3, 8, 8), torch.zeros(1, 8, 8))
    with pytest.raises(TypeError, match="`logits` must hold floating point numbers"):
        loss(torch.zeros(1, 3, 8, 8, dtype=torch.long), torch.zeros(1, 1, 8, 8))
    with pytest.raises(TypeError, match="`label` must be a torch tensor"):
        loss(torch.randn(1, 3, 8, 8), None)
