"""Predict, choose and draw the slices of a volume."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor, nn

from afma_med.data.class_table import ClassInfo, class_colors, class_names
from afma_med.networks.probing import probing
from afma_med.visualize.attention import decide
from afma_med.visualize.class_colors import stretch_image

__all__ = ["draw_montage", "fullest_slice", "predict_slices", "spread_evenly", "stretch_slices", "take_slice"]

# Width of a slice in a montage, in inches; number of slices in a row.
_WIDTH, _COLUMNS = 2.4, 6


def take_slice(volume: Tensor, number: int) -> Tensor:
    """Return the slice (C,H,W) of a volume (C,H,W,D).

    Raises:
        ValueError: If ``volume`` is not 4-D, or the number is out of range.

    Example:
        >>> import torch
        >>> take_slice(torch.zeros(1, 4, 5, 6), 2).shape
        torch.Size([1, 4, 5])
    """
    if volume.ndim != 4:
        raise ValueError(
            f"`volume` must have the 4 axes (C,H,W,D); got shape {tuple(volume.shape)}. Only volumes have slices."
        )
    if not 0 <= number < volume.shape[-1]:
        raise ValueError(
            f"`number` must be a slice of the volume, 0 to {volume.shape[-1] - 1}; got {number}. Choose one of them."
        )
    return volume[..., number]


def predict_slices(network: nn.Module, volume: Tensor) -> NDArray[np.uint8]:
    """Segment a preprocessed volume (C,H,W,D) with a 2-D network, slice by slice, to (H,W,D) train ids.

    Example:
        >>> import torch
        >>> predict_slices(nn.Conv2d(1, 2, 1), torch.zeros(1, 4, 5, 6)).shape
        (4, 5, 6)
    """
    parameter = next(network.parameters())
    with probing(network):
        slices = [network(take_slice(volume, number)[None].to(parameter)) for number in range(volume.shape[-1])]
        return np.stack([decide(logits)[0] for logits in slices], axis=-1)


def fullest_slice(prediction: NDArray[np.integer], class_indices: Sequence[int]) -> int:
    """Find the first slice with the most pixels of some classes in train ids (H,W,D).

    Example:
        >>> fullest_slice(np.array([[[0, 1, 1]]]), class_indices=[1])
        1
    """
    return int(np.isin(prediction, class_indices).sum(axis=(0, 1)).argmax())


def spread_evenly(length: int, count: int) -> list[int]:
    """Return the indices in the middle of ``count`` equal parts of a sequence; a short sequence repeats some.

    Example:
        >>> spread_evenly(10, 2), spread_evenly(2, 3)
        ([2, 7], [0, 1, 1])
    """
    return [int((part + 0.5) * length / count) for part in range(count)]


def draw_montage(
    volume: Tensor, prediction: NDArray[np.uint8], class_table: Sequence[ClassInfo], *, count: int = 12, title: str = ""
) -> Figure:
    """Draw evenly spread slices of a volume with the outlines of the predicted classes.

    Args:
        volume: (C,H,W,D), preprocessed.
        prediction: (H,W,D) train ids; 0 is not outlined.
        class_table: Table of the classes.
        count: Number of slices.
        title: Title of the figure.

    Raises:
        ValueError: If ``prediction`` does not have the size of the volume.

    Example:
        >>> import torch
        >>> from afma_med.data import LITS
        >>> draw_montage(torch.rand(1, 20, 24, 30), np.ones((20, 24, 30), np.uint8), LITS.classes, count=12)
        <Figure size 1584x... with 12 Axes>
    """
    if tuple(volume.shape[1:]) != prediction.shape:
        raise ValueError(
            f"`prediction` must have the size of the volume, {tuple(volume.shape[1:])}; got {prediction.shape}. "
            "Pass the result of predict_slices."
        )
    height, width, depth = prediction.shape
    shown = spread_evenly(depth, min(count, depth))
    columns = min(_COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    inches = max(6.0, columns * _WIDTH), rows * (_WIDTH * height / width + 0.3) + 0.9
    figure = Figure(figsize=inches, dpi=110, layout="constrained")
    figure.suptitle(title, size=11)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    images = stretch_slices(volume)
    names, colors = class_names(class_table), class_colors(class_table) / 255
    for panel in panels:
        panel.axis("off")
    for panel, number in zip(panels, shown, strict=False):
        panel.imshow(images[:, :, number])
        panel.set_title(f"slice {number}", size=9)
        _outline_classes(panel, prediction[..., number], colors)
    occurring = [k for k in np.unique(prediction[..., shown]).tolist() if k > 0]
    handles = [Line2D([], [], color=colors[k], label=names[k]) for k in occurring]
    figure.legend(handles=handles, loc="outside lower center", ncols=8, frameon=False, fontsize=9)
    return figure


def stretch_slices(volume: Tensor) -> NDArray[np.uint8]:
    """Stretch all slices alike, (C,H,W,D) -> (H,W,D,3) uint8, so that they can be compared."""
    height, width, depth = volume.shape[1:]
    flat = volume.cpu().numpy().reshape(volume.shape[0], height, width * depth)
    return stretch_image(flat).reshape(height, width, depth, 3)


def _outline_classes(axes: Axes, prediction: NDArray[np.uint8], colors: NDArray[np.floating]) -> None:
    for k in np.unique(prediction).tolist():
        mask = prediction == k
        if k > 0 and not mask.all():  # a slice with a single class has no outline
            axes.contour(mask.astype(np.float32), levels=[0.5], colors=[colors[k]], linewidths=1.3)
