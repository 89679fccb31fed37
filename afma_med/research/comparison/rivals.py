"""Published figures of the other systems that the paper compares with (Sec. 4.3), from their own publications."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any, NamedTuple

__all__ = ["RIVAL_MARK", "Rival", "find_rivals"]

#: What every figure of a rival is.
RIVAL_MARK = "reported elsewhere, other protocol"


class Rival(NamedTuple):
    """Hold the published figures of a system; they have another protocol than the runs of a comparison.

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


@functools.cache
def _read_file() -> dict[str, Any]:
    file = importlib.resources.files("afma_med.research.comparison") / "rivals.json"
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def _read_row(row: dict[str, Any], classes: list[str]) -> Rival:
    metric = row["metric"]
    values = {f"{metric}/{name}": value for name, value in zip(classes, row["values"], strict=False)}
    values["mIoU" if metric == "IoU" else "mean accuracy"] = row["mean"]
    fractions = {score: round(value / 100, 4) for score, value in values.items()}
    return Rival(row["system"], row["name"], metric, fractions, row["protocol"], row["source"])
