"""Read every file of a dataset before it is used: its contents, and everything that is wrong with it."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader, Inspected, Item
from afma_med.data.files import map_files
from afma_med.data.inspection_cache import kept_inspections
from afma_med.data.objects.shapes import measure_objects
from afma_med.data.pictures import bits_range
from afma_med.data.problems import DatasetError, collect_warnings

__all__ = [
    "Survey",
    "describe_readings",
    "find_image_range",
    "find_lost_classes",
    "survey_dataset",
    "survey_section",
    "warn_of_lost_objects",
]

logger = logging.getLogger(__name__)

# Share of a class's objects that resizing may lose before a training warns.
_TOLERATED = 0.1


class Survey(NamedTuple):
    """Hold the contents of a section of a dataset.

    Args:
        files: items of paths, whole images or volumes.
        items: the items that a training takes, images or slices.
        counts: (items,K) int64, pixels of each class; zeros for items without a label.
        sizes: how many items have each size (H, W).
        problems: everything that is wrong, one text each.
        warnings: possible problems, one text each.
        highest: the highest value of the pictures of more than 8 bits; None without such pictures.
        objects: (n,3) int64, the objects of all labels as of :func:`~afma_med.data.objects.sizes.tally_objects`; None
            if the reader's ``inspect`` does not count them.
        readings: how many masks were read as ``"instances"`` and as ``"votes"``, by their values.
    """

    files: list[dict[str, str]]
    items: list[dict[str, Any]]
    counts: Tensor
    sizes: Counter[tuple[int, int]]
    problems: list[str]
    warnings: Sequence[str] = ()
    highest: float | None = None
    objects: NDArray[np.int64] | None = None
    readings: Mapping[str, int] = MappingProxyType({})


def survey_section(reader: DatasetReader, root: str | os.PathLike[str], section: str) -> Survey:
    """Read every image and label of a section to the last byte, but for pictures that were read and have not changed.

    Args:
        reader: the dataset.
        root: folder of the dataset.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Raises:
        FileNotFoundError: if the folder does not hold the section.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> root = write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2}, size=(48, 64))
        >>> survey = survey_section(CAMVID, root, "train")
        >>> len(survey.items), survey.counts.shape, dict(survey.sizes)
        (2, torch.Size([2, 12]), {(48, 64): 2})
    """
    with collect_warnings() as notes:
        try:
            files, problems = reader.datalist(Path(root), section), []
        except DatasetError as error:
            files, problems = error.items, list(error.problems)
        with kept_inspections(reader) as inspect:
            outcomes = _inspect_all(inspect, files, title=f"Reading {reader.title}, {section}")
    good = [item for item, outcome in zip(files, outcomes, strict=True) if not isinstance(outcome, str)]
    found = [one for outcome in outcomes if not isinstance(outcome, str) for one in outcome]
    if unusable := [outcome for outcome in outcomes if isinstance(outcome, str)]:
        problems.append("\n  ".join([f"{len(unusable)} files that cannot be used, read from end to end:", *unusable]))
    counts = torch.zeros(len(found), len(class_names(reader.classes)), dtype=torch.int64)
    for row, one in zip(counts, found, strict=True):
        if one.counts is not None:
            row += torch.from_numpy(one.counts)
    return Survey(
        files=good,
        items=[one.item for one in found],
        counts=counts,
        sizes=Counter(one.size for one in found),
        problems=[f"{section}: {text}" for text in problems],
        warnings=[*notes, *_absent_classes(reader, section, found, counts)],
        highest=max((one.highest for one in found if one.highest is not None), default=None),
        objects=_join_objects(found),
        readings=Counter(one.reading for one in found if one.reading),
    )


def survey_dataset(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str], *, labelled: bool = True
) -> dict[str, Survey]:
    """Survey several sections, log the warnings, and raise an error if there are problems.

    Args:
        reader: the dataset.
        root: folder of the dataset.
        sections: names of sections; one that is named twice is read once.
        labelled: refuse sections without labels.

    Returns:
        The survey of each section.

    Raises:
        FileNotFoundError: if the folder does not hold the dataset or such a section.
        DatasetError: with all problems of all sections.
        ValueError: if a section has no labels, where they are needed.
    """
    surveys = {section: survey_section(reader, root, section) for section in dict.fromkeys(sections)}
    if os.environ.get("RANK", "0") == "0":
        for text in dict.fromkeys(text for survey in surveys.values() for text in survey.warnings):
            logger.warning(text)
        if note := describe_readings(surveys.values()):
            logger.info(note)
    if problems := [text for survey in surveys.values() for text in survey.problems]:
        raise DatasetError(problems)
    bare = [section for section, survey in surveys.items() if any("label" not in item for item in survey.files)]
    if labelled and bare:
        raise ValueError(
            f"`section` must have labels; got {bare[0]!r} of {reader.title} at {root}, whose labels are withheld. "
            "Choose another section, or predict with the command that `afma bundle NAME` prints."
        )
    return surveys


def find_image_range(surveys: Mapping[str, Survey]) -> float | None:
    """Return the largest value of the bits that a dataset's pictures of more than 8 bits use; None without such.

    Example:
        >>> find_image_range({"train": Survey([], [], torch.zeros(0, 2), Counter(), [], highest=3000)})
        4095
    """
    found = [survey.highest for survey in surveys.values() if survey.highest is not None]
    return bits_range(max(found)) if found else None


def describe_readings(surveys: Iterable[Survey]) -> str:
    """Say how masks that are not black and white were read; an empty text without such masks.

    Example:
        >>> print(describe_readings([Survey([], [], torch.zeros(0, 2), Counter(), [], readings={"instances": 3})]))
        3 masks are read as instances: any value above 0 is an object. `mask_values` sets another reading.
    """
    counts = sum((Counter(survey.readings) for survey in surveys), Counter())
    meanings = {
        "instances": "instances: any value above 0 is an object.",
        "votes": "votes or noise, thresholded at half of white.",
    }
    parts = [f"{counts[name]} masks are read as {meaning}" for name, meaning in meanings.items() if counts[name]]
    if len(parts) > 1:
        parts.append("Masks of one dataset rarely mean both.")
    return " ".join([*parts, "`mask_values` sets another reading."]) if parts else ""


def find_lost_classes(reader: DatasetReader, items: Sequence[Item], longest_side: int) -> dict[str, float]:
    """Return the share of its objects that resizing loses, for each scored class that loses more than a tenth."""
    names = class_names(reader.classes)

    def count(item: Item) -> NDArray[np.int64]:
        found = measure_objects(reader.read_label(item), len(names), longest_side=longest_side)
        return np.stack(
            [np.bincount(owner, minlength=len(names)) for owner in (found.owner, found.owner[found.area == 0])]
        )

    labelled = [item for item in items if "label" in item]
    counts = map_files(count, labelled, title="Looking for objects that resizing loses", unit="label")
    total, lost = sum(counts, start=np.zeros((2, len(names)), dtype=np.int64))
    shares = {name: lost[k] / total[k] for k, name in enumerate(names) if total[k] and name not in reader.unscored}
    return {name: float(share) for name, share in shares.items() if share > _TOLERATED}


def warn_of_lost_objects(reader: DatasetReader, items: Sequence[Item], longest_side: int | None) -> None:
    """Log a warning if the resizing of a training loses more than a tenth of a class's objects."""
    lost = {} if longest_side is None else find_lost_classes(reader, items, longest_side)
    if lost:
        shares = ", ".join(f"{share:.0%} of {name}" for name, share in lost.items())
        logger.warning(
            "Resizing images to a `longest_side` of %d pixels loses objects: %s. Choose a larger `longest_side`; "
            "`afma advise` says which.",
            longest_side,
            shares,
        )


def _inspect_all(
    inspect: Callable[[Item], list[Inspected]], files: Sequence[Item], *, title: str
) -> list[list[Inspected] | str]:
    """Return the contents of each item, or its problem."""
    # The processes of a training begin at different files, and take the rest from the cache.
    rank, processes = (int(os.environ.get(name, default)) for name, default in (("RANK", "0"), ("WORLD_SIZE", "1")))
    start = len(files) * rank // processes
    outcomes = map_files(partial(_inspect, inspect), [*files[start:], *files[:start]], title=title)
    return outcomes[len(files) - start :] + outcomes[: len(files) - start]


def _inspect(inspect: Callable[[Item], list[Inspected]], item: Item) -> list[Inspected] | str:
    try:
        return inspect(item)
    except ValueError as error:
        return str(error)


def _join_objects(found: Sequence[Inspected]) -> NDArray[np.int64] | None:
    objects = [one.objects for one in found if one.counts is not None]
    counted = [one for one in objects if one is not None]
    return np.concatenate([np.zeros((0, 3), dtype=np.int64), *counted]) if len(counted) == len(objects) else None


def _absent_classes(reader: DatasetReader, section: str, found: Sequence[Inspected], counts: Tensor) -> list[str]:
    if all(one.counts is None for one in found):
        return []
    pixels = zip(class_names(reader.classes), counts.sum(dim=0).tolist(), strict=True)
    absent = [name for name, count in pixels if not count and name not in reader.unscored]
    if not absent:
        return []
    return [f"{section}: no label holds a pixel of {', '.join(absent)}. Check the label files of this section."]
