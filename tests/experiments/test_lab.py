"""``python -m experiments.lab``: the commands of the laboratory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from _helpers.paths import ROOT
from experiments.lab.__main__ import main

COMMANDS = ("run", "compare", "measure", "negative_cases", "rivals", "table5", "benchmark")


def test_module_lists_its_commands() -> None:
    command = [sys.executable, "-m", "experiments.lab", "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert all(re.search(rf"^ +{name}\b", done.stdout, flags=re.MULTILINE) for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"python -m experiments.lab {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("table5 --hosts Unett", r"Unett"),
        ("table5 --feature 9 --hosts Unet --encoder resnet18", r"feature.*9"),
        ("table5 --encoder resnet1 --hosts Unet", r"resnet1"),
        ("table5 --classes 0 --hosts Unet --encoder resnet18", r"classes.* must be .*got .0"),
        ("table5 --patch_size 0 --hosts Unet --encoder resnet18", r"patch_size.* must be .*got .0"),
        ("run none.json", r"required: --dataset_dir"),
        ("run none.json --dataset_dir .", r"there is no file `none\.json`"),
        ("run none.json --dataset_dir none", r"dataset_dir.*none"),
        ("run none.json --dataset_dir . --minutes 0", r"must be a number above 0; got '0'"),
        ("run none.json --dataset_dir . --seeds one", r"invalid int value: 'one'"),
        ("measure none", r"there is no folder `none`"),
        ("negative_cases none none", r"there is no `none`"),
        ("rivals isic", r"isic"),
        ("benchmark --repeats 0", r"repeats.* must be .*got 0"),
        ("benchmark --batch 0", r"batch.* must be .*got .0"),
        ("benchmark --cases none", r"none"),
        ("benchmark --threads 0", r"threads.* must be .*got .0"),
    ],
)
def test_refuses_with_rule_and_value_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        code: object = main(typed.split())
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert re.search(message, capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_table5_writes_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "table.csv"
    options = ["--hosts", "Unet", "--encoder", "resnet18", "--size", "64", "64", "--csv", str(path)]
    assert main(["table5", *options]) == 0
    assert path.is_file()
    assert capsys.readouterr().out.endswith(f"The table is in {path}\n")


def test_benchmark_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--quick", "--repeats", "2", "--threads", "1", "--cases", "alone", "--output_dir", str(tmp_path)]
    assert main(["benchmark", *options]) == 0
    assert {"benchmark.json", "benchmark.csv"} <= {path.name for path in tmp_path.iterdir()}
    stated = json.loads((tmp_path / "benchmark.json").read_text(encoding="utf-8"))["options"]
    assert (stated["repeats"], stated["threads"], stated["quick"]) == (2, 1, True)
    assert capsys.readouterr().out.endswith(f"The results are in {tmp_path}\n")
