"""Published figures of other systems: whole, marked, next to the arms, and apart from the ranking."""

from __future__ import annotations

import statistics

import pytest

from afma_med.data import READERS
from experiments.lab.__main__ import main
from experiments.lab.rivals import RIVAL_MARK, find_rivals

SYSTEMS = {"ISBEncoder", "SegNet", "ALE", "DLA", "SuperParsing", "Liu&He", "DeepLab-LFOV", "FoveaNet"}


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


def test_table_has_every_figure_and_its_protocol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rivals", "camvid"]) == 0
    mark, head, *lines = capsys.readouterr().out.splitlines()
    assert mark == f"{RIVAL_MARK}, %"
    assert head.split()[:3] == ["figures", "sky", "building"] and head.split()[-3:] == [
        "mean",
        "protocol",
        "source",
    ]
    [ale] = [line for line in lines if line.startswith("ALE")]
    assert ale.split()[1:4] == ["IoU", "91.1", "73.4"]
    assert ale.endswith("Yu & Koltun, arXiv:1511.07122, Table 5") and "233 test images, 640×480" in ale
    assert len(lines) == len(find_rivals("camvid"))
