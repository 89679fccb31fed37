"""Lists of trainings are run in order, once, on after a stop, and leave one small file each."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from _helpers.fake_bundle import FakeBundle
from _helpers.synthetic_runs import random_rows, write_run, write_six_runs
from afma_med.comparison import compare_runs
from afma_med.runs.result_file import read_result, write_result
from afma_med.runs.run import read_run
from afma_med.samples import write_street_scenes
from afma_med.trial import train_and_score, trainings
from afma_med.trial.trainings import list_trainings, run_trainings

LIST = {
    "bundle": "camvid_afma",
    "overlays": ["small"],
    "options": {"max_epochs": 3, "encoder": "resnet18"},
    "seeds": [0, 1],
    "arms": {
        "afma": {},
        "baseline": {"overlays": ["baseline"], "options": {"encoder": "resnet34"}},
        "once": {"seeds": [1], "options": {"feature": 3}},
    },
}


def write_list(folder: Path, **changes: object) -> Path:
    path = folder / "list.json"
    path.write_text(json.dumps({**LIST, **changes}), encoding="utf-8")
    return path


def test_list_goes_seed_by_seed_with_the_options_of_each(tmp_path: Path) -> None:
    listed = list_trainings(write_list(tmp_path))
    assert [training.name for training in listed] == ["afma_0", "baseline_0", "afma_1", "baseline_1", "once_1"]
    assert listed[0].options == {"max_epochs": 3, "encoder": "resnet18", "seed": 0}
    assert listed[3].overlays == ("small", "baseline")
    assert listed[3].options == {"max_epochs": 3, "encoder": "resnet34", "seed": 1}
    assert listed[4].options["feature"] == 3
    some = list_trainings(write_list(tmp_path), only=["once", "baseline"], seeds=[1])
    assert [training.name for training in some] == ["baseline_1", "once_1"]


def test_an_arm_starts_with_the_weights_of_another_of_its_seed(tmp_path: Path) -> None:
    arms = {"first": {}, "second": {"start_from": "first"}}
    listed = list_trainings(write_list(tmp_path, arms=arms))
    assert [one.start_from for one in listed] == [None, "first_0", None, "first_1"]
    folded = list_trainings(write_list(tmp_path, arms=arms, bundle="lesion_slices_afma", folds=5), only=["second"])
    assert [one.start_from for one in folded[:2]] == ["first_0_fold0", "first_0_fold1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": {"one": {"start_from": "two"}, "two": {}}}, r"`start_from` of the arm one must be .*got 'two'"),
        ({"arms": {}}, "must have `bundle` and `arms`"),
        ({"varants": {}}, "nothing but .*got .*varants"),
        ({"arms": {"one": {"study": "gain"}}}, r"an arm of .* must have nothing but .*got study"),
        ({"overlays": ["smal"]}, r"`overlays` must be files of .*there is no smal\.json"),
        ({"evaluations": {"other": ["othr"]}}, r"`overlays` must be files of .*there is no othr\.json"),
    ],
)
def test_malformed_lists_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list_trainings(write_list(tmp_path, **changes))


def test_broken_and_missing_lists_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"list\.json` must be JSON; got"):
        list_trainings(path)
    path.write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match="got list"):
        list_trainings(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        list_trainings(tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"`only` must name arms of .*got \['afmo'\]"):
        list_trainings(write_list(tmp_path), only=["afmo"])


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch) -> FakeBundle:
    fake = FakeBundle()
    monkeypatch.setattr(train_and_score, "_run", fake)
    return fake


def run_list(folder: Path, **changes: object) -> list[str]:
    listed = list_trainings(write_list(folder, **changes), only=["afma"], seeds=[0])
    options = {"dataset_dir": "/data/camvid", "num_workers": 1}
    return run_trainings(listed, runs_dir=folder / "runs", results_dir=folder / "results", options=options)


def test_training_is_evaluated_twice_and_kept_as_one_file(tmp_path: Path, bundle: FakeBundle) -> None:
    assert run_list(tmp_path) == []
    assert [kind for kind, *_ in bundle.calls] == ["train", "evaluate", "evaluate"]
    assert [Path(options["checkpoint"]).name for *_, options in bundle.calls[1:]] == ["model.pt", "last.pt"]
    assert bundle.calls[1].options["num_workers"] == 1
    path = tmp_path / "results" / "afma_0.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content["training"]["options"] == {"max_epochs": 3, "encoder": "resnet18", "seed": 0}
    assert {"commits", "machine", "scores_of_last_epoch", "curves", "scores"} <= content.keys()
    assert "/" not in content["evaluation"]["checkpoint"]
    assert str(tmp_path) not in path.read_text(encoding="utf-8"), "no path of this machine"
    assert read_result(path).curve == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3})


def test_evaluations_by_other_protocols_are_kept_apart(tmp_path: Path, bundle: FakeBundle) -> None:
    protocol = "../experiments/lists/camvid_released_protocol"
    [training] = list_trainings(write_list(tmp_path, evaluations={"released": [protocol]}), only=["afma"], seeds=[0])
    run_trainings([training], runs_dir=tmp_path / "runs", results_dir=tmp_path / "results")
    overlays = [call.overlays for call in bundle.calls if call.kind == "evaluate"]
    assert overlays == [("evaluate",), ("evaluate",), ("evaluate", protocol)]
    assert Path(bundle.calls[-1].options["checkpoint"]).name == "model.pt"
    assert read_result(tmp_path / "results" / "released" / "afma_0.json").scores["mIoU"] > 0
    run_trainings([training], runs_dir=tmp_path / "runs", results_dir=tmp_path / "results")
    assert len(bundle.calls) == 4, "what is done is not done again"
    shutil.rmtree(tmp_path / "results" / "released")
    shutil.rmtree(tmp_path / "runs" / "afma_0" / "evaluation_released")
    run_trainings([training], runs_dir=tmp_path / "runs", results_dir=tmp_path / "results")
    assert [kind for kind, *_ in bundle.calls[4:]] == ["evaluate"], "a protocol that is new is added"


def test_an_evaluation_with_other_ids_is_an_arm_of_its_own(tmp_path: Path, bundle: FakeBundle) -> None:
    path = write_list(tmp_path, evaluations={"two_scales": {"inference_scales": [1, 2]}})
    [training] = list_trainings(path, only=["afma"], seeds=[0])
    run_trainings([training], runs_dir=tmp_path / "runs", results_dir=tmp_path / "results")
    assert [call.options.get("inference_scales") for call in bundle.calls] == [None, None, None, [1, 2]]
    results = [tmp_path / "results" / folder / "afma_0.json" for folder in ("", "two_scales")]
    assert [read_result(result).arm for result in results] == ["afma", "afma, two_scales"]


def test_only_the_scores_are_computed_where_the_list_says_so(tmp_path: Path, bundle: FakeBundle) -> None:
    assert run_list(tmp_path, only_scores=True) == []
    assert [Path(call.options["output_dir"]).name for call in bundle.calls] == ["afma_0", "afma_0"]
    content = json.loads((tmp_path / "results" / "afma_0.json").read_text(encoding="utf-8"))
    assert "scores_of_last_epoch" not in content and content["scores"]


def test_an_arm_may_say_so_too(tmp_path: Path) -> None:
    path = write_list(tmp_path, arms={"brief": {"only_scores": True}, "full": {}}, seeds=[0])
    assert [training.only_scores for training in list_trainings(path)] == [True, False]


def test_what_is_done_is_not_done_again(tmp_path: Path, bundle: FakeBundle) -> None:
    run_list(tmp_path)
    assert run_list(tmp_path) == []
    assert len(bundle.calls) == 3


def test_results_and_trainings_of_changed_data_are_not_mixed(tmp_path: Path, bundle: FakeBundle) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 2, "val": 1, "test": 1}, size=(48, 64))

    def run(data: Path, *names: str, seeds: list[int] | None = None) -> list[str]:
        listed = list_trainings(write_list(tmp_path), only=names, seeds=seeds)
        folders = {"runs_dir": tmp_path / "runs", "results_dir": tmp_path / "results"}
        return run_trainings(listed, **folders, options={"dataset_dir": str(data)})

    assert run(scenes, "afma") == []
    assert json.loads((tmp_path / "results" / "afma_0.json").read_text(encoding="utf-8"))["data"]["train"]
    shutil.copytree(scenes, tmp_path / "copy", copy_function=shutil.copyfile)
    bundle.cut_after = 2
    assert run(tmp_path / "copy", "afma", "baseline") == ["baseline_0"], "a copy is the same data"
    label = next((scenes / "trainannot").iterdir())
    Image.open(label).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(label)
    calls = len(bundle.calls)
    for arm in ("afma", "baseline"):
        with pytest.raises(ValueError, match=rf"since {arm}_0, it has changed: train had 2 items, .* now has 2 items"):
            run(scenes, arm)
    assert len(bundle.calls) == calls
    assert run(scenes, "once") == []
    (tmp_path / "runs" / "baseline_0.data").write_text("{", encoding="utf-8")
    assert run(scenes, "baseline", seeds=[0]) == [], "a file that was cut off decides nothing"


@pytest.mark.parametrize("options", [{"max_epochs": 3}, {}], ids=["list", "overlay"])
def test_cut_training_fails_and_is_resumed_next_time(
    tmp_path: Path, bundle: FakeBundle, options: dict[str, int]
) -> None:
    """Whether the list itself or one of its overlays says how many epochs there are."""
    bundle.cut_after = 2
    assert run_list(tmp_path, options=options) == ["afma_0"]
    assert not (tmp_path / "results" / "afma_0.json").exists()
    assert run_list(tmp_path, options=options) == []
    assert len(json.loads((tmp_path / "results" / "afma_0.json").read_text(encoding="utf-8"))["commits"]) == 2
    assert [options.get("resume") for kind, _, options in bundle.calls if kind == "train"] == [None, True]


def test_cut_evaluation_does_not_train_again(tmp_path: Path, bundle: FakeBundle) -> None:
    run_list(tmp_path)
    (tmp_path / "results" / "afma_0.json").unlink()
    shutil.rmtree(tmp_path / "runs" / "afma_0" / "evaluation_last")
    run_list(tmp_path)
    assert [kind for kind, *_ in bundle.calls[3:]] == ["evaluate"]


def test_training_that_went_on_is_evaluated_again(tmp_path: Path, bundle: FakeBundle) -> None:
    run_list(tmp_path)
    (tmp_path / "results" / "afma_0.json").unlink()
    later = time.time() + 60
    os.utime(tmp_path / "runs" / "afma_0" / "last.pt", (later, later))
    run_list(tmp_path)
    assert [kind for kind, *_ in bundle.calls[3:]] == ["evaluate", "evaluate"]


def other_process(folder: Path, name: str) -> Any:
    """Hold the lock of a training, as a process does that runs it."""
    (folder / "runs").mkdir(exist_ok=True)
    file = (folder / "runs" / f".{name}.lock").open("w", encoding="utf-8")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


@pytest.mark.parametrize("taken", ["afma_0", "baseline_0"])
def test_a_training_of_another_process_is_left_to_it_until_it_gives_up(
    tmp_path: Path,
    bundle: FakeBundle,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    taken: str,
) -> None:
    """Whether the other process runs the training itself, or the one whose weights it starts with."""
    arms = {"baseline": {}, "afma": {"start_from": "baseline"}, "plain": {}}
    listed = list_trainings(write_list(tmp_path, arms=arms), seeds=[0])
    folders = {"runs_dir": tmp_path / "runs", "results_dir": tmp_path / "results"}
    with other_process(tmp_path, taken) as file:
        done_meanwhile: list[str] = []

        def end_of_the_other(seconds: float) -> None:
            done_meanwhile.extend(sorted(path.stem for path in (tmp_path / "results").glob("*.json")))
            fcntl.flock(file, fcntl.LOCK_UN)

        monkeypatch.setattr(trainings.time, "sleep", end_of_the_other)
        with caplog.at_level("INFO"):
            assert run_trainings(listed, **folders) == []
    assert f"waiting for the last {3 - len(done_meanwhile)}, which other processes run" in caplog.messages
    assert done_meanwhile == {"afma_0": ["baseline_0", "plain_0"], "baseline_0": ["plain_0"]}[taken]
    assert sorted(path.stem for path in (tmp_path / "results").glob("*.json")) == ["afma_0", "baseline_0", "plain_0"]


def test_a_training_that_outlives_its_list_is_left_alone(tmp_path: Path) -> None:
    endless = tmp_path / "endless"
    endless.write_text("#!/bin/sh\necho $$ > pid.new && mv pid.new pid && exec sleep 60\n", encoding="utf-8")
    endless.chmod(0o755)
    path = write_list(tmp_path, arms={"base": {}}, seeds=[0])
    code = (
        "import sys; from pathlib import Path; from afma_med.trial import trainings as t; "
        f"one = t.list_trainings({str(path)!r}); sys.executable = {str(endless)!r}; "
        f"t.run_trainings(one, runs_dir=Path('runs'), results_dir=Path('results'))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) as killed:
        _wait(lambda: (tmp_path / "pid").is_file())
        killed.kill()
    training = list_trainings(path)[0]
    with trainings._claim(training, tmp_path / "runs") as free:
        assert not free
    os.kill(int((tmp_path / "pid").read_text(encoding="utf-8")), signal.SIGKILL)

    def is_free() -> bool:
        with trainings._claim(training, tmp_path / "runs") as free:
            return free

    _wait(is_free)


def _wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_result_file_is_the_run_and_compares_as_one(tmp_path: Path) -> None:
    folders = write_six_runs(tmp_path / "runs")
    files = []
    for folder in folders:
        files.append(tmp_path / f"{folder.name}.json")
        write_result(files[-1], read_run(folder))
        found, run = read_result(files[-1]), read_run(folder)
        assert np.array_equal(found.counts.pixels, run.counts.pixels)
        assert found.counts[:3] == run.counts[:3]
        assert found.scores == pytest.approx(run.scores, nan_ok=True)
        assert found.curve == pytest.approx(dict(run.curve))
        assert found.seed == run.seed
    tables = [
        (compare_runs(given, tmp_path / name, resamples=50, images=0) / "comparison.md").read_text(encoding="utf-8")
        for name, given in (("a", folders), ("b", files))
    ]
    assert tables[0] == tables[1]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[: len(text) // 2],
        lambda text: text.replace('"counts"', '"count"'),
        lambda text: text.replace('"zlib": "', '"zlib": "AAAA'),
        lambda text: "[]",
    ],
)
def test_broken_results_are_named(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    path = tmp_path / "a.json"
    write_result(path, read_run(write_run(tmp_path / "run", random_rows(0, quality=0.5))))
    path.write_text(spoil(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(ValueError, match=r"a\.json` must be the result of a run; got"):
        read_result(path)


def test_training_has_a_session_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in a terminal must not reach it in addition to the signal from the list, since a second one kills it."""
    program = tmp_path / "python"
    program.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'import os; print(os.getsid(0) == os.getpid())'\n", "utf-8"
    )
    program.chmod(0o755)
    monkeypatch.setattr(train_and_score.sys, "executable", str(program))
    train_and_score._run("camvid_afma", [], {}, tmp_path / "log")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "True\n"


def test_stopped_list_stops_its_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    class Training:
        def wait(self) -> int:
            calls.append("wait")
            if len(calls) == 1:
                raise KeyboardInterrupt
            return 0

        def terminate(self) -> None:
            calls.append("terminate")

    monkeypatch.setattr(train_and_score.subprocess, "Popen", lambda *command, **options: Training())
    with pytest.raises(KeyboardInterrupt):
        train_and_score._run("camvid_afma", [], {}, tmp_path / "log")
    assert calls == ["wait", "terminate", "wait"]
