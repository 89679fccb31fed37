"""The lists of trainings: what they hold, and the command that runs them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from _helpers.fake_bundle import FakeBundle
from _helpers.paths import BUNDLES, ROOT
from afma_med.runs.result_file import read_result
from afma_med.samples import write_street_scenes
from afma_med.trial import train_and_score
from afma_med.trial.stopping import TimeIsUp
from afma_med.trial.training_list import list_trainings
from experiments.lab import figures
from experiments.lab.__main__ import main


def test_arms_of_the_depth_study_build_their_networks_from_the_command_line(tmp_path: Path) -> None:
    expected = {
        "depth_2_3_4": ([(64, 10, 10), (128, 10, 10), (256, 10, 10)], 12),
        "depth_by_group": ([(256, 10, 10), (64, 10, 10)], 7),
        "slender_poles": ([(64, 10, 10), (64, 20, 5)], 11),
        "source_image": ([(3, 10, 10)], 12),
    }
    listed = list_trainings(ROOT / "experiments" / "lists" / "depth.json", seeds=[0])
    assert [one.name for one in listed[:4]] == ["baseline_0", "depth_2_0", "depth_3_0", "depth_4_0"]
    for training in listed[4:]:
        parser = ConfigParser()
        parser.read_config(str(BUNDLES / f"{training.bundle}.json"))
        typed = {name: DefaultParseValue(str(value)) for name, value in training.options.items()}
        assert typed == training.options
        parser.update({**typed, "dataset_dir": str(tmp_path), "encoder": "resnet18", "encoder_weights": None})
        block = parser.get_parsed_content("network_def").afma_block
        blocks = list(getattr(block, "blocks", [block]))
        shapes, classes = expected[training.name.removesuffix("_0")]
        assert [(one.feature_conv.in_channels, *one.patch_size) for one in blocks] == shapes
        assert blocks[0].out_channels == classes


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
    monkeypatch.setattr(train_and_score, "_run", fake)
    monkeypatch.setattr(figures, "measure_result", lambda folder, weights: {})  # there are no weights
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
    assert main(["run", *typed]) == 75
    error = capsys.readouterr().err
    assert "0.01 minutes are over: 1 of 2 trainings are done." in error and "Run the same command again" in error
    assert [path.name for path in results.iterdir()] == ["paper_baseline_0.json"], "a result only when it is done"

    assert main(["run", *[part if part != "0.01" else "5" for part in typed]]) == 0
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
        epochs = recipe["max_epochs"] if name.startswith("released") else bundle["recipes"]["paper"]["max_epochs"]
        assert epochs % training.options["val_interval"] == 0


@pytest.mark.slow
def test_list_of_one_training_as_a_command(tmp_path: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 4, "val": 2, "test": 2}, size=(64, 96))
    options = {"max_epochs": 1, "batch_size": 2, "crop_size": [64, 64], "encoder": "resnet18", "milestones": []}
    options["encoder_weights"] = "$None"
    path = tmp_path / "list.json"
    listed = {
        "bundle": "camvid_afma",
        "overlays": ["small", "cache"],
        "options": options,
        "arms": {"gain": {"study": "gain"}},
    }
    path.write_text(json.dumps(listed), encoding="utf-8")
    command = [sys.executable, "-m", "experiments.lab", "run", str(path), "--dataset_dir", str(scenes)]
    given = ["--runs_dir", str(tmp_path / "runs"), "--results_dir", str(tmp_path / "results"), "--num_workers", "0"]
    done = subprocess.run([*command, *given], cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    assert f"experiments.lab compare {tmp_path / 'results'}/*.json" in done.stdout.splitlines()[-1]
    settings = read_result(tmp_path / "results" / "gain_0.json").settings
    assert (settings["training"]["max_epochs"], settings["study"]) == (1, "gain")
    weights = torch.load(tmp_path / "runs" / "gain_0" / "model.pt", weights_only=True)
    assert weights["gain"].any(), "the study's own network was trained"
    measure = [sys.executable, "-m", "experiments.lab", "measure", "--by_class"]
    sources = [str(tmp_path / "results" / "gain_0.json"), str(tmp_path / "runs" / "gain_0")]
    printed = [
        subprocess.run([*measure, source], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
        for source in sources
    ]
    assert printed[0].stdout.splitlines()[1].startswith("results/gain_0 ")
    figures = [[line.split()[1:] for line in one.stdout.splitlines()] for one in printed]
    assert figures[0] == figures[1], "the result has what is measured from the run"
