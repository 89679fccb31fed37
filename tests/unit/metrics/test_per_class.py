"""The metrics of Ignite engines: named scalars of each class, void pixels, refusals, several processes."""

from __future__ import annotations

import math
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.handlers import from_engine
from monai.metrics import DiceMetric, SurfaceDistanceMetric

from afma_med.checks import NonFiniteError
from afma_med.data.class_table import ClassInfo
from afma_med.data.objects.sizes import SizeGroups
from afma_med.handlers import ScoreReportHandler
from afma_med.metrics import ClassIoU, ObjectDetection, PerClassMetric

TABLE = tuple(ClassInfo(name, k, k, (k, k, k)) for k, name in enumerate(("ground", "car", "mast", "unlabelled")))
BINARY = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 1, 1, (1, 1, 1)))
GROUPS = SizeGroups((3, 6))  # small 1-2, medium 3-6, large 7 and more


def grid(text: str) -> np.ndarray:
    return np.array([[255 if c == "x" else int(c.replace(".", "0")) for c in line] for line in text.split()])


PAIRS = {
    "touching": (grid(".112 .112 .... ..2."), grid(".112 .122 .... ....")),
    "split": (grid("1111111 ....... ......."), grid("111.111 ....... .......")),
    "absent": (grid("....... ......."), grid("...2... .......")),
    "void": (grid("xx.. xx.. ...."), grid("11.. 11.. ....")),
    "corner": (grid("1... .1.. ..1. ...."), grid("1... .1.. .... ....")),
}


def logits_of(prediction: np.ndarray, num_classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), num_classes).movedim(-1, 0).float()


def measure(metric: Metric, *pairs: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    for label, prediction in pairs:
        metric.update(([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    return metric.compute()


def test_objects_of_the_set_are_counted_not_averaged_and_by_size() -> None:
    metric = ObjectDetection(TABLE, size_groups=GROUPS)
    found = measure(metric, *(PAIRS[name] for name in ("touching", "split", "absent")))
    # Cars: in "touching", 3 of 4 pixels; in "split", neither half reaches half of the whole.
    expected = {"recall/car": 1 / 2, "recall_medium/car": 1, "recall_large/car": 0, "recall_small/car": math.nan}
    # Masts: in "touching", one of 2 pixels and one of 1 pixel are predicted as one of 3; in "absent", one is predicted.
    expected |= {"precision/mast": 1 / 2, "recall/mast": 1 / 2, "F1/mast": 1 / 2}
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)
    assert metric.matches()["car"] == [[0, 0, 0, 0], [1, 1, 3, 1], [1, 0, 0, 0]]
    metric.reset()
    assert all(math.isnan(value) for value in metric.compute().values())


def test_objects_on_void_are_left_out() -> None:
    found = measure(ObjectDetection(TABLE), PAIRS["void"])
    assert all(math.isnan(found[f"{score}/car"]) for score in ("precision", "recall", "F1"))


def cubes(*corners: tuple[int, int, int]) -> np.ndarray:
    """A volume with a cube of 3×3×3 of class 1 at each corner."""
    volume = np.zeros((8, 8, 8), dtype=np.uint8)
    for x, y, z in corners:
        volume[x : x + 3, y : y + 3, z : z + 3] = 1
    return volume


def test_dice_of_volumes_is_the_mean_over_those_that_have_the_class() -> None:
    metric = PerClassMetric(DiceMetric(include_background=True), TABLE)
    one = cubes((0, 0, 0))
    found = measure(metric, (one, cubes((0, 0, 1))), (one, one), (cubes(), cubes((1, 1, 1))))
    assert found["car"] == pytest.approx((2 * 18 / 54 + 1) / 2) and math.isnan(found["mast"])
    assert {name: len(values) for name, values in metric.per_image().items()} == dict.fromkeys(found, 3)


def test_surface_distance_is_in_millimetres_and_without_missed_objects() -> None:
    distance = SurfaceDistanceMetric(include_background=True, symmetric=True)
    metric = PerClassMetric(distance, TABLE, use_spacing=True)
    affine = torch.diag(torch.tensor([1, 1, 5, 1], dtype=torch.float64))
    line = np.zeros((3, 3, 9), dtype=np.uint8)
    line[1, 1, 2] = 1
    for prediction in (np.roll(line, 2, axis=2), np.zeros_like(line)):
        metric.update(([logits_of(prediction)], [MetaTensor(torch.from_numpy(line)[None], affine=affine)]))
    assert metric.compute()["car"] == pytest.approx(10), "two voxels of 5 mm; the one without a prediction is left out"
    assert metric.per_image()["car"][1] == math.inf


def test_attached_they_leave_named_scalars() -> None:
    label, prediction = PAIRS["touching"]
    engine = Engine(lambda engine, batch: ([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    ObjectDetection(TABLE).attach(engine, "val_object")
    PerClassMetric(DiceMetric(include_background=True), TABLE).attach(engine, "val_Dice")
    metrics = engine.run([0]).metrics
    assert {"val_object_F1/car", "val_object_recall_small/mast", "val_Dice/car"} <= set(metrics)
    assert all(isinstance(value, float) for value in metrics.values())


def test_scores_of_objects_leave_out_the_background_wherever_it_stands() -> None:
    swapped = tuple(info._replace(name=name) for info, name in zip(BINARY, ("lesion", "Background"), strict=True))
    label = torch.from_numpy(grid("11..1 11... ....x 1.111"))[None]
    logits = torch.from_numpy(grid("11... 11..1 ....1 1.11."))[None].float()
    first = (torch.cat([0.5 - logits, logits]), label)
    second = (first[0].flip(0), torch.where(label == 255, label, 1 - label))
    for make in (ObjectDetection, lambda table: PerClassMetric(DiceMetric(include_background=True), table)):
        found = []
        for table, (prediction, target) in ((BINARY, first), (swapped, second)):
            metric = make(table)
            metric.update(([prediction], [target]))
            found.append(metric.compute())
        assert found[0].keys() == found[1].keys() and all("ackground" not in name for name in found[0])
        assert found[0] == pytest.approx(found[1], nan_ok=True)
        assert 0 < next(iter(found[0].values())) < 1


# --- labels and predictions of all three


def metrics() -> list[Metric]:
    dice = PerClassMetric(DiceMetric(include_background=True), BINARY)
    return [ClassIoU(BINARY), ObjectDetection(BINARY), dice]


@pytest.mark.parametrize("value", [0.9999, 1.5, math.nan, math.inf])
def test_labels_between_classes_are_refused(value: float) -> None:
    for metric in metrics():
        with pytest.raises(ValueError, match=rf"`label` must hold whole numbers; got \[{value}\].*nearest neighbour"):
            metric.update(([torch.zeros(2, 1, 3)], [torch.tensor([[[0, 1, value]]])]))


@pytest.mark.parametrize("value", [2**31 + 1, 2**32 + 1, -(2**32) + 1, 255, -100])
def test_other_values_are_void_however_large(value: int) -> None:
    logits = torch.tensor([[[9.0, 0.0, 9.0]], [[0.0, 9.0, 0.0]]])
    for large, small in zip(metrics(), metrics(), strict=True):
        for metric, void in ((large, value), (small, 2)):
            metric.update(([logits], [torch.tensor([[[0, 1, void]]])]))
        assert large.compute() == pytest.approx(small.compute(), nan_ok=True)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.bool, torch.bfloat16, torch.float64])
def test_labels_may_have_any_number_type(dtype: torch.dtype) -> None:
    for metric in metrics():
        metric.update(([torch.tensor([[[9.0, 0.0]], [[0.0, 9.0]]])], [torch.tensor([[[0, 1]]]).to(dtype)]))
        assert {value for value in metric.compute().values() if not math.isnan(value)} == {1.0}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_predictions_that_are_not_finite_are_refused_by_the_name_of_the_image(value: float) -> None:
    logits = torch.zeros(2, 4, 4)
    logits[:, 1, 2] = value
    label = MetaTensor(torch.zeros(1, 4, 4), meta={"filename_or_obj": "scan_7.png"})
    for metric in metrics():
        with pytest.raises(NonFiniteError, match=rf"Predictions must be finite; got {value} for scan_7\.png\."):
            metric.update(([logits], [label]))


def test_a_class_may_be_ruled_out() -> None:
    metric = ClassIoU(BINARY)
    metric.update(([torch.tensor([[[-math.inf, 0.0]], [[0.0, -math.inf]]])], [torch.tensor([[[1, 0]]])]))
    assert metric.compute()["mIoU"] == 1.0


# --- several processes


def score_part(rank: int, processes: int, folder: Path) -> None:
    """Score this process's part of the pairs, uneven parts, and write the report."""
    if processes > 1:
        meeting = f"file://{folder.parent}/meeting"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
        idist.get_rank()
    names = list(PAIRS)
    parts = {1: [names], 2: [names[:4], names[4:]], 3: [names[:3], names[3:4], names[4:]]}

    def step(engine: Engine, name: str) -> list[dict]:
        label, prediction = PAIRS[name]
        image = MetaTensor(torch.zeros(1, *label.shape), meta={"filename_or_obj": name})
        return [{"image": image, "label": torch.from_numpy(label)[None], "pred": logits_of(prediction)}]

    engine, both = Engine(step), from_engine(["pred", "label"])
    metric = ClassIoU(TABLE, unscored=("unlabelled",), size_groups=GROUPS, output_transform=both)
    metric.attach(engine, "val/mIoU")
    others = {
        "val_object": ObjectDetection(TABLE, size_groups=GROUPS, output_transform=both),
        "val_Dice": PerClassMetric(DiceMetric(include_background=True), TABLE, output_transform=both),
    }
    for name, other in others.items():
        other.attach(engine, name)
    ScoreReportHandler(folder, metric, metrics=others, rank=rank).attach(engine)
    engine.run(parts[processes][rank])
    if processes > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_give_the_numbers_of_one(tmp_path: Path, processes: int) -> None:
    score_part(0, 1, tmp_path / "one")
    torch.multiprocessing.spawn(score_part, (processes, tmp_path / "several"), nprocs=processes)
    files = {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "several").iterdir()}
    assert set(files) == {"scores.json", "scores.csv", "images.csv", "confusion.csv", "per_image.csv"}
    assert {path.name: path.read_text(encoding="utf-8") for path in (tmp_path / "one").iterdir()} == files
