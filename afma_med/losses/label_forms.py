"""Call any segmentation loss with the label in the form that it takes, and keep void pixels out of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from monai.losses import DeepSupervisionLoss
from torch import Tensor, nn

from afma_med._ops.tensors import is_captured, is_transformed, without_metadata
from afma_med.losses.segmentation import IGNORE_INDEX, label_to_index, label_to_one_hot

__all__ = ["NEIGHBORHOOD_LOSSES", "label_form", "own_ignore_index", "segmentation_term"]

# What a loss takes: (B,H,W) class indices, (B,1,H,W) class indices, (B,K,H,W) one-hot, or whatever it is given.
LabelForm = Literal["index", "channel_index", "one_hot", "as_given"]
Loss = Callable[[Tensor, Tensor], Tensor]

_TORCH_INDEX = (nn.CrossEntropyLoss, nn.NLLLoss)
_TORCH_ONE_HOT = (nn.BCEWithLogitsLoss, nn.BCELoss, nn.MSELoss, nn.L1Loss, nn.SmoothL1Loss, nn.HuberLoss)
_BY_NAME: dict[str, LabelForm] = {
    "NACLLoss": "index",
    "GeneralizedWassersteinDiceLoss": "channel_index",
    "SoftCrossEntropyLoss": "index",
    "SoftBCEWithLogitsLoss": "one_hot",
}
_BY_MODE: dict[str, LabelForm] = {"binary": "one_hot", "multiclass": "index", "multilabel": "one_hot"}
# Losses that look at a pixel's neighbours, of which void pixels cannot be taken out.
NEIGHBORHOOD_LOSSES = {
    *("BoundaryLoss", "HausdorffDTLoss", "LogHausdorffDTLoss", "SoftclDiceLoss", "SoftDiceclDiceLoss", "NACLLoss"),
    *("SSIMLoss", "MultiScaleLoss", "PerceptualLoss"),
}


def label_form(loss: Loss) -> LabelForm:
    """Tell which form of label a loss takes.

    Known are the losses of torch, MONAI and segmentation_models_pytorch, and their subclasses.

    Example:
        >>> label_form(nn.CrossEntropyLoss()), label_form(nn.BCEWithLogitsLoss())
        ('index', 'one_hot')
    """
    packages = {base.__module__.split(".")[0] for base in type(loss).__mro__}
    if isinstance(loss, _TORCH_INDEX):
        return "index"
    if isinstance(loss, _TORCH_ONE_HOT):
        return "one_hot"
    if not packages & {"monai", "segmentation_models_pytorch"}:
        return "as_given"
    if hasattr(loss, "mode"):
        return _BY_MODE[loss.mode]
    named = next((_BY_NAME[base.__name__] for base in type(loss).__mro__ if base.__name__ in _BY_NAME), None)
    # MONAI's compound losses leave the conversion to their parts.
    parts = loss.modules() if isinstance(loss, nn.Module) else iter(())
    converts = next((part.to_onehot_y for part in parts if hasattr(part, "to_onehot_y")), None)
    return named or ("channel_index" if converts else "one_hot")


def own_ignore_index(loss: object) -> int | None:
    """Return the void value of a loss, or of the loss inside of a ``DeepSupervisionLoss``; None without one."""
    inner = loss.loss if isinstance(loss, DeepSupervisionLoss) else loss
    value = getattr(inner, "ignore_index", None)
    return value if isinstance(value, int) else None


def segmentation_term(loss: Loss, levels: Sequence[Tensor], label: Tensor, ignore_index: int | None) -> Tensor:
    """Call a segmentation loss.

    Args:
        loss: as :class:`~afma_med.AFMALoss` takes it.
        levels: logits (B,K,...), or several of deep supervision for a ``DeepSupervisionLoss``, the largest first.
        label: (B,1,...) class indices or (B,K,...) one-hot, checked.
        ignore_index: label value of void pixels.

    Returns:
        A scalar.

    Raises:
        ValueError: if the loss does not fit K or void pixels, or returns no scalar.
    """
    if isinstance(loss, DeepSupervisionLoss):
        sizes = [level.shape[2:] for level in levels]
        labels = [label if size == label.shape[2:] else _shrink(label, size) for size in sizes]
        terms = [_term(loss.loss, level, lab, ignore_index) for level, lab in zip(levels, labels, strict=True)]
        weights = loss.get_weights(levels=len(levels))
        return torch.stack([weight * term for weight, term in zip(weights, terms, strict=True)]).sum()
    return _term(loss, levels[0], label, ignore_index)


def _term(loss: Loss, logits: Tensor, label: Tensor, ignore_index: int | None) -> Tensor:
    try:
        term = _call(loss, logits, without_metadata(label), ignore_index)
    except (AssertionError, IndexError) as error:  # the refusals of MONAI and segmentation_models_pytorch
        raise ValueError(
            f"`segmentation` must take logits of shape {tuple(logits.shape)} and a label as {label_form(loss)}; "
            f"{_name(loss)} failed: {error}. Change its options, or pass a function (logits, label) that calls it."
        ) from error
    if term.ndim:
        raise ValueError(
            f"`segmentation` must return a scalar; {_name(loss)} gave shape {tuple(term.shape)}. "
            'Build it with reduction="mean".'
        )
    return term


def _call(loss: Loss, logits: Tensor, label: Tensor, ignore_index: int | None) -> Tensor:
    form, num_classes = label_form(loss), logits.shape[1]
    if form == "as_given":
        return loss(logits, label)
    _check_classes(loss, form, num_classes)
    if form == "one_hot":
        target, valid = label_to_one_hot(label, num_classes, ignore_index)
        target = target.to(logits.dtype)
    else:
        index = _to_index(label, num_classes, ignore_index)
        valid = (index != IGNORE_INDEX)[:, None]
        target = index if form == "index" else index[:, None]
    if not is_captured() and not valid.any():
        return 0.0 * logits.sum()
    own = getattr(loss, "ignore_index", None)
    if own is not None and not hasattr(loss, "to_onehot_y"):  # those of MONAI count ignored pixels in their means
        return loss(logits, target.where(valid[:, 0] if form == "index" else valid, own))
    if is_transformed() or bool(valid.all()):
        return loss(logits, target)
    return _call_without_void(loss, logits, target, valid[:, 0])


def _call_without_void(loss: Loss, logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Call a loss on the valid pixels alone, image by image where it averages over images."""
    if _name(loss) in NEIGHBORHOOD_LOSSES:
        raise ValueError(
            f"`segmentation` must be a loss without neighbourhoods where labels have void pixels; got {_name(loss)}. "
            "Use another loss, or labels without void."
        )
    whole = target.ndim < logits.ndim  # without an axis of channels
    maps = target[:, None] if whole else target
    # MONAI's overlap losses average over images; those of torch and segmentation_models_pytorch over the batch.
    per_image = hasattr(loss, "reduction") and "monai" in type(loss).__module__ and not getattr(loss, "batch", False)
    groups = [slice(i, i + 1) for i in range(len(logits))] if per_image else [slice(None)]
    terms = []
    for group in groups:
        if valid[group].any():
            some_logits, some = (x[group].movedim(1, 0)[:, valid[group]][None, ..., None] for x in (logits, maps))
            terms.append(loss(some_logits, some[:, 0] if whole else some))
    return torch.stack(terms).mean()


def _check_classes(loss: Loss, form: LabelForm, num_classes: int) -> None:
    if form == "index" and num_classes == 1:
        raise ValueError(
            f"`segmentation` must be a binary loss for logits of one class; got {_name(loss)}, which is 0 for one "
            "class. Use nn.BCEWithLogitsLoss or afma_med.SoftmaxCrossEntropyLoss."
        )
    if num_classes > 1 and getattr(loss, "mode", "") == "binary":
        raise ValueError(
            f"`segmentation` must have mode 'multiclass' or 'multilabel' for {num_classes} classes; got {_name(loss)} "
            "of mode 'binary'. Change its mode."
        )


def _to_index(label: Tensor, num_classes: int, ignore_index: int | None) -> Tensor:
    if num_classes > 1:
        return label_to_index(label, num_classes, ignore_index)
    one_hot, valid = label_to_one_hot(label, 1, ignore_index)
    return one_hot[:, 0].long().where(valid[:, 0], IGNORE_INDEX)


def _shrink(label: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(label.float(), size=list(size), mode="nearest-exact").to(label.dtype)


def _name(loss: Loss) -> str:
    return type(loss).__name__
