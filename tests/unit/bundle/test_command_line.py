"""Ids without an effect are found, and reported with the most similar id."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from _helpers.paths import ROOT
from afma_med.bundle.command_line import explain_error, find_unknown_ids, read_configuration, warn_unknown_ids

CAMVID, EVALUATE, SMALL = (str(ROOT / "bundles" / f"{name}.json") for name in ("camvid_afma", "evaluate", "small"))


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["--max_epoch", "3"], {"max_epoch": "max_epochs"}),
        (["--max-epoch=3"], {"max_epoch": "max_epochs"}),
        (["--learnin_rate", "0.1", "--seed", "1"], {"learnin_rate": "learning_rate"}),
        (["--qqq#a", "3"], {"qqq": None}),
        (["--loss#attention_weight", "3", "--loss#_target_", "a.b"], {}),
        (["--max_epochs", "-3", "--run_id", "run", "--tracking", "mlflow", "--meta_file", "x"], {}),
        (["--mine", "3", "--batch_size", "$@mine * 2"], {}),
    ],
)
def test_unknown_ids_of_the_command_line(typed: list[str], expected: dict[str, str | None]) -> None:
    assert find_unknown_ids(["run", "--config_file", CAMVID, *typed]) == expected
    assert find_unknown_ids([f"--config_file=['{CAMVID}','{SMALL}']", *typed]) == expected


def test_unknown_ids_of_an_overlay(tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.json"
    overlay.write_text(
        json.dumps({"max_epoch": 3, "crop_side": 96, "crop_size": "$[@crop_side] * 2", "+imports": []}),
        encoding="utf-8",
    )
    found = find_unknown_ids(["--config_file", f"['{CAMVID}','{overlay}']"])
    assert found == {"max_epoch": "max_epochs"}


def test_overlays_of_the_package_have_no_unknown_ids() -> None:
    for overlay in sorted((ROOT / "bundles").glob("*.json")):
        if overlay.stem in ("metadata", "onnx_export", "camvid_afma"):  # the second one is for another command
            continue
        found = find_unknown_ids(["--config_file", f"['{CAMVID}','{overlay}']"])
        assert found == {}, overlay.stem


def test_ids_that_only_another_bundle_has_are_named_when_they_are_typed() -> None:
    evaluation = ["--config_file", f"['{CAMVID}','{EVALUATE}']"]
    assert find_unknown_ids(evaluation) == {}, "the overlay restores a fold where a run has one"
    assert list(find_unknown_ids([*evaluation, "--fold", "2"])) == ["fold"]


@pytest.mark.parametrize("given", [[], ["--config_file"], ["--config_file", "no/such.json"], ["--config_file", "[1,"]])
def test_what_cannot_be_read_is_left_to_monai(given: list[str]) -> None:
    assert find_unknown_ids(given) == {}
    assert read_configuration(given) == {}


def test_warning_names_both(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_unknown_ids(["--config_file", CAMVID, "--bach_size", "3", "--zzz", "4"])
    assert caplog.messages == [
        "`bach_size` is not an id of this bundle and has no effect. Did you mean batch_size?",
        "`zzz` is not an id of this bundle and has no effect. See the ids in the bundle's JSON file.",
    ]


def test_errors_of_parts_are_told_without_monais_traceback() -> None:
    parser = ConfigParser({"outer": {"_target_": "torch.nn.ReLU", "inplace": "@inner"}, "inner": {}})
    for target, more, expected in (
        ("segmentation_models_pytorch.create_model", {"arch": "Unett"}, "Wrong architecture type `Unett`"),
        (
            "afma_med.handlers.FiniteLossHandler",
            {"action": "ignore"},
            "`action` must be one of ('stop', 'skip'); got 'ignore'",
        ),
    ):
        parser["inner"] = {"_target_": target, **more}
        parser.parse(reset=True)
        with pytest.raises(RuntimeError) as raised:
            parser.get_parsed_content("outer")
        assert str(explain_error(raised.value)).startswith(expected)
    assert explain_error(RuntimeError("from elsewhere")) is None


@pytest.mark.slow
def test_typing_error_is_told_by_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", f"['{CAMVID}','{EVALUATE}']"]
    done = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "none"), "--val_sectoin", "val"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 1
    assert "`val_sectoin` is not an id of this bundle and has no effect. Did you mean val_section?" in done.stdout
    assert list(tmp_path.iterdir()) == []
