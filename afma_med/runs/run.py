"""Read a finished run: its settings, scores, pixel counts and training curve."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from afma_med.bundle.installed import run_command
from afma_med.bundle.settings import read_settings
from afma_med.handlers.run_files import BEST, EVALUATION, IMAGES, SCORES, SETTINGS
from afma_med.metrics.pixel_counts import COUNTS
from afma_med.metrics.pixel_scores import scores_from_pixels

__all__ = ["PixelCounts", "Run", "read_curve", "read_run"]

_HEADER = ["image", "class", "objects", *COUNTS]
_EXPECTED = {"section": str, "images": int, "classes": list, "unscored": list, "scores": dict}
# Scores in the two files differ by rounding only.
_TOLERANCE = 1e-4
# Read all scalars, and as little as possible of everything else.
_GUIDANCE = {"scalars": 0, "images": 1, "tensors": 1, "histograms": 1, "compressedHistograms": 1, "audio": 1}


class PixelCounts(NamedTuple):
    """Pixels (or voxels) that an evaluation counted in each image.

    Args:
        images: Names of the I images, relative to the dataset's folder, sorted.
        classes: Names of the K scored classes.
        objects: S names: ``"all"``, then the object sizes, then ``"lone"`` and ``"accompanied"`` if they were counted.
        pixels: (I,K,S,4) int64 pixels of the label, of the prediction, of both, and of the label that are covered.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    objects: tuple[str, ...]
    pixels: NDArray[np.int64]


class Run(NamedTuple):
    """A finished, evaluated run.

    Its weights are not part of it: :func:`~afma_med.runs.trained_network.load_network` loads them.

    Args:
        folder: Folder of the run, or the result file that replaces it.
        settings: Content of ``settings.json``: the network and its training.
        evaluation: Content of ``evaluation/scores.json`` without the scores.
        scores: Scores by name; NaN for a class that does not occur.
        counts: Pixels of each image.
        curve: mIoU of the validation by epoch; empty if unknown.
        arm: Name of its arm in a list of trainings; empty if unknown.
    """

    folder: Path
    settings: dict[str, Any]
    evaluation: dict[str, Any]
    scores: dict[str, float]
    counts: PixelCounts
    curve: Mapping[int, float] = MappingProxyType({})
    arm: str = ""

    @property
    def seed(self) -> int:
        """Seed of the training."""
        return int(self.settings["training"]["seed"])


def read_run(folder: str | os.PathLike[str], *, evaluation: str = EVALUATION) -> Run:
    """Read a finished run from its folder.

    Args:
        folder: ``output_dir`` of a training that was evaluated with ``evaluate.json``.
        evaluation: Folder of the evaluation in it.

    Raises:
        FileNotFoundError: If the folder does not exist, is not a run, or is not evaluated.
        ValueError: If a file is incomplete, malformed, or does not belong to the others; the message names it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"`folder` must be the folder of a run; there is no `{folder}`. Check the path.")
    settings = _read_settings(folder)
    command = run_command(f"{settings['name']}.json", "evaluate.json", options={"output_dir": folder})
    paths = [folder / evaluation / name for name in (SCORES, IMAGES)]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"`folder` must hold an evaluated run; there is no file `{path}`. Evaluate it first: {command}"
            )
    try:
        found = _read_scores(paths[0])
        scores = {name: math.nan if value is None else float(value) for name, value in found.pop("scores").items()}
        counts = _read_counts(paths[1], found)
        _check_agreement(paths, scores, counts)
    except ValueError as error:
        raise ValueError(f"{error} Evaluate the run again: {command}") from error
    return Run(folder, settings, found, scores, counts, read_curve(folder))


def read_curve(folder: str | os.PathLike[str], tag: str = "val/mIoU") -> dict[int, float]:
    """Read a scalar by epoch from the TensorBoard event files in a folder, but not below it.

    Args:
        folder: Folder of the run.
        tag: Name of the scalar.

    Returns:
        Values by step. If a resumed run repeated a step, its last value counts. Empty if the scalar does not occur.
    """
    found = []
    for path in sorted(Path(folder).glob("events.out.tfevents*")):
        # Purging would drop the steps that follow a restart.
        events = EventAccumulator(str(path), size_guidance=_GUIDANCE, purge_orphaned_data=False).Reload()
        if tag in events.Tags()["scalars"]:
            found += [event for event in events.Scalars(tag) if not math.isnan(event.value)]
    values = {event.step: event.value for event in sorted(found, key=lambda event: event.wall_time)}
    return dict(sorted(values.items()))


def _read_settings(folder: Path) -> dict[str, Any]:
    path = folder / SETTINGS
    if not path.is_file():
        raise FileNotFoundError(
            f"`folder` must be the folder of a run; there is no file `{path}`. Name the --output_dir of a training."
        )
    settings = read_settings(folder / BEST)
    missing = sorted({"name", "network_name", "encoder", "afma", "training"} - settings.keys())
    if not missing and not isinstance(settings["training"].get("seed"), int):
        missing = ["training.seed"]
    if missing:
        raise ValueError(
            f"`{path}` must be settings of this version; got settings without {', '.join(missing)}. "
            "Add the values of the training, or train again."
        )
    return settings


def _read_scores(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` must be whole JSON; got: {error}.") from error
    for name, kind in _EXPECTED.items():
        if not isinstance(content, dict) or not isinstance(content.get(name), kind):
            raise ValueError(f"`{path}` must be scores of this version; got scores without {name}.")
    bad = [name for name, value in content["scores"].items() if not isinstance(value, (int, float, type(None)))]
    sizes = content.get("size_groups")  # None if the evaluation had no size groups
    bad += ["size_groups"] if sizes is not None and not isinstance(sizes, dict) else []
    bad += ["company"] if not isinstance(content.get("company", []), list) else []  # older evaluations have none
    if bad:
        raise ValueError(f"`{path}` must be scores of this version; got {', '.join(bad)} of another type.")
    return {**content, "size_groups": sizes or {"names": []}}


def _read_counts(path: Path, evaluation: dict[str, Any]) -> PixelCounts:
    classes = tuple(name for name in evaluation["classes"] if name not in evaluation["unscored"])
    objects = ("all", *evaluation["size_groups"]["names"], *evaluation.get("company", ()))
    rows: dict[tuple[str, int, int], list[int]] = {}
    for number, row in _csv_rows(path):
        key, counts = _parse_row(row, classes, objects)
        if key is None or key in rows:
            raise ValueError(
                f"`{path}` must hold whole rows {','.join(_HEADER)}, each once; got {row} in line {number}."
            )
        rows[key] = counts
    images = tuple(sorted({image for image, _, _ in rows}))
    if not images or len(images) > evaluation["images"]:
        raise ValueError(f"`{path}` must hold rows of {evaluation['images']} images; got {len(images)}.")
    numbers = {image: i for i, image in enumerate(images)}
    pixels = np.zeros((len(images), len(classes), len(objects), len(COUNTS)), dtype=np.int64)
    for (image, k, s), counts in rows.items():
        pixels[numbers[image], k, s] = counts
    return PixelCounts(images, classes, objects, pixels)


def _csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows below the header with their line numbers."""
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if header != _HEADER:
                raise ValueError(f"`{path}` must begin with {','.join(_HEADER)}; got {','.join(header) or 'nothing'}.")
            for row in reader:
                yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"`{path}` must be a whole CSV file; got: {error}.") from error


def _parse_row(
    row: list[str], classes: Sequence[str], objects: Sequence[str]
) -> tuple[tuple[str, int, int] | None, list[int]]:
    """Return the key (image, index of the class, index of the objects) and the four counts; None if malformed."""
    whole = len(row) == len(_HEADER) and row[1] in classes and row[2] in objects
    if not whole or not all(text.isdecimal() for text in row[3:]):
        return None, []
    return (row[0], classes.index(row[1]), objects.index(row[2])), [int(text) for text in row[3:]]


def _check_agreement(paths: Sequence[Path], scores: dict[str, float], counts: PixelCounts) -> None:
    """Refuse counts that do not give the scores: those of another evaluation, or an incomplete file."""
    for name, value in scores_from_pixels(counts.pixels.sum(axis=0), counts.classes, counts.objects).items():
        stated = scores.get(name, math.nan)
        same = abs(float(value) - stated) <= _TOLERANCE or (math.isnan(value) and math.isnan(stated))
        if name.startswith("IoU/") and not same:
            raise ValueError(
                f"`{paths[1]}` must hold the counts of the scores in `{paths[0]}`; got {name} {value:.4f} from the "
                f"counts and {stated:.4f} in the scores."
            )
