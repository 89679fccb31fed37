"""Path ids keep the text that was typed, whatever Python makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fire.parser import DefaultParseValue
from monai.bundle import ConfigParser

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.typed_path import typed_path

NAMES = ["2018", "2018_06", "007", "1e5", "0x10", "1_0.5", "True", "run#2", "1,2", "[a]", "{a}", "1j", "a b", "-5", "x"]
IDS = ["dataset_dir", "output_dir", "bundle_root", "input", "prediction_dir", "checkpoint", "resume", "input_dir"]


@pytest.fixture
def type_arguments(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def set_arguments(*arguments: str) -> None:
        monkeypatch.setattr("sys.argv", ["/somewhere/monai/bundle/__main__.py", "run", *arguments])

    return set_arguments


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "form", ["--output_dir {}", "--output-dir {}", "--output_dir={}", "--output_dir z --output_dir {}"]
)
def test_text_is_kept(name: str, form: str) -> None:
    arguments = [part.replace("{}", name) for part in form.split()]
    assert typed_path("output_dir", DefaultParseValue(name), ["run", *arguments, "--seed", "3"]) == name


@pytest.mark.parametrize(
    ("value", "arguments", "expected"),
    [
        (True, ["--resume"], True),
        (True, ["--resume", "--seed", "0"], True),
        ("a", ["--resume", '"a"'], "a"),
        ("/data/x", ["--resume", "$@name"], "/data/x"),
        ("runs/x", ["--resume", "None"], "runs/x"),
        (None, ["--seed", "0"], None),
        (2018, [], "2018"),
        (False, [], False),
        (Path("a"), [], Path("a")),
    ],
)
def test_other_values(value: Any, arguments: list[str], expected: Any) -> None:
    assert typed_path("resume", value, arguments) == expected


def test_other_programs_arguments_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["/usr/bin/pytest", "--output_dir", "2018_06"])
    assert typed_path("output_dir", "runs/x") == "runs/x"


@pytest.mark.parametrize("name", IDS)
def test_every_path_id_of_the_bundles(name: str, type_arguments: Callable[..., None]) -> None:
    type_arguments(f"--{name}", "2018_06")
    files = [bundles_folder() / "isic_afma.json", bundles_folder() / "inference.json"]
    parser = ConfigParser()
    parser.read_config([str(file) for file in files])
    parser.update({name: 201806})
    assert parser.get_parsed_content(f"paths#{name}") == "2018_06"


def test_bundles_refer_to_paths_as_they_were_typed() -> None:
    for file in sorted((bundles_folder() / "src").glob("**/*.json")):
        text = json.dumps({**json.loads(file.read_text(encoding="utf-8")), "paths": {}, "paths#input": ""})
        for name in IDS:
            assert f'@{name}"' not in text and f"@{name} " not in text and f"@{name}," not in text, (file.name, name)


def test_derived_folders_follow(type_arguments: Callable[..., None]) -> None:
    type_arguments("--output_dir", "2024_01")
    parser = ConfigParser()
    parser.read_config(str(bundles_folder() / "camvid_afma.json"))
    parser.update({"output_dir": 202401})
    assert parser.get_parsed_content("paths#prediction_dir") == "2024_01/predictions"
    assert parser.get_parsed_content("validate#best_checkpoint#output_dir") == "2024_01"
    assert parser.get_parsed_content("checked_ids#output_dir") == "2024_01"
