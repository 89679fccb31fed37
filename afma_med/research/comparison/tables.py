"""Tables of a comparison: which scores they show in which order, and their cells as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from afma_med.data import READERS, DatasetReader, class_groups, class_names
from afma_med.research.comparison.paper import PaperTable, read_paper_tables
from afma_med.research.comparison.results import (
    CONFIDENCE,
    ArmScores,
    Comparison,
    Difference,
    Gain,
    Interval,
    Summary,
)
from afma_med.runs.run import Run
from afma_med.visualize.text_table import format_table

__all__ = ["Column", "Row", "TableLayout", "TextTable", "find_reader", "format_markdown", "group_classes"]
__all__ += ["lay_out_tables", "size_headings", "write_table", "write_tables"]

_NOTHING = "–"
_PAPER = "paper (ResNet-101)"
_KINDS = ("IoU", "recall")


class Column(NamedTuple):
    """Describe a column.

    Args:
        score: name of the score.
        heading: of the column.
        factor: multiplies the score; 100 for percent.
        digits: number of decimals.
    """

    score: str
    heading: str
    factor: float = 100.0
    digits: int = 1


class TableLayout(NamedTuple):
    """Describe a table: its title, its columns, and whether it belongs to the details."""

    title: str
    columns: tuple[Column, ...]
    detail: bool = False


class Row(NamedTuple):
    """Hold a row of text.

    Args:
        kind: ``"arm"``, ``"difference"``, ``"interval"`` (of the difference above) or ``"paper"``.
        cells: label, seeds, then one for each column.
    """

    kind: str
    cells: tuple[str, ...]


class TextTable(NamedTuple):
    """Hold a table of text: title, header, rows, and whether it belongs to the details."""

    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    detail: bool = False


def find_reader(run: Run) -> DatasetReader | None:
    """Return the reader of a run's dataset; None if the package has no such dataset.

    Example:
        >>> find_reader(Run("run", {"name": "lits_afma"}, {}, {}, None)).title
        'LiTS'
    """
    return READERS.get(run.settings["name"].removesuffix("_afma"))


def group_classes(run: Run) -> dict[str, list[str]]:
    """Group a run's scored classes into ``"small"`` and ``"large"``, in the paper's order, and ``"other"``.

    Empty groups are left out.
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
    """Return a heading with the bounds for each size of objects, by its name.

    Example:
        >>> sizes = {"names": ["small", "large"], "bounds": [1024], "unit": "pixels"}
        >>> size_headings(Run("run", {}, {"size_groups": sizes}, {}, None))
        {'small': 'small < 1024 pixels', 'large': 'large > 1024 pixels'}
    """
    sizes = run.evaluation["size_groups"]
    names, bounds, unit = sizes["names"], sizes.get("bounds", ()), sizes.get("unit", "pixels")
    if not bounds:
        return {name: name for name in names}
    limits = [f"< {bounds[0]:g}", *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds))]
    limits.append(f"> {bounds[-1]:g}")
    return {name: f"{name} {limit} {unit}" for name, limit in zip(names, limits, strict=True)}


def lay_out_tables(run: Run, scores: Iterable[str]) -> list[TableLayout]:
    """Lay out the tables: classes as in the paper's Tables 1 and 2, sizes as in Table 4, then all other scores.

    Args:
        run: any of those compared.
        scores: names of the scores that the runs have.

    Returns:
        The layouts; columns without a score, and tables without a column, are left out.
    """
    known = dict.fromkeys(scores)
    sizes, groups = run.counts.objects[1:], group_classes(run)
    means = {group: Column(f"mIoU_{group}", f"mIoU {group}") for group in groups}
    by_class: list[Column] = []
    for group, names in groups.items():
        by_class += [Column(f"IoU/{name}", name) for name in names]
        by_class += [means[group]] if group != "other" else []
    by_size = [Column(f"{kind}_by_size/{size}", f"{kind}, {size} objects") for kind in _KINDS for size in sizes]
    miou = Column("mIoU", "mIoU")
    tables = [
        TableLayout("In short", (*means.values(), miou, *by_size[: len(sizes)])),
        TableLayout("IoU by class", (*by_class, miou)),
        TableLayout(f"By size of object: {', '.join(size_headings(run).values())}", tuple(by_size)),
    ]
    details = [
        TableLayout(
            f"{kind} of {size} objects by class",
            tuple(Column(f"{kind}_{size}_objects/{name}", name) for names in groups.values() for name in names),
            detail=True,
        )
        for kind in _KINDS
        for size in sizes
    ]
    shown = {column.score for table in (*tables, *details) for column in table.columns}
    further = tuple(
        Column(name, name, factor=1.0, digits=2) if "distance" in name else Column(name, name)
        for name in known
        if name not in shown
    )
    found = [
        table._replace(columns=tuple(column for column in table.columns if column.score in known))
        for table in (*tables, TableLayout("Further scores", further), *details)
    ]
    return [table for table in found if table.columns]


def write_tables(found: Comparison) -> list[TextTable]:
    """Write all tables of a comparison."""
    layouts = lay_out_tables(found.run, (name for one in found.arms for name in one.scores))
    return [write_table(layout, found.arms, found.gains, found.paper) for layout in layouts]


def write_table(
    layout: TableLayout, arms: Iterable[ArmScores], gains: Iterable[Gain], paper: Iterable[PaperTable]
) -> TextTable:
    """Write a table.

    Args:
        layout: its columns.
        arms: a row each: mean ± sample standard deviation over seeds.
        gains: a row each, and one for each of its intervals.
        paper: their rows follow if they have scores of these columns.

    Example:
        >>> write_table(TableLayout("IoU", (Column("IoU/car", "car"),)), [], [], []).header
        ('', 'seeds', 'car')
    """
    columns = layout.columns
    rows = [_arm_row(one, columns) for one in arms]
    rows += [row for gain in gains for row in _gain_rows(gain, columns)]
    rows += _paper_rows(paper, columns)
    percent = all(column.factor == 100 for column in columns)
    title = f"{layout.title}, {'%' if percent else '% but for distances'}"
    return TextTable(title, ("", "seeds", *(column.heading for column in columns)), tuple(rows), layout.detail)


def format_markdown(table: TextTable) -> str:
    """Format a table as Markdown, with its title as a heading.

    Example:
        >>> table = TextTable("IoU, %", ("", "seeds", "car"), (Row("arm", ("AFMA", "3", "61.2 ± 0.4")),))
        >>> print(format_markdown(table))
        ## IoU, %
        <BLANKLINE>
        |      | seeds   | car        |
        |------|---------|------------|
        | AFMA | 3       | 61.2 ± 0.4 |
    """
    lines = (table.header, *(row.cells for row in table.rows))
    head, *rows = ([cell.replace("|", "\\|") for cell in cells] for cells in lines)
    return f"## {table.title}\n\n{format_table(head, rows, left=range(len(head)), style='github')}"


def _arm_row(one: ArmScores, columns: Sequence[Column]) -> Row:
    cells = [_spell_summary(one.scores.get(column.score, Summary()), column) for column in columns]
    return Row("arm", (one.arm.label, str(len(one.arm.runs)), *cells))


def _gain_rows(gain: Gain, columns: Sequence[Column]) -> list[Row]:
    """The difference, and its intervals where any column has one."""
    seeds, known = gain.pairing.common_seeds, [gain.scores.get(column.score, Difference()) for column in columns]
    values = _cells([one.value for one in known], columns, signed=True)
    rows = [Row("difference", (gain.pairing.label, str(len(seeds) or "unpaired"), *values))]
    over: dict[str, Callable[[Difference], Interval | None]] = {
        "seeds": lambda one: one.over_seeds,
        "images": lambda one: one.over_images,
    }
    for what, pick in over.items():
        intervals = [pick(one) for one in known]
        if any(intervals):
            cells = map(_spell_interval, intervals, columns)
            rows.append(Row("interval", (f"{CONFIDENCE:.0%} over {what}".replace("%", " %"), "", *cells)))
    return rows


def _paper_rows(tables: Iterable[PaperTable], columns: Sequence[Column]) -> list[Row]:
    """The paper's networks and the difference of each pair; none without scores of the columns."""
    merged: dict[tuple[str, bool], dict[str, float]] = {}
    for table in tables:
        for own in table.rows:
            merged.setdefault((own.network, own.afma), {}).update(own.scores)
    rows = []
    for (network, afma), scores in merged.items():
        values = [scores.get(column.score, math.nan) for column in columns]
        if all(map(math.isnan, values)):
            continue
        label = f"{_PAPER}: {network} {'AFMA' if afma else 'baseline'}"
        rows.append(Row("paper", (label, "", *_cells(values, columns))))
        if afma:
            baseline = (merged[network, False].get(column.score, math.nan) for column in columns)
            gains = [value - other for value, other in zip(values, baseline, strict=True)]
            rows.append(Row("paper", (f"{label} − baseline", "", *_cells(gains, columns, signed=True))))
    return rows


def _cells(values: Iterable[float], columns: Iterable[Column], *, signed: bool = False) -> list[str]:
    return [_spell(value, column, signed=signed) for value, column in zip(values, columns, strict=True)]


def _spell_summary(summary: Summary, column: Column) -> str:
    mean = _spell(summary.mean, column)
    return mean if summary.deviation is None else f"{mean} ± {_spell(summary.deviation, column)}"


def _spell_interval(interval: Interval | None, column: Column) -> str:
    return _NOTHING if interval is None else " to ".join(_spell(end, column, signed=True) for end in interval)


def _spell(value: float, column: Column, *, signed: bool = False) -> str:
    if math.isnan(value):
        return _NOTHING
    spelled = f"{value * column.factor:{'+' if signed else ''}.{column.digits}f}"
    # A true minus, as in the labels, and no sign before zero.
    return spelled.replace("-", "−") if float(spelled) else spelled.lstrip("+-")


def _paper_order(reader: DatasetReader) -> list[str]:
    """Class names in the order of the paper's table of the dataset, or else of the class table."""
    for table in read_paper_tables():
        if table.dataset == reader.name:
            return [score.removeprefix("IoU/") for score in table.rows[0].scores if score.startswith("IoU/")]
    return class_names(reader.classes)
