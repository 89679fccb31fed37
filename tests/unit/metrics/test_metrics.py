"""IoU equals counting by hand, over a set, with absent, void and unscored classes."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from monai.data import MetaTensor
from monai.metrics import DiceMetric

from afma_med.checks import NonFiniteError
from afma_med.data import CAMVID
from afma_med.data.class_table import ClassInfo
from afma_med.metrics import ClassIoU, ObjectDetection, PerClassMetric

TABLE = (
    ClassInfo("ground", 0, 0, (0, 0, 0), "large"),
    ClassInfo("mast", 1, 1, (1, 1, 1), "small"),
    ClassInfo("wall", 2, 2, (2, 2, 2), "large"),
    ClassInfo("unlabelled", 3, 3, (3, 3, 3)),
)


def logits_of(prediction: list[list[int]], classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(prediction), classes).permute(2, 0, 1).float()


def by_hand(pairs: list[tuple[list[list[int]], list[list[int]]]], k: int, *, skip: tuple[int, ...]) -> float:
    """Intersection over union of class k in plain Python, over all images; labels in ``skip`` do not count."""
    both = either = 0
    for prediction, label in pairs:
        for row_p, row_l in zip(prediction, label, strict=True):
            for p, t in zip(row_p, row_l, strict=True):
                if t in skip:
                    continue
                both += p == k and t == k
                either += p == k or t == k
    return both / either if either else math.nan


# Two images of different sizes; in the second "wall" is predicted on void (255) and on unlabelled (3) pixels.
PAIRS = [
    ([[0, 0, 1], [2, 2, 1]], [[0, 1, 1], [2, 0, 1]]),
    ([[2, 2], [0, 1], [3, 0]], [[255, 3], [0, 0], [1, 3]]),
]


def compute(pairs: list, table: tuple[ClassInfo, ...] = TABLE, **options: object) -> dict[str, float]:
    metric = ClassIoU(table, **{"unscored": ("unlabelled",), **options})
    for prediction, label in pairs:
        metric.update(([logits_of(prediction, len(table))], [torch.tensor(label)[None]]))
    return metric.compute()


@pytest.mark.parametrize(("count_unscored", "skip"), [(False, (255, 3)), (True, (255,))])
def test_iou_equals_counting_by_hand(count_unscored: bool, skip: tuple[int, ...]) -> None:
    result = compute(PAIRS, count_unscored_pixels=count_unscored)
    expected = {info.name: by_hand(PAIRS, info.train_id, skip=skip) for info in TABLE[:3]}
    assert {name: result[f"IoU/{name}"] for name in expected} == pytest.approx(expected)
    assert result["mIoU"] == pytest.approx(sum(expected.values()) / 3)
    assert result["mIoU_small"] == pytest.approx(expected["mast"])
    assert result["mIoU_large"] == pytest.approx((expected["ground"] + expected["wall"]) / 2)
    assert "IoU/unlabelled" not in result


def test_one_matrix_over_the_set_is_not_the_mean_over_images() -> None:
    whole = compute(PAIRS)["mIoU"]
    assert whole != pytest.approx(sum(compute([pair])["mIoU"] for pair in PAIRS) / 2)


def test_absent_class_has_no_value_and_does_not_count_in_the_mean() -> None:
    result = compute([([[0, 0]], [[0, 1]])])
    assert math.isnan(result["IoU/wall"])
    assert result["mIoU"] == pytest.approx((1 / 2 + 0) / 2)


def test_batches_of_tensors_work_too() -> None:
    metric = ClassIoU(TABLE)
    logits = torch.stack([logits_of([[0, 1]]), logits_of([[1, 1]])])
    metric.update((logits, torch.tensor([[[[0, 1]]], [[[1, 0]]]])))
    assert metric.compute()["IoU/mast"] == pytest.approx(2 / 3)


def test_attached_it_leaves_named_scalars() -> None:
    def step(engine: Engine, batch: tuple) -> tuple:
        return [logits_of(batch[0])], [torch.tensor(batch[1])[None]]

    engine = Engine(step)
    ClassIoU(TABLE, unscored=("unlabelled",)).attach(engine, "val/mIoU")
    metrics = engine.run(PAIRS).metrics
    assert set(metrics) == {
        "val/mIoU",
        "val/mIoU_small",
        "val/mIoU_large",
        "val_IoU/ground",
        "val_IoU/mast",
        "val_IoU/wall",
    }
    assert all(isinstance(value, float) for value in metrics.values())


def test_reset_forgets() -> None:
    metric = ClassIoU(TABLE)
    metric.update(([logits_of([[0]])], [torch.tensor([[[1]]])]))
    metric.reset()
    metric.update(([logits_of([[0]])], [torch.tensor([[[0]]])]))
    assert metric.compute()["IoU/ground"] == 1.0


def test_unknown_unscored_class_lists_the_names() -> None:
    with pytest.raises(ValueError, match=r"`unscored` must name classes of \['sky'.*got \['void'\]"):
        ClassIoU(CAMVID.classes, unscored=("void",))


def test_class_count_mismatch_is_refused() -> None:
    with pytest.raises(ValueError, match="number of classes"):
        ClassIoU(TABLE).update(([logits_of([[0]], 5)], [torch.tensor([[[0]]])]))


BINARY = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 1, 1, (1, 1, 1)))


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
