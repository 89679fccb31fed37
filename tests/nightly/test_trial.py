"""``afma trial`` on a small drawn sample: it measures the speed, trains, scores, compares, and is not done twice."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from afma_med.cli import main
from afma_med.runs.run import read_run
from afma_med.samples import write_street_scenes
from afma_med.trial import plan as trial_plan

pytestmark = pytest.mark.slow


def test_trial_on_the_drawn_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 8, "val": 10, "test": 9}, size=(64, 96))
    # A trial has at least a hundred steps; four, in four epochs of fewer images than there are, are enough here.
    monkeypatch.setattr(trial_plan, "_LEAST_STEPS", 4)
    monkeypatch.chdir(tmp_path)
    typed = ["trial", "camvid", str(scenes), "--minutes", "0.01", "--num_workers", "0", "--seeds", "0"]
    assert main(typed) == 0
    folder = Path("trials/camvid")
    plan = json.loads((folder / "trial.json").read_text(encoding="utf-8"))
    assert (plan["extent"]["epochs"], plan["extent"]["images"]) == (4, 4)
    runs = {path.name: read_run(path) for path in (folder / "runs").iterdir() if path.is_dir()}
    assert sorted(runs) == ["baseline_0", "hypercolumn_0", "released_0"]
    assert [runs[name].settings["afma"] for name in sorted(runs)] == [False, True, True]
    for run in runs.values():
        assert run.evaluation["images"] == 5, "every second image of nine, where there is time for eight"
        assert run.evaluation["weights"] == "ema" and max(run.curve) == 4
        assert run.settings["training"]["ema_momentum"] == 0.5
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"The page is {folder}/comparison/index.html, the table {folder}/table.md"
    assert "released − hypercolumn" in (folder / "table.md").read_text(encoding="utf-8")
    written = {path.name for path in (folder / "comparison").iterdir()}
    assert "index.html" in written and {"helped.png", "hurt.png"} & written, "it shows images"
    before = {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.pt")}
    assert main(typed) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "runs").rglob("*.pt")} == before


def test_trial_with_a_reader_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_street_scenes(tmp_path / "scenes", counts={"train": 4, "val": 1, "test": 1}, size=(64, 96))
    source = "from afma_med.data import CAMVID\nREADER = CAMVID._replace(name='own')\n"
    (tmp_path / "nightly_scenes.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    typed = ["trial", "nightly_scenes:READER", "scenes", "--max_epochs", "1", "--num_workers", "0", "--seeds", "0"]
    assert main([*typed, "--arms", "baseline", "released"]) == 0
    assert read_run(Path("trials/own/runs/released_0")).settings["name"] == "own_afma"
    assert Path("trials/own/comparison/index.html").is_file()
