"""The paper's own Tables 1 (CamVid), 2 (Cityscapes), 3 (CamVid by depth) and 4 (CamVid by object size)."""

from __future__ import annotations

import functools
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.comparison.results import Published, PublishedRow
from afma_med.runs.run import Run

__all__ = ["DEPTH", "PAPER_TRAINING", "PaperTable", "PaperValues", "find_paper_tables", "publish_paper"]
__all__ += ["read_paper_tables"]

#: How the paper's networks were trained.
PAPER_TRAINING = "ResNet-101 from scratch, the paper's own training"


#: The depth of AFMA in all tables but Table 3.
DEPTH = 2


class PaperValues(NamedTuple):
    """Hold a row of a table: a network of segmentation_models_pytorch, with AFMA or not, scores by name, depth."""

    network: str
    afma: bool
    scores: dict[str, float]
    depth: int = DEPTH

    @property
    def arm(self) -> str:
        """Return ``"baseline"``, ``"AFMA"``, or ``"AFMA depth 3"`` if the depth is not that of the other tables."""
        return ("AFMA" if self.depth == DEPTH else f"AFMA depth {self.depth}") if self.afma else "baseline"


class PaperTable(NamedTuple):
    """Hold a table of the paper.

    Args:
        source: the paper.
        number: of the table.
        dataset: name of the reader.
        section: the section that the paper evaluated.
        beside: section and number of images of the runs that the table may be shown with.
        rows: networks, each without and with AFMA.
    """

    source: str
    number: int
    dataset: str
    section: str
    beside: dict[str, Any]
    rows: tuple[PaperValues, ...]


@functools.cache
def _read_file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name("paper_tables.json").read_text(encoding="utf-8"))
    return content


@functools.cache
def read_paper_tables() -> tuple[PaperTable, ...]:
    """Read the tables of the paper; scores are fractions of 1."""
    content, tables = _read_file(), []
    for table in content["tables"]:
        rows = []
        for row in table["rows"]:
            fractions = [round(value / 100, 4) for value in row["values"]]
            scores = dict(zip(table["columns"], fractions, strict=True))
            rows.append(PaperValues(row["network"], row["afma"], scores, row.get("depth", DEPTH)))
        own = {name: table[name] for name in ("number", "dataset", "section", "beside")}
        tables.append(PaperTable(content["source"], **own, rows=tuple(rows)))
    return tuple(tables)


def publish_paper(runs: Sequence[Run]) -> Published:
    """Return the paper's scores for a comparison of runs: its networks, each depth with its gain over the baseline."""
    if not runs:
        return Published()
    depths = any(run.settings["afma"] and run.settings.get("feature", DEPTH) != DEPTH for run in runs)
    tables, note = find_paper_tables(runs[0], {run.settings["network_name"] for run in runs}, depths=depths)
    order: list[str] = []
    for table in read_paper_tables():
        if not order and f"{table.dataset}_afma" == runs[0].settings["name"]:
            order = [score.removeprefix("IoU/") for score in table.rows[0].scores if score.startswith("IoU/")]
    return Published([*_published_rows(tables)], order, note)


def _published_rows(tables: Iterable[PaperTable]) -> Iterator[PublishedRow]:
    merged: dict[str, dict[tuple[bool, int], PaperValues]] = {}
    sources: dict[str, list[str]] = {}
    for table in tables:
        for own in table.rows:
            known = merged.setdefault(own.network, {}).setdefault((own.afma, own.depth), own)
            merged[own.network][own.afma, own.depth] = own._replace(scores={**known.scores, **own.scores})
            sources.setdefault(own.network, []).append(f"Table {table.number}")
    for network, rows in merged.items():
        source = f"{_read_file()['source']}, {', '.join(dict.fromkeys(sources[network]))} ({PAPER_TRAINING})"
        for own in rows.values():
            label = f"paper (ResNet-101): {network} {own.arm}"
            yield PublishedRow(label, own.scores, source)
            if own.afma:
                baseline = rows[False, DEPTH].scores
                gains = {score: value - baseline[score] for score, value in own.scores.items() if score in baseline}
                yield PublishedRow(f"{label} − baseline", gains, source, is_difference=True)


def find_paper_tables(run: Run, networks: Collection[str], *, depths: bool = False) -> tuple[list[PaperTable], str]:
    """Choose the tables and rows of the paper for the dataset, images and networks of a comparison.

    CamVid's test section has 233 images. The labels of Cityscapes' test section are withheld, and its 500 validation
    images take their place. With another number of images, the dataset is another one, such as the embedded sample.

    Args:
        run: any of those compared.
        networks: names in segmentation_models_pytorch, in any case.
        depths: whether the runs have AFMA at other depths than the paper's 2, which Table 3 belongs to.

    Returns:
        The tables with those rows, and a note: where they come from, or why they are left out.
    """
    own = {"section": run.evaluation["section"], "images": run.evaluation["images"]}
    tables = [table for table in read_paper_tables() if f"{table.dataset}_afma" == run.settings["name"]]
    names, fitting = {network.lower() for network in networks}, []
    for table in tables:
        if table.beside == own and (depths or all(row.depth == DEPTH for row in table.rows)):
            fitting.append(table._replace(rows=tuple(row for row in table.rows if row.network.lower() in names)))
    if tables and not fitting:
        wanted = tables[0].beside
        return [], (
            f"The paper's rows are left out: they belong to {wanted['images']} images of {wanted['section']}, these "
            f"runs were evaluated on {own['images']} of {own['section']}."
        )
    if not any(table.rows for table in fitting):
        return fitting, ""
    *others, last = (str(table.number) for table in fitting)
    numbers = f"Tables {', '.join(others)} and {last}" if others else f"Table {last}"
    return fitting, (
        f"Rows marked as the paper's were not run here: {fitting[0].source}, {numbers}; {PAPER_TRAINING}; "
        f"section {fitting[0].section}."
    )
