"""The benchmark: a tiny run gives files of finite numbers; what does not fit is named, bad options are refused."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.lab import benchmark
from experiments.lab.__main__ import main
from experiments.lab.benchmark_cases import BenchmarkOptions, list_cases
from experiments.lab.benchmark_report import fit_growth, summarise

CASE = list_cases(quick=True)[0]


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a run and what it printed."""
    folder = tmp_path_factory.mktemp("benchmark") / "new folder"
    options = ["--quick", "--repeats", "2", "--threads", "1", "--output_dir", str(folder)]
    done = subprocess.run(
        [sys.executable, "-m", "afma_med", "benchmark", *options],
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))["rows"]


@pytest.mark.slow
def test_every_case_has_finite_numbers(quick_run) -> None:
    rows = rows_of(quick_run[0])
    assert [(row["case"].split("-")[0], row["mode"]) for row in rows] == [
        *(("alone", mode) for mode in ("train", "inference")),
        *(("unet", mode) for mode in ("train", "inference")),
        *[(group, "train") for group in ("growth", "classes", "batch") for _ in range(3)],
    ]
    for row in rows:
        assert row["note"] == ""
        whole = row["case"].startswith("unet")
        assert set(row["seconds"]) == {"ours", "dense", "bare", *(["head"] if whole else [])}
        assert all(len(times) == 2 and min(times) > 0 for times in row["seconds"].values())
        assert all(math.isfinite(value) for value in row.values() if isinstance(value, float))
        assert row["ours/dense"] == pytest.approx(row["ours_ms"] / row["dense_ms"])
        assert ("ours/bare" in row) == ("head/bare" in row) == whole
        assert row["dense_gmacs"] > row["bare_gmacs"]
        assert row["ours_peak_mib"] - row["bare_peak_mib"] == pytest.approx(row["ours_added_mib"])


@pytest.mark.slow
def test_both_forms_have_the_same_loss(quick_run) -> None:
    """What is timed side by side is the same function."""
    rows = [row for row in rows_of(quick_run[0]) if row["mode"] == "train"]
    assert len(rows) == 11
    for row in rows:
        assert row["ours_loss"] == pytest.approx(row["dense_loss"], rel=1e-4)
        assert row["ours_loss"] != row["bare_loss"]


@pytest.mark.slow
def test_files_and_print(quick_run) -> None:
    folder, printed = quick_run
    rows = rows_of(folder)
    with (folder / "benchmark.csv").open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [row["case"] for row in table] == [row["case"] for row in rows]
    assert [float(row["ours_ms"]) for row in table] == [row["ours_ms"] for row in rows]
    result = json.loads((folder / "benchmark.json").read_text(encoding="utf-8"))
    assert result["machine"]["torch"] == torch.__version__
    assert result["machine"]["threads"] == 1
    assert len(result["machine"]["load_average"]) == 3
    assert result["growth"].keys() == {"growth", "classes", "batch"}
    for group in result["growth"].values():
        assert all(len(series["points"]) == 3 for series in group.values())
    assert (folder / "growth.png").exists()
    assert printed.splitlines()[-1] == f"The results are in {folder}"
    assert sum(line.startswith("[") for line in printed.splitlines()) == len(rows)


def test_cases_are_those_of_the_paper_and_of_a_large_image() -> None:
    names = [str(case) for case in list_cases(quick=False)]
    assert len(names) == len(set(names)) == 2 * 2 * 4 + 6 + 5 + 5
    assert {"unet-resnet101-640x960-d1", "alone-resnet34-1024x2048-d2", "growth-resnet101-240x320-d2"} <= set(names)
    assert {"classes-resnet101-480x640-d2-k150", "batch-resnet101-480x640-d2-b16"} <= set(names)


def test_dense_form_counts_the_multiply_adds_of_its_matrices() -> None:
    """By hand: convolutions, the two linears of every patch, A = Q Kᵀ and A V."""
    (height, width), stride, classes = CASE.size, 2**CASE.depth, CASE.classes
    pixels, small = height * width, height * width // stride**2
    image_patches, feature_patches = 7 * 10, 2 * 3
    counted = pixels * (3 * 49 * 64 + 64 * 9 * classes) + small * 64 * classes
    counted += classes * (image_patches + feature_patches) * 2 * 100 * 200
    counted += 2 * classes * image_patches * feature_patches * 100
    counts = benchmark.count_macs(CASE, 1)
    assert counts["dense_gmacs"] == pytest.approx(counted / 1e9)
    assert counts["bare_gmacs"] == 0


def test_ratios_are_of_medians_and_of_pairs() -> None:
    seconds = {"ours": [1.0, 2.0, 6.0], "dense": [4.0, 4.0, 6.0], "bare": [1.0, 1.0, 1.0]}
    result = summarise(seconds, [("ours", "dense"), ("dense", "bare")])
    assert (result["ours_ms"], result["ours_iqr_ms"]) == (2000.0, 2500.0)
    assert (result["ours/dense"], result["ours~dense"]) == (0.5, 0.5)
    assert (result["dense/bare"], result["dense~bare"], result["dense_added_ms"]) == (4.0, 4.0, 3000.0)
    assert "ours/bare" not in result


def test_growth_exponent_is_the_power_of_what_grows() -> None:
    rows = [{"pixels": n, "ours_added_ms": 3.0 * n, "dense_added_ms": 0.5 * n**2} for n in (8, 64, 100)]
    series = fit_growth(rows, "pixels", ["ours_added_ms", "dense_added_ms", "ours_added_mib"])
    assert series["ours_added_ms"]["exponent"] == pytest.approx(1)
    assert series["dense_added_ms"]["exponent"] == pytest.approx(2)
    assert series["dense_added_ms"]["reach"] == pytest.approx(0, abs=1e-6), "the points lie on a line"
    assert series["ours_added_mib"] == {"points": [], "exponent": None, "reach": None}
    assert fit_growth(rows[:2], "pixels", ["ours_added_ms"])["ours_added_ms"]["exponent"] is None


def test_interval_of_an_exponent_is_that_of_a_straight_line() -> None:
    rows = [{"classes": 2**x, "ours_added_ms": 2.0**y} for x, y in ((0, 0), (1, 2), (2, 1), (3, 3))]
    found = fit_growth(rows, "classes", ["ours_added_ms"])["ours_added_ms"]
    # By hand: slope 0.8, residuals -0.3, 0.9, -0.9, 0.3; their squares 1.8 / 2, over the 5 of x; t is 4.303.
    assert found["exponent"] == pytest.approx(0.8)
    assert found["reach"] == pytest.approx(4.3027 * math.sqrt(1.8 / 2 / 5), rel=1e-4)


@pytest.fixture
def given() -> BenchmarkOptions:
    return BenchmarkOptions(repeats=2)


def test_what_does_not_fit_is_skipped_with_its_size(monkeypatch, given) -> None:
    def in_child(function: Any, *arguments: Any) -> Any:
        if function is benchmark.time_variants:
            return {"seconds": {name: [1.0, 2.0] for name in arguments[-1]}}
        return 2**20 if function is benchmark.peak_memory else {}

    monkeypatch.setattr(benchmark, "in_child", in_child)
    monkeypatch.setattr(benchmark, "available_bytes", lambda _device: 2 * 2**20)
    row = benchmark.measure_case(CASE._replace(size=(480, 640), classes=12), "train", given)
    assert row["note"] == "dense skipped: it needs at least 82 MiB, 2 MiB are available"
    assert set(row["seconds"]) == {"ours", "bare"}
    assert "ours_ms" in row
    assert "dense_ms" not in row


def test_memory_that_runs_out_is_a_note(monkeypatch, given) -> None:
    def in_child(function: Any, *_arguments: Any) -> Any:
        if function is not benchmark.count_macs:
            raise MemoryError("memory ran out")
        return {}

    monkeypatch.setattr(benchmark, "in_child", in_child)
    note = benchmark.measure_case(CASE, "train", given)["note"]
    assert note.split("; ") == [f"{name} skipped: memory ran out" for name in ("bare", "ours", "dense", "times")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cases", "nothing"], "--cases must be of alone, unet, growth, classes, batch, alone-resnet34-480x640-d2"),
        (["--quick", "--cases", "unet-resnet34-480x640-d2"], "batch, alone-resnet18-64x96-d2"),
        (["--device", "tpu"], "invalid choice: 'tpu'"),
        (["--repeats", "1"], "--repeats must be at least 2"),
        (["--batch", "0"], "--batch: must be a whole number above 0"),
        (["--threads", "-1"], "must be a whole number above 0"),
        (["--batch", "two"], "must be a whole number above 0; got 'two'"),
        (["--output_dir", __file__], "--output_dir must be a folder that can be written"),
    ],
)
def test_bad_options_are_refused(options: list[str], message: str, capsys) -> None:
    try:
        code: object = main(["benchmark", *options])
    except SystemExit as stop:
        code = stop.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_a_missing_gpu_is_named(monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["benchmark", "--device", "cuda"]) == 2
    assert "--device cuda needs a CUDA device" in capsys.readouterr().err
