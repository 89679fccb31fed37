"""Reports about a dataset: its files, sizes, classes and problems, and its objects by class and size (Fig. 9)."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.atomic_write import replacing
from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.data.files import map_files
from afma_med.data.objects.sizes import SIZES, count_objects, group_objects
from afma_med.data.pictures import bits_range
from afma_med.data.problems import DatasetError
from afma_med.data.survey import Survey, describe_readings, find_image_range, survey_section
from afma_med.losses.frequency_balance import median_frequency_weights
from afma_med.visualize.figure_file import save_figure
from afma_med.visualize.object_chart import draw_object_counts, size_titles
from afma_med.visualize.text_table import format_share, format_table

__all__ = ["report_dataset", "report_objects"]

# Number of image sizes that the report names for each section.
_SHOWN = 4


def report_dataset(reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str]) -> tuple[str, bool]:
    """Read every file of a dataset and report sections, sizes, classes, objects, warnings and problems.

    Returns:
        The report, and whether there is no problem. A missing section is a problem, except the test section, which
        trainings do not need. Warnings and notes are not problems.

    Raises:
        FileNotFoundError: if the folder holds none of the sections.
    """
    surveys, missing = _survey(reader, root, sections)
    problems = [f"{section}: {error}" for section, error in missing.items() if section != "test"]
    problems += [text for survey in surveys.values() for text in survey.problems]
    warnings = list(dict.fromkeys(text for survey in surveys.values() for text in survey.warnings))
    parts = [f"{reader.title} at {root}\n{_section_table(surveys)}"]
    if any(survey.counts.any() for survey in surveys.values()):
        parts.append(_class_table(reader, surveys))
        if any(len(survey.files) != len(survey.items) for survey in surveys.values()):
            parts.append("Images of volumes are slices, as the network sees them; objects are those of whole volumes.")
    parts += _list_notes(surveys, missing)
    parts += [f"Warning: {text}" for text in warnings]
    sound = "Nothing is wrong with the files." if not warnings else f"No problems, but warnings: {len(warnings)}."
    parts.append(str(DatasetError(problems)) if problems else sound)
    return "\n\n".join(parts) + "\n", not problems


def report_objects(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str], output_dir: str | os.PathLike[str]
) -> str:
    """Count the objects of the scored classes in a dataset's labels, and write ``objects.csv`` and ``objects.png``.

    Sections that do not exist, or have no labels, are left out.

    Returns:
        The tables, and where the files are.

    Raises:
        FileNotFoundError: if the folder holds none of the sections.
        DatasetError: if files cannot be used; the message names all of them.
        ValueError: if no section has labels.
    """
    surveys, _ = _survey(reader, root, sections)
    problems = [text for survey in surveys.values() for text in survey.problems]
    if problems:
        raise DatasetError(problems)
    labelled = {name: survey for name, survey in surveys.items() if any("label" in item for item in survey.files)}
    if not labelled:
        raise ValueError(f"`section` must have labels; got {list(sections)} of {root}. Choose another section.")
    classes, folder = class_names(reader.classes), Path(output_dir)
    scored = [k for k, name in enumerate(classes) if name not in reader.unscored]
    names = [classes[k] for k in scored]
    counts = {section: _count_objects(reader, [survey])[scored] for section, survey in labelled.items()}
    with replacing(folder / "objects.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["section", "class", *SIZES])
        for section, rows in counts.items():
            writer.writerows([section, name, *row] for name, row in zip(names, rows.tolist(), strict=True))
    save_figure(
        draw_object_counts(counts, names, groups=reader.size_groups, title=reader.title), folder / "objects.png"
    )
    tables = []
    for section, rows in counts.items():
        summed = np.concatenate([rows, rows.sum(axis=0, keepdims=True)])
        cells = [(name, *map(str, row)) for name, row in zip([*names, "all classes"], summed.tolist(), strict=True)]
        tables.append(format_table((section, *size_titles(reader.size_groups)), cells))
    return "\n\n".join([*tables, f"Results are in {folder} (objects.csv, objects.png)\n"])


def _survey(
    reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str]
) -> tuple[dict[str, Survey], dict[str, FileNotFoundError]]:
    """The surveys of the sections that exist, and the errors of the others."""
    surveys, missing = {}, {}
    for section in sections:
        try:
            surveys[section] = survey_section(reader, root, section)
        except FileNotFoundError as error:
            missing[section] = error
    if not surveys:
        raise next(iter(missing.values()))
    return surveys, missing


def _count_objects(reader: DatasetReader, surveys: Collection[Survey]) -> NDArray[np.int64]:
    """(K,3) small, medium and large objects over whole labels; those of volumes in three dimensions."""
    classes, read_volume = len(class_names(reader.classes)), reader.read_volume

    def count(item: Item) -> NDArray[np.int64]:
        label, spacing = (reader.read_label(item), None) if read_volume is None else read_volume(item)
        return count_objects(label, classes, groups=reader.size_groups, spacing=spacing)

    counts = [group_objects(one.objects, classes, reader.size_groups) for one in surveys if one.objects is not None]
    uncounted = [survey for survey in surveys if survey.objects is None]
    # Items are images, or the slices of volumes; files are images or whole volumes.
    items = [item for one in uncounted for item in (one.files if read_volume else one.items) if "label" in item]
    counts += map_files(count, items, title="Counting objects", unit="label")
    return sum(counts, start=np.zeros((classes, len(SIZES)), dtype=np.int64))


def _list_notes(surveys: Mapping[str, Survey], missing: Mapping[str, FileNotFoundError]) -> list[str]:
    notes = []
    if "test" in missing:
        reason = str(missing["test"]).partition(" Pass the folder")[0]
        notes.append(f"Note: the section test is missing, which trainings do not need. {reason}")
    if readings := describe_readings(surveys.values()):
        notes.append(f"Note: {readings}")
    deep = {section: survey.highest for section, survey in surveys.items() if survey.highest is not None}
    if deep:
        used = [f"{section} {highest:g} ({_bits(highest)})" for section, highest in deep.items()]
        notes.append(
            f"Note: some pictures have more than 8 bits. Highest values: {', '.join(used)}. Training and prediction "
            f"scale by `image_range`, here {find_image_range(surveys):g}."
        )
    return notes


def _bits(highest: float) -> str:
    largest = bits_range(highest)
    return "fractions" if largest == 1 else f"{int(largest).bit_length()} bits"


def _section_table(surveys: Mapping[str, Survey]) -> str:
    rows = []
    for section, survey in surveys.items():
        sizes = [f"{height}×{width} ({count})" for (height, width), count in survey.sizes.most_common(_SHOWN)]
        more = f" and {len(survey.sizes) - _SHOWN} more" if len(survey.sizes) > _SHOWN else ""
        volumes = f", {len(survey.files)} volumes" if len(survey.files) != len(survey.items) else ""
        rows.append((section, str(len(survey.items)), ", ".join(sizes) + more + volumes))
    return format_table(("section", "images", "height×width (how many)"), rows, left=(0, 2))


def _class_table(reader: DatasetReader, surveys: Mapping[str, Survey]) -> str:
    counts = np.concatenate([survey.counts.numpy() for survey in surveys.values()])
    names, objects = class_names(reader.classes), _count_objects(reader, surveys.values())
    weights = ["-"] * len(names)
    # Only the training labels decide the weights of the loss.
    if "train" in surveys and surveys["train"].counts.any():
        weights = [f"{weight:.4f}" for weight in median_frequency_weights(surveys["train"].counts).tolist()]
    shares, images = counts.sum(axis=0) / max(counts.sum(), 1), (counts > 0).sum(axis=0)
    rows = [
        (name, format_share(shares[k], 2), str(images[k]), weights[k], *map(str, objects[k]))
        for k, name in enumerate(names)
    ]
    return format_table(("class", "pixels", "images", "weight", *size_titles(reader.size_groups)), rows)
