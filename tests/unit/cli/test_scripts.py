"""Scripts refuse a wrong command line with an error instead of a traceback, and write nothing."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

from _helpers.paths import SCRIPTS
from _helpers.places import files_of

# The command line, typed in the folder of the fixture, and the error.
CASES: list[tuple[str, str]] = [
    ("kill_training --kills 0", r"kills.* must be .*got .0"),
    ("kill_training --epochs 0", r"epochs.* must be .*got .0"),
    ("kill_training --folder scenes", r"scenes must not exist"),
    ("soak --epochs 0", r"epochs.* must be .*got .0"),
    ("soak --folder scenes", r"scenes must not exist"),
]


@pytest.mark.parametrize(("typed", "message"), CASES, ids=[typed for typed, _ in CASES])
def test_wrong_command_lines_are_refused(
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
    _, error, text = said.partition("error: ")
    assert error and re.search(message, text), said
    assert files_of(place) == before, "nothing was written"
