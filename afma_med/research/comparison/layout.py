"""In what order people find classes and scores, and under which headings."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from afma_med.data import READERS, DatasetReader, class_groups, class_names
from afma_med.research.comparison.paper import read_paper_tables
from afma_med.runs.run import Run

__all__ = ["Column", "TableLayout", "find_reader", "group_classes", "lay_out_tables", "size_headings"]


class Column(NamedTuple):
    """Say what a column shows.

    Args:
        score: name of the score.
        heading: of the column.
        factor: what the score is multiplied with: 100 for percent.
        digits: behind the decimal point.
    """

    score: str
    heading: str
    factor: float = 100.0
    digits: int = 1


class TableLayout(NamedTuple):
    """Say what a table shows.

    Args:
        title: of the table.
        columns: from left to right.
        detail: whether it is for those who want to know more.
    """

    title: str
    columns: tuple[Column, ...]
    detail: bool = False


def find_reader(run: Run) -> DatasetReader | None:
    """Return the reader of a run's dataset; None for one that the package does not know.

    Example:
        >>> find_reader(Run("run", {"name": "lits_afma"}, {}, {}, None)).title
        'LiTS'
    """
    return READERS.get(run.settings["name"].removesuffix("_afma"))


def group_classes(run: Run) -> dict[str, list[str]]:
    """Group a run's scored classes: ``"small"`` and ``"large"`` after the paper, in its order, and ``"other"``.

    Args:
        run: any of those compared.

    Returns:
        Names by group; empty groups are left out.
    """
    reader = find_reader(run)
    ordered, grouped = list(run.counts.classes), {}
    if reader is not None:
        names = class_names(reader.classes)
        grouped = {names[k]: group for group, ids in class_groups(reader.classes).items() for k in ids}
        places = {name: i for i, name in enumerate(_paper_order(reader))}
        ordered.sort(key=lambda name: places.get(name, len(places)))
    groups: dict[str, list[str]] = {"small": [], "large": [], "other": []}
    for name in ordered:
        groups[grouped.get(name, "other")].append(name)
    return {group: names for group, names in groups.items() if names}


def size_headings(run: Run) -> dict[str, str]:
    """Say what each size of objects means, by its name.

    Example:
        >>> sizes = {"names": ["small", "large"], "bounds": [1024], "unit": "pixels"}
        >>> size_headings(Run("run", {}, {"size_groups": sizes}, {}, None))
        {'small': 'small < 1024 pixels', 'large': 'large > 1024 pixels'}
    """
    sizes = run.evaluation["size_groups"]
    names, bounds, unit = sizes["names"], sizes.get("bounds", ()), sizes.get("unit", "pixels")
    if not bounds:
        return {name: name for name in names}
    limits = [f"< {bounds[0]:g}"]
    limits += [f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds)]
    limits.append(f"> {bounds[-1]:g}")
    return {name: f"{name} {limit} {unit}" for name, limit in zip(names, limits, strict=True)}


def lay_out_tables(run: Run, scores: Iterable[str]) -> list[TableLayout]:
    """Lay out the tables: classes as in the paper's Tables 1 and 2, sizes as in Table 4, then all other scores.

    Args:
        run: any of those compared.
        scores: names that there are.

    Returns:
        The tables; columns without a score, and tables without a column, are left out.
    """
    known = list(dict.fromkeys(scores))
    sizes, groups = run.counts.objects[1:], group_classes(run)
    classes = [name for names in groups.values() for name in names]
    by_size = [Column(f"{kind}_by_size/{size}", f"{kind}, {size} objects") for kind in _KINDS for size in sizes]
    means = [Column(f"mIoU_{group}", f"mIoU {group}") for group in groups] + [Column("mIoU", "mIoU")]
    tables = [
        TableLayout("In short", (*means, *by_size[: len(sizes)])),
        TableLayout("IoU by class", _class_columns(groups)),
        TableLayout(f"By size of object: {', '.join(size_headings(run).values())}", tuple(by_size)),
    ]
    details = [
        TableLayout(
            f"{kind} of {size} objects by class",
            tuple(Column(f"{kind}_{size}_objects/{name}", name) for name in classes),
            detail=True,
        )
        for kind in _KINDS
        for size in sizes
    ]
    shown = {column.score for table in (*tables, *details) for column in table.columns}
    further = TableLayout("Further scores", tuple(_further_column(name) for name in known if name not in shown))
    found = [table._replace(columns=_those_in(table.columns, known)) for table in (*tables, further, *details)]
    return [table for table in found if table.columns]


_KINDS = ("IoU", "recall")


def _class_columns(groups: dict[str, list[str]]) -> tuple[Column, ...]:
    columns = []
    for group, names in groups.items():
        columns += [Column(f"IoU/{name}", name) for name in names]
        if group != "other":
            columns.append(Column(f"mIoU_{group}", f"mIoU {group}"))
    return (*columns, Column("mIoU", "mIoU"))


def _further_column(score: str) -> Column:
    return Column(score, score, factor=1.0, digits=2) if "distance" in score else Column(score, score)


def _those_in(columns: Sequence[Column], scores: Sequence[str]) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.score in scores)


def _paper_order(reader: DatasetReader) -> list[str]:
    """Class names in the order of the paper's table of the dataset, or that of the class table."""
    for table in read_paper_tables():
        if table.dataset == reader.name:
            return [score.removeprefix("IoU/") for score in table.rows[0].scores if score.startswith("IoU/")]
    return class_names(reader.classes)
