"""Label files to class indices: raw ids, colours and masks."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from afma_med.data.class_table import VOID, ClassInfo, color_lookup, raw_id_lookup
from afma_med.data.datalist import EXIF_ORIENTATION
from afma_med.data.dataset_reader import Inspected, Item

__all__ = ["inspect_pictures", "map_raw_labels", "naming", "read_coded_label", "read_mask"]


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


def read_coded_label(
    path: str | os.PathLike[str], classes: Sequence[ClassInfo], *, color_classes: Sequence[ClassInfo] | None = None
) -> NDArray[np.uint8]:
    """Read a label file of raw ids (grey or palette indices, 8 or 16 bits) or of colours.

    Args:
        path: of a PNG, or any picture without loss.
        classes: table of the classes.
        color_classes: table for colours; default ``classes``.

    Returns:
        (H,W) train ids.

    Raises:
        ValueError: naming the file, if it cannot be read or holds what the table does not list.
    """
    with naming(path):
        return map_raw_labels(_read_pixels(path), classes, color_classes=color_classes)


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a mask of one object, thresholded at half: noise of JPEG and votes of annotators become 0 and 1.

    Masks without loss that hold nothing above 1 are taken as they are: 1 is the object.

    Args:
        path: of a PNG or JPEG, grey, colours or palette, 8 or 16 bits.

    Returns:
        (H,W), 1 where the object is.

    Raises:
        ValueError: naming the file, if it cannot be read.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/votes.png"
        >>> Image.fromarray(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8)).save(path)
        >>> read_mask(path).tolist()
        [[0, 0, 0, 1, 1, 1]]
    """
    with naming(path):
        pixels = _read_pixels(path)
        if pixels.ndim == 3:
            pixels = pixels[..., :3].max(axis=2)
        coded_as_one = pixels.max(initial=0) <= 1 and Path(path).suffix.lower() not in (".jpg", ".jpeg")
        half = 0 if coded_as_one else 127 if pixels.dtype == np.uint8 else 32767
        return np.asarray(pixels.astype(np.int64) > half, dtype=np.uint8)


def inspect_pictures(item: Item, *, read_label: Callable[[Item], NDArray[np.uint8]], classes: int) -> list[Inspected]:
    """Read an image and its label to the last byte, and count the label's pixels.

    Args:
        item: paths under ``"image"`` and, where there is one, ``"label"``.
        read_label: item -> (H,W) train ids.
        classes: K.

    Returns:
        One :class:`~afma_med.data.dataset_reader.Inspected`.

    Raises:
        ValueError: naming the file, if it cannot be read, its label is of another size, or has bad values.
    """
    with naming(item["image"]), Image.open(item["image"]) as image:
        # JPEG at an eighth of its size is decoded in a fraction of the time, to the last byte all the same.
        width, height = ImageOps.exif_transpose(image).size if image.getexif().get(EXIF_ORIENTATION) else image.size
        image.draft(None, (1, 1))
        image.load()
    if "label" not in item:
        return [Inspected(dict(item), (height, width), None)]
    label = read_label(item)
    if label.shape != (height, width):
        raise ValueError(
            f"`{item['label']}` must have the size of its image, {width}×{height}; got {label.shape[1]}×"
            f"{label.shape[0]}. Replace one of them."
        )
    counts = np.bincount(label.ravel(), minlength=VOID + 1)[:classes]
    return [Inspected(dict(item), (height, width), counts.astype(np.int64))]


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make whatever goes wrong with a file a ValueError that names it and says what to do."""
    try:
        yield
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        raise ValueError(f"`{path}` cannot be used: {error}") from error


def _read_pixels(path: str | os.PathLike[str]) -> NDArray[np.generic]:
    """Pixels as stored, palette indices included, turned upright."""
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image) if image.getexif().get(EXIF_ORIENTATION) else image
        if upright.mode == "LA":
            upright = upright.getchannel("L")
        pixels = np.asarray(upright)
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


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
