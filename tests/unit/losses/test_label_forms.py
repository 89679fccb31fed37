"""Stock losses inside AFMALoss: the right number from any type of label, with and without void pixels."""

from __future__ import annotations

import monai.losses as monai_losses
import numpy as np
import pytest
import segmentation_models_pytorch.losses as smp_losses
import torch
from torch import Tensor, nn

from afma_med import AFMALoss
from afma_med.losses.label_forms import label_form

CLASSES, VOID, KEPT = 3, 255, 7
TYPES = [torch.uint8, torch.int32, torch.int64, torch.float32]

INDEX: dict[str, nn.Module] = {
    "CrossEntropyLoss": nn.CrossEntropyLoss(),
    "CrossEntropyLoss weighted": nn.CrossEntropyLoss(torch.tensor([0.5, 2.0, 1.0])),
    "CrossEntropyLoss that ignores": nn.CrossEntropyLoss(ignore_index=VOID),
    **{
        f"smp {name} {ignored}": getattr(smp_losses, name)("multiclass", ignore_index=ignored)
        for name in ("JaccardLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "TverskyLoss")
        for ignored in (None, VOID)
    },
}
CHANNEL: dict[str, nn.Module] = {
    "FocalLoss": monai_losses.FocalLoss(to_onehot_y=True),
    "MaskedLoss": monai_losses.MaskedLoss(monai_losses.DiceLoss(to_onehot_y=True, softmax=True)),
    "DiceLoss of the batch": monai_losses.DiceLoss(to_onehot_y=True, softmax=True, batch=True),
}
if hasattr(monai_losses, "MCCLoss"):  # MONAI 1.6; earlier versions fail or give other numbers without AFMA too
    CHANNEL["DiceLoss that ignores"] = monai_losses.DiceLoss(to_onehot_y=True, softmax=True, ignore_index=VOID)
    CHANNEL["GeneralizedWassersteinDiceLoss"] = monai_losses.GeneralizedWassersteinDiceLoss(1 - np.eye(CLASSES))
    CHANNEL["AsymmetricUnifiedFocalLoss"] = monai_losses.AsymmetricUnifiedFocalLoss(True, num_classes=CLASSES)
ONE_HOT: dict[str, nn.Module] = {
    "BCEWithLogitsLoss": nn.BCEWithLogitsLoss(),
    "BCEWithLogitsLoss weighted": nn.BCEWithLogitsLoss(pos_weight=torch.tensor([2.0, 1.0, 3.0])[:, None, None]),
    "MSELoss": nn.MSELoss(),
    "FocalLoss one-hot": monai_losses.FocalLoss(),
    **{
        f"smp {name} multilabel": getattr(smp_losses, name)("multilabel")
        for name in ("JaccardLoss", "DiceLoss", "FocalLoss", "LovaszLoss", "TverskyLoss")
    },
}
_OVERLAPS = ("DiceLoss", "DiceCELoss", "DiceFocalLoss", "GeneralizedDiceLoss", "GeneralizedDiceFocalLoss", "MCCLoss")
for _name in filter(monai_losses.__dict__.get, _OVERLAPS):
    CHANNEL[_name] = getattr(monai_losses, _name)(to_onehot_y=True, softmax=True)
    ONE_HOT[f"{_name} one-hot"] = getattr(monai_losses, _name)(softmax=True)
CHANNEL["TverskyLoss"] = monai_losses.TverskyLoss(to_onehot_y=True, softmax=True)
FORMS = [
    *(pytest.param(loss, "index", id=name) for name, loss in INDEX.items()),
    *(pytest.param(loss, "channel_index", id=name) for name, loss in CHANNEL.items()),
    *(pytest.param(loss, "one_hot", id=name) for name, loss in ONE_HOT.items()),
]


def inputs() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, CLASSES, 12, 10, generator=generator).requires_grad_()
    return logits, torch.randint(CLASSES, (2, 1, 12, 10), generator=generator)


def by_hand(loss: nn.Module, form: str, logits: Tensor, label: Tensor) -> Tensor:
    """What a user would write without AFMALoss."""
    one_hot = nn.functional.one_hot(label[:, 0], CLASSES).movedim(-1, 1).float()
    result: Tensor = loss(logits, {"index": label[:, 0], "channel_index": label, "one_hot": one_hot}[form])
    return result


def afma(loss: nn.Module, ignore_index: int | None = VOID) -> AFMALoss:
    return AFMALoss(loss, segmentation_weight=1.0, attention_weight=0.0, ignore_index=ignore_index)


@pytest.mark.parametrize(("loss", "form"), FORMS)
def test_loss_gets_the_label_in_its_form(loss: nn.Module, form: str) -> None:
    logits, label = inputs()
    assert label_form(loss) == form
    expected = by_hand(loss, form, logits, label)
    for dtype in TYPES:
        torch.testing.assert_close(afma(loss)(logits, label.to(dtype)), expected)
    one_hot = nn.functional.one_hot(label[:, 0], CLASSES).movedim(-1, 1)
    torch.testing.assert_close(afma(loss)(logits, one_hot), expected)


@pytest.mark.parametrize(("loss", "form"), FORMS)
def test_void_pixels_change_nothing(loss: nn.Module, form: str) -> None:
    """Columns of void, as if the images ended before them."""
    logits, label = inputs()
    expected = by_hand(loss, form, logits[..., :KEPT].contiguous(), label[..., :KEPT].contiguous())
    with_void = label.clone()
    with_void[..., KEPT:] = VOID
    for dtype in TYPES:
        total = afma(loss)(logits, with_void.to(dtype))
        torch.testing.assert_close(total, expected)
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient[..., :KEPT].abs().sum() > 0
    assert gradient[..., KEPT:].abs().max() == 0


@pytest.mark.parametrize(("loss", "form"), FORMS)
def test_all_void_costs_nothing(loss: nn.Module, form: str) -> None:
    logits, label = inputs()
    total = afma(loss)(logits, torch.full_like(label, VOID))
    assert total == 0
    assert torch.autograd.grad(total, logits)[0].abs().max() == 0


def test_images_without_any_void_pixel_average_with_those_that_have_some() -> None:
    logits, label = inputs()
    label[0, :, :, KEPT:] = VOID
    dice = monai_losses.DiceLoss(to_onehot_y=True, softmax=True)
    parts = dice(logits[:1, ..., :KEPT], label[:1, ..., :KEPT]), dice(logits[1:], label[1:])
    torch.testing.assert_close(afma(dice)(logits, label), sum(parts) / 2)


def test_void_value_of_the_loss_is_that_of_afma_loss() -> None:
    logits, label = inputs()
    label[..., KEPT:] = 250
    loss = nn.CrossEntropyLoss(ignore_index=250)
    assert AFMALoss(loss).ignore_index == 250
    torch.testing.assert_close(afma(loss, None)(logits, label), loss(logits, label[:, 0]))


@pytest.mark.parametrize(
    "loss",
    [
        nn.BCEWithLogitsLoss(),
        monai_losses.DiceLoss(sigmoid=True),
        smp_losses.DiceLoss("binary"),
        smp_losses.FocalLoss("binary"),
        smp_losses.SoftBCEWithLogitsLoss(),
    ],
    ids=lambda loss: type(loss).__name__,
)
def test_binary_losses(loss: nn.Module) -> None:
    logits, label = inputs()
    logits, label = logits[:, :1], label.clamp_max(1)
    for dtype in TYPES:
        torch.testing.assert_close(afma(loss)(logits, label.to(dtype)), loss(logits, label.float()))


@pytest.mark.parametrize("volumes", [False, True])
def test_deep_supervision_takes_all_levels(volumes: bool) -> None:
    logits, label = inputs()
    if volumes:
        logits, label = (x.unsqueeze(-1).repeat(1, 1, 1, 1, 2) for x in (logits, label))
    levels = [logits, nn.functional.avg_pool2d(logits, 2)] if not volumes else [logits]
    loss = monai_losses.DeepSupervisionLoss(monai_losses.DiceCELoss(to_onehot_y=True, softmax=True))
    output = logits if volumes else levels
    torch.testing.assert_close(afma(loss)(output, label), loss(levels, label.float()))


def test_deep_supervision_with_a_loss_of_torch_and_void() -> None:
    logits, label = inputs()
    levels = [logits, nn.functional.avg_pool2d(logits, 2)]
    label[..., KEPT + 1 :] = VOID
    loss = monai_losses.DeepSupervisionLoss(nn.CrossEntropyLoss(), weights=[1.0, 0.25])
    small = nn.functional.interpolate(label.float(), (6, 5), mode="nearest-exact").long()
    plain = nn.CrossEntropyLoss(ignore_index=VOID)
    expected = plain(levels[0], label[:, 0]) + 0.25 * plain(levels[1], small[:, 0])
    torch.testing.assert_close(afma(loss)(levels, label), expected)
    stacked = torch.stack([logits, logits], dim=1)
    torch.testing.assert_close(afma(loss)(stacked, label), 1.25 * plain(logits, label[:, 0]))


def test_unknown_loss_gets_the_label_as_it_is() -> None:
    logits, label = inputs()
    seen = []
    loss = afma(lambda logits, label: seen.append(label) or logits.sum())
    assert loss(logits, label) == logits.sum()
    assert seen[0] is label


REFUSALS = {
    "levels": (nn.CrossEntropyLoss(), lambda x, y: ([x, x[..., ::2, ::2]], y), TypeError, "DeepSupervisionLoss"),
    "one class": (nn.CrossEntropyLoss(), lambda x, y: (x[:, :1], y.clamp_max(1)), ValueError, "binary loss"),
    "binary mode": (smp_losses.DiceLoss("binary"), lambda x, y: (x, y), ValueError, "mode 'multiclass'"),
    "no scalar": (nn.CrossEntropyLoss(reduction="none"), lambda x, y: (x, y), ValueError, 'reduction="mean"'),
    "neighbours": (
        monai_losses.HausdorffDTLoss(to_onehot_y=True, softmax=True),
        lambda x, y: (x, y.masked_fill(y == 1, VOID)),
        ValueError,
        "without neighbourhoods .* HausdorffDTLoss",
    ),
    "failing": (
        smp_losses.FocalLoss("multilabel", ignore_index=VOID),
        lambda x, y: (x, y),
        ValueError,
        "FocalLoss failed: .*Change its options",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str) -> None:
    loss, prepare, error, message = REFUSALS[name]
    with pytest.raises(error, match=message):
        afma(loss)(*prepare(*inputs()))
