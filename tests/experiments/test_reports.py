"""The reports follow from the committed results, and the page of the first trainings has their rows."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from _helpers.paths import ROOT
from afma_med.comparison import compare, compare_runs
from afma_med.runs.result_file import read_result
from afma_med.trial.training_list import list_trainings
from experiments.lab.paper import publish_paper
from experiments.lab.studies import complete_arm

EXPERIMENTS = ROOT / "experiments"
REPORTS = EXPERIMENTS / "reports"
LISTS = ("camvid", "isic", "camvid_ablation")
TUNING = "camvid_tuning"
FAST = ("nuclei_fast",)
# Lists whose arms are compared with the arm `baseline`, the results of all protocols together.
NAMED = (
    *("camvid_fast", "camvid_scales", "camvid_finetune", "camvid_finetune_gpu"),
    *("nuclei_finetune", "nuclei_scales", "covid_finetune"),
)
# The pairs of the list on a GPU, with those of seed 0 from a CPU.
ON_GPU = ("camvid_fast_gpu/*.json", "camvid_fast/*_0.json")
# Depths with the trainings of the fast protocol that are also theirs, of seed 0: other seeds are not complete yet.
DEPTH = ("camvid_fast/baseline_0.json", "camvid_fast/released_0.json", "depth/*_0.json")


def spaced(line: str) -> str:
    return re.sub(r" +", " ", line.strip())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LISTS, TUNING, *FAST, "camvid/released_protocol"])
def test_report_is_what_compare_makes_of_the_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "draw_charts", lambda found: ([], []))  # for the time that it takes
    runs = [read_result(path) for path in sorted((EXPERIMENTS / "results" / name).glob("*.json"))]
    made = compare_runs(runs, tmp_path / "report", images=0, published=publish_paper(runs)) / "comparison.md"
    assert made.read_text(encoding="utf-8") == (REPORTS / name / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, "camvid_fast_gpu", "depth"])
def test_report_of_named_arms_is_what_compare_makes_of_the_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "draw_charts", lambda found: ([], []))  # for the time that it takes
    patterns = {"camvid_fast_gpu": ON_GPU, "depth": DEPTH}.get(name, (f"{name}/**/*.json",))
    paths = [path for pattern in patterns for path in sorted((EXPERIMENTS / "results").glob(pattern))]
    runs = [read_result(path) for path in paths]
    made = (
        compare_runs(runs, tmp_path / "report", images=0, baseline="baseline", published=publish_paper(runs))
        / "comparison.md"
    )
    report = (REPORTS / name / "comparison.md").read_text(encoding="utf-8")
    # Runs without validation have no curves, which only the charts would note.
    report = "".join(line for line in report.splitlines(True) if not line.startswith("- Training curves"))
    assert made.read_text(encoding="utf-8") == report


@pytest.mark.parametrize("name", [*LISTS, TUNING])
def test_every_training_of_a_list_has_its_result(name: str) -> None:
    listed = list_trainings(EXPERIMENTS / "lists" / f"{name}.json", complete=complete_arm)
    trainings = {training.pooled or training.name for training in listed}
    assert trainings == {path.stem for path in (EXPERIMENTS / "results" / name).glob("*.json")}


def test_attention_is_what_the_results_say() -> None:
    results = [path for name in LISTS for path in sorted((EXPERIMENTS / "results" / name).glob("*.json"))]
    command = [sys.executable, "-m", "experiments.lab", "measure", "--by_class", *map(str, results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == (REPORTS / "attention.txt").read_text(encoding="utf-8")


def sections(page: Path, *titles: str) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.split(r"\n##+ ", text.split(f"## {title}\n")[1])[0] for title in titles)


@pytest.mark.parametrize(
    ("titles", "rows"),
    [
        (["Scores", "Their attention"], 35),
        (["Other forms"], 28),
    ],
)
def test_rows_of_the_page_are_those_of_the_reports(titles: list[str], rows: int) -> None:
    reported = {
        spaced(line)
        for path in [*REPORTS.rglob("comparison.md"), REPORTS / "attention.txt"]
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    text = sections(EXPERIMENTS / "first_trainings.md", *titles)
    shown = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("| -", "|-"))]
    shown += [line for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    assert len(shown) >= rows
    assert not [line for line in shown if spaced(line) not in reported]
