"""Bundles that a person can read: short lines, checks and overlays that are built, functions for long expressions."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from torch import nn

from _helpers.paths import ROOT
from _helpers.refusals import refused
from afma_med.bundle.command_line import evaluate_command, explain_error
from afma_med.bundle.ids import checked_ids
from afma_med.bundle.recipe import normalization, weighted_sampler
from afma_med.bundle.run import checkpoint_objects
from afma_med.checks import RunError
from afma_med.handlers import ProgressBarHandler

FILES = sorted((ROOT / "bundles").glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_lines_are_short(path: Path) -> None:
    assert max(map(len, path.read_text(encoding="utf-8").splitlines())) <= 120


def test_bundles_and_overlays_are_as_built() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "build_bundles.py"), "--check"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout
    assert "evaluate.json: up to date" in done.stdout and "inference.json: up to date" in done.stdout


@pytest.mark.parametrize("name", ["isic_afma", "lits_afma", "evaluate", "inference"])
def test_every_rule_of_the_stage_is_checked(name: str) -> None:
    content = json.loads((ROOT / "bundles" / f"{name}.json").read_text(encoding="utf-8"))
    assert content["checked_ids"] == checked_ids("train" if name.endswith("afma") else name)  # type: ignore[arg-type]
    assert content["checked_ids"].get("attention_weight") in (None, "@loss#attention_weight")


def test_evaluation_does_not_ask_for_a_folder_of_the_training() -> None:
    assert "output_dir" in checked_ids("train")
    assert not {"output_dir", "max_epochs"} & {*checked_ids("evaluate"), *checked_ids("inference")}


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("error", [ValueError("do this"), FileNotFoundError("do this"), RunError("do this")])
def test_refusals_of_expressions_are_shown_alone(error: Exception) -> None:
    parser = ConfigParser({"value": "$fail(error)"}, globals={"fail": fail, "error": error})
    with refused(match="^error: do this$"):
        parser.get_parsed_content("value")


def test_bugs_of_expressions_keep_their_traceback() -> None:
    parser = ConfigParser({"value": "$fail(error)"}, globals={"fail": fail, "error": TypeError("a bug")})
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("value")
    assert explain_error(raised.value) is None


@pytest.mark.parametrize(("error", "shown"), [(ValueError("a bug"), None), (RunError("full disk"), "full disk")])
def test_of_steps_only_run_errors_are_shown_alone(error: Exception, shown: str | None) -> None:
    from ignite.engine import Engine

    engine = Engine(lambda engine, batch: fail(error))
    parser = ConfigParser({"run": "$engine.run([0])"}, globals={"engine": engine})
    with pytest.raises(RuntimeError) as raised:
        parser.get_parsed_content("run")
    assert explain_error(raised.value) == shown


def test_checkpoint_objects_have_the_average_if_there_is_one() -> None:
    class Average:
        ema_model = nn.Linear(1, 1)

    assert checkpoint_objects(model=1, best=2, ema=None) == {"model": 1, "best": 2}
    assert checkpoint_objects(model=1, ema=Average()) == {"model": 1, "ema": Average.ema_model}


def test_progress_bar_shows_the_loss(capsys: pytest.CaptureFixture[str]) -> None:
    engine = Engine(lambda engine, batch: [{"loss": 2.0, "pred": 1}])
    ProgressBarHandler(bar_format="{postfix}").attach(engine)
    engine.run([0, 1])
    assert "loss=2" in capsys.readouterr().err


def test_sampler_draws_by_weight() -> None:
    assert weighted_sampler(None, 3) is None
    sampler = weighted_sampler(torch.tensor([0.0, 1.0, 0.0]), 3)
    assert sampler is not None and list(sampler) == [1, 1, 1]
    with pytest.raises(ValueError, match="`sample_weights` must be 3 numbers"):
        weighted_sampler([1.0], 3)


def test_normalization_without_weights() -> None:
    assert normalization("resnet18", None)["mean"] == (0.485, 0.456, 0.406)
    assert normalization("resnet18", None, in_channels=1) == {"mean": (0.0,), "std": (1.0,)}


def test_evaluate_command_names_bundle_and_run() -> None:
    command = evaluate_command("cub_afma", "runs/b")
    assert command.endswith("['bundles/cub_afma.json','bundles/evaluate.json']\" --output_dir runs/b")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_list_of_handlers_refers_to_one_that_may_be_disabled(path: Path) -> None:
    """MONAI leaves a disabled handler out of a list only if it stands there itself; a reference to it is None."""
    content = json.loads(path.read_text(encoding="utf-8"))
    base = json.loads((ROOT / "bundles" / "camvid_afma.json").read_text(encoding="utf-8"))
    parts = {name: part for name, part in {**base, **content}.items() if isinstance(part, dict)}
    disabled = {f"@{name}" for name, part in parts.items() if "_disabled_" in part}
    lists = [part["handlers"] for part in content.values() if isinstance(part, dict) and "handlers" in part]
    lists += [part for name, part in content.items() if name.endswith("handlers") and isinstance(part, list)]
    assert not [one for handlers in lists for one in handlers if isinstance(one, str) and one in disabled]
