"""How many objects of each class a dataset has, by size (Fig. 9): counted in its labels, as table, CSV and chart."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm.contrib.concurrent import thread_map

from afma_med.atomic_write import replacing
from afma_med.data.class_table import class_names
from afma_med.data.datalist import DatasetError
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.data.object_sizes import SIZES, count_objects
from afma_med.data.survey import Survey, survey_section
from afma_med.visualize.figure_file import save_figure
from afma_med.visualize.object_chart import draw_object_counts, size_titles
from afma_med.visualize.text_table import format_table

__all__ = ["count_dataset_objects", "report_objects"]


def count_dataset_objects(reader: DatasetReader, surveys: Iterable[Survey]) -> NDArray[np.int64]:
    """Count the objects of each class by size over whole labels; those of volumes in three dimensions.

    Args:
        reader: the dataset, which says what is small and what is large.
        surveys: of its sections.

    Returns:
        (K,3) small, medium and large objects.
    """
    classes, read_volume = len(class_names(reader.classes)), reader.read_volume

    def count(item: Item) -> NDArray[np.int64]:
        label, spacing = (reader.read_label(item), None) if read_volume is None else read_volume(item)
        return count_objects(label, classes, groups=reader.size_groups, spacing=spacing)

    # Items are images, or the slices of volumes; files are images or whole volumes.
    items = [item for survey in surveys for item in (survey.files if read_volume else survey.items) if "label" in item]
    counts = thread_map(count, items, desc="Counting objects", unit="label", disable=None)
    return sum(counts, start=np.zeros((classes, len(SIZES)), dtype=np.int64))


def report_objects(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str], output_dir: str | os.PathLike[str]
) -> str:
    """Write ``objects.csv`` and the bar chart ``objects.png``, from a dataset's labels only, of its scored classes.

    Args:
        reader: the dataset.
        root: its folder.
        sections: which sections; those that are not there, or have no labels, are left out.
        output_dir: folder for the two files, which are replaced.

    Returns:
        The table for people, and where the files are.

    Raises:
        FileNotFoundError: if the folder holds none of the sections.
        DatasetError: naming every file that cannot be used.
        ValueError: if no section has labels.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> folder = tempfile.mkdtemp()
        >>> root = write_street_scenes(folder + "/scenes", counts={"train": 1}, size=(48, 64))
        >>> print(report_objects(CAMVID, root, ["train"], folder).splitlines()[0])
        train          small (< 1024 pixels)    medium (1024 to 9216 pixels)    large (> 9216 pixels)
    """
    scored = [k for k, name in enumerate(class_names(reader.classes)) if name not in reader.unscored]
    counts = {section: rows[scored] for section, rows in _count_sections(reader, root, sections).items()}
    names, folder = [class_names(reader.classes)[k] for k in scored], Path(output_dir)
    with replacing(folder / "objects.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["section", "class", *SIZES])
        writer.writerows(
            [section, name, *row] for section, k in counts.items() for name, row in zip(names, k.tolist(), strict=True)
        )
    figure = draw_object_counts(counts, names, groups=reader.size_groups, title=reader.title)
    save_figure(figure, folder / "objects.png")
    table = "\n\n".join(
        _table(section, rows, names, size_titles(reader.size_groups)) for section, rows in counts.items()
    )
    return f"{table}\n\nResults are in {folder} (objects.csv, objects.png)\n"


def _count_sections(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str]
) -> dict[str, NDArray[np.int64]]:
    surveys, missing = {}, []
    for section in sections:
        try:
            surveys[section] = survey_section(reader, root, section)
        except FileNotFoundError as error:
            missing.append(error)
    if not surveys:
        raise missing[0]
    problems = [text for survey in surveys.values() for text in survey.problems]
    if problems:
        raise DatasetError(problems)
    labelled = {name: survey for name, survey in surveys.items() if any("label" in item for item in survey.files)}
    if not labelled:
        raise ValueError(f"`section` must have labels; got {list(sections)} of {root}. Choose another section.")
    return {name: count_dataset_objects(reader, [survey]) for name, survey in labelled.items()}


def _table(section: str, counts: NDArray[np.int64], names: Sequence[str], titles: Sequence[str]) -> str:
    rows = [(name, *map(str, row)) for name, row in zip(names, counts.tolist(), strict=True)]
    rows.append(("all classes", *map(str, counts.sum(axis=0).tolist())))
    return format_table((section, *titles), rows)
