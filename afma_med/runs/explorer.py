"""Write the attention explorer of a finished run."""

from __future__ import annotations

import contextlib
import os
import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from afma_med.atomic_write import replacing
from afma_med.data.dataset_reader import SECTIONS, DatasetReader, Item
from afma_med.data.files import shown_name
from afma_med.runs.attention import SUFFIX, check_runs, find_class, find_points
from afma_med.runs.trained_network import TrainedNetwork
from afma_med.visualize.attention import AttendedImage, attend_image
from afma_med.visualize.class_colors import stretch_image
from afma_med.visualize.explorer import ExplorerSlice, format_explorer
from afma_med.visualize.object_points import object_classes
from afma_med.visualize.point_attention import attend_point
from afma_med.visualize.volume_slices import fullest_slice, predict_slices, spread_evenly, stretch_slices, take_slice

__all__ = ["explore_attention"]

# Slices of a volume in a page, at most.
_SLICES = 24


def explore_attention(
    run: TrainedNetwork,
    file: str | os.PathLike[str],
    image: str | os.PathLike[str] | None = None,
    *,
    where: tuple[int, int] | str | None = None,
    slice_number: int | None = None,
) -> list[int]:
    """Write the attention explorer: one HTML page that shows the attention of the patch below the pointer.

    The page of a volume holds 24 slices at most, spread evenly over those with predicted foreground, or over all of
    them if ``slice_number`` is given.

    Args:
        run: a run that was trained with AFMA.
        file: the page; an earlier one is replaced.
        image: a file, or a folder, whose first image is taken; None for the first one of the dataset's test section.
            Its label is used if it belongs to the dataset.
        where: (row, column) of the patch at the start, or the name of a class, for its first predicted object; None for
            the smallest predicted object, or the middle of the image without one.
        slice_number: of a volume, the slice at the start; None for the slice with most predicted foreground.

    Returns:
        The slices in the page; empty for an image.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if the run has no attention, the file is no HTML file, the image is too large, or there is no such
            point, class, object or slice.
    """
    reader, target = check_runs([run]), Path(file)
    if target.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"`file` must end in .html; got `{target}`. Name an HTML file, such as explorer.html.")
    path = run.find_image(image)
    prepared, item = run.prepare(path), _find_item(run, path)
    first, depth = 0, None
    if prepared.ndim == 4:
        depth = prepared.shape[-1]
        numbers, slice_number = _choose_slices(run, prepared, slice_number)
        first, pictures = numbers.index(slice_number), stretch_slices(prepared)
        slices = [_explore(run, take_slice(prepared, i), pictures[:, :, i], item, number=i) for i in numbers]
    elif slice_number is not None:
        raise ValueError(f"`image` must be a volume for slices; got `{path}`. Leave the slice out.")
    else:
        slices = [_explore(run, prepared, stretch_image(prepared.cpu().numpy()), item)]
    point = _start_point(slices[first].seen, where, reader)
    title = f"{shown_name(SUFFIX.sub('', Path(path).name))} — {run.title}"
    page, kept = format_explorer(slices, reader.classes, title=title, point=point, first=first, depth=depth)
    with replacing(target) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return kept


def _choose_slices(run: TrainedNetwork, volume: Tensor, start: int | None) -> tuple[list[int], int]:
    """Return the slices of an explorer, and the one at its start."""
    shown = list(range(volume.shape[-1]))
    if start is None:
        prediction = predict_slices(run.network, volume)
        indices = object_classes(run.reader.classes, run.reader.unscored)
        start = fullest_slice(prediction, indices)
        filled = np.isin(prediction, indices).any(axis=(0, 1)).nonzero()[0]
        shown = list(range(filled[0], filled[-1] + 1)) if len(filled) else shown
    else:
        take_slice(volume, start)  # raises the error of a slice that does not exist
    spread = {shown[i] for i in spread_evenly(len(shown), min(_SLICES, len(shown)))}
    if start not in spread:
        spread = spread - {min(spread, key=lambda number: abs(number - start))} | {start}
    return sorted(spread), start


def _explore(
    run: TrainedNetwork, image: Tensor, picture: NDArray[np.uint8], item: Item | None, *, number: int | None = None
) -> ExplorerSlice:
    seen = attend_image(run.network, image)
    label = None
    if item is not None:
        labelled = item if number is None else {**item, "slice": number}
        label = run.read_label(labelled, seen.after.shape).numpy()
    return ExplorerSlice(seen, picture, label, number)


def _find_item(run: TrainedNetwork, path: str) -> Item | None:
    """Return the item of an image in the run's dataset, with its label; None if there is none."""
    real = os.path.realpath(path)
    for section in reversed(SECTIONS):
        # Files elsewhere in the dataset, or a dataset that is gone, do not matter for one image.
        with contextlib.suppress(OSError, ValueError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for item in run.reader.datalist(run.settings["dataset_dir"], section):
                if "label" in item and os.path.realpath(item["image"]) == real:
                    return item
    return None


def _start_point(seen: AttendedImage, where: tuple[int, int] | str | None, reader: DatasetReader) -> tuple[int, int]:
    if isinstance(where, tuple):
        return attend_point(seen, where).point
    if where is not None:
        return find_points(seen, find_class(where, reader), reader)[0]
    with contextlib.suppress(ValueError):
        return find_points(seen, None, reader)[0]
    return seen.after.shape[0] // 2, seen.after.shape[1] // 2
