"""Advice on a dataset's small objects before any training: what a network would lose, and settings that keep it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.advice.recommendations import (
    LEAST_PIXELS,
    PATCH,
    SIDE_MULTIPLE,
    MeasuredObjects,
    Recommendation,
    recommend,
    share_of_classes,
)
from afma_med.atomic_write import replacing
from afma_med.data.class_table import background_classes, class_names
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.data.files import map_files
from afma_med.data.objects.shapes import ObjectShapes, measure_objects
from afma_med.data.survey import Survey, survey_dataset
from afma_med.networks import list_features
from afma_med.networks.encoder_weights import create_backbone
from afma_med.visualize.figure_file import save_figure
from afma_med.visualize.object_chart import draw_lost_objects
from afma_med.visualize.text_table import format_share, format_table

__all__ = ["Advice", "advise", "write_advice"]

# Enlargements of the resized images that are tried, to find one that loses little.
_ENLARGEMENTS = (1, 1.25, 1.5, 2, 3, 4)


class Advice(NamedTuple):
    """Hold the measurements of a dataset's objects, and the recommendations.

    Args:
        columns: names of the columns of ``shares``.
        shares: by class, the share of its objects that each column names.
        sizes: by class, the number of objects and the 10th, 50th and 90th percentile of their size.
        unit: of the sizes.
        recommendations: one for each setting.
    """

    columns: list[str]
    shares: dict[str, list[float]]
    sizes: dict[str, list[float]]
    unit: str
    recommendations: list[Recommendation]


def advise(
    reader: DatasetReader,
    root: str | os.PathLike[str],
    *,
    section: str = "train",
    network: str = "Unet",
    encoder: str = "resnet34",
    longest_side: int | None = None,
) -> Advice:
    """Look at the objects of a dataset's labels, and recommend settings that keep the small ones.

    Args:
        reader: the dataset.
        root: its folder.
        section: the section whose labels are read.
        network: name of a network of segmentation_models_pytorch.
        encoder: name of its encoder; its strides are the cells that objects are compared with.
        longest_side: longest side in pixels that images are resized to; None keeps their size.

    Raises:
        FileNotFoundError: if the folder does not hold the section.
        DatasetError: if files cannot be used; the message names all of them.
        ValueError: if the section has no labels or no objects, or the network is unknown.
    """
    survey = survey_dataset(reader, root, [section])[section]
    strides = _strides(network, encoder)
    found = _measure(reader, survey, strides, longest_side)
    if not found.rare_classes():
        raise ValueError(
            f"`section` must have objects; the labels of {section!r} hold background alone. "
            "Choose another section, or look at the labels."
        )
    columns = {
        "lost by resizing": found.objects.area == 0,
        "thinner than 2 pixels": found.objects.is_thin,
        **{f"smaller than a cell of stride {stride}": found.objects.area < stride**2 for stride in strides.values()},
        f"smaller than an image patch of {PATCH}×{PATCH}": found.objects.area < PATCH**2,
        **{
            f"smaller than a feature patch at stride {stride}": found.objects.area < (PATCH * stride) ** 2
            for stride in [*strides.values()][:3]
        },
        **{f"skipped at stride {stride}": found.objects.is_skipped[:, i] for i, stride in enumerate(strides.values())},
    }
    names, shares = (
        class_names(reader.classes),
        [share_of_classes(found.objects.owner, flags, len(class_names(reader.classes))) for flags in columns.values()],
    )
    left_out = {*reader.unscored, *(names[k] for k in background_classes(names))}
    scored = [k for k, name in enumerate(names) if name not in left_out and (found.objects.owner == k).any()]
    sizes = {k: found.objects.size[found.objects.owner == k] for k in scored}
    return Advice(
        list(columns),
        {names[k]: [float(share[k]) for share in shares] for k in scored},
        {names[k]: [len(own), *map(float, np.percentile(own, (10, 50, 90)))] for k, own in sizes.items()},
        "pixels" if reader.read_volume is None else "mm²",
        recommend(found),
    )


def write_advice(advice: Advice, title: str, output_dir: str | os.PathLike[str]) -> str:
    """Write ``advice.json``, ``advice.png`` and the overlay ``advised.json``, and return the text of the advice."""
    folder = Path(output_dir)
    overlay = {name: value for one in advice.recommendations for name, value in one.ids.items()}
    content = {**advice._asdict(), "recommendations": [one._asdict() for one in advice.recommendations]}
    for name, value in (("advice.json", content), ("advised.json", overlay)):
        with replacing(folder / name) as temporary:
            temporary.write_text(json.dumps(value, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    save_figure(draw_lost_objects(advice.shares, advice.columns, title=title), folder / "advice.png")
    head = ("class", "objects", *(f"{share} % below ({advice.unit})" for share in (10, 50, 90)))
    rows = [(name, f"{row[0]:.0f}", *(f"{value:.0f}" for value in row[1:])) for name, row in advice.sizes.items()]
    cells = [(name, *(format_share(share) for share in row)) for name, row in advice.shares.items()]
    choices = f"Recommendations (smaller objects than {LEAST_PIXELS} pixels count where a class has few others):\n\n"
    choices += "\n\n".join(f"{one.setting}: {one.choice}\n  {one.reason}" for one in advice.recommendations)
    return (
        f"{format_table(head, rows)}\n\nShare of each class's objects:\n\n"
        f"{format_table(('share', *advice.shares), _transpose(advice.columns, cells))}\n\n{choices}\n\n"
        f"The advice is in {folder} (advice.json, advice.png). To train with it, append {folder / 'advised.json'} to "
        "--config_file.\n"
    )


def _transpose(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    return [(column, *(row[i + 1] for row in rows)) for i, column in enumerate(columns)]


def _strides(network: str, encoder: str) -> dict[int, int]:
    """Stride by encoder depth."""
    try:
        features = list_features(create_backbone(network, encoder))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"`network` and `encoder` must be names of segmentation_models_pytorch; got {network!r} and {encoder!r}: "
            f"{error}. Choose others."
        ) from error
    return {info.feature: info.stride for info in features if isinstance(info.feature, int)}


def _measure(
    reader: DatasetReader, survey: Survey, strides: Mapping[int, int], longest_side: int | None
) -> MeasuredObjects:
    classes = len(class_names(reader.classes))
    sides = (
        []
        if longest_side is None
        else [round(longest_side * factor / SIDE_MULTIPLE) * SIDE_MULTIPLE for factor in _ENLARGEMENTS]
    )

    def measure(item: Item) -> list[list[ObjectShapes]]:
        labels, spacing = _labels(reader, item)
        options: dict[str, Any] = {"strides": [*strides.values()], "spacing": spacing}
        return [
            [measure_objects(label, classes, longest_side=side, **options) for label in labels]
            for side in (longest_side, *sides)
        ]

    items = [item for item in (survey.items if reader.read_volume is None else survey.files) if "label" in item]
    measured = map_files(measure, items, title="Measuring objects", unit="label")
    own, *others = (_join([table for tables in measured for table in tables[i]]) for i in range(1 + len(sides)))
    lost = {side: share_of_classes(one.owner, one.area == 0, classes) for side, one in zip(sides, others, strict=True)}
    image_side = round(float(np.median([min(size) for size in survey.sizes.elements()])))
    return MeasuredObjects(reader, own, lost, dict(strides), survey.counts.numpy(), longest_side, image_side)


def _labels(reader: DatasetReader, item: Item) -> tuple[list[NDArray[np.uint8]], tuple[float, ...] | None]:
    """The label of an image, or those of a volume's slices with their spacing."""
    if reader.read_volume is None:
        return [reader.read_label(item)], None
    volume, spacing = reader.read_volume(item)
    return list(np.moveaxis(volume, -1, 0)), spacing[:2]


def _join(tables: Sequence[ObjectShapes]) -> ObjectShapes:
    return ObjectShapes(*(np.concatenate(parts) for parts in zip(*tables, strict=True)))
