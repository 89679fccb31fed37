"""The folder of a comparison: JSON, CSV, Markdown, the page and its pictures. It is complete or absent."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from afma_med.atomic_write import replacing_folder
from afma_med.research.comparison.page import Picture, format_page
from afma_med.research.comparison.paper import PAPER_TRAINING
from afma_med.research.comparison.results import ArmScores, Comparison, Interval
from afma_med.research.comparison.tables import TextTable, format_markdown, write_tables

__all__ = ["check_replaceable", "write_folder"]

# The file that identifies a folder as a comparison; it lists the others.
_MARKER = "comparison.json"
_CSV_HEADER = (
    *("kind", "arm", "baseline", "score", "value", "deviation", "seeds"),
    *("over_seeds_low", "over_seeds_high", "over_images_low", "over_images_high", "source"),
)


def check_replaceable(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds anything but an earlier comparison.

    Args:
        folder: absent, empty, or written by :func:`write_folder`.

    Raises:
        FileExistsError: if it holds other files.

    Example:
        >>> check_replaceable("no/such/folder")
    """
    target = Path(folder)
    if not target.exists() and not target.is_symlink():
        return
    found = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    if found and _MARKER not in found:
        raise FileExistsError(
            f"`output_dir` must be a new folder or an earlier comparison; `{target}` holds no {_MARKER}. "
            "Choose another --output_dir."
        )
    foreign = sorted(found - _listed_files(target / _MARKER))
    if foreign:
        raise FileExistsError(
            f"`output_dir` must hold nothing but an earlier comparison; `{target}` holds {', '.join(foreign)} too. "
            "Move these files elsewhere first."
        )


def write_folder(folder: str | os.PathLike[str], found: Comparison, pictures: Sequence[Picture]) -> None:
    """Write a comparison next to its folder and move it there when complete, in place of an earlier one.

    Args:
        folder: a folder that passes :func:`check_replaceable`.
        found: the comparison.
        pictures: of the comparison, in the order of the page.
    """
    tables = write_tables(found)
    texts = {
        "index.html": format_page(found, tables, pictures),
        "comparison.md": _format_text(found, [table for table in tables if not table.detail]),
        "details.md": _format_text(found, [table for table in tables if table.detail], ", in detail"),
        "comparison.csv": _format_csv(found),
    }
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    contents |= {picture.name: picture.content for picture in pictures}
    contents[_MARKER] = _format_json(found, files=[*contents, _MARKER]).encode("utf-8")
    with replacing_folder(Path(os.path.realpath(folder))) as new:
        for name, content in contents.items():
            (new / name).write_bytes(content)


def _listed_files(marker: Path) -> set[str]:
    """The files that an earlier comparison lists; none if its list cannot be read."""
    try:
        return set(json.loads(marker.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _format_text(found: Comparison, tables: Sequence[TextTable], addition: str = "") -> str:
    head = f"# {found.title}: {found.scope}{addition}"
    notes = "\n".join(f"- {note}" for note in found.notes)
    return "\n\n".join(filter(None, [head, *map(format_markdown, tables), notes])) + "\n"


def _format_json(found: Comparison, *, files: Iterable[str]) -> str:
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
        "differences": [
            {
                "arm": gain.pairing.arm.label,
                "baseline": gain.pairing.baseline.label,
                "common_seeds": gain.pairing.common_seeds,
                "scores": _scores_json(gain.scores),
            }
            for gain in found.gains
        ],
        "paper": [
            {
                "source": table.source,
                "table": table.number,
                "training": PAPER_TRAINING,
                "rows": [row._asdict() for row in table.rows],
            }
            for table in found.paper
        ],
        "notes": found.notes,
        "files": sorted(files),
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def _arm_json(one: ArmScores) -> dict[str, Any]:
    return {
        "label": one.arm.label,
        "baseline": one.arm.is_baseline,
        "settings": one.arm.settings,
        "runs": [
            {"folder": str(run.folder), "seed": run.seed, "checkpoint": run.evaluation.get("checkpoint")}
            for run in one.arm.runs
        ],
        "scores": _scores_json(one.scores),
    }


def _scores_json(scores: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        name: {key: _number(value) if isinstance(value, float) else value for key, value in figures._asdict().items()}
        for name, figures in scores.items()
    }


def _format_csv(found: Comparison) -> str:
    """Every figure in a row: scores of arms, differences with their intervals, the paper's scores."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _CSV_HEADER, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(_csv_rows(found))
    return text.getvalue()


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


def _number(value: float | None) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if value is None or math.isnan(value) else value


def _ends(name: str, interval: Interval | None) -> dict[str, float]:
    return {} if interval is None else {f"{name}_low": interval.low, f"{name}_high": interval.high}
