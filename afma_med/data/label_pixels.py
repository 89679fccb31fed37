"""Label files to class indices: raw ids, colours and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afma_med.data.class_table import VOID, ClassInfo, color_lookup, raw_id_lookup
from afma_med.data.datalist import PICTURES, files_below, files_by_name, unlabelled_items, warn_skipped
from afma_med.data.dataset_reader import Inspected, Item
from afma_med.data.file_threads import map_files
from afma_med.data.object_sizes import tally_objects
from afma_med.data.pictures import highest_deep_value, is_lossy, naming, oriented_size, read_stored_pixels
from afma_med.data.problems import DatasetError, list_files

__all__ = [
    "find_pictures",
    "inspect_pictures",
    "map_raw_labels",
    "read_coded_label",
    "read_mask",
    "read_mask_label",
]

# White of a mask that was stored with loss: a spot of one pixel is darker than 255.
_LOSSY_WHITE = 160
# These may hold several pictures; a camera's MPO does not count, whose first picture is the photograph.
_STACKS = ("AVIF", "GIF", "PNG", "TIFF", "WEBP")


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
        path: of a picture that was stored without loss, such as PNG.
        classes: table of the classes.
        color_classes: table for colours; default ``classes``.

    Returns:
        (H,W) train ids.

    Raises:
        ValueError: naming the file, if it cannot be read, is a JPEG, or holds values that are not in the table.
    """
    with naming(path):
        with Image.open(path) as image:
            if is_lossy(image):
                raise ValueError(
                    f"a label must be stored without loss; this file is {image.format}, which changes class values. "
                    "Use the dataset's own label files (PNG, not JPEG)."
                )
            # Programs reorder palettes, so the colours decide where they are those of classes.
            ids = _palette_ids(image, color_classes or classes) if image.mode == "P" else None
        pixels = read_stored_pixels(path)
        return map_raw_labels(pixels, classes, color_classes=color_classes) if ids is None else _translate(pixels, ids)


def read_mask(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Read a mask of one object, thresholded at half: noise of JPEG and votes of annotators become 0 and 1.

    Masks without loss that hold nothing above 1 are taken as they are: 1 is the object.

    Args:
        path: of a picture, grey, colours or palette, 8 or 16 bits.

    Returns:
        (H,W), 1 where the object is.

    Raises:
        ValueError: naming the file, if it cannot be read, or its values are too low for a threshold at half.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/votes.png"
        >>> Image.fromarray(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8)).save(path)
        >>> read_mask(path).tolist()
        [[0, 0, 0, 1, 1, 1]]
    """
    with naming(path):
        with Image.open(path) as image:
            lossy, kind = is_lossy(image), image.format
        pixels = _read_mask_pixels(path)
        highest = int(pixels.max(initial=0))
        half = 127 if highest <= 255 else 32767
        # With loss, 0 and 1 become other low values or vanish, and grey masks lie on both sides of half.
        if 0 < highest < _LOSSY_WHITE if lossy else 1 < highest <= half:
            raise ValueError(
                f"a mask must reach white{'' if lossy else ', or hold 0 and 1 only'}; the highest value of this {kind} "
                f"file is {highest}. Scale the original to 0 and 255 and save it again, as PNG."
            )
        return np.asarray(pixels > (half if highest > 1 else 0), dtype=np.uint8)


def read_mask_label(item: Item) -> NDArray[np.uint8]:
    """Read the mask of an item, thresholded at half, as (H,W) train ids."""
    return read_mask(item["label"])


def inspect_pictures(item: Item, *, read_label: Callable[[Item], NDArray[np.uint8]], classes: int) -> list[Inspected]:
    """Read an image and its label to the last byte, and count the label's pixels and objects.

    Args:
        item: paths under ``"image"`` and, where there is one, ``"label"``.
        read_label: item -> (H,W) train ids.
        classes: K.

    Raises:
        ValueError: naming the file, if it cannot be read, holds several pictures, its label is of another size, or has
            bad values.
    """
    with naming(item["image"]), Image.open(item["image"]) as image:
        highest = highest_deep_value(image)
        width, height = oriented_size(image)
        pages = getattr(image, "n_frames", 1) if image.format in _STACKS else 1
        if pages > 1:
            raise ValueError(
                f"an image file must hold one picture; this one holds {pages}. Save the one that is meant."
            )
        # JPEG at an eighth of its size is decoded in a fraction of the time, to the last byte all the same.
        image.draft(None, (1, 1))
        image.load()
    if "label" not in item:
        return [Inspected(dict(item), (height, width), None, highest)]
    label = read_label(item)
    if label.shape != (height, width):
        raise ValueError(
            f"`{item['label']}` must have the size of its image, {width}×{height}; got {label.shape[1]}×"
            f"{label.shape[0]}. Replace one of them."
        )
    objects, counts = tally_objects(label, classes), np.zeros(classes, dtype=np.int64)
    np.add.at(counts, objects[:, 0], objects[:, 1] * objects[:, 2])
    return [Inspected(dict(item), (height, width), counts, highest, objects)]


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
    skipped = []
    for path in files_below(source):
        found = files_by_name([path], PICTURES)
        skipped += [] if found else [path]
        for name, paths in found.items():
            names.setdefault(str(path.relative_to(source).with_name(name)), []).extend(paths)
    warn_skipped(skipped)
    items = unlabelled_items(names, source)
    # To the last byte: a prediction of many images must not stop halfway.
    outcomes = map_files(_image_problem, items, title="Reading the images", unit="image")
    if problems := list(filter(None, outcomes)):
        raise DatasetError([list_files("files that cannot be used", problems)])
    return items


def _image_problem(item: Item) -> str:
    try:
        inspect_pictures(item, read_label=read_mask_label, classes=0)
    except ValueError as error:
        return str(error)
    return ""


def _palette_ids(image: Image.Image, classes: Sequence[ClassInfo]) -> NDArray[np.uint8] | None:
    """Return the (256,) train ids of a palette's colours; None if the picture shows a colour that is not listed."""
    used = [index for index, count in enumerate(image.histogram()) if count]
    palette = Image.fromarray(np.array([used], dtype=np.uint8), "P")
    palette.putpalette(image.getpalette() or [])
    train_ids, ids = color_lookup(classes), np.full(256, VOID, dtype=np.uint8)
    colors = [tuple(color) for color in np.asarray(palette.convert("RGB"))[0].tolist()]
    if not train_ids.keys() >= set(colors):
        return None
    ids[used] = [train_ids[color] for color in colors]
    return ids


def _translate(pixels: NDArray[np.generic], table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return ``table[pixels]`` of 8-bit pixels, four times as fast."""
    return np.frombuffer(bytearray(pixels.tobytes()).translate(table.tobytes()), dtype=np.uint8).reshape(pixels.shape)


def _read_mask_pixels(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Return the brightness as stored; of a palette its greys, or its indices where it has colours."""
    with Image.open(path) as image:
        palette = np.array(image.getpalette() or [], dtype=np.int64).reshape(-1, 3) if image.mode == "P" else None
    stored = read_stored_pixels(path)
    pixels: NDArray[Any] = stored.astype(np.int64) if stored.dtype.kind == "f" else stored
    if palette is not None and len(palette) > pixels.max(initial=0) and (palette == palette[:, :1]).all():
        return np.asarray(palette[pixels, 0])
    if pixels.ndim == 2:
        return pixels
    if pixels.shape[2] == 4 and np.ptp(pixels[..., :3]) == 0 and np.ptp(pixels[..., 3]) > 0:
        raise ValueError("a mask must be drawn in its pixels; this one is in its transparency alone. Flatten it.")
    return np.asarray(pixels[..., :3].max(axis=2))


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


def _map_colors(colors: NDArray[np.uint8], classes: Sequence[ClassInfo]) -> NDArray[np.uint8]:
    train_ids = color_lookup(classes)
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
