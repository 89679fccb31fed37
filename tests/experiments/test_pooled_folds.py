"""Lists of trainings with folds: each fold is a training, and all of them together are one result."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from _helpers.fake_bundle import FakeBundle
from _helpers.synthetic_runs import write_run
from afma_med.comparison import compare_runs
from afma_med.runs.result_file import read_result
from afma_med.runs.run import Run
from afma_med.trial import train_and_score
from afma_med.trial.trainings import Training, list_trainings, run_trainings
from experiments.lab.pooled_folds import pool_if_complete, pool_runs

LIST: dict[str, Any] = {
    "bundle": "lesion_slices_afma",
    "overlays": ["fast_recipe"],
    "options": {"max_epochs": 2},
    "folds": 5,
    "seeds": [0, 1],
    "arms": {"baseline": {"overlays": ["baseline"]}, "afma": {}},
}
PROTOCOL = "../experiments/lists/camvid_released_protocol"


def run(listed: list[Training], **folders: Any) -> list[str]:
    """Run trainings as the laboratory does; there are no weights to measure."""
    return run_trainings(
        listed, **folders, measure=lambda folder, weights: {"attention": {"error": 1.0}}, pool=pool_if_complete
    )


def write_list(folder: Path, **changes: object) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps({**LIST, **changes}), encoding="utf-8")
    return path


def rows(fold: int) -> dict[tuple[str, str, str], tuple[int, int, int, int]]:
    """One image of 100 pixels a fold: label, prediction, both, covered."""
    image, both = f"images/slice_{fold}.png", 4 + fold
    lesion = (10 + 10 * fold, 8, both, both)
    ground = (90 - 10 * fold, 92, 86 - 9 * fold, 86 - 9 * fold)
    return {
        (image, name, objects): counts
        for name, counts in (("background", ground), ("lesion", lesion))
        for objects in ("all", "small")
    }


def matches(fold: int) -> dict[str, dict[str, list[list[int]]]]:
    """Of the small lesions of a fold, 1 of 2 to 6 is found; 4 are predicted."""
    return {"lesion": {"lesion": [[2 + fold, 1, 4, 1], [0, 0, 0, 0], [0, 0, 0, 0]]}}


def evaluate(folder: Path, bundle: str, trained: Mapping[str, Any]) -> Path:
    """The evaluated run of a fold."""
    return write_run(
        folder,
        rows(trained["fold"]),
        seed=trained["seed"],
        settings={"name": bundle, "fold": trained["fold"], "afma": Path(trained["output_dir"]).name.startswith("afma")},
        evaluation={"classes": ["background", "lesion"], "unscored": [], "matches": matches(trained["fold"])},
        scores={"lesion_F1/lesion": 0.5, "lesion_Dice/lesion": 0.5},
    )


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> FakeBundle:
    fake = FakeBundle(evaluate)
    monkeypatch.setattr(train_and_score, "_run", fake)
    return fake


def run_list(folder: Path, *, only: list[str] | None = None, seeds: list[int] | None = None, **changes: object) -> Path:
    listed = list_trainings(write_list(folder, **changes), only=only, seeds=seeds)
    failed = run(listed, runs_dir=folder / "runs", results_dir=folder / "results")
    assert failed == []
    return folder / "results"


def test_list_goes_fold_by_fold_with_all_arms_of_each(tmp_path: Path) -> None:
    listed = list_trainings(write_list(tmp_path))
    assert [training.name for training in listed[:4]] == [
        "baseline_0_fold0",
        "afma_0_fold0",
        "baseline_0_fold1",
        "afma_0_fold1",
    ]
    assert [training.options["seed"] for training in listed] == [0] * 10 + [1] * 10
    assert [training.options["fold"] for training in listed[:10]] == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert {training.pooled for training in listed} == {"baseline_0", "afma_0", "baseline_1", "afma_1"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folds": 3}, r"`folds` must be 5, .*; got 3\. "),
        ({"folds": "5"}, r"`folds` must be 5, .*; got '5'\. "),
        ({"folds": 5.0}, r"`folds` must be 5, .*; got 5\.0\. "),
        (
            {"bundle": "isic_afma"},
            r"`folds` must go with a bundle that has the id `fold`; got isic_afma\. Name another",
        ),
        ({"bundle": "none_afma"}, r"`folds` must go with a bundle that has the id `fold`; got none_afma"),
        ({"options": {"fold": 1}}, r"`options` must not set `fold` where `folds` does"),
        ({"arms": {"a": {"options": {"fold": 1}}}}, r"`options` must not set `fold` where `folds` does"),
    ],
)
def test_folds_that_make_no_sense_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list_trainings(write_list(tmp_path, **changes))


def test_one_fold_can_be_trained_alone(tmp_path: Path) -> None:
    path = write_list(tmp_path, options={"fold": 2})
    content = json.loads(path.read_text(encoding="utf-8"))
    del content["folds"]
    path.write_text(json.dumps(content), encoding="utf-8")
    assert [(one.name, one.options["fold"], one.pooled) for one in list_trainings(path, seeds=[0])] == [
        ("baseline_0", 2, None),
        ("afma_0", 2, None),
    ]


def test_pooled_scores_follow_from_the_pixels_of_all_images(tmp_path: Path, bundle: FakeBundle) -> None:
    results = run_list(tmp_path, only=["afma"], seeds=[0])
    assert sorted(path.name for path in results.glob("*.json")) == ["afma_0.json"]
    assert sorted(path.name for path in (results / "folds").iterdir()) == [f"afma_0_fold{k}.json" for k in range(5)]
    pooled = read_result(results / "afma_0.json")
    assert pooled.counts.images == tuple(f"images/slice_{k}.png" for k in range(5))
    # Label, prediction, both of the lesion: 10 + 20 + 30 + 40 + 50, 5 · 8, 4 + 5 + 6 + 7 + 8.
    assert pooled.counts.pixels.sum(axis=0)[1, 0].tolist() == [150, 40, 30, 30]
    assert pooled.counts.pixels.sum(axis=0)[0, 0].tolist() == [350, 460, 340, 340]
    expected = {"IoU/lesion": 30 / 160, "IoU/background": 340 / 470, "mIoU": (30 / 160 + 340 / 470) / 2}
    expected |= {"IoU_small_objects/lesion": 30 / 160, "recall_small_objects/lesion": 30 / 150}
    assert {name: pooled.scores[name] for name in expected} == pytest.approx(expected)
    assert "lesion_Dice/lesion" not in pooled.scores, "it does not follow from counts"
    assert "mIoU_other" not in pooled.scores
    assert pooled.evaluation["images"] == 5
    assert "fold" not in pooled.settings
    assert pooled.curve == pytest.approx({1: 0.12, 2: 0.2}), "the mean of the folds"


def test_pooled_scores_of_objects_follow_from_those_of_all_images(tmp_path: Path, bundle: FakeBundle) -> None:
    pooled = read_result(run_list(tmp_path, only=["afma"], seeds=[0]) / "afma_0.json")
    # 2 + 3 + 4 + 5 + 6 lesions, 5 of them found; 5 · 4 predicted.
    expected = {"recall": 5 / 20, "recall_small": 5 / 20, "precision": 5 / 20, "F1": 10 / 40}
    assert {kind: pooled.scores[f"lesion_{kind}/lesion"] for kind in expected} == pytest.approx(expected)
    assert math.isnan(pooled.scores["lesion_recall_large/lesion"])
    assert pooled.evaluation["matches"]["lesion"]["lesion"][0] == [20, 5, 20, 5]


def test_details_of_the_folds_are_kept(tmp_path: Path, bundle: FakeBundle) -> None:
    content = json.loads((run_list(tmp_path, only=["afma"], seeds=[1]) / "afma_1.json").read_text(encoding="utf-8"))
    assert content["training"]["name"] == "afma_1"
    assert content["training"]["options"] == {"max_epochs": 2, "seed": 1}
    assert [one["training"]["options"]["fold"] for one in content["folds"]] == list(range(5))
    kept = {"attention", "curves", "scores", "scores_of_last_epoch", "commits", "machine", "evaluation"}
    for fold in content["folds"]:
        assert kept <= fold.keys()
        assert fold["scores"]["lesion_F1/lesion"] == 0.5
        assert not {"counts", "settings"} & fold.keys()


def test_what_was_cut_goes_on_at_the_next_fold(tmp_path: Path, bundle: FakeBundle) -> None:
    listed = list_trainings(write_list(tmp_path), only=["afma"], seeds=[0])
    given = {"runs_dir": tmp_path / "runs", "results_dir": tmp_path / "results"}
    run(listed[:1], **given)
    assert len(bundle.calls) == 3, "a training and two evaluations"
    bundle.fails_at = "afma_0_fold3"
    assert run(listed, **given) == ["afma_0_fold3"]
    assert not (tmp_path / "results" / "afma_0.json").exists(), "a fold is missing"
    assert bundle.names("train") == [f"afma_0_fold{k}" for k in range(5)]
    bundle.fails_at = ""
    assert run(listed, **given) == []
    assert bundle.names("train")[5:] == ["afma_0_fold3"]
    assert read_result(tmp_path / "results" / "afma_0.json").evaluation["images"] == 5


def test_pooled_result_that_is_missing_is_made_from_the_folds(tmp_path: Path, bundle: FakeBundle) -> None:
    path = run_list(tmp_path, only=["afma"], seeds=[0]) / "afma_0.json"
    before, count = path.read_text(encoding="utf-8"), len(bundle.calls)
    path.unlink()
    run_list(tmp_path, only=["afma"], seeds=[0])
    assert path.read_text(encoding="utf-8") == before
    assert len(bundle.calls) == count, "nothing is run again"


def test_evaluations_by_other_protocols_are_pooled_too(tmp_path: Path, bundle: FakeBundle) -> None:
    results = run_list(tmp_path, only=["afma"], seeds=[0], evaluations={"released": [PROTOCOL]})
    assert len(list((results / "folds" / "released").iterdir())) == 5
    assert read_result(results / "released" / "afma_0.json").scores["IoU/lesion"] == pytest.approx(30 / 160)


def test_pooled_results_are_compared(tmp_path: Path, bundle: FakeBundle) -> None:
    files = sorted(run_list(tmp_path).glob("*.json"))
    assert [path.stem for path in files] == ["afma_0", "afma_1", "baseline_0", "baseline_1"]
    table = (compare_runs(files, tmp_path / "comparison", resamples=20, images=0) / "comparison.md").read_text(
        encoding="utf-8"
    )
    assert re.search(r"\| AFMA +\| 2 ", table)
    assert "AFMA − baseline" in table


def change_settings(run: Run) -> Run:
    return run._replace(settings={**run.settings, "encoder": "resnet34"})


def change_section(run: Run) -> Run:
    return run._replace(evaluation={**run.evaluation, "section": "val"})


def repeat_an_image(run: Run) -> Run:
    return run._replace(counts=run.counts._replace(images=("images/slice_0.png",)))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (change_settings, r"fold0\.json and .*fold1\.json differ in encoder: resnet18 and resnet34\. Remove"),
        (change_section, "differ in section: test and val"),
        (repeat_an_image, r"must test every image once; got images/slice_0\.png in 2 folds\. Remove"),
    ],
)
def test_results_that_do_not_belong_together_are_refused(
    tmp_path: Path, bundle: FakeBundle, spoil: Callable[[Run], Run], message: str
) -> None:
    results = run_list(tmp_path, only=["afma"], seeds=[0])
    first, second = (read_result(results / "folds" / f"afma_0_fold{k}.json") for k in (0, 1))
    with pytest.raises(ValueError, match=message):
        pool_runs([first, spoil(second)], tmp_path / "afma_0.json")


def test_results_that_cannot_be_pooled_are_failures(
    tmp_path: Path, bundle: FakeBundle, caplog: pytest.LogCaptureFixture
) -> None:
    results = run_list(tmp_path, only=["afma"], seeds=[0])
    (results / "afma_0.json").unlink()
    path = results / "folds" / "afma_0_fold1.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"resnet18"', '"resnet34"'), encoding="utf-8")
    listed = list_trainings(write_list(tmp_path), only=["afma"], seeds=[0])
    assert run(listed, runs_dir=tmp_path / "runs", results_dir=results) == ["afma_0"]
    assert "afma_0 cannot be pooled: `runs` must be folds of one training" in caplog.text
