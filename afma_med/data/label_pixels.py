"""Label files to class indices: raw ids, colours and masks."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afma_med.data.class_table import VOID, ClassInfo, color_lookup, raw_id_lookup
from afma_med.data.datalist import PICTURES, files_below, files_by_name, unlabelled_items, warn_skipped
from afma_med.data.dataset_reader import Inspected, Item
from afma_med.data.file_threads import map_files
from afma_med.data.label_samples import LabelSamples, read_label_samples
from afma_med.data.mask_values import MaskValues, Reading, check_mask_values, decide_mask
from afma_med.data.object_sizes import tally_objects
from afma_med.data.pictures import count_pages, highest_deep_value, naming, oriented_size
from afma_med.data.problems import DatasetError, list_files

__all__ = [
    "MaskReader",
    "find_pictures",
    "inspect_pictures",
    "map_raw_labels",
    "read_coded_label",
    "read_mask",
]


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

    Returns:
        (H,W) train ids.

    Raises:
        ValueError: naming the file, if it cannot be read, is a JPEG, or holds values that are not in the table.
    """
    with naming(path):
        samples = read_label_samples(path)
        _check_coded(samples)
        # Programs reorder palettes, so the colours decide where they are those of classes.
        ids = (
            None if samples.palette is None else _palette_ids(samples.pixels, samples.palette, color_classes or classes)
        )
        if ids is not None:
            return _translate(samples.pixels, ids)
        return map_raw_labels(samples.pixels, classes, color_classes=color_classes)


def read_mask(path: str | os.PathLike[str], mask_values: MaskValues = "auto") -> NDArray[np.uint8]:
    """Read a mask of one class of objects: black and white, numbers of objects, or votes.

    Args:
        path: of a picture, grey, colours or palette, of any depth.
        mask_values: ``"instances"``: any value or colour other than black is an object; ``"votes"``: brightness above
            half of white is; ``"auto"``: as :func:`~afma_med.data.mask_values.decide_mask` tells from the values.

    Returns:
        (H,W), 1 where the object is.

    Raises:
        ValueError: naming the file, if it cannot be read, or its values may mean either.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/votes.png"
        >>> Image.fromarray(np.array([[0, 51, 102, 153, 204, 255]], dtype=np.uint8)).save(path)
        >>> read_mask(path).tolist(), read_mask(path, "instances").tolist()
        ([[0, 0, 0, 1, 1, 1]], [[0, 1, 1, 1, 1, 1]])
    """
    return MaskReader(mask_values).read(path)[0]


@dataclass(frozen=True)
class MaskReader:
    """Read the mask of an item as (H,W) train ids, as :func:`read_mask` does.

    Args:
        mask_values: see :func:`read_mask`.

    Raises:
        ValueError: if there is no such reading.
    """

    mask_values: MaskValues = "auto"

    def __post_init__(self) -> None:
        check_mask_values(self.mask_values)

    def __call__(self, item: Item) -> NDArray[np.uint8]:
        return self.read(item["label"])[0]

    def read(self, path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], Reading]:
        """Read a mask, and say how its values were read; an empty text if they are black and white."""
        with naming(path):
            return decide_mask(read_label_samples(path), self.mask_values)


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
        if (pages := count_pages(image)) > 1:
            raise ValueError(
                f"an image file must hold one picture; this one holds {pages}. Save the one that is meant."
            )
        # JPEG at an eighth of its size is decoded in a fraction of the time, to the last byte all the same.
        image.draft(None, (1, 1))
        image.load()
    if "label" not in item:
        return [Inspected(dict(item), (height, width), None, highest)]
    label, reading = read_label.read(item["label"]) if isinstance(read_label, MaskReader) else (read_label(item), "")
    if label.shape != (height, width):
        raise ValueError(
            f"`{item['label']}` must have the size of its image, {width}×{height}; got {label.shape[1]}×"
            f"{label.shape[0]}. Replace one of them."
        )
    objects, counts = tally_objects(label, classes), np.zeros(classes, dtype=np.int64)
    np.add.at(counts, objects[:, 0], objects[:, 1] * objects[:, 2])
    return [Inspected(dict(item), (height, width), counts, highest, objects, reading)]


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
        inspect_pictures(item, read_label=MaskReader(), classes=0)
    except ValueError as error:
        return str(error)
    return ""


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
