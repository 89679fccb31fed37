"""The folder of a comparison: JSON, Markdown, the page and its pictures. It is complete or absent."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from afma_med.atomic_write import replacing_folder
from afma_med.comparison.page import Picture, format_page
from afma_med.comparison.results import Comparison, Difference, Summary
from afma_med.comparison.tables import TextTable, format_markdown, write_tables

__all__ = ["check_replaceable", "write_folder"]

# The file that identifies a folder as a comparison; it lists the others.
_MARKER = "comparison.json"


def check_replaceable(folder: str | os.PathLike[str]) -> None:
    """Raise FileExistsError for a folder that holds other files than those of an earlier comparison."""
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
    """Write a comparison next to its folder and move it there when complete, in place of an earlier one."""
    tables, content = write_tables(found), _describe(found)
    details = [table for table in tables if table.detail]
    texts = {
        "index.html": format_page(found, tables, pictures, folder=folder),
        "comparison.md": _format_text(found, [table for table in tables if not table.detail]),
        "details.md": _format_text(found, details, ", in detail"),
    }
    contents = {name: text.encode("utf-8", errors="backslashreplace") for name, text in texts.items()}
    contents |= {picture.name: picture.content for picture in pictures}
    content["files"] = sorted([*contents, _MARKER])
    contents[_MARKER] = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(
        "utf-8", errors="backslashreplace"
    )
    with replacing_folder(Path(os.path.realpath(folder))) as new:
        for name, data in contents.items():
            (new / name).write_bytes(data)


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


def _describe(found: Comparison) -> dict[str, Any]:
    """What comparison.json holds, but for its list of files."""
    evaluation = found.run.evaluation
    return {
        "bundle": found.run.settings["name"],
        "section": evaluation["section"],
        "images": evaluation["images"],
        "classes": found.run.counts.classes,
        "size_groups": evaluation["size_groups"],
        "resamples": found.resamples,
        "bootstrap_seed": found.seed,
        "arms": [
            {
                "label": arm.label,
                "baseline": arm.is_baseline,
                "settings": arm.settings,
                "runs": [
                    {"folder": str(run.folder), "seed": run.seed, "checkpoint": run.evaluation.get("checkpoint")}
                    for run in arm.runs
                ],
                "scores": _without_nan(scores),
            }
            for arm, scores in found.arms
        ],
        "differences": [
            {
                "arm": pairing.arm.label,
                "baseline": pairing.baseline.label,
                "common_seeds": pairing.common_seeds,
                "scores": _without_nan(scores),
            }
            for pairing, scores in found.gains
        ],
        "published": [{**row._asdict(), "scores": dict(row.scores)} for row in found.published.rows],
        "notes": found.notes,
    }


def _without_nan(scores: Mapping[str, Summary | Difference]) -> dict[str, dict[str, Any]]:
    """Figures by score; None for NaN, which JSON does not have."""
    return {
        score: {key: None if value != value else value for key, value in figures._asdict().items()}
        for score, figures in scores.items()
    }
