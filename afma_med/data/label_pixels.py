"""Label files to class indices: raw ids, colours and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from tqdm.contrib.concurrent import thread_map

from afma_med.data.class_table import VOID, ClassInfo, color_lookup, raw_id_lookup
from afma_med.data.datalist import (
    EXIF_ORIENTATION,
    PICTURES,
    UNREADABLE,
    DatasetError,
    files_below,
    files_by_name,
    list_files,
    unlabelled_items,
)
from afma_med.data.dataset_reader import Inspected, Item

__all__ = ["find_pictures", "inspect_pictures", "map_raw_labels", "naming", "read_coded_label", "read_mask"]


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
        pixels, painted = _read_pixels(path), _read_palette_colors(path)
        if painted is not None and _are_listed(painted, color_classes or classes):
            pixels = painted
        return map_raw_labels(pixels, classes, color_classes=color_classes)


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
        pixels = _read_mask_pixels(path)
        highest = int(pixels.max(initial=0))
        half = 127 if highest <= 255 else 32767
        if Path(path).suffix.lower() not in (".jpg", ".jpeg"):
            if 1 < highest <= half:
                raise ValueError(
                    f"a mask must reach white, or hold 0 and 1 only; its highest value is {highest}. "
                    "Scale it to 0 and 255."
                )
            half = 0 if highest <= 1 else half
        return np.asarray(pixels > half, dtype=np.uint8)


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


def find_pictures(source: Path) -> list[dict[str, str]]:
    """List a picture, or all pictures below a folder, for prediction.

    Args:
        source: file or folder.

    Returns:
        ``[{"image": path}, ...]`` in the order of the names; names may not differ by their suffix alone.

    Raises:
        FileNotFoundError: if there is no picture.
        DatasetError: naming every file that cannot be read, and names of several files.
    """
    names: dict[str, list[Path]] = {source.stem: [source]} if source.is_file() else {}
    for path in files_below(source):
        for name, paths in files_by_name([path], PICTURES).items():
            names.setdefault(str(path.relative_to(source).with_name(name)), []).extend(paths)
    items = unlabelled_items(names, source)
    # To the last byte: a prediction of many images shall not stop in their midst.
    outcomes = thread_map(_what_is_wrong, items, desc="Looking into the images", unit="image", disable=None)
    if problems := list(filter(None, outcomes)):
        raise DatasetError([list_files("files that cannot be used", problems)])
    return items


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Make whatever goes wrong with a file a ValueError that names it and says what to do."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"`{path}` cannot be used: {error}") from error


def _what_is_wrong(item: Item) -> str:
    try:
        inspect_pictures(item, read_label=lambda _item: np.empty(0, dtype=np.uint8), classes=0)
    except ValueError as error:
        return str(error)
    return ""


def _read_palette_colors(path: str | os.PathLike[str]) -> NDArray[np.uint8] | None:
    """The colours that a palette picture shows; None for other pictures."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")) if image.mode == "P" else None


def _are_listed(colors: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> bool:
    """Tell whether all colours are those of classes; then the palette's order, which programs change, says nothing."""
    return {tuple(color) for color in np.unique(colors.reshape(-1, 3), axis=0).tolist()} <= color_lookup(classes).keys()


def _read_mask_pixels(path: str | os.PathLike[str]) -> NDArray[np.int64]:
    """Brightness as stored; of a palette its greys, or its indices where it has colours."""
    with Image.open(path) as image:
        palette = np.array(image.getpalette() or [], dtype=np.int64).reshape(-1, 3) if image.mode == "P" else None
    pixels = _read_pixels(path).astype(np.int64)
    if palette is not None and len(palette) > pixels.max(initial=0) and (palette == palette[:, :1]).all():
        return np.asarray(palette[pixels, 0])
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4 and np.ptp(pixels[..., :3]) == 0 and np.ptp(pixels[..., 3]) > 0:
        raise ValueError("a mask must be drawn in its pixels; this one is in its transparency alone. Flatten it.")
    return np.asarray(pixels[..., :3].max(axis=2))


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
