"""Tables of a comparison: which scores they show in which order, and their cells as text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from afma_med.data import READERS, DatasetReader, class_groups, class_names, with_mask_values
from afma_med.metrics.pixel_counts import COMPANY
from afma_med.research.comparison.paper import DEPTH, PaperTable, PaperValues, read_paper_tables
from afma_med.research.comparison.results import CONFIDENCE, ArmScores, Comparison, Difference, Gain, Interval, Summary
from afma_med.research.comparison.rivals import RIVAL_MARK
from afma_med.runs.run import Run
from afma_med.visualize.text_table import format_table

__all__ = ["Row", "TableLayout", "TextTable", "find_reader", "format_markdown", "group_classes"]
__all__ += ["lay_out_tables", "size_headings", "write_rivals", "write_table", "write_tables"]

_KINDS = ("IoU", "recall")


class TableLayout(NamedTuple):
    """Describe a table: its title, headings by score, and whether it belongs to the details."""

    title: str
    columns: dict[str, str]
    detail: bool = False


class Row(NamedTuple):
    """Hold a row of text: ``"arm"``, ``"difference"``, ``"interval"``, ``"paper"`` or ``"rival"``, and its cells."""

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
    """Return a heading with the bounds for each size of objects, by its name."""
    sizes = run.evaluation["size_groups"]
    names, bounds, unit = sizes["names"], sizes.get("bounds", ()), sizes.get("unit", "pixels")
    if not bounds:
        return {name: name for name in names}
    limits = [f"< {bounds[0]:g}", *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(bounds))]
    limits.append(f"> {bounds[-1]:g}")
    return {name: f"{name} {limit} {unit}" for name, limit in zip(names, limits, strict=True)}


def lay_out_tables(run: Run, scores: Iterable[str]) -> list[TableLayout]:
    """Lay out the tables: classes as in the paper's Tables 1 and 2, sizes as in Table 4, lone objects, other scores.

    Columns without one of the scores are left out, and tables without a column.
    """
    known = dict.fromkeys(scores)
    sizes, groups = [one for one in run.counts.objects[1:] if one not in COMPANY], group_classes(run)
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
    layouts = lay_out_tables(found.run, (name for one in found.arms for name in one.scores))
    return [write_table(layout, found.arms, found.gains, found.paper) for layout in layouts]


def write_table(
    layout: TableLayout, arms: Iterable[ArmScores], gains: Iterable[Gain], paper: Iterable[PaperTable]
) -> TextTable:
    """Write a table: mean ± sample standard deviation of each arm, the gains with their intervals, the paper's rows."""
    rows = [_arm_row(one, layout.columns) for one in arms]
    rows += [row for gain in gains for row in _gain_rows(gain, layout.columns)]
    rows += _paper_rows(paper, layout.columns)
    unit = "% but for distances" if any(map(_is_distance, layout.columns)) else "%"
    return TextTable(f"{layout.title}, {unit}", ("", "seeds", *layout.columns.values()), tuple(rows), layout.detail)


def write_rivals(found: Comparison) -> list[TextTable]:
    """Write the published figures of other systems below the IoU of the arms; no table without such figures."""
    if not found.rivals:
        return []
    names = [name for group in group_classes(found.run).values() for name in group]
    header = ("", "figures", *names, "mean", "protocol", "source")
    scores = [*(f"IoU/{name}" for name in names), "mIoU"]
    rows = [
        Row("arm", (one.arm.label, "IoU", *_arm_row(one, scores).cells[2:], found.scope, "this comparison"))
        for one in found.arms
    ]
    for rival in found.rivals:
        own = scores if rival.metric == "IoU" else [*(f"accuracy/{name}" for name in names), "mean accuracy"]
        cells = (_spell(rival.scores.get(score, math.nan), score) for score in own)
        rows.append(Row("rival", (rival.name, rival.metric, *cells, rival.protocol, rival.source)))
    return [TextTable(f"Other systems: {RIVAL_MARK}, %", header, tuple(rows))]


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


def _paper_rows(tables: Iterable[PaperTable], scores: Iterable[str]) -> Iterator[Row]:
    """The paper's networks, each depth with its difference from the baseline; none without any of the scores."""
    merged: dict[str, dict[tuple[bool, int], PaperValues]] = {}
    for own in (row for table in tables for row in table.rows):
        known = merged.setdefault(own.network, {}).setdefault((own.afma, own.depth), own)
        merged[own.network][own.afma, own.depth] = own._replace(scores={**known.scores, **own.scores})
    for own in (row for rows in merged.values() for row in rows.values()):
        values = {score: own.scores.get(score, math.nan) for score in scores}
        if all(map(math.isnan, values.values())):
            continue
        label = f"paper (ResNet-101): {own.network} {own.arm}"
        yield Row("paper", (label, "", *(_spell(value, score) for score, value in values.items())))
        if own.afma:
            baseline = merged[own.network][False, DEPTH].scores
            gains = {score: value - baseline.get(score, math.nan) for score, value in values.items()}
            cells = (_spell(value, score, signed=True) for score, value in gains.items())
            yield Row("paper", (f"{label} − baseline", "", *cells))


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


def _paper_order(reader: DatasetReader) -> list[str]:
    """Class names in the order of the paper's table of the dataset, or else of the class table."""
    for table in read_paper_tables():
        if table.dataset == reader.name:
            return [score.removeprefix("IoU/") for score in table.rows[0].scores if score.startswith("IoU/")]
    return class_names(reader.classes)
