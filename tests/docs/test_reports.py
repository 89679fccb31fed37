"""The tables of the experiments follow from the committed results, and the docs have the same rows."""

from __future__ import annotations

import csv
import json
import math
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from scipy import stats

from _helpers.paths import ROOT
from afma_med.research.comparison import compare, compare_runs
from afma_med.research.trainings import list_trainings

EXPERIMENTS = ROOT / "bundles" / "experiments"
REPORTS = EXPERIMENTS / "reports"
LISTS = ("camvid", "isic", "camvid_ablation")
TUNING = "camvid_tuning"
FAST = ("nuclei_fast",)
# Lists whose arms are compared with the arm `baseline`, the results of all protocols together.
NAMED = ("camvid_fast", "camvid_scales", "camvid_finetune", "camvid_finetune_gpu", "nuclei_finetune")
# The pairs of the list on a GPU, with those of seed 0 from a CPU.
ON_GPU = ("camvid_fast_gpu/*.json", "camvid_fast/*_0.json")


def spaced(line: str) -> str:
    return re.sub(r" +", " ", line.strip())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*LISTS, TUNING, *FAST, "camvid/released_protocol"])
def test_report_is_what_compare_makes_of_the_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "draw_charts", lambda found: ([], []))  # for the time that it takes
    results = sorted((EXPERIMENTS / "results" / name).glob("*.json"))
    made = compare_runs(results, tmp_path / "report", images=0) / "comparison.md"
    assert made.read_text(encoding="utf-8") == (REPORTS / name / "comparison.md").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("name", [*NAMED, "camvid_fast_gpu"])
def test_report_of_named_arms_is_what_compare_makes_of_the_results(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "draw_charts", lambda found: ([], []))  # for the time that it takes
    patterns = ON_GPU if name == "camvid_fast_gpu" else (f"{name}/**/*.json",)
    results = [path for pattern in patterns for path in sorted((EXPERIMENTS / "results").glob(pattern))]
    made = compare_runs(results, tmp_path / "report", images=0, baseline="baseline") / "comparison.md"
    report = (REPORTS / name / "comparison.md").read_text(encoding="utf-8")
    # Runs without validation have no curves, which only the charts would note.
    report = "".join(line for line in report.splitlines(True) if not line.startswith("- Training curves"))
    assert made.read_text(encoding="utf-8") == report


@pytest.mark.parametrize("name", [*LISTS, TUNING])
def test_every_training_of_a_list_has_its_result(name: str) -> None:
    trainings = {training.pooled or training.name for training in list_trainings(EXPERIMENTS / f"{name}.json")}
    assert trainings == {path.stem for path in (EXPERIMENTS / "results" / name).glob("*.json")}


def test_attention_is_what_the_results_say() -> None:
    results = [path for name in LISTS for path in sorted((EXPERIMENTS / "results" / name).glob("*.json"))]
    command = [sys.executable, "-m", "afma_med", "measure", "--by_class", *map(str, results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == (REPORTS / "attention.txt").read_text(encoding="utf-8")


def sections(page: Path, *titles: str) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.split(r"\n##+ ", text.split(f"## {title}\n")[1])[0] for title in titles)


@pytest.mark.parametrize(
    ("page", "titles", "rows"),
    [
        (EXPERIMENTS / "README.md", ["Scores of the first trainings", "Their attention"], 35),
        (EXPERIMENTS / "README.md", ["What else was tried"], 28),
    ],
)
def test_rows_of_the_pages_are_those_of_the_reports(page: Path, titles: list[str], rows: int) -> None:
    reported = {
        spaced(line)
        for path in [*REPORTS.rglob("comparison.md"), REPORTS / "attention.txt"]
        for line in path.read_text(encoding="utf-8").splitlines()
    }
    text = sections(page, *titles)
    shown = [line for line in text.splitlines() if line.startswith("|") and not line.startswith(("| -", "|-"))]
    shown += [line for block in re.findall(r"```\n(.*?)```", text, flags=re.DOTALL) for line in block.splitlines()]
    assert len(shown) >= rows
    assert not [line for line in shown if spaced(line) not in reported]


# Title, row and column of the scores that the evaluations printed, and the name of the score in a result.
_PRINTED = {
    "mIoU": ("mean", "IoU", "mIoU"),
    "mIoU of small classes": ("mean of small classes", "IoU", "mIoU_small"),
    "mIoU of large classes": ("mean of large classes", "IoU", "mIoU_large"),
    "IoU of small objects": ("mean", "IoU small", "IoU_by_size/small"),
    "recall of small objects": ("mean", "recall small", "recall_by_size/small"),
}


# Fine-tuned arms that are evaluated at two sizes.
_TWO_SIZES = ("baseline, two sizes", "sampling_and_loss, two sizes", "everything, two sizes")


def spread_over_seeds(differences: list[float]) -> tuple[float, float, float]:
    """Mean, and the ends of its 95 % interval."""
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    reach = stats.t.ppf(0.975, len(differences) - 1) * deviation / math.sqrt(len(differences))
    return mean, mean - reach, mean + reach


def signed(points: float) -> str:
    text = f"{points:+.1f}"
    return "0.0" if text[1:] == "0.0" else text.replace("-", "−")


def find_score(arm: str, seed: int, title: str) -> float | None:
    """Of seed 0 from a CPU; of the others from a GPU: of its result, or else as its evaluation printed it."""
    row, column, name = _PRINTED[title]
    on_gpu = EXPERIMENTS / "results" / "camvid_fast_gpu"
    result = (on_gpu if seed else on_gpu.with_name("camvid_fast")) / f"{arm}_{seed}.json"
    if result.is_file():
        return float(json.loads(result.read_text(encoding="utf-8"))["scores"][name])
    with (on_gpu / "scores.csv").open(encoding="utf-8", newline="") as file:
        printed = {(row["arm"], int(row["seed"]), row["class"]): row for row in csv.DictReader(file)}
    return float(printed[arm, seed, row][column]) if (arm, seed, row) in printed else None


@pytest.mark.parametrize("title", _PRINTED)
@pytest.mark.parametrize("arm", ["hypercolumn", "plain_head", "prototypes", "released"])
def test_differences_of_the_trainings_on_a_gpu_are_those_of_their_scores(arm: str, title: str) -> None:
    pairs = [(find_score(arm, seed, title), find_score("baseline", seed, title)) for seed in range(5)]
    differences = [None if mine is None or bare is None else 100 * (mine - bare) for mine, bare in pairs]
    mean, low, high = spread_over_seeds([one for one in differences if one is not None])
    cells = ["" if one is None else signed(one) for one in (*differences, mean)]
    line = f"| `{arm}`, {title} | {' | '.join([*cells, f'{signed(low)} to {signed(high)}'])} |"
    assert line in (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("row", ["sampling_and_loss", "everything", *_TWO_SIZES])
def test_differences_of_the_fine_tuned_arms_are_those_of_their_results(row: str) -> None:
    folder, arm = EXPERIMENTS / "results" / "camvid_finetune_gpu", row.partition(",")[0]
    results = sorted((folder / "two_scales" if row in _TWO_SIZES else folder).glob(f"{arm}_*.json"))
    cells = [str(len(results))]
    for title in ("mIoU", "mIoU of small classes", "IoU of small objects", "recall of small objects"):
        name = _PRINTED[title][2]
        mine, bare = (
            [json.loads(path.read_text(encoding="utf-8"))["scores"][name] for path in paths]
            for paths in (results, [folder / f"baseline_{path.stem[-1]}.json" for path in results])
        )
        mean, low, high = spread_over_seeds([100 * (a - b) for a, b in zip(mine, bare, strict=True)])
        cells.append(f"{signed(mean)} ({signed(low)} to {signed(high)})")
    label = f"`{arm}`{row.removeprefix(arm)}"
    assert f"| {label} | {' | '.join(cells)} |" in (EXPERIMENTS / "README.md").read_text(encoding="utf-8").splitlines()
