"""A folder with files of every kind, for tests of what commands refuse."""

from __future__ import annotations

import json
from pathlib import Path

from _helpers.synthetic_runs import random_rows, write_run, write_untrained
from afma_med.samples import write_street_scenes


def write_place(folder: Path) -> Path:
    """Write a dataset, runs, a list of trainings, and files that are none of these, into a folder of unusual name."""
    place = folder / "with spaces" / "Bilder äöü 像"
    write_street_scenes(place / "scenes", counts={"train": 1, "val": 1, "test": 1}, size=(64, 96))
    write_untrained(place / "untrained", "camvid", place / "scenes")
    write_run(place / "scored", random_rows(0, quality=0.5))
    (place / "empty").mkdir()
    (place / "empty.json").touch()
    (place / "text.json").write_text("no JSON", encoding="utf-8")
    (place / "list.json").write_text(json.dumps({"bundle": "camvid_afma", "arms": {"afma": {}}}), encoding="utf-8")
    return place


def files_of(folder: Path) -> dict[Path, bytes]:
    """Return the contents of all files in a folder and below."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
