"""Handlers on real MONAI engines with a network of a few parameters."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Engine
from ignite.metrics import Average
from monai.data import MetaTensor
from monai.data.utils import list_data_collate
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader, ValidationHandler, from_engine
from monai.metrics import DiceMetric
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
from tensorboard.util.tensor_util import make_ndarray
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from _helpers.paths import ROOT
from afma_med import AFMALoss, AFMANet
from afma_med.checks import NonFiniteError, RunError
from afma_med.data import CAMVID, ISIC
from afma_med.data.class_table import ClassInfo, class_colors
from afma_med.handlers import (
    BestCheckpointHandler,
    LastCheckpointHandler,
    PRCurvesHandler,
    ProgressLogHandler,
    RunRecordHandler,
    ScoreReportHandler,
    SegmentationPicturesHandler,
    SplitAFMAOutputHandler,
)
from afma_med.handlers.checkpoints import load_weights
from afma_med.handlers.run_files import BEST, LAST
from afma_med.metrics import ClassIoU, PerClassMetric, SizeGroups


class Tiny(nn.Module):
    """Two convolutions that AFMA can tap: stride 2 down, then up again."""

    def __init__(self, classes: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, classes, 2, stride=2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.up(self.down(image).relu())


def batches(count: int = 2) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {
            "image": torch.rand(2, 3, 16, 16, generator=generator),
            "label": torch.randint(3, (2, 1, 16, 16), generator=generator),
        }
        for _ in range(count)
    ]


def make_trainer(
    network: nn.Module, loss: nn.Module, handlers: list, *, epochs: int = 1, **options: object
) -> SupervisedTrainer:
    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=batches(),
        network=network,
        optimizer=options.pop("optimizer", None) or torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=loss,
        train_handlers=handlers,
        **options,
    )


@pytest.fixture
def network() -> AFMANet:
    torch.manual_seed(0)
    return AFMANet(Tiny(), 3, feature="down", patch_size=4, attention_supervision=True)


def test_split_leaves_logits_and_logs_the_terms(network: AFMANet) -> None:
    loss = AFMALoss()
    seen = Average(output_transform=lambda output: output[0]["pred"].shape[0])  # a train metric that expects logits
    trainer = make_trainer(network, loss, [SplitAFMAOutputHandler()], key_train_metric={"classes": seen})
    trainer.run()
    metrics = trainer.state.metrics
    assert metrics["classes"] == 3
    total = 5 * metrics["train/segmentation_loss"] + metrics["train/attention_loss"]
    assert metrics["train/loss"] == pytest.approx(total, rel=1e-5)
    assert metrics["train/attention_loss"] > 0


def test_split_leaves_a_plain_network_alone() -> None:
    trainer = make_trainer(Tiny(), AFMALoss(), [SplitAFMAOutputHandler()])
    trainer.run()
    assert trainer.state.metrics["train/attention_loss"] == 0
    assert trainer.state.output[0]["pred"].shape == (3, 16, 16)


def scripted_evaluator(scores: list[float]) -> SupervisedEvaluator:
    """An evaluator whose key metric follows a script, one score an epoch."""
    script = iter(scores)

    class Scripted(Average):
        def compute(self) -> float:
            return next(script)

    return SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=batches(1),
        network=nn.Conv2d(3, 3, 1),
        key_val_metric={"val/mIoU": Scripted(output_transform=lambda _: 0.0)},
    )


def train_with_checkpoints(
    folder: Path, scores: list[float], *, epochs: int, resume: bool = False
) -> tuple[SupervisedTrainer, SupervisedEvaluator]:
    network = Tiny()
    evaluator = scripted_evaluator(scores)
    best = BestCheckpointHandler(folder, network)
    best.attach(evaluator)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    validation = ValidationHandler(interval=1, validator=evaluator, epoch_level=True)
    trainer = make_trainer(network, AFMALoss(), [validation], epochs=epochs, optimizer=optimizer)
    state = {"model": network, "optimizer": optimizer, "trainer": trainer, "best": best}
    if resume:
        CheckpointLoader(load_path=str(folder / LAST), load_dict=state).attach(trainer)
    LastCheckpointHandler(folder, state).attach(trainer)
    trainer.run()
    return trainer, evaluator


def test_best_weights_are_those_of_the_best_epoch(tmp_path: Path) -> None:
    train_with_checkpoints(tmp_path, [0.2, 0.6], epochs=2)
    last = torch.load(tmp_path / LAST, weights_only=True)
    best = torch.load(tmp_path / BEST, weights_only=True)
    assert last["best"] == {"best_metric": 0.6, "best_metric_epoch": 2}
    assert all(torch.equal(best[name], last["model"][name]) for name in best)


def test_resuming_keeps_the_best_score_and_its_weights(tmp_path: Path) -> None:
    train_with_checkpoints(tmp_path, [0.2, 0.6], epochs=2)
    best = (tmp_path / BEST).read_bytes()
    trainer, evaluator = train_with_checkpoints(tmp_path, [0.5, 0.4], epochs=4, resume=True)
    assert trainer.state.epoch == 4
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (0.6, 2)
    assert (tmp_path / BEST).read_bytes() == best, "worse weights replaced better ones"
    train_with_checkpoints(tmp_path, [0.7], epochs=5, resume=True)
    assert (tmp_path / BEST).read_bytes() != best


def test_resuming_a_finished_run_trains_no_further(tmp_path: Path) -> None:
    train_with_checkpoints(tmp_path, [0.2], epochs=1)
    before = torch.load(tmp_path / LAST, weights_only=True)["model"]
    trainer, _ = train_with_checkpoints(tmp_path, [], epochs=1, resume=True)
    assert all(torch.equal(before[name], value) for name, value in trainer.network.state_dict().items())


def test_failed_save_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train_with_checkpoints(tmp_path, [0.2], epochs=1)
    before = (tmp_path / LAST).read_bytes()

    def fail(checkpoint: object, file: object, **_: object) -> None:
        file.write(b"half")  # type: ignore[attr-defined]
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(RunError, match=r"disk full\. The file of the epoch before is intact"):
        train_with_checkpoints(tmp_path, [0.1], epochs=2, resume=True)
    assert (tmp_path / LAST).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [LAST, BEST], "a half-written file was left"


def test_checkpoint_does_not_depend_on_data_parallel(tmp_path: Path) -> None:
    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:  # without a process group
            nn.Module.__init__(self)
            self.module = module

    LastCheckpointHandler(tmp_path, {"model": Wrapped(Tiny())})(Engine(lambda engine, batch: None))
    assert set(torch.load(tmp_path / LAST, weights_only=True)["model"]) == set(Tiny().state_dict())


def test_best_checkpoint_without_evaluator_says_so(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="must be attached to an evaluator"):
        BestCheckpointHandler(tmp_path, Tiny()).state_dict()


TABLE = (
    ClassInfo("ground", 0, 0, (0, 0, 0)),
    ClassInfo("car", 1, 1, (1, 1, 1)),
    ClassInfo("unlabelled", 2, 2, (2, 2, 2)),
)


def evaluate(folder: Path, metric: ClassIoU, *, labels: list[list[int]], stem: str = "", **options: object) -> None:
    """Score a prediction of cars on the first two of four pixels against labels of one row each."""
    prediction = torch.nn.functional.one_hot(torch.tensor([[1, 1, 0, 0]]), 3).movedim(-1, 0).float()

    def step(engine: Engine, number: int) -> list[dict]:
        image = MetaTensor(torch.zeros(3, 1, 4), meta={"filename_or_obj": f"/data/set/test/{stem}{number}.png"})
        return [{"image": image, "label": torch.tensor([[labels[number]]]), "pred": prediction}]

    engine = Engine(step)
    metric.attach(engine, "val/mIoU")
    extra = options.get("metrics", {})
    for name, one in extra.items():
        one.attach(engine, name)
    ScoreReportHandler(folder, metric, dataset_dir="/data/set", **options).attach(engine)
    engine.run(range(len(labels)))


def score_metric(**options: object) -> ClassIoU:
    return ClassIoU(TABLE, unscored=("unlabelled",), output_transform=from_engine(["pred", "label"]), **options)


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.open(encoding="utf-8")))


def test_score_report_keeps_names_that_are_not_utf_8(tmp_path: Path) -> None:
    evaluate(tmp_path, score_metric(), labels=[[1, 0, 0, 2]], stem=os.fsdecode(b"caf\xe9"))
    assert b"test/caf\xe90.png,ground," in (tmp_path / "images.csv").read_bytes()


COUNTS = """\
test/0.png ground all 2 1 1 1
test/0.png ground small 0 1 0 0
test/0.png ground medium 2 0 0 1
test/0.png ground lone 2 1 1 1
test/0.png car all 1 2 1 1
test/0.png car small 1 0 0 1
test/0.png car medium 0 2 0 0
test/0.png car lone 1 2 1 1
test/1.png ground all 4 2 2 2
test/1.png ground medium 0 2 0 0
test/1.png ground large 4 0 0 2
test/1.png ground lone 4 2 2 2
test/1.png car all 0 2 0 0
test/1.png car medium 0 2 0 0"""


def test_score_report_writes_scores_counts_and_confusion(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    metric = score_metric(size_groups=SizeGroups((2, 3)))
    dice = PerClassMetric(DiceMetric(include_background=True), TABLE, output_transform=from_engine(["pred", "label"]))
    with caplog.at_level(logging.INFO):
        extra = {"details": {"section": "test"}, "metrics": {"val_Dice": dice}}
        evaluate(tmp_path / "evaluation", metric, labels=[[1, 0, 0, 2], [0, 0, 0, 0]], **extra)
    written = json.loads((tmp_path / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    scores = written.pop("scores")
    assert written == {
        "section": "test",
        "dataset": "/data/set",
        "images": 2,
        "classes": ["ground", "car", "unlabelled"],
        "count_unscored_pixels": False,
        "unscored": ["unlabelled"],
        "size_groups": {"names": ["small", "medium", "large"], "bounds": [2, 3], "unit": "pixels"},
        "company": ["lone", "accompanied"],
    }
    assert scores["IoU/car"] == pytest.approx(1 / 4)
    assert scores["IoU_lone_objects/car"] == pytest.approx(1 / 2)
    assert scores["IoU_accompanied_objects/car"] is None
    assert scores["IoU_large_objects/car"] is None
    assert scores["Dice/car"] == pytest.approx(2 / 3)
    assert next(iter(scores)) == "mIoU"
    table = dict(rows_of(tmp_path / "evaluation" / "scores.csv")[1:])
    assert {name: None if value == "nan" else float(value) for name, value in table.items()} == scores
    assert rows_of(tmp_path / "evaluation" / "images.csv") == [
        ["image", "class", "objects", "label", "prediction", "intersection", "covered"],
        *(row.split() for row in COUNTS.splitlines()),
    ]
    assert rows_of(tmp_path / "evaluation" / "confusion.csv") == [
        ["label", "ground", "car", "unlabelled"],
        ["ground", "3", "3", "0"],
        ["car", "0", "1", "0"],
        ["unlabelled", "0", "0", "0"],
    ]
    rows = rows_of(tmp_path / "evaluation" / "per_image.csv")
    assert [row[0] for row in rows] == ["image", "test/0.png", "test/1.png"]
    assert rows[0][1:] == ["Dice/car", "Dice/unlabelled"]
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("afma_med")]
    assert "IoU accompanied" in messages[0]
    assert re.search(r"^car +0\.5000 +- +1\.0000 +-$", messages[0], flags=re.MULTILINE), "the lone car"
    assert str(tmp_path / "evaluation") in messages[-1], "the last line says where the results are"


def test_score_report_without_sizes_writes_the_files_that_the_quickstart_names(tmp_path: Path) -> None:
    evaluate(tmp_path / "evaluation", score_metric(), labels=[[1, 0, 0, 2]])
    text = (ROOT / "scripts" / "quickstart.sh").read_text(encoding="utf-8")
    named = set(re.findall(r"evaluation/(\w+\.(?:csv|json))", text))
    assert named and named <= {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert {row[2] for row in rows_of(tmp_path / "evaluation" / "images.csv")[1:]} == {"all"}
    assert json.loads((tmp_path / "evaluation" / "scores.json").read_text(encoding="utf-8"))["size_groups"] is None


def test_results_of_another_evaluation_are_moved_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "evaluation"
    evaluate(folder, score_metric(), labels=[[1, 0, 0, 2]], details={"section": "val"})
    (folder / "labels").mkdir()
    evaluate(folder, score_metric(), labels=[[1, 0, 0, 2]], details={"section": "val"})
    assert (folder / "labels").is_dir(), "the same evaluation again replaces its files"
    with caplog.at_level(logging.WARNING):
        evaluate(folder, score_metric(), labels=[[1, 0, 0, 2]], details={"section": "test"})
    assert not (folder / "labels").exists()
    (aside,) = (path for path in tmp_path.iterdir() if path != folder)
    assert json.loads((aside / "scores.json").read_text(encoding="utf-8"))["section"] == "val"
    assert str(aside) in caplog.text


def curve_points(counts: list[tuple[float, int]], thresholds: int) -> list[tuple[float, float]]:
    """(precision, recall) at each threshold t / thresholds, counted pixel by pixel."""
    points = []
    for t in range(thresholds):
        taken = [label for probability, label in counts if math.floor(probability * thresholds) >= t]
        positives = sum(label for _, label in counts)
        points.append((sum(taken) / len(taken) if taken else 1.0, sum(taken) / positives))
    return points


def test_pr_curve_equals_counting_pixels(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 2, 6, 7, generator=generator)
    label = torch.randint(0, 2, (2, 1, 6, 7), generator=generator)
    label[0, 0, 0, 0] = 255
    engine = Engine(lambda engine, i: [{"pred": logits[i], "label": label[i]}])
    writer = SummaryWriter(tmp_path)
    PRCurvesHandler(writer, name="lesion", thresholds=10).attach(engine)
    engine.run([0, 1])
    writer.close()
    accumulator = EventAccumulator(str(tmp_path))
    accumulator.Reload()
    (event,) = accumulator.Tensors("precision-recall/lesion")
    curve = make_ndarray(event.tensor_proto)  # (6, thresholds): tp, fp, tn, fn, precision, recall
    probability = logits.softmax(1)[:, 1].flatten().tolist()
    pixels = [(p, y) for p, y in zip(probability, label.flatten().tolist(), strict=True) if y < 2]
    assert list(zip(*curve[4:].tolist(), strict=True)) == [pytest.approx(point) for point in curve_points(pixels, 10)]
    assert curve[:4].sum(axis=0).tolist() == [83] * 10, "all pixels but the void one"


def test_record_has_texts_speed_and_hyperparameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["run", "--config_file", "polyps.json"])
    evaluator = scripted_evaluator([0.25, 0.5])
    network = Tiny()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    validation = ValidationHandler(interval=1, validator=evaluator, epoch_level=True)
    trainer = make_trainer(network, AFMALoss(), [validation], epochs=2, optimizer=optimizer)
    writer = SummaryWriter(tmp_path / "log")
    settings = {"encoder": "resnet18", "afma": True, "training": {"seed": 3, "crop_size": [16, 16]}}
    configuration = {"name": "polyps_afma"}
    record = RunRecordHandler(
        writer, settings, optimizer=optimizer, evaluator=evaluator, class_table=TABLE, configuration=configuration
    )
    record.attach(trainer)
    trainer.run()
    writer.close()
    accumulator = EventAccumulator(str(tmp_path / "log"))
    accumulator.Reload()
    rates = [event.value for event in accumulator.Scalars("training/learning_rate")]
    assert rates == pytest.approx([0.1, 0.1])
    assert all(event.value > 0 for event in accumulator.Scalars("training/images_per_second"))
    assert [(event.step, event.value) for event in accumulator.Scalars("best/mIoU")] == [(2, 0.5)]
    texts = {
        tag: make_ndarray(accumulator.Tensors(f"{tag}/text_summary")[0].tensor_proto)[0].decode()
        for tag in ("settings", "command", "configuration", "attention explorer")
    }
    assert "polyps_afma" in texts["configuration"]
    assert "resnet18" in texts["settings"]
    assert "polyps.json" in texts["command"]
    assert f"afma show {tmp_path}/log --explore {tmp_path}/log/explorer.html" in texts["attention explorer"]
    start = HParamsPluginData.FromString(
        accumulator.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    ).session_start_info
    assert start.hparams["training.seed"].number_value == 3
    assert start.hparams["training.crop_size"].string_value == "[16, 16]"
    assert accumulator.SummaryMetadata("_hparams_/session_end_info")


def test_progress_log_shows_figures_but_not_those_of_an_earlier_validation(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = scripted_evaluator([0.25])
    validation = ValidationHandler(interval=2, validator=evaluator, epoch_level=True)
    trainer = make_trainer(Tiny(), AFMALoss(), [SplitAFMAOutputHandler(), validation], epochs=3)
    ProgressLogHandler(tmp_path, evaluator, evaluate_command="evaluate me").attach(trainer)
    with caplog.at_level(logging.INFO, logger="afma_med"):
        trainer.run()
    *lines, end = [record.getMessage() for record in caplog.records if record.name.startswith("afma_med")]
    assert all(line.startswith(f"epoch {i}/3  train/loss ") for i, line in enumerate(lines, start=1))
    assert ["val/mIoU 0.2500" in line for line in lines] == [False, True, False]
    assert ["best 0.2500 at epoch 2" in line for line in lines] == [False, True, True]
    assert f"{tmp_path}/model.pt" in end and "evaluate me" in end


def test_pictures_reach_tensorboard_for_images_of_every_epoch(tmp_path: Path) -> None:
    network = AFMANet(Tiny(12), 12, feature="down", patch_size=4)
    writer = SummaryWriter(str(tmp_path))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=batches(2),
        network=network,
        val_handlers=[SegmentationPicturesHandler(writer, CAMVID.classes, count=3)],
    )
    evaluator.run(global_epoch=1)
    evaluator.run(global_epoch=2)
    writer.close()
    events = EventAccumulator(str(tmp_path)).Reload()
    tags = events.Tags()["images"]
    assert len(tags) == 3
    assert [event.step for event in events.Images(tags[0])] == [1, 2]
    assert events.Images(tags[0])[0].width == 48


class Shown:
    """A writer that keeps the pictures."""

    def __init__(self) -> None:
        self.pictures: list[Any] = []

    def add_image(self, tag: str, picture: Any, *_: Any, **__: Any) -> None:
        self.pictures.append(picture)


@pytest.mark.parametrize(("images", "count", "shown"), [(10, 2, [2, 7]), (4, 4, [0, 1, 2, 3]), (2, 5, [0, 1])])
def test_pictures_are_spread_over_the_section(images: int, count: int, shown: list[int]) -> None:
    def output(engine: Engine, batch: int) -> list[dict[str, torch.Tensor]]:
        return [{"image": torch.rand(3, 4, 4), "label": torch.full((1, 4, 4), batch), "pred": torch.rand(12, 4, 4)}]

    engine, writer = Engine(output), Shown()
    SegmentationPicturesHandler(writer, CAMVID.classes, count=count).attach(engine)
    engine.run(range(images))
    assert [picture[0, 4].tolist() for picture in writer.pictures] == [list(CAMVID.classes[i].color) for i in shown]


def run_on(handler: Any, pred: torch.Tensor, label: torch.Tensor) -> None:
    image = MetaTensor(torch.rand(3, *pred.shape[1:]), meta={"filename_or_obj": "a.png"})
    engine = Engine(lambda engine, i: [{"image": image, "pred": pred, "label": label}])
    handler.attach(engine)
    engine.run([0])


LOGITS = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("logits", "value", "message"),
    [
        (torch.zeros(3, 4, 4), 0, "one or two channels; got 3 channels"),
        (LOGITS.softmax(0), 0, "must get logits; got probabilities"),
        (LOGITS * math.nan, 0, r"got nan for a\.png"),
        (LOGITS, 0.9999, r"whole numbers; got \[0\.9999\]"),
    ],
)
def test_pr_curve_refuses_other_predictions_and_labels(logits: torch.Tensor, value: float, message: str) -> None:
    with pytest.raises((ValueError, NonFiniteError), match=message):
        run_on(PRCurvesHandler(None), logits, torch.full((1, 4, 4), value))


@pytest.mark.parametrize("void", [255, 256, -100, 2**32 + 1])
def test_pictures_show_void_in_black_and_the_pixels_of_binary_logits(void: int) -> None:
    table, writer = ISIC.classes, Shown()
    label = torch.tensor([[[0, 1, void]]]).expand(1, 8, 3)
    run_on(SegmentationPicturesHandler(writer, table), torch.tensor([[[-1.0, 2.0, -3.0]]]).expand(1, 8, 3), label)
    colors = class_colors(table).tolist()
    assert writer.pictures[0][0, 3:].tolist() == [colors[0], colors[1], [0, 0, 0], colors[0], colors[1], colors[0]]


@pytest.mark.parametrize(("logit", "value", "message"), [(0.0, 0.5, r"got \[0\.5\]"), (math.nan, 0, "got nan")])
def test_pictures_refuse_labels_between_classes_and_nan(logit: float, value: float, message: str) -> None:
    handler = SegmentationPicturesHandler(Shown(), ISIC.classes)
    with pytest.raises((ValueError, NonFiniteError), match=message):
        run_on(handler, torch.full((2, 4, 4), logit), torch.full((1, 4, 4), value))


@pytest.mark.parametrize(("value", "dtype"), [("nan", torch.float32), ("inf", torch.bfloat16), ("-inf", torch.float64)])
@pytest.mark.parametrize("weights", ["model", "ema", None])
def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(
    tmp_path: Path, value: str, dtype: torch.dtype, weights: str | None
) -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    before = {name: x.clone() for name, x in network.state_dict().items()}
    state = {name: x.clone().to(dtype if x.is_floating_point() else x.dtype) for name, x in before.items()}
    state["1.running_var"][1] = float(value)
    torch.save({weights: state} if weights == "ema" else state, tmp_path / "model.pt")
    with pytest.raises(ValueError, match=rf"model\.pt`: its tensor 1\.running_var must be finite; it holds {value}\."):
        load_weights(network, tmp_path / "model.pt", weights=weights)
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())


def test_a_validation_of_nan_ends_the_training_by_the_name_of_the_image() -> None:
    """Its argmax is class 0, a plausible score; a step that is skipped does not hide it."""
    images = [MetaTensor(torch.rand(3, 8, 8), meta={"filename_or_obj": name}) for name in ("a.png", "b.png")]
    images[1][0, 2, 2] = float("nan")
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=[list_data_collate([{"image": image, "label": torch.zeros(1, 8, 8)} for image in images])],
        network=Tiny(12),
        key_val_metric={"val/mIoU": ClassIoU(CAMVID.classes, output_transform=from_engine(["pred", "label"]))},
    )
    with pytest.raises(RunError, match=r"Predictions must be finite; got nan for b\.png\."):
        evaluator.run()
