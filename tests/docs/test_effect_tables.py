"""The differences that the pages report are those of the committed results."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path

import pytest
from scipy import stats

from _helpers.paths import ROOT

EXPERIMENTS = ROOT / "experiments"
PROTOCOL, PAGE = EXPERIMENTS / "README.md", ROOT / "docs" / "does_it_help.md"
ON_GPU = EXPERIMENTS / "results" / "camvid_fast_gpu"
FINE_TUNED = EXPERIMENTS / "results" / "camvid_finetune_gpu"
NUCLEI = EXPERIMENTS / "results" / "nuclei_fast"
# Row and column of the scores that the evaluations printed, and the name of the score in a result.
SCORES = {
    "mIoU": ("mean", "IoU", "mIoU"),
    "mIoU of small classes": ("mean of small classes", "IoU", "mIoU_small"),
    "mIoU of large classes": ("mean of large classes", "IoU", "mIoU_large"),
    "IoU of small objects": ("mean", "IoU small", "IoU_by_size/small"),
    "recall of small objects": ("mean", "recall small", "recall_by_size/small"),
}
# Fine-tuned arms by their rows; the second part tells where their results at two sizes are.
ROWS = {
    "`sampling_and_loss`": ("sampling_and_loss", ""),
    "`everything`": ("everything", ""),
    "`baseline`, two sizes": ("baseline", "two_scales"),
    "`sampling_and_loss`, two sizes": ("sampling_and_loss", "two_scales"),
    "`everything`, two sizes": ("everything", "two_scales"),
}
# The same differences in the words of the page.
PAGE_ROWS = {
    "[predictions at two sizes](small_objects.md), no training": "`baseline`, two sizes",
    "[crops around objects and a loss that counts objects](small_objects.md)": "`sampling_and_loss`",
    "these two, with predictions at two sizes": "`sampling_and_loss`, two sizes",
    "hypercolumn head, without attention (`variant` `hypercolumn`)": "hypercolumn",
    "attention to class prototypes": "prototypes",
    "AFMA as released": "released",
}
# Tables whose scores are all in results: folder of the baseline, and names of the scores by column.
CAMVID_TABLE = (
    EXPERIMENTS / "results" / "camvid_scales",
    ("mIoU", "mIoU_small", "IoU_by_size/small", "recall_by_size/small"),
)
NUCLEI_TABLE = (
    NUCLEI,
    (
        "mIoU",
        "IoU_small_objects/nucleus",
        "recall_small_objects/nucleus",
        "object_recall_small/nucleus",
        "object_F1/nucleus",
    ),
)
FINE_TUNED_NUCLEI = (EXPERIMENTS / "results" / "nuclei_finetune", NUCLEI_TABLE[1])
LESIONS_TABLE = (
    EXPERIMENTS / "results" / "covid_finetune",
    (
        "mIoU",
        "IoU_small_objects/lesion",
        "recall_small_objects/lesion",
        "lesion_recall_small/lesion",
        "lesion_F1/lesion",
    ),
)
# Their rows: page, title, table, arm, and folder of the arm's results.
NUCLEI_AGAIN = NUCLEI.with_name("nuclei_scales")
SMALL_OFFSET = NUCLEI_AGAIN / "two_scales_mirrored_offset"
LARGE_OFFSET = NUCLEI_AGAIN / "two_scales_mirrored_larger_offset"
MIRRORED = "predictions at two sizes, mirrored"
EVERYTHING = "crops around objects, a loss that counts objects, the head, and predictions at two sizes"
LINK = "[offset](small_objects.md#offsets-of-classes)"
TABLE_ROWS = [
    (PROTOCOL, "`baseline`, two sizes", CAMVID_TABLE, "baseline", CAMVID_TABLE[0] / "two_scales"),
    (PROTOCOL, "`baseline`, mirrored", CAMVID_TABLE, "baseline", CAMVID_TABLE[0] / "mirrored"),
    (PROTOCOL, "`baseline`, offsets", CAMVID_TABLE, "baseline", CAMVID_TABLE[0] / "offsets"),
    (PROTOCOL, "`baseline`, two sizes and offsets", CAMVID_TABLE, "baseline", CAMVID_TABLE[0] / "two_scales_offsets"),
    (PROTOCOL, "`hypercolumn`", NUCLEI_TABLE, "hypercolumn", NUCLEI),
    (PAGE, "hypercolumn head, without attention", NUCLEI_TABLE, "hypercolumn", NUCLEI),
    (PROTOCOL, "`baseline`, two sizes", NUCLEI_TABLE, "baseline", NUCLEI_AGAIN / "two_scales"),
    (PAGE, "predictions at two sizes, no training", NUCLEI_TABLE, "baseline", NUCLEI_AGAIN / "two_scales"),
    (PROTOCOL, "`hypercolumn`, two sizes", NUCLEI_TABLE, "hypercolumn", NUCLEI_AGAIN / "two_scales"),
    (PAGE, "both", NUCLEI_TABLE, "hypercolumn", NUCLEI_AGAIN / "two_scales"),
    (PROTOCOL, "`baseline`, two sizes, mirrored, offset 0.5", NUCLEI_TABLE, "baseline", SMALL_OFFSET),
    (PAGE, f"{MIRRORED}, with an {LINK} of 0.5, no training", NUCLEI_TABLE, "baseline", SMALL_OFFSET),
    (PROTOCOL, "`baseline`, two sizes, mirrored, offset 0.7", NUCLEI_TABLE, "baseline", LARGE_OFFSET),
    (PAGE, f"{MIRRORED}, with an {LINK} of 0.7, no training", NUCLEI_TABLE, "baseline", LARGE_OFFSET),
    (PROTOCOL, "`everything`", FINE_TUNED_NUCLEI, "everything", FINE_TUNED_NUCLEI[0]),
    (PROTOCOL, "`baseline`, two sizes", FINE_TUNED_NUCLEI, "baseline", FINE_TUNED_NUCLEI[0] / "two_scales"),
    (PROTOCOL, "`everything`, two sizes", FINE_TUNED_NUCLEI, "everything", FINE_TUNED_NUCLEI[0] / "two_scales"),
    (PAGE, EVERYTHING, FINE_TUNED_NUCLEI, "everything", FINE_TUNED_NUCLEI[0] / "two_scales"),
    (PROTOCOL, "`baseline`, offset 0.25", LESIONS_TABLE, "baseline", LESIONS_TABLE[0] / "offset"),
    (PAGE, f"predictions with an {LINK} of 0.25, no training", LESIONS_TABLE, "baseline", LESIONS_TABLE[0] / "offset"),
    (PROTOCOL, "`baseline`, two sizes", LESIONS_TABLE, "baseline", LESIONS_TABLE[0] / "two_scales"),
    (PAGE, "predictions at two sizes, no training", LESIONS_TABLE, "baseline", LESIONS_TABLE[0] / "two_scales"),
]


# Results of the table of depths by row, and the names of its scores by column.
DEPTHS = EXPERIMENTS / "results" / "depth"
DEPTH_ROWS = {
    "baseline": ON_GPU.with_name("camvid_fast") / "baseline_0.json",
    "depth_2": ON_GPU.with_name("camvid_fast") / "released_0.json",
    **{path.stem.removesuffix("_0"): path for path in sorted(DEPTHS.glob("*_0.json"))},
}
DEPTH_SCORES = (
    *("IoU/signsymbol", "IoU/pedestrian", "IoU/pole", "IoU/bicyclist"),
    *("mIoU_small", "mIoU_large", "mIoU", "recall_by_size/small"),
)


def read_score(result: Path, name: str) -> float:
    return float(json.loads(result.read_text(encoding="utf-8"))["scores"][name])


def find_score(arm: str, seed: int, title: str) -> float | None:
    """Of seed 0 from a CPU; of the others from a GPU: of its result, or else as its evaluation printed it."""
    result = (ON_GPU if seed else ON_GPU.with_name("camvid_fast")) / f"{arm}_{seed}.json"
    if result.is_file():
        return read_score(result, SCORES[title][2])
    with (ON_GPU / "scores.csv").open(encoding="utf-8", newline="") as file:
        printed = {(row["arm"], int(row["seed"]), row["class"]): row for row in csv.DictReader(file)}
    row, column, _ = SCORES[title]
    return float(printed[arm, seed, row][column]) if (arm, seed, row) in printed else None


def trained_differences(arm: str, title: str) -> list[float | None]:
    """Of an arm of the list to the baseline, in points, by seed."""
    pairs = [(find_score(arm, seed, title), find_score("baseline", seed, title)) for seed in range(5)]
    return [None if mine is None or bare is None else 100 * (mine - bare) for mine, bare in pairs]


def fine_tuned_differences(row: str, title: str) -> list[float]:
    """Of a fine-tuned arm to the fine-tuned baseline at one size, in points."""
    arm, protocol = ROWS[row]
    return differences_to_baseline(arm, FINE_TUNED / protocol, FINE_TUNED, SCORES[title][2])


def differences_to_baseline(arm: str, folder: Path, baselines: Path, name: str) -> list[float]:
    """Of the results of an arm in a folder to the baseline of the same seed, in points."""
    return [
        100 * (read_score(result, name) - read_score(baselines / f"baseline_{result.stem[-1]}.json", name))
        for result in sorted(folder.glob(f"{arm}_*.json"))
    ]


def signed(points: float) -> str:
    text = f"{points:+.1f}"
    return "0.0" if text[1:] == "0.0" else text.replace("-", "−")


def mean_and_interval(differences: list[float]) -> tuple[str, str]:
    """The mean, and its 95 % interval."""
    mean, deviation = statistics.mean(differences), statistics.stdev(differences)
    reach = stats.t.ppf(0.975, len(differences) - 1) * deviation / math.sqrt(len(differences))
    return signed(mean), f"{signed(mean - reach)} to {signed(mean + reach)}"


def lines_of(page: Path) -> list[str]:
    """Lines without the bold type of a table."""
    return [line.replace("**", "") for line in page.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("title", SCORES)
@pytest.mark.parametrize("arm", ["hypercolumn", "plain_head", "prototypes", "released"])
def test_rows_of_the_list_on_a_gpu(arm: str, title: str) -> None:
    differences = trained_differences(arm, title)
    cells = ["" if one is None else signed(one) for one in differences]
    cells += mean_and_interval([one for one in differences if one is not None])
    assert f"| `{arm}`, {title} | {' | '.join(cells)} |" in lines_of(PROTOCOL)


@pytest.mark.parametrize("row", ROWS)
def test_rows_of_the_fine_tuned_arms(row: str) -> None:
    titles = ("mIoU", "mIoU of small classes", "IoU of small objects", "recall of small objects")
    found = [fine_tuned_differences(row, title) for title in titles]
    cells = ["{} ({})".format(*mean_and_interval(one)) for one in found]
    assert f"| {row} | {len(found[0])} | {' | '.join(cells)} |" in lines_of(PROTOCOL)


@pytest.mark.parametrize("row", PAGE_ROWS)
def test_rows_of_the_page(row: str) -> None:
    source, cells = PAGE_ROWS[row], []
    for title in ("mIoU", "mIoU of small classes", "recall of small objects"):
        differences = fine_tuned_differences(source, title) if source in ROWS else trained_differences(source, title)
        found = [one for one in differences if one is not None]
        cells.append("{} ({})".format(*mean_and_interval(found)))
    assert f"| {row} | {len(found)} | {' | '.join(cells)} |" in lines_of(PAGE)


@pytest.mark.parametrize(
    ("page", "title", "table", "arm", "folder"),
    [pytest.param(*row, id=f"{row[0].stem}, {row[4].parent.stem}/{row[4].stem}, {row[3]}") for row in TABLE_ROWS],
)
def test_rows_of_results(page: Path, title: str, table: tuple[Path, Sequence[str]], arm: str, folder: Path) -> None:
    baselines, names = table
    found = [differences_to_baseline(arm, folder, baselines, name) for name in names]
    cells = ["{} ({})".format(*mean_and_interval(one)) for one in found]
    assert f"| {title} | {len(found[0])} | {' | '.join(cells)} |" in lines_of(page)


@pytest.mark.parametrize("arm", DEPTH_ROWS)
def test_rows_of_the_table_of_depths(arm: str) -> None:
    cells = [f"{100 * read_score(DEPTH_ROWS[arm], name):.1f}" for name in DEPTH_SCORES]
    assert f"| `{arm}` | {' | '.join(cells)} |" in lines_of(PROTOCOL)


@pytest.mark.parametrize("arm", [arm for arm in DEPTH_ROWS if arm != "baseline"])
def test_rows_of_the_mechanism_at_each_depth(arm: str) -> None:
    measured = json.loads(DEPTH_ROWS[arm].read_text(encoding="utf-8"))["mechanism"]
    cells = [f"{100 * measured[kind]['miou']:.1f}" for kind in ("zero", "after", "swap", "gold")]
    assert f"| `{arm}` | {' | '.join(cells)} |" in lines_of(PROTOCOL)
