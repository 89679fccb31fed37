"""Tables of text: variants, what AFMA adds, and the paper's rows beside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from afma_med.research.comparison.intervals import CONFIDENCE, Interval, Summary
from afma_med.research.comparison.layout import Column, TableLayout
from afma_med.research.comparison.paper import PaperTable
from afma_med.research.comparison.results import Difference, Gain, VariantScores
from afma_med.visualize.text_table import format_table

__all__ = ["Row", "TextTable", "format_markdown", "write_table"]

_NOTHING = "–"
_PAPER = "paper (ResNet-101)"
_LEVEL = f"{100 * CONFIDENCE:.0f} %"
_INTERVALS: dict[str, Callable[[Difference], Interval | None]] = {
    f"{_LEVEL} over seeds": lambda one: one.over_seeds,
    f"{_LEVEL} over images": lambda one: one.over_images,
}


class Row(NamedTuple):
    """Hold a row of text.

    Args:
        kind: ``"variant"``, ``"difference"``, ``"interval"`` (of the difference above) or ``"paper"``.
        cells: label, seeds, then one a column.
    """

    kind: str
    cells: tuple[str, ...]


class TextTable(NamedTuple):
    """Hold a table of text.

    Args:
        title: of the table.
        header: of its columns.
        rows: from top to bottom.
        detail: whether it is for those who want to know more.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    detail: bool = False


def write_table(
    layout: TableLayout, variants: Iterable[VariantScores], gains: Iterable[Gain], paper: Iterable[PaperTable]
) -> TextTable:
    """Write the figures of a table.

    Args:
        layout: its columns.
        variants: a row each: mean ± sample standard deviation over seeds.
        gains: a row each, and one for each of its intervals.
        paper: whose rows follow if they have scores of these columns.

    Returns:
        The table, of text.

    Example:
        >>> write_table(TableLayout("IoU", (Column("IoU/car", "car"),)), [], [], []).header
        ('', 'seeds', 'car')
    """
    columns = layout.columns
    rows = [_variant_row(one, columns) for one in variants]
    rows += [row for gain in gains for row in _gain_rows(gain, columns)]
    rows += _paper_rows(paper, columns)
    percent = all(column.factor == 100 for column in columns)
    title = f"{layout.title}, {'%' if percent else '% but for distances'}"
    return TextTable(title, ("", "seeds", *(column.heading for column in columns)), tuple(rows), layout.detail)


def format_markdown(table: TextTable) -> str:
    """Format a table as Markdown, with its title as a heading.

    Example:
        >>> table = TextTable("IoU, %", ("", "seeds", "car"), (Row("variant", ("AFMA", "3", "61.2 ± 0.4")),))
        >>> print(format_markdown(table))
        ## IoU, %
        <BLANKLINE>
        |      | seeds   | car        |
        |------|---------|------------|
        | AFMA | 3       | 61.2 ± 0.4 |
    """
    head, *rows = (
        [cell.replace("|", "\\|") for cell in cells] for cells in (table.header, *(row.cells for row in table.rows))
    )
    return f"## {table.title}\n\n{format_table(head, rows, left=range(len(head)), style='github')}"


def _variant_row(one: VariantScores, columns: Sequence[Column]) -> Row:
    summaries = [one.scores.get(column.score) for column in columns]
    cells = [_spell_summary(summary, column) for summary, column in zip(summaries, columns, strict=True)]
    return Row("variant", (one.variant.label, str(len(one.variant.runs)), *cells))


def _gain_rows(gain: Gain, columns: Sequence[Column]) -> list[Row]:
    """The difference, and its intervals where any column has one."""
    seeds = len(gain.pairing.common_seeds)
    known = [gain.scores.get(column.score) for column in columns]
    values = [
        _spell(one.value if one else math.nan, column, signed=True) for one, column in zip(known, columns, strict=True)
    ]
    rows = [Row("difference", (gain.pairing.label, str(seeds) if seeds else "unpaired", *values))]
    for label, pick in _INTERVALS.items():
        ends = [pick(one) if one else None for one in known]
        if any(ends):
            cells = (_spell_interval(one, column) for one, column in zip(ends, columns, strict=True))
            rows.append(Row("interval", (label, "", *cells)))
    return rows


def _paper_rows(tables: Iterable[PaperTable], columns: Sequence[Column]) -> list[Row]:
    """The paper's networks, and the difference of each pair; none without scores of the columns."""
    merged: dict[tuple[str, bool], dict[str, float]] = {}
    for table in tables:
        for own in table.rows:
            merged.setdefault((own.network, own.afma), {}).update(own.scores)
    rows = []
    for (network, afma), scores in merged.items():
        values = [scores.get(column.score, math.nan) for column in columns]
        if all(map(math.isnan, values)):
            continue
        cells = [_spell(value, column) for value, column in zip(values, columns, strict=True)]
        rows.append(Row("paper", (f"{_PAPER}: {network} {'AFMA' if afma else 'baseline'}", "", *cells)))
        if afma:
            baseline = merged[network, False]
            gains = [
                value - baseline.get(column.score, math.nan) for value, column in zip(values, columns, strict=True)
            ]
            cells = [_spell(gain, column, signed=True) for gain, column in zip(gains, columns, strict=True)]
            rows.append(Row("paper", (f"{_PAPER}: {network} AFMA − baseline", "", *cells)))
    return rows


def _spell_summary(summary: Summary | None, column: Column) -> str:
    if summary is None or summary.deviation is None:
        return _spell(summary.mean if summary else math.nan, column)
    return f"{_spell(summary.mean, column)} ± {_spell(summary.deviation, column)}"


def _spell_interval(interval: Interval | None, column: Column) -> str:
    if interval is None:
        return _NOTHING
    return f"{_spell(interval.low, column, signed=True)} to {_spell(interval.high, column, signed=True)}"


def _spell(value: float, column: Column, *, signed: bool = False) -> str:
    if math.isnan(value):
        return _NOTHING
    spelled = f"{value * column.factor:{'+' if signed else ''}.{column.digits}f}"
    # A true minus, as in the labels; and no sign for nothing.
    nothing = not float(spelled)
    return spelled.lstrip("+-") if nothing else spelled.replace("-", "−")
