"""Images and segmentations as RGB pictures, in the colours of the classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from afma_med._ops.labels import index_array
from afma_med.data.class_table import VOID, ClassInfo, class_colors, class_names

__all__ = ["color_legend", "colorize", "compare_segmentations", "stretch_image"]


def stretch_image(image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Stretch the values of a preprocessed image to 0..255, to show it.

    Args:
        image: (C,H,W) in any range. The first three channels are shown as RGB, or the first one in grey.

    Returns:
        (H,W,3) uint8.

    Example:
        >>> stretch_image(np.array([[[-1.0, 1.0]]])).tolist()
        [[[0, 0, 0], [255, 255, 255]]]
    """
    shown = np.broadcast_to(image[:3] if len(image) >= 3 else image[:1], (3, *image.shape[1:]))
    low, high = float(shown.min()), float(shown.max())
    stretched = (shown - low) / max(high - low, 1e-12) * 255
    pixels: NDArray[np.uint8] = stretched.round().astype(np.uint8).transpose(1, 2, 0)
    return pixels


def colorize(label: NDArray[np.integer], class_table: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    """Convert train ids (H,W) to the colours of their classes, (H,W,3) uint8; void, any other value, is black.

    Raises:
        ValueError: If a value is not a whole number.

    Example:
        >>> from afma_med.data import CAMVID
        >>> colorize(np.array([[0, 1]]), CAMVID.classes).tolist()
        [[[128, 128, 128], [128, 0, 0]]]
    """
    index = index_array("label", label)
    painted: NDArray[np.uint8] = class_colors(class_table)[np.where((index >= 0) & (index < VOID), index, VOID)]
    return painted


def color_legend(class_table: Sequence[ClassInfo], *, width: int) -> NDArray[np.uint8]:
    """Draw the colours of the classes with their names, in as many rows as needed, (height,width,3) uint8.

    Example:
        >>> from afma_med.data import CAMVID
        >>> color_legend(CAMVID.classes, width=400).shape[1]
        400
    """
    font = ImageFont.load_default(size=11)
    names, colors = class_names(class_table), class_colors(class_table).tolist()
    places, x, y = [], 4, 4
    for name in names:
        entry_width = 24 + int(font.getlength(name))
        if x > 4 and x + entry_width > width:
            x, y = 4, y + 16
        places.append((x, y))
        x += entry_width
    picture = Image.new("RGB", (width, y + 18), "white")
    draw = ImageDraw.Draw(picture)
    for name, color, (left, top) in zip(names, colors, places, strict=False):
        draw.rectangle((left, top + 1, left + 11, top + 12), fill=tuple(color), outline="black")
        draw.text((left + 15, top), name, fill="black", font=font)
    return np.asarray(picture)


def compare_segmentations(
    image: NDArray[np.floating], *segmentations: NDArray[np.integer], class_table: Sequence[ClassInfo]
) -> NDArray[np.uint8]:
    """Draw an image and its segmentations side by side, above a legend of the classes.

    Args:
        image: (C,H,W) in any range, shown as by :func:`stretch_image`.
        *segmentations: (H,W) train ids each, for example label and prediction.
        class_table: Table of the classes.

    Returns:
        (height,width,3) uint8.

    Example:
        >>> from afma_med.data import CAMVID
        >>> label = np.zeros((48, 64), dtype=np.uint8)
        >>> compare_segmentations(np.zeros((3, 48, 64)), label, label, class_table=CAMVID.classes).shape[1]
        192
    """
    panels = [stretch_image(image), *(colorize(segmentation, class_table) for segmentation in segmentations)]
    row = np.concatenate(panels, axis=1)
    return np.concatenate([row, color_legend(class_table, width=row.shape[1])], axis=0)
