"""Comparisons of runs: what may be compared, what is computed, and what is written."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from _helpers.commands import run_afma
from _helpers.synthetic_runs import (
    COMPANY,
    NAMES,
    SCORED,
    SIZES,
    add_company,
    company_scores,
    copy_run,
    edit_scores,
    random_rows,
    write_curve,
    write_run,
)
from afma_med.cli import main
from afma_med.comparison import (
    check_comparable,
    compare,
    compare_runs,
    group_runs,
    pair_with_baselines,
    read_run,
)
from afma_med.comparison.arms import Pairing
from afma_med.comparison.results import Difference, Gain, Interval, Published, PublishedRow
from afma_med.comparison.tables import (
    Row,
    TextTable,
    format_markdown,
    group_classes,
    lay_out_tables,
    size_headings,
    write_table,
)
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_curve


@pytest.fixture(scope="module")
def compared(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare_runs(folders, tmp_path_factory.mktemp("out") / "comparison", resamples=200)


# Arms of a list of trainings.


@pytest.fixture
def results(folders: list[Path], tmp_path: Path) -> list[Path]:
    """Results of a list: two arms that differ in no setting, and a third."""
    paths = []
    for arm, run in (("plain", "baseline"), ("sampled", "baseline"), ("attentive", "afma")):
        for seed in (0, 1):
            folder = next(one for one in folders if one.name == f"{run}{seed}")
            paths.append(tmp_path / f"{arm}_{seed}.json")
            write_result(paths[-1], read_run(folder), details={"training": {"name": f"{arm}_{seed}"}})
    return paths


def test_arms_of_a_list_are_compared_with_the_one_that_is_named(results: list[Path], tmp_path: Path) -> None:
    folder = compare_runs(results, tmp_path / "out", resamples=10, images=0, baseline="sampled")
    found = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert [arm["label"] for arm in found["arms"]] == ["plain", "sampled", "attentive"]
    assert [(one["arm"], one["baseline"]) for one in found["differences"]] == [
        ("plain", "sampled"),
        ("attentive", "sampled"),
    ]
    assert found["differences"][0]["scores"]["mIoU"]["value"] == 0 < found["differences"][1]["scores"]["mIoU"]["value"]


def test_unnamed_arms_that_agree_in_all_settings_are_refused(results: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same settings and the same seed"):
        compare_runs(results, tmp_path / "out")


@pytest.mark.parametrize(
    ("baseline", "more", "message"),
    [
        ("control", [], r"must be one of the arms plain, sampled, attentive; got 'control'"),
        ("plain", ["baseline2"], r"baseline2 is none"),
    ],
)
def test_other_baselines_are_refused(
    results: list[Path], folders: list[Path], tmp_path: Path, baseline: str, more: list[str], message: str
) -> None:
    runs = [*results, *(one for one in folders if one.name in more)]
    with pytest.raises(ValueError, match=message):
        compare_runs(runs, tmp_path / "out", baseline=baseline)


def test_the_run_that_a_training_started_with_is_part_of_no_arm(folders: list[Path], tmp_path: Path) -> None:
    runs = [
        copy_run(folders[seed], tmp_path / f"{seed}", training={"seed": seed, "initial_weights": f"/runs/host_{seed}"})
        for seed in (0, 1)
    ]
    write_result(tmp_path / "result.json", read_run(runs[0]))
    assert "/runs" not in (tmp_path / "result.json").read_text(encoding="utf-8")
    assert [len(arm.runs) for arm in group_runs([read_run(run) for run in runs])] == [2]


# Reading.


def test_read_run_holds_settings_scores_and_counts(tmp_path: Path) -> None:
    rows = random_rows(0, quality=0.7, images=2)
    run = read_run(write_run(tmp_path / "run", rows, seed=4, scores={"lesion_F1/car": math.nan}))
    assert run.seed == 4
    assert run.settings["network_name"] == "Unet"
    assert run.evaluation["section"] == "test"
    assert math.isnan(run.scores["lesion_F1/car"])
    assert run.counts.images == ("test/000.png", "test/001.png")
    assert run.counts.classes == SCORED
    assert run.counts.objects == ("all", *SIZES)
    for (image, name, objects), counts in rows.items():
        place = run.counts.images.index(image), SCORED.index(name), run.counts.objects.index(objects)
        assert run.counts.pixels[place].tolist() == list(counts)


def test_read_run_takes_evaluations_without_object_sizes(tmp_path: Path) -> None:
    rows = {key: counts for key, counts in random_rows(0, quality=0.7).items() if key[2] == "all"}
    run = read_run(write_run(tmp_path / "run", rows, evaluation={"size_groups": None}))
    assert run.counts.objects == ("all",)
    assert not any("size" in table.title for table in lay_out_tables(run, ["mIoU", "IoU/car"]))


def test_names_that_are_not_utf_8_are_read_and_compared(tmp_path: Path) -> None:
    folders = []
    for afma, quality in ((False, 0.6), (True, 0.8)):
        run = write_run(tmp_path / f"afma {afma}", random_rows(0, quality=quality), settings={"afma": afma})
        table = run / "evaluation" / "images.csv"
        table.write_bytes(table.read_bytes().replace(b"test/", b"caf\xe9/"))
        assert all(os.fsencode(image).startswith(b"caf\xe9/") for image in read_run(run).counts.images)
        folders.append(str(run))
    assert main(["compare", *folders, "--output_dir", str(tmp_path / "compared")]) == 0
    assert (tmp_path / "compared" / "index.html").stat().st_size > 10000


def test_read_run_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`folder` must be the folder of a run; there is no `.*none`"):
        read_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"there is no file `.*settings.json`\. Name the --output_dir"):
        read_run(tmp_path)
    run = write_run(tmp_path / "run", random_rows(0, quality=0.7))
    for name in ("images.csv", "scores.json"):
        (run / "evaluation" / name).unlink()
        command = r"--config_file \"\['bundles/camvid_afma.json','bundles/evaluate.json'\]\" --output_dir .*run"
        with pytest.raises(FileNotFoundError, match=f"no file `.*{name}`. Evaluate it first: python .*{command}"):
            read_run(run)


def _cut(name: str, keep: float) -> Callable[[Path], None]:
    def cut(run: Path) -> None:
        text = (run / name).read_bytes()
        (run / name).write_bytes(text[: int(keep * len(text))])

    return cut


def _append(line: str) -> Callable[[Path], None]:
    def append(run: Path) -> None:
        with (run / "evaluation" / "images.csv").open("a", encoding="utf-8") as file:
            file.write(line)

    return append


def _cut_at_a_line(run: Path) -> None:
    path = run / "evaluation" / "images.csv"
    path.write_text("\n".join(path.read_text(encoding="utf-8").splitlines()[:-4]), encoding="utf-8")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut("settings.json", 0.5), r"`.*settings.json` must be whole JSON; got: .*Train again"),
        (
            lambda run: (run / "settings.json").write_text("[]", encoding="utf-8"),
            r"settings.json` must be settings by name; got another structure",
        ),
        (
            lambda run: (run / "settings.json").write_text('{"name": "camvid_afma"}', encoding="utf-8"),
            r"settings of this version; got settings without afma, encoder",
        ),
        (lambda run: copy_settings(run, training={}), r"this version; got settings without training.seed"),
        (
            lambda run: copy_settings(run, training=None),
            r"settings.json` must be settings by name; got another structure",
        ),
        (
            _cut("evaluation/scores.json", 0.5),
            r"`.*scores.json` must be whole JSON; got: .*Evaluate the run again: pyth",
        ),
        (lambda run: edit_scores(run, classes=None), r"scores of this version; got scores without classes"),
        (lambda run: edit_scores(run, scores={"mIoU": "high"}), r"this version; got mIoU of another type"),
        (lambda run: edit_scores(run, size_groups=[1]), r"this version; got size_groups of another type"),
        (lambda run: edit_scores(run, company="lone"), r"this version; got company of another type"),
        (_cut("evaluation/images.csv", 0), r"`.*images.csv` must begin with image,class,.*; got nothing"),
        (_cut("evaluation/images.csv", 0.5), r"`.*images.csv` must hold"),
        (_cut_at_a_line, r"must hold the counts of the scores in `.*`; got IoU/\w+ 0.* from the counts and 0"),
        (
            _append("test/000.png,car,all\n"),
            r"must hold whole rows image,class.*; got \['test/000.png', 'car', 'all'\]",
        ),
        (_append("test/000.png,car,all,1,1,1,x\n"), r"must hold whole rows .* in line 266"),
        (_append("test/000.png,train,all,1,1,1,1\n"), r"must hold whole rows"),
        (_append("test/000.png,car,huge,1,1,1,1\n"), r"must hold whole rows"),
        (_append("test/000.png,car,all,1,1,1,1\n"), r"must hold whole rows .*, each once"),
        (_append('"test'), r"`.*images.csv` must be a whole CSV file; got: unexpected end of data"),
        (lambda run: edit_scores(run, images=3), r"must hold rows of 3 images; got 6"),
    ],
)
def test_read_run_refuses_broken_files(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    run = write_run(tmp_path / "run", random_rows(0, quality=0.7))
    spoil(run)
    with pytest.raises(ValueError, match=message):
        read_run(run)


def copy_settings(run: Path, **values: Any) -> None:
    path = run / "settings.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")


def test_curve_of_a_resumed_run_takes_the_last_value(tmp_path: Path) -> None:
    write_curve(tmp_path, {1: 0.125, 2: 0.25, 3: 0.375}, time=100)
    write_curve(tmp_path, {3: 0.5, 4: 0.625}, time=200)
    write_curve(tmp_path, {3: 0.0}, time=300, tag="train/loss")
    write_curve(tmp_path / "deeper", {3: 0.0}, time=300)
    assert read_curve(tmp_path) == {1: 0.125, 2: 0.25, 3: 0.5, 4: 0.625}
    assert list(read_curve(tmp_path)) == [1, 2, 3, 4]
    assert read_curve(tmp_path, "train/loss") == {3: 0.0}


def test_curve_leaves_nan_out(tmp_path: Path) -> None:
    write_curve(tmp_path, {1: math.nan, 2: 0.25})
    assert read_curve(tmp_path) == {2: 0.25}
    assert read_curve(tmp_path, "val/mIoU_small") == {}


# Arms.


def arms_of(tmp_path: Path, source: Path, *changes: dict[str, Any]) -> list[str]:
    runs = [read_run(copy_run(source, tmp_path / str(i), **change)) for i, change in enumerate(changes)]
    check_comparable(runs)
    return [arm.label for arm in group_runs(runs)]


def test_labels_hold_what_differs(folders: list[Path], tmp_path: Path) -> None:
    base = {"afma": False}
    assert arms_of(tmp_path / "a", folders[0], {"afma": True}, base) == ["baseline", "AFMA"]
    assert arms_of(tmp_path / "b", folders[0], base, {"afma": True}, {"afma": True, "feature": 3}) == [
        "baseline",
        "AFMA, feature 2",
        "AFMA, feature 3",
    ]
    several = [{"network_name": network, "afma": afma} for network in ("Unet", "MAnet") for afma in (True, False)]
    assert arms_of(tmp_path / "c", folders[0], *several) == [
        "MAnet baseline",
        "MAnet AFMA",
        "Unet baseline",
        "Unet AFMA",
    ]
    trained = [{"afma": False, "encoder": f"resnet{n}", "training": {"milestones": [1, n]}} for n in (18, 34)]
    assert arms_of(tmp_path / "d", folders[0], *trained) == [
        "resnet18 baseline, milestones 1, 18",
        "resnet34 baseline, milestones 1, 34",
    ]
    head = {"afma": True, "variant": "hypercolumn", "feature": [2, 3], "training": {"attention_weight": 0.0}}
    arms = arms_of(tmp_path / "e", folders[0], base, {"afma": True, "variant": "released"}, head)
    assert arms == ["baseline", "AFMA", "hypercolumn"], "the kind says the rest"


def test_settings_that_are_off_make_no_difference_to_older_runs(folders: list[Path], tmp_path: Path) -> None:
    """They did not name them."""
    changes = [{"afma": False}, {"afma": True, "variant": "hypercolumn", "image_range": None}]
    runs = [read_run(copy_run(folders[0], tmp_path / str(i), **change)) for i, change in enumerate(changes)]
    [pairing], alone = pair_with_baselines(group_runs(runs))
    assert (pairing.label, alone) == ("hypercolumn − baseline", [])


def test_seeds_folders_and_afma_of_a_baseline_make_no_arm(folders: list[Path], tmp_path: Path) -> None:
    changes = [{"training": {"seed": 2}}, {"training": {"seed": 1}, "dataset_dir": "/elsewhere", "feature": 4}]
    runs = [read_run(copy_run(folders[0], tmp_path / str(i), **change)) for i, change in enumerate(changes)]
    (arm,) = group_runs(runs)
    assert arm.is_baseline
    assert arm.seeds == (1, 2)


def test_loss_weight_of_a_baseline_keeps_nothing_from_being_compared(folders: list[Path], tmp_path: Path) -> None:
    changes = [{"afma": False, "training": {"segmentation_weight": weight}} for weight in (5.0, 2.0)]
    changes += [{"afma": True, "training": {"segmentation_weight": weight}} for weight in (5.0, 1.0)]
    runs = [
        read_run(copy_run(folders[0], tmp_path / str(i), **change))
        for i, change in enumerate(changes[:1] + changes[2:])
    ]
    pairings, alone = pair_with_baselines(group_runs(runs))
    assert [pairing.label for pairing in pairings] == ["AFMA − baseline", "AFMA, segmentation_weight 1.0 − baseline"]
    assert not alone
    runs.append(read_run(copy_run(folders[0], tmp_path / "other", **changes[1])))
    of_five = pair_with_baselines(group_runs(runs))[0][0]
    assert of_five.baseline.settings["training.segmentation_weight"] == 5.0, "its own where there is one"


def test_what_most_arms_share_is_stated_once(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "draw_charts", lambda found: ([], []))  # for the time that it takes
    changes = [
        {"afma": False},
        *({"afma": True, "feature": feature} for feature in (2, 3)),
        {"afma": True, "patch_size": 5},
    ]
    changes += [{"afma": True, "study": study} for study in ("gain", "soft", "added", "row_sum")]
    runs = [copy_run(folders[0], tmp_path / str(i), **change) for i, change in enumerate(changes)]
    labels = [arm.label for arm in group_runs([read_run(run) for run in runs])]
    assert labels[:4] == ["baseline", "AFMA", "AFMA, feature 3", "AFMA, patch_size 5"]
    assert labels[4:] == [f"AFMA, study {study}" for study in ("gain", "soft", "added", "row_sum")]
    text = (compare_runs(runs, tmp_path / "found", resamples=10, images=0) / "comparison.md").read_text(
        encoding="utf-8"
    )
    assert "\n- Where a row does not say otherwise: feature 2; patch_size 10.\n" in text


def test_arms_meet_the_baseline_of_their_own_training(folders: list[Path], tmp_path: Path) -> None:
    changes = [{"afma": afma, "training": {"learning_rate": rate}} for rate in (0.1, 0.2) for afma in (False, True)]
    changes += [{"afma": True, "encoder": "resnet50"}, {"afma": True, "feature": 3, "training": {"learning_rate": 0.1}}]
    runs = [read_run(copy_run(folders[0], tmp_path / str(i), **change)) for i, change in enumerate(changes)]
    pairings, alone = pair_with_baselines(group_runs(runs))
    assert sorted(pairing.label for pairing in pairings) == [
        "resnet18 AFMA, learning_rate 0.1 − resnet18 baseline, learning_rate 0.1",
        "resnet18 AFMA, learning_rate 0.1, feature 3 − resnet18 baseline, learning_rate 0.1",
        "resnet18 AFMA, learning_rate 0.2 − resnet18 baseline, learning_rate 0.2",
    ]
    assert alone == ["resnet50 AFMA, learning_rate 0.01"]


def _other_image(run: Path) -> None:
    rows = {(image.replace("000", "999"), *rest): v for (image, *rest), v in random_rows(0, quality=0.7).items()}
    write_again(run, rows)


def _other_label(run: Path) -> None:
    rows = random_rows(0, quality=0.7)
    label, prediction, both, covered = rows["test/002.png", "car", "all"]
    write_again(run, rows | {("test/002.png", "car", "all"): (label + 1, prediction, both, covered)})


def _fewer_images(run: Path) -> None:
    write_again(run, random_rows(0, quality=0.7, images=5))


def write_again(run: Path, rows: dict[tuple[str, str, str], tuple[int, ...]]) -> None:
    """Another evaluation of the same run."""
    other = write_run(run.parent / "again", rows)
    for name in ("scores.json", "images.csv"):
        (run / "evaluation" / name).write_bytes((other / "evaluation" / name).read_bytes())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: copy_settings(run, name="isic_afma"), r"bundle: camvid_afma and isic_afma"),
        (lambda run: edit_scores(run, section="val"), r"section: test and val"),
        (lambda run: edit_scores(run, classes=[*NAMES, "tram"]), r"classes: \['sky', .*'unlabelled', 'tram'\]"),
        (
            lambda run: edit_scores(run, classes=[*NAMES[:-1], "void", "unlabelled"], unscored=["unlabelled", "void"]),
            "classes: ",
        ),
        (
            lambda run: edit_scores(run, count_unscored_pixels=True),
            "counting of unscored pixels: False and True",
        ),
        (
            lambda run: edit_scores(run, size_groups={"names": SIZES, "bounds": [100, 200], "unit": "pixels"}),
            r"sizes of objects: .*1024.* and .*100",
        ),
        (_other_image, r"images: only one was evaluated on test/000.png"),
        (_fewer_images, r"number of images: 6 and 5"),
        (_other_label, r"labels: those of test/002.png have other pixels"),
    ],
)
def test_runs_that_differ_are_refused(
    folders: list[Path], tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    other = copy_run(folders[3], tmp_path / "other")
    change(other)
    runs = [read_run(folder) for folder in (folders[0], other)]
    with pytest.raises(ValueError, match=f"can be compared; .*baseline0 and .*other differ in {message}"):
        check_comparable(runs)


def test_unscored_classes_must_be_the_same(folders: list[Path], tmp_path: Path) -> None:
    runs = [read_run(folder) for folder in (folders[0], copy_run(folders[3], tmp_path / "other"))]
    runs[1].evaluation["unscored"] = []
    with pytest.raises(ValueError, match=r"differ in unscored classes: \['unlabelled'\] and \[\]"):
        check_comparable(runs)


def test_runs_that_are_there_twice_are_refused(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(folders[0])
    for again in (folders[0], tmp_path / "link"):
        with pytest.raises(ValueError, match=r"must name each run once; got .*baseline0 and .*, which are one run"):
            check_comparable([read_run(folders[0]), read_run(again)])
    copy = copy_run(folders[0], tmp_path / "copy", feature=3)
    with pytest.raises(ValueError, match=r"one run of each seed; .*baseline0 and .*copy have .* same seed, 0"):
        check_comparable([read_run(folders[0]), read_run(copy)])
    with pytest.raises(ValueError, match="must name at least one run; got none"):
        check_comparable([])


# Tables and files.


def test_published_rows_follow_where_they_have_scores(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", random_rows(0, quality=0.6))
    rows = [
        PublishedRow("theirs", {"mIoU": 0.5, "IoU/pole": 0.25}, "a paper, Table 1"),
        PublishedRow("theirs − baseline", {"mIoU": -0.011}, "a paper, Table 1", is_difference=True),
    ]
    published = Published(rows, ["pole", "pedestrian"], "Theirs was not run here.")
    folder = compare_runs([run], tmp_path / "out", resamples=5, images=0, published=published)
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    short, by_class, sizes = (part.splitlines() for part in text.split("\n## ")[1:4])
    assert [re.split(r" *\| *", line)[1:-1] for line in short if "theirs" in line] == [
        ["theirs", "", "–", "–", "50.0", "–", "–", "–"],
        ["theirs − baseline", "", "–", "–", "−1.1", "–", "–", "–"],
    ]
    assert re.split(r" *\| *", by_class[2])[3:5] == ["pole", "pedestrian"]
    assert not [line for line in sizes if "theirs" in line]
    assert "- Theirs was not run here." in text
    content = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))
    assert content["published"][0]["scores"] == rows[0].scores


def test_tables_are_those_of_the_paper(pairing: Pairing) -> None:
    run = pairing.arm.runs[0]
    order = [
        "signsymbol",
        "pedestrian",
        "pole",
        "bicyclist",
        "building",
        "tree",
        "sky",
        "car",
        "road",
        "pavement",
        "fence",
    ]
    layouts = lay_out_tables(run, run.scores, order)
    assert [layout.title for layout in layouts[:3]] == [
        "In short",
        "IoU by class",
        "By size of object: small < 1024 pixels, medium 1024 to 9216 pixels, large > 9216 pixels",
    ]
    assert [*layouts[1].columns.values()] == [
        *("signsymbol", "pedestrian", "pole", "bicyclist", "mIoU small"),
        *("building", "tree", "sky", "car", "road", "pavement", "fence", "mIoU large", "mIoU"),
    ]
    assert [*layouts[2].columns] == [f"{kind}_by_size/{size}" for kind in ("IoU", "recall") for size in SIZES]
    shown = [score for layout in layouts[1:] for score in layout.columns]
    assert sorted(shown) == sorted(run.scores)
    assert all(layout.detail for layout in layouts[3:])


@pytest.fixture
def with_company(tmp_path: Path) -> dict[bool, list[Path]]:
    """Two seeds of a baseline and of AFMA, whose evaluations counted lone objects."""
    runs: dict[bool, list[Path]] = {}
    for afma, quality in ((False, 0.6), (True, 0.7)):
        for seed in (0, 1):
            rows = add_company(random_rows(seed, quality=quality))
            own = {
                "settings": {"afma": afma},
                "evaluation": {"company": COMPANY},
                "scores": company_scores(rows, SCORED),
            }
            runs.setdefault(afma, []).append(write_run(tmp_path / f"{afma}{seed}", rows, seed=seed, **own))
    return runs


def test_lone_objects_have_their_tables(with_company: dict[bool, list[Path]], tmp_path: Path) -> None:
    runs = [read_run(folder) for folders in with_company.values() for folder in folders]
    assert runs[0].counts.objects == ("all", *SIZES, *COMPANY)
    layouts = lay_out_tables(runs[0], runs[0].scores)
    assert [*layouts[3].columns] == [f"{kind}_by_company/{which}" for kind in ("IoU", "recall") for which in COMPANY]
    assert not layouts[3].detail
    assert sorted(score for layout in layouts[1:] for score in layout.columns) == sorted(runs[0].scores)
    assert "IoU of lone objects by class" in {layout.title for layout in layouts if layout.detail}
    folders = [folder for own in with_company.values() for folder in own]
    kept = []
    for number, run in enumerate(runs):
        kept.append(tmp_path / f"{number}.json")
        write_result(kept[-1], run)
    for given in (folders, kept):
        written = compare_runs(given, tmp_path / "out", resamples=20, images=0)
        found = json.loads((written / "comparison.json").read_text(encoding="utf-8"))
        gain = found["differences"][0]["scores"]["IoU_by_company/lone"]
        expected = [runs[2 + i].scores["IoU_by_company/lone"] - runs[i].scores["IoU_by_company/lone"] for i in (0, 1)]
        assert gain["value"] == pytest.approx(statistics.mean(expected))
        low, high = gain["over_images"]
        assert low <= gain["value"] <= high
        text = (written / "comparison.md").read_text(encoding="utf-8")
        assert "## Lone objects (the only one of their class in an image) and accompanied ones, %" in text


def test_evaluations_without_lone_objects_are_compared_with_newer_ones(
    with_company: dict[bool, list[Path]], folders: list[Path], tmp_path: Path
) -> None:
    older = [next(one for one in folders if one.name == f"baseline{seed}") for seed in (0, 1)]
    for mixed in ([*older, *with_company[True]], [*with_company[True], *older]):
        written = compare_runs(mixed, tmp_path / "out", resamples=20, images=0)
        found = json.loads((written / "comparison.json").read_text(encoding="utf-8"))
        scores = found["differences"][0]["scores"]
        assert scores["mIoU"]["value"] > 0 and scores["mIoU"]["over_images"]
        assert (scores["IoU_by_company/lone"]["value"], scores["IoU_by_company/lone"]["over_images"]) == (None, None)


def test_older_evaluations_have_no_table_of_lone_objects(compared: Path) -> None:
    for name in ("comparison.md", "details.md"):
        assert "accompanied" not in (compared / name).read_text(encoding="utf-8")


def test_classes_of_unknown_datasets_have_no_groups(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run", random_rows(0, quality=0.6), settings={"name": "polyps_afma"}))
    assert group_classes(run) == {"other": list(SCORED)}
    run.evaluation["size_groups"] = {"names": ["tiny", "huge"]}
    assert size_headings(run) == {"tiny": "tiny", "huge": "huge"}


def test_figures_are_spelled_in_percent(gain: Gain) -> None:
    layout = lay_out_tables(gain.pairing.arm.runs[0], ["mIoU"])[0]
    one = Difference(-0.01234, 3, Interval(-0.02, 0.00004), Interval(-0.03, 0.04))
    table = write_table(layout, [], [gain._replace(scores={"mIoU": one})], [])
    assert [row.cells for row in table.rows] == [
        ("AFMA − baseline", "3", "−1.2"),
        ("95 % over seeds", "", "−2.0 to 0.0"),
        ("95 % over images", "", "−3.0 to +4.0"),
    ]
    assert [row.kind for row in table.rows] == ["difference", "interval", "interval"]


def test_markdown_keeps_bars_in_cells() -> None:
    table = TextTable("T", ("", "seeds"), (Row("variant", ("a|b", "1")),))
    assert format_markdown(table).splitlines()[-1].split() == ["|", "a\\|b", "|", "1", "|"]


def test_folder_holds_what_it_lists(compared: Path) -> None:
    content = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
    assert {path.name for path in compared.iterdir()} == set(content["files"])
    assert {
        "index.html",
        "comparison.md",
        "details.md",
        "gains.png",
        "sizes.png",
        "curves.png",
    } <= set(content["files"])
    assert [path.name for path in compared.parent.iterdir()] == [compared.name]


def test_json_holds_every_figure(compared: Path, gain: Gain) -> None:
    content = json.loads((compared / "comparison.json").read_text(encoding="utf-8"))
    assert [one["label"] for one in content["arms"]] == ["baseline", "AFMA"]
    assert [run["seed"] for run in content["arms"][1]["runs"]] == [0, 1, 2]
    (difference,) = content["differences"]
    assert difference["common_seeds"] == [0, 1, 2]
    one = difference["scores"]["mIoU_small"]
    assert one["value"] == pytest.approx(gain.scores["mIoU_small"].value)
    assert one["over_seeds"] == pytest.approx(gain.scores["mIoU_small"].over_seeds)
    assert content["resamples"] == 200
    assert any("Example images of AFMA − baseline are left out: there is no dataset" in n for n in content["notes"])


class Page(HTMLParser):
    """What a page consists of; refuses tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_parses_and_needs_nothing_else(compared: Path) -> None:
    source = (compared / "index.html").read_text(encoding="utf-8")
    page = Page(source)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in page.tags}
    sources = [str(attributes["src"]) for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 3
    assert all(text.startswith("data:image/png;base64,") for text in sources)
    assert "http" not in source
    assert "url(" not in source
    for text in ("AFMA − baseline", "95 % over seeds", "signsymbol", "How the numbers are defined", "200 times"):
        assert text in page.text
    assert "baseline (seeds 0, 1, 2); AFMA (seeds 0, 1, 2)" in page.text
    assert "/data/camvid" in page.text


def test_page_links_to_the_explorers_that_exist(folders: list[Path], tmp_path: Path) -> None:
    run = copy_run(folders[3], tmp_path / "a run")
    source = (compare_runs([folders[0], run], tmp_path / "out") / "index.html").read_text(encoding="utf-8")
    assert f"afma show '{run}' --explore '{run}/explorer.html'" in Page(source).text
    assert "<a " not in source
    (run / "explorer.html").write_text("", encoding="utf-8")
    page = Page((compare_runs([folders[0], run], tmp_path / "out") / "index.html").read_text(encoding="utf-8"))
    assert [attributes["href"] for tag, attributes in page.tags if tag == "a"] == ["../a%20run/explorer.html"]
    baseline = (compare_runs(folders[:1], tmp_path / "out") / "index.html").read_text(encoding="utf-8")
    assert "explorer" not in baseline


def test_page_escapes_what_it_quotes(folders: list[Path], tmp_path: Path) -> None:
    odd = copy_run(folders[0], tmp_path / "a<b>&", encoder="<script>")
    page = Page((compare_runs([odd], tmp_path / "out") / "index.html").read_text(encoding="utf-8"))
    assert "script" not in {tag for tag, _ in page.tags}
    assert "<script>" in page.text


def test_one_run_alone_makes_a_table(folders: list[Path], tmp_path: Path) -> None:
    folder = compare_runs(folders[3:4], tmp_path / "out")
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert "| AFMA | 1 " in text
    assert "AFMA: no baseline of the same network, encoder and training" in text
    assert not (folder / "gains.png").exists()
    baselines = compare_runs(folders[:3], tmp_path / "out")
    assert "no baseline" not in (baselines / "comparison.md").read_text(encoding="utf-8")


def test_runs_without_events_have_no_curves(folders: list[Path], tmp_path: Path) -> None:
    run = copy_run(folders[0], tmp_path / "run")
    for path in run.glob("events*"):
        path.unlink()
    folder = compare_runs([run], tmp_path / "out")
    assert not (folder / "curves.png").exists()
    text = "Training curves of baseline are left out: no event files with val/mIoU"
    assert text in (folder / "comparison.md").read_text(encoding="utf-8")


def test_the_same_runs_give_the_same_files(compared: Path, folders: list[Path], tmp_path: Path) -> None:
    again = compare_runs(folders, tmp_path / "again", resamples=200)
    contents = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in (compared, again)]
    assert contents[0] == contents[1]


def test_earlier_comparison_is_replaced_whole(folders: list[Path], tmp_path: Path) -> None:
    target = compare_runs([folders[0], folders[3]], tmp_path / "out", resamples=5)
    assert (target / "gains.png").exists()
    assert compare_runs(folders[:1], target) == target
    content = json.loads((target / "comparison.json").read_text(encoding="utf-8"))
    assert {path.name for path in target.iterdir()} == set(content["files"])
    assert "gains.png" not in content["files"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_other_folders_are_not_replaced(folders: list[Path], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    compare_runs(folders[:1], tmp_path / "mine")  # empty
    (tmp_path / "mine" / "notes.txt").write_text("of a person", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"nothing but an earlier comparison; `.*mine` holds notes.txt too"):
        compare_runs(folders[:1], tmp_path / "mine")
    (tmp_path / "mine" / "comparison.json").unlink()
    for path in (tmp_path / "mine", folders[0]):
        with pytest.raises(
            FileExistsError, match=r"must be a new folder or an earlier comparison; .* holds no comparison"
        ):
            compare_runs(folders[:1], path)
    (tmp_path / "file").write_text("of a person", encoding="utf-8")
    with pytest.raises(FileExistsError, match="must be a new folder or an earlier comparison"):
        compare_runs(folders[:1], tmp_path / "file")
    assert (tmp_path / "mine" / "notes.txt").exists()


def test_comparison_whose_list_is_gone_is_not_replaced(folders: list[Path], tmp_path: Path) -> None:
    target = compare_runs(folders[:1], tmp_path / "out")
    (target / "comparison.json").write_text("{", encoding="utf-8")
    with pytest.raises(FileExistsError, match=r"holds comparison\.json"):
        compare_runs(folders[:1], target)


def test_numbers_out_of_range_are_refused(folders: list[Path], tmp_path: Path) -> None:
    for options, message in (({"resamples": 0}, "`resamples` must be at least 1; got 0"), ({"images": -1}, "`images`")):
        with pytest.raises(ValueError, match=message):
            compare_runs(folders, tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


# The command.


def test_command_prints_tables_and_says_where_the_files_are(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", str(folders[0]), str(folders[3]), "--resamples", "5", "--images", "0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "# CamVid: 6 images of the section test"
    assert any(line.startswith("| AFMA − baseline") for line in lines)
    assert lines[-1].startswith("The comparison is in comparisons/camvid_afma/index.html")
    assert (tmp_path / "comparisons" / "camvid_afma" / "index.html").is_file()


def test_command_ends_with_the_error(folders: list[Path], tmp_path: Path) -> None:
    done = run_afma("compare", folders[0], tmp_path / "none", "--output_dir", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.startswith("error: `folder` must be the folder of a run; there is no")
    assert list(tmp_path.iterdir()) == []
