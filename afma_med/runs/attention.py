"""Draw what finished runs attend to in an image, as files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.files import shown_name
from afma_med.networks.hypercolumn_net import has_attention
from afma_med.runs.trained_network import TrainedNetwork
from afma_med.visualize.attention import AttendedImage, attend_image
from afma_med.visualize.attention_figure import compare_attention, draw_attention
from afma_med.visualize.figure_file import save_figure
from afma_med.visualize.object_points import corrected_object, object_classes, object_points, smallest_object
from afma_med.visualize.point_attention import attend_point
from afma_med.visualize.volume_slices import draw_montage, fullest_slice, predict_slices, take_slice

__all__ = ["SUFFIX", "check_runs", "find_class", "find_corrected_object", "find_points", "show_attention"]

# Smaller predicted objects count as noise.
_MIN_PIXELS = 10
#: End of an image's name.
SUFFIX = re.compile(r"\.(png|jpe?g|nii|nii\.gz)$", re.IGNORECASE)


def show_attention(
    runs: Sequence[TrainedNetwork],
    image: str | os.PathLike[str] | None = None,
    *,
    where: tuple[int, int] | str | None = None,
    slice_number: int | None = None,
    montage: bool = False,
    output_dir: str | os.PathLike[str] | None = None,
    suffix: str = ".png",
) -> list[Path]:
    """Draw what runs attend to at points of an image: one run in full, several side by side.

    Files are named after the image and the point; those of an earlier call are replaced.

    Args:
        runs: one or more runs, trained with AFMA on one dataset.
        image: a file, or a folder, whose first image is taken; None for the first one of the dataset's test section.
        where: (row, column) in pixels of the image as the first run sees it; or the name of a class, for a point in
            each of its predicted objects; None for the smallest predicted object.
        slice_number: of a volume; None for the slice with most predicted foreground.
        montage: of a volume, draw slices with their predictions too.
        output_dir: folder for the files; default: ``attention`` in the first run's folder.
        suffix: ``".png"`` or ``".svg"``.

    Returns:
        The files.

    Raises:
        FileNotFoundError: if there is no such image.
        ValueError: if a run has no attention or another dataset, or there is no such point, class, object or slice.

    Example:
        >>> show_attention([])
        Traceback (most recent call last):
        ValueError: `runs` must hold at least one run; got none. ...
    """
    reader = check_runs(runs)
    path = runs[0].find_image(image)
    name = SUFFIX.sub("", Path(path).name)
    title = shown_name(name)
    figures = {}
    images = [run.prepare(path) for run in runs]
    if images[0].ndim == 4:
        slice_number, drawn = _choose_slice(runs[0], images[0], slice_number, montage=montage)
        figures = {f"{name}_slices": figure for figure in drawn}
        images = [take_slice(volume, slice_number) for volume in images]
        title, name = f"{title}, slice {slice_number}", f"{name}_slice{slice_number}"
    elif slice_number is not None or montage:
        raise ValueError(f"`image` must be a volume for slices and montages; got `{path}`. Leave these options out.")
    seen = [attend_image(run.network, x) for run, x in zip(runs, images, strict=True)]
    class_index = find_class(where, reader) if isinstance(where, str) else None
    points = [where] if isinstance(where, tuple) else find_points(seen[0], class_index, reader)
    for point in points:
        stem = f"{name}_row{point[0]}_column{point[1]}{'_compared' if len(runs) > 1 else ''}"
        figures[stem] = _draw(runs, seen, point, title=title, class_index=class_index)
    folder = Path(output_dir or runs[0].folder / "attention")
    return [save_figure(figure, folder / f"{stem}{suffix}") for stem, figure in figures.items()]


def find_corrected_object(run: TrainedNetwork, *, section: str = "test") -> tuple[str, tuple[int, int]] | None:
    """Find the small object of a section in which the correction makes most pixels right.

    Returns:
        Path of the image and (row, column) in it as the run sees it; None if no small object gains.

    Raises:
        ValueError: if the run has no attention, or its dataset is one of volumes.
    """
    reader = check_runs([run])
    if reader.read_volume is not None:
        raise ValueError(f"`run` must be one of images; got {run.title} of {reader.title}. Name a slice instead.")
    indices, bound = object_classes(reader.classes, reader.unscored), int(reader.size_groups.bounds[0])
    found = []
    for item in reader.datalist(run.settings["dataset_dir"], section):
        if "label" in item:
            seen = attend_image(run.network, run.prepare(item["image"]))
            label = run.read_label(item, seen.after.shape).numpy()
            gain = corrected_object(seen.before, seen.after, label, class_indices=indices, max_pixels=bound)
            found += [] if gain is None else [(gain[0], item["image"], gain[1])]
    return max(found)[1:] if found else None


def check_runs(runs: Sequence[TrainedNetwork]) -> DatasetReader:
    """Return the reader of all runs; raise ValueError if one has no attention, or another reader."""
    if not runs:
        raise ValueError("`runs` must hold at least one run; got none. Load one with load_network.")
    reader = runs[0].reader
    for run in runs:
        if not has_attention(run.settings):
            raise ValueError(
                f"`runs` must have been trained with AFMA; `{run.folder}` has no attention. Name another run."
            )
        if run.reader.name != reader.name:
            raise ValueError(
                f"`runs` must be of one dataset; got {reader.name} and {run.reader.name}. Show them separately."
            )
    return reader


def _choose_slice(
    run: TrainedNetwork, volume: Tensor, slice_number: int | None, *, montage: bool
) -> tuple[int, list[Figure]]:
    """The slice, and the montage if one is drawn; all slices are segmented only if necessary."""
    if slice_number is not None and not montage:
        return slice_number, []
    prediction = predict_slices(run.network, volume)
    if slice_number is None:
        slice_number = fullest_slice(prediction, object_classes(run.reader.classes, run.reader.unscored))
    title = f"{run.title}\npredictions; the attention is that of slice {slice_number}"
    return slice_number, [draw_montage(volume, prediction, run.reader.classes, title=title)] if montage else []


def find_points(seen: AttendedImage, class_index: int | None, reader: DatasetReader) -> list[tuple[int, int]]:
    """Return points in the predicted objects of a class, or without a class in the smallest predicted object."""
    if class_index is not None:
        points = object_points(seen.after, class_index, min_pixels=_MIN_PIXELS)
    else:
        indices = object_classes(reader.classes, reader.unscored)
        smallest = smallest_object(seen.after, class_indices=indices, min_pixels=_MIN_PIXELS)
        points = [] if smallest is None else [smallest]
    if not points:
        of_class = "" if class_index is None else f" of class {class_names(reader.classes)[class_index]}"
        raise ValueError(
            f"`image` must have a predicted object of {_MIN_PIXELS} pixels or more{of_class}; got none. "
            "Name a point, or another image or slice."
        )
    return points


def find_class(name: str, reader: DatasetReader) -> int:
    """Return the index of a class; raise ValueError if there is no such class."""
    names = class_names(reader.classes)
    if name not in names:
        raise ValueError(f"`where` must be a class of {reader.title}, {', '.join(names)}; got {name!r}. Name one.")
    return names.index(name)


def _draw(
    runs: Sequence[TrainedNetwork],
    seen: Sequence[AttendedImage],
    point: tuple[int, int],
    *,
    title: str,
    class_index: int | None,
) -> Figure:
    classes, first = runs[0].reader.classes, attend_point(seen[0], point, class_index=class_index)
    if len(runs) == 1:
        return draw_attention(first, classes, title=f"{runs[0].title}; {title}")
    # All runs show the attention to the same class, at the same place of images that may differ in size.
    points = [attend_point(x, _same_place(point, seen[0], x), class_index=first.class_index) for x in seen]
    return compare_attention([(run.title, x) for run, x in zip(runs, points, strict=True)], classes, title=title)


def _same_place(point: tuple[int, int], seen: AttendedImage, other: AttendedImage) -> tuple[int, int]:
    (row, column), (height, width), (own_height, own_width) = point, other.after.shape, seen.after.shape
    return int((row + 0.5) * height / own_height), int((column + 0.5) * width / own_width)
