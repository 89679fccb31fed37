"""Published figures of other systems: whole, marked, next to the arms, and apart from the ranking."""

from __future__ import annotations

import csv
import json
import statistics
from pathlib import Path

import pytest

from _helpers.synthetic_runs import random_rows, write_run
from afma_med.data import READERS
from afma_med.research.comparison import compare_runs
from afma_med.research.comparison.rivals import RIVAL_MARK, find_rivals

SYSTEMS = {"ISBEncoder", "SegNet", "ALE", "DLA", "SuperParsing", "Liu&He", "DeepLab-LFOV", "FoveaNet"}
HEADING = f"## Other systems: {RIVAL_MARK}, %"


@pytest.mark.parametrize(
    ("dataset", "missing"),
    [
        ("camvid", ["ISBEncoder", "DLA"]),
        ("cityscapes", ["ISBEncoder", "ALE", "DLA", "SuperParsing", "Liu&He"]),
    ],
)
def test_every_system_of_the_paper_has_figures_or_none_found(dataset: str, missing: list[str]) -> None:
    found = find_rivals(dataset)
    assert {rival.system for rival in found} == SYSTEMS
    assert [rival.system for rival in found if rival.metric == "none found"] == missing
    scored = {info.name for info in READERS[dataset].classes if info.group}
    for rival in found[: -len(missing)]:
        mean = rival.scores["mIoU" if rival.metric == "IoU" else "mean accuracy"]
        classes = {score.split("/")[1]: x for score, x in rival.scores.items() if "/" in score}
        assert rival.protocol and rival.source
        assert not classes or set(classes) == scored
        # Sources round classes and means to a tenth of a percent.
        assert not classes or statistics.mean(classes.values()) == pytest.approx(mean, abs=0.001), rival


@pytest.mark.parametrize(
    ("dataset", "name", "source", "score", "value"),
    [
        ("camvid", "DeepLab-LFOV", "1511.07122", "IoU/signsymbol", 0.423),
        ("camvid", "Liu&He", "1511.07122", "IoU/bicyclist", 0.085),
        ("camvid", "SegNet", "1511.00561, Table 2", "accuracy/fence", 0.5345),
        ("camvid", "SegNet", "1511.00561, Table 3", "mIoU", 0.601),
        ("camvid", "FoveaNet", "ICCV 2017", "mean accuracy", 0.818),
        ("cityscapes", "SegNet basic", "1604.01685", "IoU/pole", 0.357),
        ("cityscapes", "DeepLab-LFOV-StrongWeak", "1604.01685", "mIoU", 0.648),
    ],
)
def test_published_values(dataset: str, name: str, source: str, score: str, value: float) -> None:
    (rival,) = (x for x in find_rivals(dataset) if x.name == name and source in x.source and score in x.scores)
    assert rival.scores[score] == value


def test_other_datasets_have_no_rivals() -> None:
    assert find_rivals("isic") == []


def test_rivals_stand_next_to_the_arms_in_a_table_of_their_own(tmp_path: Path) -> None:
    folder = compare_runs([write_run(tmp_path / "run", random_rows(0, quality=0.6, images=233))], tmp_path / "out")
    texts = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir() if path.suffix != ".png"}
    assert "SegNet" not in texts["comparison.md"], "its tables rank runs of one protocol"
    assert "<h2>Other systems: reported elsewhere, other protocol, %</h2>" in texts["index.html"].split("<details>")[0]
    table = texts["details.md"].split(HEADING)[1].split("\n\n")[1].splitlines()
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert head[:4] == ["", "figures", "signsymbol", "pedestrian"] and head[-3:] == ["mean", "protocol", "source"]
    assert rows[0][:2] == ["AFMA", "IoU"] and rows[0][-1] == "this comparison"
    by_name = {(row[0], row[1]): row for row in rows}
    assert by_name["ALE", "IoU"][2:4] == ["24.4", "29.1"]
    assert by_name["ALE", "IoU"][-3:] == [
        "53.6",
        "233 test images, 640×480",
        "Yu & Koltun, arXiv:1511.07122, Table 5",
    ]
    assert by_name["FoveaNet", "accuracy"][2:14] == ["–"] * 11 + ["81.8"]
    assert set(by_name["DLA", "none found"][2:14]) == {"–"}
    content = json.loads(texts["comparison.json"])["rivals"]
    assert content["mark"] == RIVAL_MARK
    assert {row["system"] for row in content["rows"]} == SYSTEMS
    with (folder / "comparison.csv").open(encoding="utf-8", newline="") as file:
        kept = [row for row in csv.DictReader(file) if row["kind"] == "rival"]
    assert len(kept) == sum(len(rival.scores) for rival in find_rivals("camvid"))
    assert all(RIVAL_MARK in row["source"] for row in kept)


def test_rivals_are_shown_with_the_images_of_their_dataset_only(tmp_path: Path) -> None:
    folder = compare_runs([write_run(tmp_path / "run", random_rows(0, quality=0.6))], tmp_path / "out")
    assert HEADING not in (folder / "details.md").read_text(encoding="utf-8")
