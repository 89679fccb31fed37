"""Whatever is wrong with what is typed after a script is told, not traced, and nothing is written."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest

from _helpers.paths import ROOT
from _helpers.synthetic_runs import random_rows, write_run, write_untrained
from afma_med.samples import write_street_scenes

SCRIPTS = ROOT / "scripts"

LIST = {"bundle": "camvid_afma", "variants": {"afma": {}}}

# What is typed, in a folder that has what the fixture lays there, and what must be said.
CASES: list[tuple[str, str]] = [
    ("run_experiments list.json", r"required: --dataset_dir"),
    ("run_experiments none.json --dataset_dir scenes", r"there is no file `none\.json`"),
    ("run_experiments text.json --dataset_dir scenes", r"`text\.json` must be JSON"),
    ("run_experiments list.json --dataset_dir scenes --only afmo", r"`only` must name variants.*afmo"),
    ("run_experiments list.json --dataset_dir scenes --seeds one", r"invalid int value: 'one'"),
    ("run_experiments list.json --dataset_dir none", r"dataset_dir.*none"),
    ("kill_training --kills 0", r"kills.* must be .*got .0"),
    ("kill_training --epochs 0", r"epochs.* must be .*got .0"),
    ("kill_training --folder scenes", r"scenes must not exist"),
    ("soak --epochs 0", r"epochs.* must be .*got .0"),
    ("soak --folder scenes", r"scenes must not exist"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name is unusual, with files of every kind."""
    place = tmp_path_factory.mktemp("with spaces") / "Bilder äöü 像"
    place.mkdir()
    write_street_scenes(place / "scenes", counts={"train": 1, "val": 1, "test": 1}, size=(64, 96))
    write_untrained(place / "untrained", "camvid", place / "scenes")
    write_run(place / "scored", random_rows(0, quality=0.5))
    (place / "empty").mkdir()
    (place / "empty.json").touch()
    (place / "text.json").write_text("no JSON", encoding="utf-8")
    (place / "list.json").write_text(json.dumps(LIST), encoding="utf-8")
    return place


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("typed", "message"), CASES, ids=[typed for typed, _ in CASES])
def test_is_told(
    place: Path, typed: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *arguments = typed.split()
    before = files_of(place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    said = capsys.readouterr().err if isinstance(ended.value.code, int) else str(ended.value.code)
    assert ended.value.code not in (0, None)
    _, error, told = said.partition("error: ")
    assert error and re.search(message, told), said
    assert files_of(place) == before, "nothing was written"
