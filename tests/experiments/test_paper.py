"""The paper's own tables: whole, with their own images only, and below the arms of a comparison."""

from __future__ import annotations

import itertools
import json
import statistics
from pathlib import Path

import pytest

from _helpers.commands import run_lab
from _helpers.synthetic_runs import random_rows, write_run
from afma_med.data import READERS
from afma_med.runs.run import read_run
from experiments.lab.paper import find_paper_tables, publish_paper, read_paper_tables


def test_paper_tables_are_whole() -> None:
    shapes = [
        (table.number, table.dataset, len(table.rows), len(table.rows[0].scores)) for table in read_paper_tables()
    ]
    assert shapes == [(1, "camvid", 16, 14), (2, "cityscapes", 16, 22), (3, "camvid", 24, 14), (4, "camvid", 16, 3)]
    networks = ["DeepLabV3", "Unet", "UnetPlusPlus", "MAnet", "FPN", "PAN", "Linknet", "PSPNet"]
    for table in read_paper_tables():
        rows = [(row.network, row.depth if table.number == 3 else row.afma) for row in table.rows]
        assert rows == list(itertools.product(networks, (2, 3, 4) if table.number == 3 else (False, True)))
        assert "TPAMI 2023" in table.source


@pytest.mark.parametrize(
    ("number", "network", "afma", "score", "value"),
    [
        (1, "DeepLabV3", False, "IoU/pole", 0.37),
        (1, "Unet", True, "mIoU_small", 0.55),
        (1, "PSPNet", True, "mIoU", 0.702),
        (1, "PAN", False, "IoU/fence", 0.42),
        (2, "UnetPlusPlus", True, "IoU/bicycle", 0.782),
        (2, "Linknet", False, "IoU/vegetation", 0.905),
        (2, "PSPNet", True, "IoU/road", 0.991),
        (4, "DeepLabV3", True, "IoU_by_size/small", 0.184),
        (4, "MAnet", False, "IoU_by_size/large", 0.839),
    ],
)
def test_paper_values(number: int, network: str, afma: bool, score: str, value: float) -> None:
    (table,) = (table for table in read_paper_tables() if table.number == number)
    (row,) = (row for row in table.rows if (row.network, row.afma) == (network, afma))
    assert row.scores[score] == value


def test_paper_rows_have_the_means_that_they_print() -> None:

    for table in read_paper_tables()[:3]:
        reader = READERS[table.dataset]
        groups = {info.name: info.group for info in reader.classes}
        for row in table.rows:
            classes = {name.removeprefix("IoU/"): x for name, x in row.scores.items() if name.startswith("IoU/")}
            assert set(classes) == {name for name, group in groups.items() if group}
            for mean, chosen in (("mIoU_small", "small"), ("mIoU_large", "large"), ("mIoU", None)):
                members = [x for name, x in classes.items() if chosen in (None, groups[name])]
                # Both are rounded to a tenth of a percent.
                assert statistics.mean(members) == pytest.approx(row.scores[mean], abs=0.001), (row.network, mean)


def test_paper_is_shown_with_its_own_images_only(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "233", random_rows(0, quality=0.6, images=233)))
    tables, reason = find_paper_tables(run, {"unet"})
    assert [table.number for table in tables] == [1, 4]
    assert [(row.network, row.afma) for row in tables[0].rows] == [("Unet", False), ("Unet", True)]
    assert reason.startswith("Rows marked as the paper's were not run here: Sang")
    assert "TPAMI 2023, Tables 1 and 4; ResNet-101 from scratch, the paper's own training; section test." in reason
    tables, reason = find_paper_tables(run, {"unet"}, depths=True)
    assert [(table.number, len(table.rows)) for table in tables] == [(1, 2), (3, 3), (4, 2)]
    assert "TPAMI 2023, Tables 1, 3 and 4; ResNet-101" in reason
    tables, reason = find_paper_tables(run, {"Segformer"})
    assert (tables[0].rows, reason) == ((), "")
    few = read_run(write_run(tmp_path / "6", random_rows(0, quality=0.6)))
    tables, reason = find_paper_tables(few, {"Unet"})
    assert tables == []
    assert "233 images of test, these runs were evaluated on 6 of test" in reason
    few.settings["name"] = "cityscapes_afma"
    few.evaluation.update(section="val", images=500)
    tables, reason = find_paper_tables(few, {"Linknet"})
    assert [(table.number, table.section, len(table.rows)) for table in tables] == [(2, "test", 2)]
    few.settings["name"] = "isic_afma"
    assert find_paper_tables(few, {"Unet"}) == ([], "")


def test_rows_follow_with_their_difference(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", random_rows(0, quality=0.6, images=233)))
    published = publish_paper([run])
    assert published.class_order[:3] == ["signsymbol", "pedestrian", "pole"]
    baseline, afma, gain = published.rows
    assert (baseline.label, baseline.scores["mIoU_small"]) == ("paper (ResNet-101): Unet baseline", 0.503)
    assert (afma.label, afma.scores["mIoU_small"]) == ("paper (ResNet-101): Unet AFMA", 0.55)
    assert afma.source.endswith("Table 1, Table 4 (ResNet-101 from scratch, the paper's own training)")
    assert (gain.label, gain.is_difference) == (f"{afma.label} − baseline", True)
    assert gain.scores["mIoU_small"] == pytest.approx(0.047)
    assert set(gain.scores) == set(afma.scores)


def test_rows_of_other_depths_follow_where_the_depth_varies(tmp_path: Path) -> None:
    rows = random_rows(0, quality=0.6, images=233)
    runs = [write_run(tmp_path / str(depth), rows, settings={"afma": True, "feature": depth}) for depth in (2, 4)]
    for folders, labels in (
        (runs[:1], ["Unet baseline", "Unet AFMA"]),
        (runs, ["Unet baseline", "Unet AFMA", "Unet AFMA depth 3", "Unet AFMA depth 4"]),
    ):
        done = run_lab("compare", *folders, "--output_dir", tmp_path / "out", "--resamples", 5, "--images", 0)
        assert done.returncode == 0, done.stderr
        shown = [line for line in done.stdout.splitlines() if "paper (ResNet-101)" in line]
        assert all(any(f"paper (ResNet-101): {label} " in line for line in shown) for label in labels)
        assert any("depth 3" in line for line in shown) is (len(folders) == 2)
        content = json.loads((tmp_path / "out" / "comparison.json").read_text(encoding="utf-8"))
        assert len([row for row in content["published"] if not row["is_difference"]]) == len(labels)
    gain = publish_paper([read_run(folder) for folder in runs]).rows[-1]
    assert gain.label == "paper (ResNet-101): Unet AFMA depth 4 − baseline"
    assert [round(gain.scores[name], 3) for name in ("mIoU_small", "mIoU_large", "mIoU")] == [0.066, 0.025, 0.039]
