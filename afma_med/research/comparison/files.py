"""The figures of a comparison as files: JSON, CSV, Markdown."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from afma_med.research.comparison.intervals import Interval
from afma_med.research.comparison.paper import PAPER_TRAINING, PaperTable
from afma_med.research.comparison.results import ArmScores, Gain
from afma_med.research.comparison.tables import TextTable, format_markdown
from afma_med.runs.run import Run

__all__ = ["Comparison", "format_csv", "format_json", "format_text"]

_CSV_HEADER = (
    *("kind", "arm", "baseline", "score", "value", "deviation", "seeds"),
    *("over_seeds_low", "over_seeds_high", "over_images_low", "over_images_high", "source"),
)


class Comparison(NamedTuple):
    """Hold all that a comparison found.

    Args:
        title: of the dataset, for people.
        scope: how much of what was evaluated.
        run: any of those compared, for what they share.
        arms: their scores.
        gains: what AFMA adds.
        paper: tables that may stand beside.
        tables: of text.
        notes: what people should know: a missing baseline, what was left out and why.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """

    title: str
    scope: str
    run: Run
    arms: Sequence[ArmScores]
    gains: Sequence[Gain]
    paper: Sequence[PaperTable]
    tables: Sequence[TextTable]
    notes: Sequence[str]
    resamples: int
    seed: int


def format_json(found: Comparison, *, files: Iterable[str]) -> str:
    """Format everything as JSON: what was compared, every figure with its intervals, the paper's rows, the files.

    Args:
        found: the comparison.
        files: names of the files of its folder.
    """
    evaluation = found.run.evaluation
    content = {
        "bundle": found.run.settings["name"],
        "section": evaluation["section"],
        "images": evaluation["images"],
        "classes": list(found.run.counts.classes),
        "size_groups": evaluation["size_groups"],
        "resamples": found.resamples,
        "bootstrap_seed": found.seed,
        "arms": [_arm_json(one) for one in found.arms],
        "differences": [_gain_json(gain) for gain in found.gains],
        "paper": [
            {
                "source": table.source,
                "table": table.number,
                "training": PAPER_TRAINING,
                "rows": [row._asdict() for row in table.rows],
            }
            for table in found.paper
        ],
        "notes": list(found.notes),
        "files": sorted(files),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def format_csv(found: Comparison) -> str:
    """Format every figure as CSV, one a row: scores of arms, differences with their intervals, the paper's."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(found))
    return text.getvalue()


def format_text(found: Comparison, *, detail: bool = False) -> str:
    """Format the tables as Markdown, and the notes below.

    Args:
        found: the comparison.
        detail: the tables for those who want to know more, instead of the main ones.
    """
    head = f"# {found.title}: {found.scope}{', in detail' * detail}"
    tables = [format_markdown(table) for table in found.tables if table.detail == detail]
    notes = "\n".join(f"- {note}" for note in found.notes)
    return "\n\n".join(filter(None, [head, *tables, notes])) + "\n"


def _csv_rows(found: Comparison) -> Iterator[dict[str, object]]:
    for one in found.arms:
        for score, summary in one.scores.items():
            row = {"value": _number(summary.mean), "deviation": _number(summary.deviation), "seeds": summary.seeds}
            yield {"kind": "arm", "arm": one.arm.label, "score": score, **row}
    for gain in found.gains:
        sides = {"arm": gain.pairing.arm.label, "baseline": gain.pairing.baseline.label}
        for score, difference in gain.scores.items():
            ends = _ends("over_seeds", difference.over_seeds) | _ends("over_images", difference.over_images)
            row = {"value": _number(difference.value), "seeds": difference.seeds, **ends}
            yield {"kind": "difference", **sides, "score": score, **row}
    for table in found.paper:
        source = f"{table.source}, Table {table.number} ({PAPER_TRAINING})"
        for own in table.rows:
            label = f"{own.network} {'AFMA' if own.afma else 'baseline'}"
            for score, value in own.scores.items():
                yield {"kind": "paper", "arm": label, "score": score, "value": value, "source": source}


def _arm_json(one: ArmScores) -> dict[str, Any]:
    arm = one.arm
    return {
        "label": arm.label,
        "baseline": arm.is_baseline,
        "settings": arm.settings,
        "runs": [
            {"folder": str(run.folder), "seed": run.seed, "checkpoint": run.evaluation.get("checkpoint")}
            for run in arm.runs
        ],
        "scores": _scores_json(one.scores),
    }


def _gain_json(gain: Gain) -> dict[str, Any]:
    return {
        "arm": gain.pairing.arm.label,
        "baseline": gain.pairing.baseline.label,
        "common_seeds": list(gain.pairing.common_seeds),
        "scores": _scores_json(gain.scores),
    }


def _scores_json(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Figures by name; JSON has no NaN."""
    return {
        name: {key: _number(value) if isinstance(value, float) else value for key, value in figures._asdict().items()}
        for name, figures in scores.items()
    }


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
