"""Tables of a comparison: which scores they show in which order, and their cells as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from afma_med.comparison.results import (
    CONFIDENCE,
    ArmScores,
    Comparison,
    Difference,
    Gain,
    Interval,
    PublishedRow,
    Summary,
)
from afma_med.data import READERS, DatasetReader, class_groups, class_names, with_mask_values
from afma_med.metrics.pixel_counts import COMPANY
from afma_med.runs.run import Run
from afma_med.visualize.text_table import format_table

__all__ = ["Row", "TableLayout", "TextTable", "find_reader", "format_markdown", "group_classes"]
__all__ += ["lay_out_tables", "size_headings", "write_table", "write_tables"]

_KINDS = ("IoU", "recall")


class TableLayout(NamedTuple):
    """Describe a table: its title, headings by score, and whether it belongs to the details."""

    title: str
    columns: dict[str, str]
    detail: bool = False


class Row(NamedTuple):
    """Hold a row of text: ``"arm"``, ``"difference"``, ``"interval"`` or ``"published"``, and its cells."""

    kind: str
    cells: tuple[str, ...]


class TextTable(NamedTuple):
    """Hold a table of text: title, header, rows, and whether it belongs to the details."""

    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    detail: bool = False


def find_reader(run: Run) -> DatasetReader | None:
    """Return the reader of a run's dataset; None if the package has no such dataset."""
    reader = READERS.get(run.settings["name"].removesuffix("_afma"))
    return reader and with_mask_values(reader, run.settings.get("mask_values", "auto"))


def group_classes(run: Run, order: Sequence[str] = ()) -> dict[str, list[str]]:
    """Group a run's scored classes into ``"small"``, ``"large"`` and ``"other"``; empty groups are left out.

    The classes of a group have the given order, or else that of the dataset's class table.
    """
    reader = find_reader(run)
    ordered, grouped = list(run.counts.classes), {}
    if reader is not None:
        names = class_names(reader.classes)
        grouped = {names[k]: group for group, ids in class_groups(reader.classes).items() for k in ids}
        places = {name: i for i, name in enumerate(order or names)}
        ordered.sort(key=lambda name: places.get(name, len(places)))
    groups: dict[str, list[str]] = {"small": [], "large": [], "other": []}
    for name in ordered:
        groups[grouped.get(name, "other")].append(name)
    return {group: names for group, names in groups.items() if names}


def size_headings(run: Run) -> dict[str, str]:
    """Return a heading with the bounds for each size of objects, by its name."""
    sizes = run.evaluation["size_groups"]
    names, bounds, unit = sizes["names"], sizes.get("bounds", ()), sizes.get("unit", "pixels")
    if not bounds:
        return {name: name for name in names}
    limits = [f"< {bounds[0]:g}", *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds))]
    limits.append(f"> {bounds[-1]:g}")
    return {name: f"{name} {limit} {unit}" for name, limit in zip(names, limits, strict=True)}


def lay_out_tables(run: Run, scores: Iterable[str], class_order: Sequence[str] = ()) -> list[TableLayout]:
    """Lay out the tables: classes as in the paper's Tables 1 and 2, sizes as in Table 4, lone objects, other scores.

    Columns without one of the scores are left out, and tables without a column.
    """
    known = dict.fromkeys(scores)
    sizes, groups = [one for one in run.counts.objects[1:] if one not in COMPANY], group_classes(run, class_order)
    means = {f"mIoU_{group}": f"mIoU {group}" for group in groups}
    by_class: dict[str, str] = {}
    for group, names in groups.items():
        by_class |= {f"IoU/{name}": name for name in names}
        by_class |= {f"mIoU_{group}": f"mIoU {group}"} if group != "other" else {}
    of_size = {kind: {f"{kind}_by_size/{size}": f"{kind}, {size} objects" for size in sizes} for kind in _KINDS}
    of_company = {f"{kind}_by_company/{one}": f"{kind}, {one} objects" for kind in _KINDS for one in COMPANY}
    miou = {"mIoU": "mIoU"}
    tables = [
        TableLayout("In short", {**means, **miou, **of_size["IoU"]}),
        TableLayout("IoU by class", {**by_class, **miou}),
        TableLayout(f"By size of object: {', '.join(size_headings(run).values())}", of_size["IoU"] | of_size["recall"]),
        TableLayout("Lone objects (the only one of their class in an image) and accompanied ones", of_company),
    ]
    details = []
    for kind, which in itertools.product(_KINDS, (*sizes, *COMPANY)):
        columns = {f"{kind}_{which}_objects/{name}": name for names in groups.values() for name in names}
        details.append(TableLayout(f"{kind} of {which} objects by class", columns, detail=True))
    shown = {score for table in (*tables, *details) for score in table.columns}
    further = TableLayout("Further scores", {name: name for name in known if name not in shown})
    found = [
        table._replace(columns={score: heading for score, heading in table.columns.items() if score in known})
        for table in (*tables, further, *details)
    ]
    return [table for table in found if table.columns]


def write_tables(found: Comparison) -> list[TextTable]:
    """Write all tables of a comparison."""
    layouts = lay_out_tables(
        found.run, (name for one in found.arms for name in one.scores), found.published.class_order
    )
    return [write_table(layout, found.arms, found.gains, found.published.rows) for layout in layouts]


def write_table(
    layout: TableLayout, arms: Iterable[ArmScores], gains: Iterable[Gain], published: Iterable[PublishedRow] = ()
) -> TextTable:
    """Write a table: mean ± sample standard deviation of each arm, the gains with their intervals, published rows."""
    rows = [_arm_row(one, layout.columns) for one in arms]
    rows += [row for gain in gains for row in _gain_rows(gain, layout.columns)]
    rows += _published_rows(published, [*layout.columns])
    unit = "% but for distances" if any(map(_is_distance, layout.columns)) else "%"
    return TextTable(f"{layout.title}, {unit}", ("", "seeds", *layout.columns.values()), tuple(rows), layout.detail)


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


def _arm_row(one: ArmScores, scores: Iterable[str]) -> Row:
    cells = []
    for score in scores:
        mean, deviation, _ = one.scores.get(score, Summary())
        cells.append(_spell(mean, score) + ("" if deviation is None else f" ± {_spell(deviation, score)}"))
    return Row("arm", (one.arm.label, str(len(one.arm.runs)), *cells))


def _gain_rows(gain: Gain, scores: Iterable[str]) -> Iterator[Row]:
    """The difference, and its intervals where any score has one."""
    known = {score: gain.scores.get(score, Difference()) for score in scores}
    values = (_spell(one.value, score, signed=True) for score, one in known.items())
    yield Row("difference", (gain.pairing.label, str(len(gain.pairing.common_seeds) or "unpaired"), *values))
    for what in ("seeds", "images"):
        ends: dict[str, Interval | None] = {score: getattr(one, f"over_{what}") for score, one in known.items()}
        if any(ends.values()):
            cells = (
                " to ".join(_spell(end, score, signed=True) for end in interval or [math.nan])
                for score, interval in ends.items()
            )
            yield Row("interval", (f"{100 * CONFIDENCE:.0f} % over {what}", "", *cells))


def _published_rows(published: Iterable[PublishedRow], scores: Sequence[str]) -> Iterator[Row]:
    """The rows that have any of the scores."""
    for own in published:
        values = [own.scores.get(score, math.nan) for score in scores]
        if not all(map(math.isnan, values)):
            spelled = (_spell(x, score, signed=own.is_difference) for x, score in zip(values, scores, strict=True))
            yield Row("published", (own.label, "", *spelled))


def _is_distance(score: str) -> bool:
    return "distance" in score


def _spell(value: float, score: str, *, signed: bool = False) -> str:
    """A fraction in percent, or a distance in its own unit; a dash for NaN."""
    if math.isnan(value):
        return "–"
    factor, digits = (1, 2) if _is_distance(score) else (100, 1)
    spelled = f"{value * factor:{'+' if signed else ''}.{digits}f}"
    # A true minus, as in the labels, and no sign before zero.
    return spelled.replace("-", "−") if float(spelled) else spelled.lstrip("+-")
