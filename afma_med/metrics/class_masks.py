"""Labels and predictions of MONAI's metrics as one mask for each class, without void pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.labels import as_signed, check_classes
from afma_med.checks import check_tensor
from afma_med.metrics.pixel_counts import spacing_of

__all__ = ["MaskOptions", "Spacing", "class_masks", "measure_classes", "values_of_images"]

_REMEDY = (
    "Make classes of logits or probabilities with AsDiscrete(argmax=True, to_onehot=K), resample labels by nearest "
    "neighbour, or name the void value with `ignore_index`."
)

Spacing = Sequence[float] | None


class MaskOptions(NamedTuple):
    """Say how labels and predictions are read: see :class:`~afma_med.metrics.ObjectDetectionMetric`."""

    num_classes: int | None = None
    ignore_index: int | None = None
    include_background: bool = False


def measure_classes(
    measure: Callable[[NDArray[np.bool_], NDArray[np.bool_], Spacing], Any],
    y_pred: Tensor,
    y: Tensor | None,
    options: MaskOptions,
    *,
    spacing: Spacing | Literal["label"] = None,
) -> Tensor:
    """Measure each class of each image: (B,K,...) float32 values on the device of the prediction.

    Args:
        measure: Function of a predicted mask, a label's mask, and their spacing.
        y_pred: As :func:`class_masks` takes it.
        y: As :func:`class_masks` takes it.
        options: How they are read.
        spacing: Millimetres between pixels along each axis; ``"label"`` for those of each label's metadata.
    """
    label = cast(Tensor, y)
    predicted, true = (masks.cpu().numpy() for masks in class_masks(y_pred, label, options))
    spacings = [spacing_of(one) for one in label] if spacing == "label" else [spacing] * len(label)
    rows = [
        [measure(predicted[b, k], true[b, k], own) for k in range(predicted.shape[1])] for b, own in enumerate(spacings)
    ]
    return torch.from_numpy(np.array(rows, dtype=np.float32)).to(y_pred.device)


def class_masks(y_pred: Tensor, y: Tensor, options: MaskOptions) -> tuple[Tensor, Tensor]:
    """Return the masks of the measured classes in prediction and label, without void pixels, (B,K,...) bool.

    Args:
        y_pred: Predicted class indices (B,1,...) or one-hot maps (B,K,...); a single channel without ``num_classes``
            is the mask of one class.
        y: Label in one of these forms.
        options: How they are read.

    Raises:
        TypeError: If one is not a tensor.
        ValueError: If shapes or values do not fit.

    Example:
        >>> y_pred, y = torch.tensor([[[[0, 2, 2]]]]), torch.tensor([[[[0, 1, 255]]]])
        >>> [masks[0, :, 0].int().tolist() for masks in class_masks(y_pred, y, MaskOptions(3, 255))]
        [[[0, 0, 0], [0, 1, 0]], [[0, 1, 0], [0, 0, 0]]]
    """
    check_tensor("y_pred", y_pred, "(B,1,...) or (B,K,...)")
    check_tensor("y", y, "(B,1,...) or (B,K,...)")
    y_pred, y = as_signed(y_pred), as_signed(y)
    num_classes = options.num_classes or max(y_pred.shape[1], y.shape[1])
    fits = y_pred.ndim in (4, 5) and y_pred.shape[::2] + y_pred.shape[3:] == y.shape[::2] + y.shape[3:]
    if not fits or not {y_pred.shape[1], y.shape[1]} <= {1, num_classes}:
        raise ValueError(
            f"`y_pred` and `y` must be class indices (B,1,...) or one-hot maps (B,{num_classes},...) of one size; got "
            f"{tuple(y_pred.shape)} and {tuple(y.shape)}. Give both the same classes and size."
        )
    void = torch.zeros_like(y[:, :1], dtype=torch.bool)
    if options.ignore_index is not None:
        void = (y == options.ignore_index).any(dim=1, keepdim=True)
    first = 0 if options.include_background or num_classes == 1 else 1
    prediction = _to_masks("y_pred", y_pred.masked_fill(void, 0), num_classes)[:, first:]
    label = _to_masks("y", y.masked_fill(void, 0), num_classes)[:, first:]
    return prediction & ~void, label & ~void


def values_of_images(metric: CumulativeIterationMetric) -> Tensor:
    """Return the values of all images, over all processes; an error if nothing was measured."""
    buffer = metric.get_buffer()
    if buffer is None:
        raise ValueError("The metric must be called before `aggregate`; got no images. Call it for each batch.")
    return cast(Tensor, buffer)


def _to_masks(name: str, x: Tensor, num_classes: int) -> Tensor:
    one_hot = x.shape[1] == num_classes
    check_classes(name, x, 1 if one_hot else num_classes - 1, one_hot=one_hot, remedy=_REMEDY)
    return x == 1 if one_hot else x == torch.arange(num_classes, device=x.device).view(1, -1, *(1,) * (x.ndim - 2))
