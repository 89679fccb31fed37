"""Published figures of the other systems that the paper compares with (Sec. 4.3), from their own publications."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.visualize.text_table import format_table

__all__ = ["RIVAL_MARK", "Rival", "find_rivals", "write_rivals"]

#: What every figure of a rival is.
RIVAL_MARK = "reported elsewhere, other protocol"


class Rival(NamedTuple):
    """Hold the published figures of a system; they have another protocol than our runs.

    Args:
        system: as the paper names it.
        name: as the source names it.
        metric: ``"IoU"`` or ``"accuracy"``; ``"none found"`` for a system without a published figure.
        scores: fractions of 1 by ``"IoU/CLASS"`` and ``"mIoU"``, or ``"accuracy/CLASS"`` and ``"mean accuracy"``.
        protocol: images, their size, and other training data, where the source names them.
        source: publication and table.
    """

    system: str
    name: str
    metric: str
    scores: dict[str, float]
    protocol: str
    source: str


def find_rivals(dataset: str) -> list[Rival]:
    """Return the figures of all rivals on a dataset: IoU first, then accuracy, then the systems without a figure.

    Args:
        dataset: name of the reader.

    Returns:
        At least one entry for each of the paper's systems; none at all for datasets other than CamVid and Cityscapes.

    Example:
        >>> [rival.system for rival in find_rivals("camvid") if rival.metric == "none found"]
        ['ISBEncoder', 'DLA']
    """
    content = _read_file()
    table = content["datasets"].get(dataset)
    if table is None:
        return []
    found = [_read_row(row, table["classes"]) for row in table["rows"]]
    known = {rival.system for rival in found}
    missing = [system for system in content["systems"] if system not in known]
    return found + [Rival(system, system, "none found", {}, "", "") for system in missing]


def write_rivals(dataset: str) -> str:
    """Write the figures of :func:`find_rivals` as a table, in percent."""
    classes = _read_file()["datasets"][dataset]["classes"]
    rows = []
    for rival in find_rivals(dataset):
        is_iou = rival.metric == "IoU"
        scores = [*(f"{rival.metric}/{name}" for name in classes), "mIoU" if is_iou else "mean accuracy"]
        cells = (f"{100 * rival.scores[score]:.1f}" if score in rival.scores else "–" for score in scores)
        rows.append((rival.name, rival.metric, *cells, rival.protocol, rival.source))
    header = ("", "figures", *classes, "mean", "protocol", "source")
    return f"{RIVAL_MARK}, %\n{format_table(header, rows)}"


@functools.cache
def _read_file() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(__file__).with_name("rivals.json").read_text(encoding="utf-8"))
    return content


def _read_row(row: dict[str, Any], classes: list[str]) -> Rival:
    metric = row["metric"]
    values = {f"{metric}/{name}": value for name, value in zip(classes, row["values"], strict=False)}
    values["mIoU" if metric == "IoU" else "mean accuracy"] = row["mean"]
    fractions = {score: round(value / 100, 4) for score, value in values.items()}
    return Rival(row["system"], row["name"], metric, fractions, row["protocol"], row["source"])
