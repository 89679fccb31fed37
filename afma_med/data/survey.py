"""One look into every file of a dataset before it is used: what there is, and everything that is wrong with it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from tqdm.contrib.concurrent import thread_map

from afma_med.data.class_table import class_names
from afma_med.data.datalist import DatasetError
from afma_med.data.dataset_reader import DatasetReader, Inspected, Item

__all__ = ["Survey", "survey_dataset", "survey_section"]


class Survey(NamedTuple):
    """What a section of a dataset holds.

    Args:
        files: items of paths, whole images or volumes.
        items: what a training takes, images or slices.
        counts: (items,K) int64, pixels of each class; zeros for items without a label.
        sizes: how many items have each size (H, W).
        problems: everything that is wrong, one text each.
    """

    files: list[dict[str, str]]
    items: list[dict[str, Any]]
    counts: Tensor
    sizes: Counter[tuple[int, int]]
    problems: list[str]


def survey_section(reader: DatasetReader, root: str | os.PathLike[str], section: str) -> Survey:
    """Read every image and label of a section to the last byte.

    Args:
        reader: the dataset.
        root: folder of the dataset.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        The :class:`Survey`; files with problems are in none of its lists.

    Raises:
        FileNotFoundError: if the folder holds no such section at all.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> root = write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2}, size=(48, 64))
        >>> survey = survey_section(CAMVID, root, "train")
        >>> len(survey.items), survey.counts.shape, dict(survey.sizes)
        (2, torch.Size([2, 12]), {(48, 64): 2})
    """
    try:
        files, problems = reader.datalist(Path(root), section), []
    except DatasetError as error:
        files, problems = error.items, list(error.problems)
    good, found, unusable = [], [], []
    for item, outcome in _inspect_all(reader, files, section):
        if isinstance(outcome, str):
            unusable.append(outcome)
        else:
            good.append(item)
            found += outcome
    if unusable:
        head = f"{len(unusable)} files that cannot be used, looked at from end to end:"
        problems.append("\n  ".join([head, *unusable]))
    counts = torch.zeros(len(found), len(class_names(reader.classes)), dtype=torch.int64)
    for row, one in zip(counts, found, strict=True):
        if one.counts is not None:
            row += torch.from_numpy(one.counts)
    sizes = Counter(one.size for one in found)
    return Survey(good, [one.item for one in found], counts, sizes, [f"{section}: {text}" for text in problems])


def survey_dataset(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str], *, labelled: bool = True
) -> dict[str, Survey]:
    """Survey several sections, and refuse the dataset if anything is wrong with any of them.

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
    problems = [text for survey in surveys.values() for text in survey.problems]
    if problems:
        raise DatasetError(problems)
    bare = [section for section, survey in surveys.items() if any("label" not in item for item in survey.files)]
    if labelled and bare:
        raise ValueError(
            f"`section` must have labels; got {bare[0]!r} of {reader.title} at {root}, whose labels are withheld. "
            "Choose another section, or predict with the command that `afma bundle NAME` prints."
        )
    return surveys


def _inspect_all(
    reader: DatasetReader, files: Sequence[dict[str, str]], section: str
) -> Iterator[tuple[dict[str, str], list[Inspected] | str]]:
    """Each item with what was found in it, or with what is wrong with it."""

    def inspect(item: Item) -> list[Inspected] | str:
        try:
            return reader.inspect(item)
        except ValueError as error:
            return str(error)

    title = f"Looking into {reader.title}, {section}"
    return zip(files, thread_map(inspect, files, desc=title, unit="file", disable=None), strict=True)
