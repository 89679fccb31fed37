"""Label files to class indices: raw ids, colours and masks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import VOID, ClassInfo, color_lookup, raw_id_lookup
from afma_med.data.dataset_reader import Item
from afma_med.data.label_samples import LabelSamples, read_label_samples
from afma_med.data.mask_values import MaskValues, Reading, check_mask_values, decide_mask
from afma_med.data.pictures import naming

__all__ = ["MaskReader", "map_raw_labels", "read_coded_label"]


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
        ValueError: if the array is not a label, or holds a value or colour that the table does not list.

    Example:
        >>> from afma_med.data import CAMVID
        >>> map_raw_labels(np.array([[0, 8], [255, 11]]), CAMVID.classes).tolist()
        [[0, 8], [255, 11]]
    """
    if raw.ndim == 2:
        return _map_raw_ids(raw, classes)
    if raw.ndim == 3 and raw.shape[2] in (3, 4):
        return _map_colors(raw[..., :3], color_classes or classes)
    raise ValueError(
        f"`raw` must be a label of shape (H,W), (H,W,3) or (H,W,4); got {raw.shape}. Check the label file."
    )


def read_coded_label(
    path: str | os.PathLike[str], classes: Sequence[ClassInfo], *, color_classes: Sequence[ClassInfo] | None = None
) -> NDArray[np.uint8]:
    """Read a label file of raw ids (grey or palette indices, 8 or 16 bits) or of colours.

    Args:
        path: of a picture that was stored without loss, such as PNG.
        classes: table of the classes.
        color_classes: table for colours; default ``classes``.

    Raises:
        ValueError: naming the file, if it cannot be read, is a JPEG, or holds values that are not in the table.
    """
    with naming(path):
        samples = read_label_samples(path)
        _check_coded(samples)
        # Programs reorder palettes, so the colours decide where they are those of classes.
        if samples.palette is not None:
            ids = _palette_ids(samples.pixels, samples.palette, color_classes or classes)
            if ids is not None:
                return _translate(samples.pixels, ids)
        return map_raw_labels(samples.pixels, classes, color_classes=color_classes)


@dataclass(frozen=True)
class MaskReader:
    """Read the mask of an item as (H,W) train ids: black and white, numbers of objects, or votes for one class.

    Args:
        mask_values: ``"instances"``: any value or colour other than black is an object; ``"votes"``: brightness above
            half of white is; ``"auto"``: as :func:`~afma_med.data.mask_values.decide_mask` tells from the values.

    Raises:
        ValueError: if there is no such reading.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> item = {"label": tempfile.mkdtemp() + "/votes.png"}
        >>> Image.fromarray(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8)).save(item["label"])
        >>> MaskReader()(item).tolist(), MaskReader("instances")(item).tolist()
        ([[0, 0, 0, 1, 1, 1]], [[0, 1, 1, 1, 1, 1]])
    """

    mask_values: MaskValues = "auto"

    def __post_init__(self) -> None:
        check_mask_values(self.mask_values)

    def __call__(self, item: Item) -> NDArray[np.uint8]:
        return self.read(item["label"])[0]

    def read(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], Reading]:
        """Read a mask of any format and depth, and say how its values were read; an empty text if black and white.

        Raises:
            ValueError: naming the file, if it cannot be read, or its values may mean either.
        """
        with naming(path):
            return decide_mask(read_label_samples(path), self.mask_values)


def _check_coded(samples: LabelSamples) -> None:
    """Refuse samples that cannot be the values or colours of classes."""
    if samples.lossy:
        raise ValueError(
            f"a label must be stored without loss; this file is {samples.format}, which changes class values. "
            "Use the dataset's own label files (PNG, not JPEG)."
        )
    if samples.pixels.dtype.kind == "f":
        raise ValueError("a label must hold whole numbers; this file holds fractions. Save the values of the classes.")
    if samples.stretched and samples.pixels.any():
        raise ValueError(
            "a label must be stored with 8 or 16 bits a value; this file has another range, which programs stretch. "
            "Save it again with 8 bits."
        )


def _palette_ids(
    pixels: NDArray[np.generic], palette: NDArray[np.int64], classes: Sequence[ClassInfo]
) -> NDArray[np.uint8] | None:
    """Return the (256,) train ids of a palette's colours; None if the picture shows a colour that is not listed."""
    used = np.flatnonzero(np.bincount(pixels.ravel(), minlength=256))
    train_ids, ids = color_lookup(classes), np.full(256, VOID, dtype=np.uint8)
    colors = [tuple(color) for color in palette[used].tolist()]
    if not train_ids.keys() >= set(colors):
        return None
    ids[used] = [train_ids[color] for color in colors]
    return ids


def _translate(pixels: NDArray[np.generic], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``table[pixels]`` of 8-bit pixels, four times as fast."""
    return np.frombuffer(bytearray(pixels.tobytes()).translate(table.tobytes()), dtype=np.uint8).reshape(pixels.shape)


def _map_raw_ids(raw: NDArray[np.generic], classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    listed = {info.raw_id for info in classes} | {VOID}
    ids = raw.astype(np.uint8, copy=False)
    # Deleting the listed values is much faster than sorting all of them.
    unlisted = ids.tobytes().translate(None, bytes(value for value in range(256) if value in listed))
    if unlisted or not np.array_equal(ids, raw):
        bad = [value for value in np.unique(raw).tolist() if value not in listed]
        raise ValueError(
            f"`label` must hold the raw ids {sorted(info.raw_id for info in classes)} or {VOID} for void; "
            f"got {bad[:8]}. Use the dataset's own label files, or extend its class table."
        )
    return _translate(ids, raw_id_lookup(classes))


def _map_colors(raw: NDArray[np.generic], classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    train_ids, colors = color_lookup(classes), raw.astype(np.uint8, copy=False)
    if not np.array_equal(colors, raw):
        raise ValueError(
            f"`label` must hold colours of 8 bits; got values from {raw.min()} to {raw.max()}. Save it with 8 bits."
        )
    red, green, blue = (colors[..., channel].ravel().astype(np.uint32) for channel in range(3))
    packed = red << 16 | green << 8 | blue
    # Only the first pixel of each run of a colour is looked up.
    first = np.flatnonzero(np.diff(packed, prepend=~packed[:1]))
    values, inverse = np.unique(packed[first], return_inverse=True)
    listed = [(value >> 16, value >> 8 & 255, value & 255) for value in values.tolist()]
    if bad := [color for color in listed if color not in train_ids]:
        raise ValueError(
            f"`label` must hold the {len(train_ids)} colours of the class table; got {bad[:8]}. "
            "Use the dataset's own label files (PNG, not JPEG), or extend its class table."
        )
    ids = np.array([train_ids[color] for color in listed], dtype=np.uint8)[inverse]
    return np.repeat(ids, np.diff(first, append=packed.size)).reshape(colors.shape[:2])
