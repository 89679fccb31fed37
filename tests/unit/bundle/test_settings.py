"""Settings of a run that somebody else sent: plain data, each value by the rule of its id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from _helpers.paths import ROOT
from _helpers.synthetic_runs import SETTINGS
from afma_med.bundle.settings import check_plain, read_settings, write_settings
from afma_med.runs.result_file import read_result

CODE = "$open('mark', 'w').close() or 'resnet18'"


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"encoder": CODE}, "encoder"),
        ({"longest_side": "$240"}, "longest_side"),
        ({"source": "@encoder"}, "source"),
        ({"network_name": "%/tmp/other.json#net"}, "network_name"),
        ({"feature": {"small": 2, "large": CODE}}, "feature.large"),
        ({"feature": ["$2", 3]}, "feature"),
        ({"feature": {"_target_": "os.mkdir", "path": "mark"}}, "feature._target_"),
        ({"normalization": {"mean": [0.5], "std": [CODE]}}, "normalization.std"),
        ({"training": {"seed": 0, "encoder_weights": CODE}}, "training.encoder_weights"),
        ({"added_by_others": [[{"deep": CODE}]]}, "added_by_others.deep"),
        ({"$encoder": 1}, r"\$encoder"),
        ({"afma": "yes"}, "afma"),
        ({"encoder": 18}, "encoder"),
        ({"encoder": {"name": "resnet18"}}, "encoder"),
        ({"network_name": None}, "network_name"),
        ({"feature": 0}, "feature"),
        ({"patch_size": "10"}, "patch_size"),
        ({"longest_side": 240.5}, "longest_side"),
        ({"image_range": float("nan")}, "image_range"),
        ({"normalization": {"mean": [0.5, 0.5], "std": [1.0]}}, "normalization"),
        ({"normalization": {"mean": [0.5], "std": [0]}}, "normalization"),
        ({"normalization": 0.5}, "normalization"),
        ({"fold": -1}, "fold"),
        ({"missing_spacing": [1, 1]}, "missing_spacing"),
        ({"name": "camvid_afma; touch mark"}, "name"),
        ({"name": "../camvid_afma"}, "name"),
        ({"training": {"max_epochs": "3"}}, "max_epochs"),
    ],
)
def test_values_that_no_training_wrote_are_refused(tmp_path: Path, values: dict[str, Any], named: str) -> None:
    (tmp_path / "settings.json").write_text(json.dumps({**SETTINGS, **values}), encoding="utf-8")
    with pytest.raises(ValueError, match=rf"settings\.json` must be .*`{named}` must be"):
        read_settings(tmp_path / "model.pt")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "[]", '"camvid_afma"', '{"training": 1}', "\xff"])
def test_damaged_settings_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "settings.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"settings\.json` must be"):
        read_settings(tmp_path / "model.pt")


def test_settings_of_a_training_are_read_as_written(tmp_path: Path) -> None:
    given = {**SETTINGS, "feature": {"small": [2, 3], "large": "layer4"}, "missing_spacing": [0.7, 0.7, 2.5]}
    write_settings(tmp_path, given)
    assert read_settings(tmp_path / "model.pt") == given


def test_settings_of_all_committed_results_are_plain() -> None:
    found = list((ROOT / "experiments" / "results").rglob("*.json"))
    assert len(found) > 100
    for path in found:
        check_plain(json.loads(path.read_text(encoding="utf-8"))["settings"])


def test_result_files_with_code_are_refused(tmp_path: Path) -> None:
    path = next((ROOT / "experiments" / "results" / "depth").glob("*.json"))
    content = json.loads(path.read_text(encoding="utf-8"))
    content["settings"]["encoder"] = CODE
    (tmp_path / "result.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"result\.json` must be .*`encoder` must be plain data"):
        read_result(tmp_path / "result.json")
