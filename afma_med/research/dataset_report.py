"""A dataset in figures, for people: sections, sizes, classes with their weights, objects by size, problems."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.pictures import bits_range
from afma_med.data.problems import DatasetError
from afma_med.data.survey import Survey, find_image_range, survey_section
from afma_med.losses.frequency_balance import median_frequency_weights
from afma_med.research.object_report import count_dataset_objects
from afma_med.visualize.object_chart import size_titles
from afma_med.visualize.text_table import format_table

__all__ = ["report_dataset"]

# More sizes than this in a row help nobody.
_SHOWN = 4


def report_dataset(reader: DatasetReader, root: str | os.PathLike[str], sections: Sequence[str]) -> tuple[str, bool]:
    """Look into every file of a dataset and write down what was found.

    Args:
        reader: the dataset.
        root: its folder.
        sections: which sections. A missing section is a problem; a missing test section is a note, because trainings
            do not need it.

    Returns:
        The report, and whether there is no problem; warnings and notes are not problems.

    Raises:
        FileNotFoundError: if the folder holds none of the sections.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> root = write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2}, size=(48, 64))
        >>> report, sound = report_dataset(CAMVID, root, ["train"])
        >>> print(report.splitlines()[2], sound)
        train             2  48×64 (2) True
    """
    surveys: dict[str, Survey] = {}
    missing: dict[str, str] = {}
    for section in sections:
        try:
            surveys[section] = survey_section(reader, root, section)
        except FileNotFoundError as error:
            missing[section] = str(error)
    if not surveys:
        raise FileNotFoundError(next(iter(missing.values())))
    problems = [f"{section}: {text}" for section, text in missing.items() if section != "test"]
    problems += [text for survey in surveys.values() for text in survey.problems]
    warnings = list(dict.fromkeys(text for survey in surveys.values() for text in survey.warnings))
    parts = [f"{reader.title} at {root}", _section_table(surveys)]
    if any(survey.counts.any() for survey in surveys.values()):
        parts.append(_class_table(reader, surveys))
        if any(len(survey.files) != len(survey.items) for survey in surveys.values()):
            parts.append("Images of volumes are slices, as the network sees them; objects are those of whole volumes.")
    parts += _list_notes(surveys, missing)
    parts += [f"Warning: {text}" for text in warnings]
    sound = "Nothing is wrong with the files." if not warnings else f"No problems, but warnings: {len(warnings)}."
    parts.append(str(DatasetError(problems)) if problems else sound)
    return "\n\n".join(parts).replace("\n\n", "\n", 1) + "\n", not problems


def _list_notes(surveys: Mapping[str, Survey], missing: Mapping[str, str]) -> list[str]:
    notes = []
    if "test" in missing:
        reason = missing["test"].partition(" Pass the folder")[0]
        notes.append(f"Note: the section test is missing, which trainings do not need. {reason}")
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
    share = counts.sum(axis=0) / max(counts.sum(), 1)
    images = (counts > 0).sum(axis=0)
    training = surveys.get("train")
    # Only the training labels decide how the loss weighs a class.
    weighed = training is not None and bool(training.counts.any())
    weights = median_frequency_weights(training.counts).tolist() if weighed and training is not None else None
    objects = count_dataset_objects(reader, surveys.values())
    rows = [
        (name, f"{share[k]:.2%}", str(images[k]), f"{weights[k]:.4f}" if weights else "-", *map(str, objects[k]))
        for k, name in enumerate(class_names(reader.classes))
    ]
    head = ("class", "pixels", "images", "weight", *size_titles(reader.size_groups))
    return format_table(head, rows)
