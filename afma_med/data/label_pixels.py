"""Label files to class indices, and how many pixels each class has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from afma_med.data.class_table import VOID, ClassInfo, class_names, color_lookup, raw_id_lookup

__all__ = ["count_label_pixels", "map_raw_labels"]


def map_raw_labels(
    raw: NDArray[np.generic], classes: Sequence[ClassInfo], *, color_classes: Sequence[ClassInfo] | None = None
) -> NDArray[np.uint8]:
    """Map the pixels of a label file to train ids.

    Args:
        raw: (H,W) raw ids, or (H,W,3) or (H,W,4) colours.
        classes: table that gives the raw ids their train ids; ``VOID`` stays void.
        color_classes: table that gives the colours theirs; default ``classes``.

    Returns:
        (H,W) train ids.

    Raises:
        ValueError: if the array is no label, or holds a value or colour that the table does not list.

    Example:
        >>> from afma_med.data import camvid
        >>> map_raw_labels(np.array([[0, 8], [255, 11]]), camvid.CLASSES).tolist()
        [[0, 8], [255, 11]]
    """
    if raw.ndim == 2:
        return _map_raw_ids(raw, classes)
    if raw.ndim == 3 and raw.shape[2] in (3, 4):
        return _map_colors(raw[..., :3].astype(np.uint8), color_classes or classes)
    raise ValueError(
        f"`raw` must be a label of shape (H,W), (H,W,3) or (H,W,4); got {raw.shape}. Check the label file."
    )


def count_label_pixels(
    datalist: Sequence[dict[str, str]],
    classes: Sequence[ClassInfo],
    *,
    color_classes: Sequence[ClassInfo] | None = None,
) -> Tensor:
    """Count the pixels of each class in each label file.

    Args:
        datalist: items with the path of a label under ``"label"``.
        classes: table of the classes.
        color_classes: table for label files that are coded in colours; default ``classes``.

    Returns:
        (images, K) int64 pixel counts, for :func:`afma_med.median_frequency_weights`.

    Raises:
        ValueError: naming the file, if a label cannot be read or holds what the table does not list.
    """
    counts = torch.zeros(len(datalist), len(class_names(classes)), dtype=torch.int64)
    for row, item in zip(counts, tqdm(datalist, desc="counting label pixels", unit="label", leave=False), strict=True):
        try:
            with Image.open(item["label"]) as image:
                label = map_raw_labels(np.asarray(image), classes, color_classes=color_classes)
        except (OSError, SyntaxError, ValueError) as error:
            raise ValueError(f"Label `{item['label']}` cannot be used: {error}") from error
        row += torch.from_numpy(np.bincount(label.ravel(), minlength=VOID + 1)[: len(row)])
    return counts


def _map_raw_ids(raw: NDArray[np.generic], classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    listed = np.zeros(256, dtype=bool)
    listed[[info.raw_id for info in classes] + [VOID]] = True
    values = np.unique(raw)
    bad = [value.item() for value in values if not (0 <= value <= VOID and value == int(value) and listed[int(value)])]
    if bad:
        raise ValueError(
            f"`label` must hold the raw ids {sorted(info.raw_id for info in classes)} or {VOID} for void; "
            f"got {bad[:8]}. Use the dataset's own label files, or extend its class table."
        )
    return raw_id_lookup(classes)[raw.astype(np.uint8)]


def _map_colors(colors: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    packed = colors.astype(np.uint32) @ np.array([65536, 256, 1], dtype=np.uint32)
    train_ids = {
        red * 65536 + green * 256 + blue: train_id for (red, green, blue), train_id in color_lookup(classes).items()
    }
    values, inverse = np.unique(packed, return_inverse=True)
    bad = [
        (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255) for value in values if int(value) not in train_ids
    ]
    if bad:
        raise ValueError(
            f"`label` must hold the {len(train_ids)} colours of the class table; got {bad[:8]}. "
            "Use the dataset's own label files (PNG, not JPEG), or extend its class table."
        )
    table = np.array([train_ids[int(value)] for value in values], dtype=np.uint8)
    return table[inverse].reshape(packed.shape)
