"""Every score in the tables of the pages is that of the committed results.

The first cell of a table's header names its entry in TABLES; the first cell of a row names its results.
"""

from __future__ import annotations

import base64
import csv
import json
import math
import re
import statistics
import zlib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats

from _helpers.paths import ROOT

RESULTS = ROOT / "experiments" / "results"
PAGES = [
    *sorted((ROOT / "experiments").glob("*.md")),
    *(ROOT / "docs" / f"{name}.md" for name in ("does_it_help", "which_tool", "small_objects")),
    ROOT / "README.md",
]
ON_CPU, ON_GPU = RESULTS / "camvid_fast", RESULTS / "camvid_fast_gpu"
# Columns of scores and, as a regular expression, their names in a result. The precision is computed from the pixels.
SCORES = {
    "mIoU": "mIoU",
    "mIoU of small classes": "mIoU_small",
    "mIoU of large classes": "mIoU_large",
    "IoU of small objects": "IoU_by_size/small",
    "recall of small objects": "recall_by_size/small",
    "precision": "",
    "small objects detected": "(object|lesion)_recall_small/.*",
    "F1 of objects": "(object|lesion)_F1/.*",
    "sign symbol": "IoU/signsymbol",
    **{name: f"IoU/{name}" for name in ("pedestrian", "pole", "bicyclist")},
}
MECHANISM = {
    "without the correction": "before",
    "corrected": "after",
    "with attention of another image": "swap",
    "with the gold attention": "gold",
}
# Row and column of the scores that the evaluations on a GPU printed.
PRINTED = {
    "mIoU": ("mean", "IoU"),
    "mIoU of small classes": ("mean of small classes", "IoU"),
    "mIoU of large classes": ("mean of large classes", "IoU"),
    "IoU of small objects": ("mean", "IoU small"),
    "recall of small objects": ("mean", "recall small"),
}


@cache
def read(result: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
    return found


def precision(result: Path) -> float:
    """The share of the predicted pixels that are right, averaged over the classes with objects."""
    counts = read(result)["counts"]
    shape, packed = counts["pixels"]["shape"], base64.b64decode(counts["pixels"]["zlib"])
    pixels = np.frombuffer(zlib.decompress(packed), dtype="<i8").reshape(shape).sum(axis=0)[:, 0]
    _, predicted, right, _ = pixels.T
    named = [name != "background" for name in counts["classes"]]
    return float((right[named] / predicted[named]).mean())


def score(result: Path, column: str) -> float:
    if column == "precision":
        return precision(result)
    [found] = (value for name, value in read(result)["scores"].items() if re.fullmatch(SCORES[column], name))
    return float(found)


def signed(points: float) -> str:
    text = f"{points:+.1f}"
    return "0.0" if text[1:] == "0.0" else text.replace("-", "−")


def interval(found: list[float]) -> str:
    """The 95 % interval of their mean."""
    reach = stats.t.ppf(0.975, len(found) - 1) * statistics.stdev(found) / math.sqrt(len(found))
    return f"{signed(statistics.mean(found) - reach)} to {signed(statistics.mean(found) + reach)}"


class Gains(NamedTuple):
    """The differences of an arm in a folder to the baseline of the same seed."""

    arm: str
    folder: str
    baselines: str

    def pairs(self) -> list[tuple[Path, Path]]:
        if self.folder == "camvid_fast_gpu":  # seed 0 is from a CPU
            arms = [ON_CPU / f"{self.arm}_0.json", *sorted(ON_GPU.glob(f"{self.arm}_?.json"))]
            return [(one, one.with_name(f"baseline_{one.stem[-1]}.json")) for one in arms]
        arms = sorted((RESULTS / self.folder).glob(f"{self.arm}_?.json"))
        return [(one, RESULTS / self.baselines / f"baseline_{one.stem[-1]}.json") for one in arms]

    def cell(self, column: str) -> str:
        if column == "seeds":
            return str(len(self.pairs()))
        if column == "small objects detected" and "camvid" in self.folder:
            return ""  # CamVid has no scores of objects
        found = [100 * (score(mine, column) - score(bare, column)) for mine, bare in self.pairs()]
        return signed(statistics.mean(found)) + (f" ({interval(found)})" if len(found) > 1 else "")


class Values(NamedTuple):
    """Scores of results, averaged."""

    results: tuple[str, ...]

    def cell(self, column: str) -> str:
        paths = [RESULTS / name for name in self.results]
        if column in MECHANISM:
            found = {name: read(paths[0])["mechanism"][name]["miou"] for name in (*MECHANISM.values(), "zero")}
            if column.startswith("with ") and found["gold"] == found["zero"]:
                return "no attention"
            return f"{100 * found[MECHANISM[column]]:.1f}"
        seed = re.fullmatch(r"mIoU, seed (\d)", column)
        if seed:
            return f"{100 * score(paths[int(seed[1])], 'mIoU'):.1f}"
        return f"{100 * statistics.mean(score(path, column.removesuffix(', mean')) for path in paths):.1f}"


class BySeed(NamedTuple):
    """The differences of one score of an arm on a GPU, seed by seed."""

    arm: str
    score: str

    def find(self, arm: str, seed: int) -> float | None:
        result = (ON_GPU if seed else ON_CPU) / f"{arm}_{seed}.json"
        if result.is_file():
            return score(result, self.score)
        with (ON_GPU / "scores.csv").open(encoding="utf-8", newline="") as file:
            printed = {(row["arm"], int(row["seed"]), row["class"]): row for row in csv.DictReader(file)}
        row, column = PRINTED[self.score]
        return float(printed[arm, seed, row][column]) if (arm, seed, row) in printed else None

    def cell(self, column: str) -> str:
        pairs = [(self.find(self.arm, seed), self.find("baseline", seed)) for seed in range(5)]
        found = [None if mine is None or bare is None else 100 * (mine - bare) for mine, bare in pairs]
        if column.startswith("seed"):
            one = found[int(column[5])]
            return "" if one is None else signed(one)
        known = [one for one in found if one is not None]
        return signed(statistics.mean(known)) if column == "mean" else interval(known)


def gains(baselines: str, arms: str, **folders: str) -> dict[str, Gains]:
    """Rows of arms as trained, and evaluated again in folders whose names follow the arms in the titles."""
    rows = {f"`{arm}`": Gains(arm, baselines, baselines) for arm in arms.split()}
    again = {
        f"`{arm}`, {title}": Gains(arm, folder, baselines) for title, folder in folders.items() for arm in arms.split()
    }
    return {**rows, **again}


TWO, OFFSET = "two sizes", "offset 0.25"
FINE_TUNED = gains(
    "camvid_finetune_gpu", "baseline sampling_and_loss everything", **{TWO: "camvid_finetune_gpu/two_scales"}
)
SCALES = gains(
    "camvid_scales",
    "baseline",
    **{
        title: f"camvid_scales/{folder}"
        for title, folder in (
            (TWO, "two_scales"),
            ("mirrored", "mirrored"),
            ("offsets", "offsets"),
            ("two sizes and offsets", "two_scales_offsets"),
            ("four sizes", "four_scales"),
        )
    },
)
NUCLEI = gains(
    "nuclei_fast",
    "baseline hypercolumn",
    **{
        TWO: "nuclei_scales/two_scales",
        "two sizes, mirrored, offset 0.5": "nuclei_scales/two_scales_mirrored_offset",
        "two sizes, mirrored, offset 0.7": "nuclei_scales/two_scales_mirrored_larger_offset",
    },
)
NUCLEI_TUNED = gains("nuclei_finetune", "baseline sampling_and_loss everything", **{TWO: "nuclei_finetune/two_scales"})
LESIONS = gains(
    "covid_finetune",
    "baseline sampling_and_loss",
    **{TWO: "covid_finetune/two_scales", OFFSET: "covid_finetune/offset"},
)
GPU = gains("camvid_fast_gpu", "hypercolumn released")
DEPTHS = {
    "`baseline`": Values(("camvid_fast/baseline_0.json",)),
    "`depth_2`": Values(("camvid_fast/released_0.json",)),
    **{f"`{path.stem[:-2]}`": Values((f"depth/{path.name}",)) for path in sorted((RESULTS / "depth").glob("*_0.json"))},
}
TUNING = {
    "start": ("power_0.5_0", "power_0.5_1"),
    "learning rate 0.001": ("rate_0.001_0", "rate_0.001_1"),
    "learning rate 0.004": ("rate_0.004_0", "rate_0.004_1"),
    "class weights as published": ("power_1_0", "power_1_batch_4_1"),
    "no class weights": ("power_0_0", "power_0_batch_4_1"),
    "batch of 4": ("batch_4_0", "batch_4_1"),
}
SUMMARY = {
    "street scenes: two-scale inference": SCALES["`baseline`, two sizes"],
    "street scenes: auxiliary head": GPU["`hypercolumn`"],
    "street scenes: crops around objects and balanced loss": FINE_TUNED["`sampling_and_loss`"],
    "street scenes: the same, with two-scale inference": FINE_TUNED["`sampling_and_loss`, two sizes"],
    "street scenes: AFMA as released": GPU["`released`"],
    "nuclei: two-scale inference": NUCLEI["`baseline`, two sizes"],
    "nuclei: auxiliary head": NUCLEI["`hypercolumn`"],
    "nuclei: crops, balanced loss and head": NUCLEI_TUNED["`everything`"],
    "nuclei: the same, with two-scale inference": NUCLEI_TUNED["`everything`, two sizes"],
    "nuclei: two-scale inference, mirrored, offset 0.5": NUCLEI["`baseline`, two sizes, mirrored, offset 0.5"],
    "lesion slices: two-scale inference": LESIONS["`baseline`, two sizes"],
    "lesion slices: offset 0.25": LESIONS["`baseline`, offset 0.25"],
    "lesion slices: crops around objects and balanced loss": LESIONS["`sampling_and_loss`"],
}
Row = Gains | Values | BySeed
TABLES: Mapping[str, Mapping[str, Row]] = {
    "CamVid, validation section, tuning; %": {
        title: Values(tuple(f"camvid_tuning/{name}.json" for name in names)) for title, names in TUNING.items()
    },
    "CamVid, by seed; points": {
        f"`{arm}`, {name}": BySeed(arm, name)
        for arm in ("hypercolumn", "plain_head", "prototypes", "released")
        for name in PRINTED
    },
    "CamVid, validation section, seed 0; mIoU in %": {
        f"`{arm}`": Values((f"camvid_fast/{arm}_0.json",)) for arm in ("released", "prototypes", "plain_head")
    },
    "CamVid, fine-tuned; points": FINE_TUNED,
    "CamVid, evaluated again; points": SCALES,
    "CamVid, test section, seed 0; %": {
        f"`{arm}`{title}": Values((f"camvid_scales/{folder}{arm}_0.json",))
        for arm in ("baseline", "released")
        for title, folder in (("", ""), (", two sizes", "two_scales/"), (", mirrored", "mirrored/"))
    },
    "CamVid, depths, seed 0; %": DEPTHS,
    "CamVid, depths, validation section; mIoU in %": DEPTHS,
    "nuclei, test section; points": NUCLEI,
    "nuclei, fine-tuned; points": NUCLEI_TUNED,
    "nuclei, validation section, seed 0; mIoU in %": {"`released`": Values(("nuclei_fast/released_0.json",))},
    "lesions, fine-tuned, five folds; points": LESIONS,
    "test section; difference to the bare network in points": SUMMARY,
}


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace("**", "").strip("|").split("|")]


def tables(page: Path) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Header and rows of the tables of a page."""
    found = re.findall(r"(?:^\|.*\n)+", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for header, _, *rows in (table.splitlines() for table in found):
        yield cells(header), [cells(row) for row in rows]


def has_scores(header: list[str]) -> bool:
    return any(re.search(r"IoU|recall|precision|F1", title) for title in header)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_tables_of_scores_are_those_of_the_results(page: Path) -> None:
    reported = page.stem == "first_trainings"  # test_reports.py compares its tables
    for header, rows in tables(page):
        if header[0] in TABLES:
            for title, *shown in (row for row in rows if not row[0].startswith("paper, ")):
                row = TABLES[header[0]][title]
                assert shown == [row.cell(column) for column in header[1:]], title
        else:
            assert reported or not has_scores(header), f"TABLES has no entry for {header[0]!r}"


def test_every_table_is_on_a_page() -> None:
    assert set(TABLES) <= {header[0] for page in PAGES for header, _ in tables(page)}


@pytest.mark.parametrize(
    ("problem", "rows"),
    [
        ("A trained network", ["street scenes: two-scale inference", "nuclei: two-scale inference"]),
        (
            "You train anyway",
            ["street scenes: crops around objects and balanced loss", "nuclei: crops, balanced loss and head"],
        ),
        ("Small classes", ["street scenes: auxiliary head"]),
        ("A rare class", ["lesion slices: offset 0.25"]),
        ("You want the best", ["nuclei: the same, with two-scale inference"]),
        ("You want the paper", ["street scenes: AFMA as released"]),
    ],
)
def test_gains_of_the_tools_are_those_of_the_summary(problem: str, rows: list[str]) -> None:
    [gain] = [
        row[2] for _, rows in tables(ROOT / "docs" / "which_tool.md") for row in rows if row[0].startswith(problem)
    ]
    parts = {part.split(":")[0].split(",")[0].strip(): part for part in gain.split(";")}
    for row in rows:
        shown = re.findall(r"(mIoU|recall|precision|small objects detected) ([+−][\d.]+)", parts[row.split(":")[0]])
        assert shown, row
        for name, value in shown:
            column = "recall of small objects" if name == "recall" else name
            assert value == SUMMARY[row].cell(column).split(" ")[0], (row, name)
