"""A list of trainings stops on a signal or when its time is over, and leaves the handlers as they were."""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

import pytest

from _helpers.fake_bundle import FakeBundle
from _helpers.paths import BUNDLES, ROOT, SCRIPTS
from afma_med.research import trainings
from afma_med.research.stopping import TimeIsUp, stop_after, stop_on_signals
from afma_med.research.training_list import list_trainings

HANDLED = (signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)


def handlers() -> list[object]:
    return [signal.getsignal(one) for one in HANDLED]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signal_becomes_an_exit(number: signal.Signals) -> None:
    # Under `nohup`, the tests themselves ignore SIGHUP.
    outside = signal.signal(number, signal.SIG_DFL)
    before = handlers()
    try:
        with pytest.raises(SystemExit) as ended, stop_on_signals():
            os.kill(os.getpid(), number)
            time.sleep(10)
        assert ended.value.code == 128 + number
        assert handlers() == before
    finally:
        signal.signal(number, outside)


def test_ignored_signal_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals():
            os.kill(os.getpid(), signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_time_ends_a_block_and_no_longer_one_that_is_over() -> None:
    before = handlers()
    with pytest.raises(TimeIsUp), stop_after(0.001):
        time.sleep(10)
    with stop_after(0.001):
        pass
    time.sleep(0.1)
    with stop_after(None):
        assert handlers() == before
    assert handlers() == before


class SlowBundle(FakeBundle):
    """A first start of ``paper_afma_0`` outlasts the time; the training saves two epochs and ends, as ``_run`` does."""

    def __call__(self, bundle: str, overlays: tuple[str, ...], options: dict, log: Path) -> None:
        if Path(options["output_dir"]).name != "paper_afma_0" or "resume" in options or "evaluate" in overlays:
            super().__call__(bundle, overlays, options, log)
            return
        try:
            time.sleep(10)
        except TimeIsUp:
            self.cut_after = 2
            with pytest.raises(RuntimeError, match="cut off"):
                super().__call__(bundle, overlays, options, log)
            raise


def test_runner_stops_after_its_minutes_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = SlowBundle()
    monkeypatch.setattr(trainings, "_run", fake)
    results = tmp_path / "results"
    typed = [
        str(ROOT / "experiments" / "lists" / "camvid_paper.json"),
        "--dataset_dir",
        str(tmp_path),
        "--minutes",
        "0.01",
    ]
    typed += ["--only", "paper_baseline", "paper_afma", "--seeds", "0"]
    typed += ["--runs_dir", str(tmp_path / "runs"), "--results_dir", str(results)]
    monkeypatch.setattr(sys, "argv", ["run_experiments", *typed])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / "run_experiments.py"), run_name="__main__")
    assert ended.value.code == 75
    error = capsys.readouterr().err
    assert "0.01 minutes are over: 1 of 2 trainings are done." in error and "Run the same command again" in error
    assert [path.name for path in results.iterdir()] == ["paper_baseline_0.json"], "a result only when it is done"

    monkeypatch.setattr(sys, "argv", ["run_experiments", *[part if part != "0.01" else "5" for part in typed]])
    runpy.run_path(str(SCRIPTS / "run_experiments.py"), run_name="__main__")
    assert f"The results are in {results}" in capsys.readouterr().out
    assert sorted(path.name for path in results.iterdir()) == ["paper_afma_0.json", "paper_baseline_0.json"]
    assert [call.options.get("resume") for call in fake.calls if call.kind == "train"] == [None, None, True]


def test_paper_list_has_both_recipes_at_full_size() -> None:
    path = ROOT / "experiments" / "lists" / "camvid_paper.json"
    first = {training.name: training for training in list_trainings(path, seeds=[0])}
    assert list(first) == ["paper_baseline_0", "paper_afma_0", "released_baseline_0", "released_afma_0"]
    bundle = json.loads((BUNDLES / "camvid_afma.json").read_text(encoding="utf-8"))
    recipe = json.loads((BUNDLES / "released_recipe.json").read_text(encoding="utf-8"))
    for name, training in first.items():
        assert (training.options["encoder"], training.options["crop_size"]) == ("resnet101", [480, 640])
        assert "longest_side" not in training.options and bundle["longest_side"] is None
        assert ("baseline" in training.overlays) == ("baseline" in name)
        assert ("released_recipe" in training.overlays) == name.startswith("released")
        # Otherwise the last epoch has no validation, and the training never counts as done.
        epochs = recipe["max_epochs"] if name.startswith("released") else bundle["paper_recipe"]["max_epochs"]
        assert epochs % training.options["val_interval"] == 0
