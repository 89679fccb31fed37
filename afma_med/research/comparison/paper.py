"""The paper's own Tables 1 (CamVid), 2 (Cityscapes) and 4 (CamVid by object size)."""

from __future__ import annotations

import functools
import importlib.resources
import json
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from afma_med.runs.run import Run

__all__ = ["PAPER_TRAINING", "PaperTable", "PaperValues", "describe_paper", "find_paper_tables", "read_paper_tables"]

#: How the paper's networks were trained.
PAPER_TRAINING = "ResNet-101 from scratch, the paper's own training"


class PaperValues(NamedTuple):
    """Hold a row of a table.

    Args:
        network: name in segmentation_models_pytorch.
        afma: with AFMA, or the baseline.
        scores: fractions of 1, by the names of ``evaluation/scores.json``.
    """

    network: str
    afma: bool
    scores: dict[str, float]


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
def read_paper_tables() -> tuple[PaperTable, ...]:
    """Read the tables of the paper.

    Example:
        >>> table = read_paper_tables()[0]
        >>> table.dataset, table.rows[2].network, table.rows[2].afma, table.rows[2].scores["mIoU_small"]
        ('camvid', 'Unet', False, 0.503)
    """
    file = importlib.resources.files("afma_med.research.comparison") / "paper_tables.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    tables = []
    for table in content["tables"]:
        columns = table.pop("columns")
        rows = (
            PaperValues(
                row["network"],
                row["afma"],
                {name: round(value / 100, 4) for name, value in zip(columns, row["values"], strict=True)},
            )
            for row in table.pop("rows")
        )
        tables.append(PaperTable(content["source"], rows=tuple(rows), **table))
    return tuple(tables)


def find_paper_tables(run: Run, networks: Collection[str]) -> tuple[list[PaperTable], str]:
    """Choose the tables and rows of the paper for the dataset, images and networks of a comparison.

    CamVid's test section has 233 images. The labels of Cityscapes' test section are withheld, and its 500 validation
    images take their place. With another number of images, the dataset is another one, such as the embedded sample.

    Args:
        run: any of those compared.
        networks: names in segmentation_models_pytorch, in any case.

    Returns:
        The tables with those rows, and a reason if there are tables of the dataset but none may be shown.
    """
    own = {"section": run.evaluation["section"], "images": run.evaluation["images"]}
    tables = [table for table in read_paper_tables() if f"{table.dataset}_afma" == run.settings["name"]]
    fitting = [table for table in tables if table.beside == own]
    if tables and not fitting:
        wanted = tables[0].beside
        return [], (
            f"The paper's rows are left out: they belong to {wanted['images']} images of {wanted['section']}, these "
            f"runs were evaluated on {own['images']} of {own['section']}."
        )
    names = {network.lower() for network in networks}
    return [
        table._replace(rows=tuple(row for row in table.rows if row.network.lower() in names)) for table in fitting
    ], ""


def describe_paper(tables: Sequence[PaperTable]) -> str:
    """Say where the paper's rows come from and how they were trained; empty without rows.

    Example:
        >>> describe_paper(read_paper_tables()[:1])
        "Rows marked as the paper's are no runs of this comparison: Sang, ...TPAMI 2023, Table 1; ResNet-101 ..."
    """
    shown = [table for table in tables if table.rows]
    if not shown:
        return ""
    numbers = " and ".join(str(table.number) for table in shown)
    return (
        f"Rows marked as the paper's are no runs of this comparison: {shown[0].source}, Table{'s' * (len(shown) > 1)} "
        f"{numbers}; {PAPER_TRAINING}; section {shown[0].section}."
    )
