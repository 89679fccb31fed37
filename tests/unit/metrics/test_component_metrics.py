"""MONAI metrics of objects equal a flood fill and counting in plain Python, and MONAI's own metrics."""

from __future__ import annotations

import inspect
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, PanopticQualityMetric
from torch import Tensor

from afma_med.data.class_table import ClassInfo
from afma_med.data.objects.sizes import SizeGroups
from afma_med.metrics import (
    ClassIoU,
    ComponentDiceMetric,
    ComponentPanopticQualityMetric,
    ObjectDetection,
    ObjectDetectionMetric,
    ObjectSizeMetric,
)

TABLE = tuple(ClassInfo(name, k, k, (k, k, k)) for k, name in enumerate(("ground", "car", "mast")))
GROUPS = SizeGroups((3, 6))
SHAPES = [(3, 1, 12, 14), (2, 1, 6, 5, 7)]


def flood(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Objects as sets of pixels, by a flood fill in plain Python."""
    left, found = {tuple(pixel) for pixel in np.argwhere(mask).tolist()}, []
    while left:
        queue, component = [min(left)], set()
        left -= {*queue}
        while queue:
            pixel = queue.pop()
            component.add(pixel)
            near = {tuple(np.add(pixel, step).tolist()) for step in itertools.product((-1, 0, 1), repeat=mask.ndim)}
            queue += near & left
            left -= near
        found.append(component)
    return found


def pair(shape: tuple[int, ...], seed: int, *, void: bool = False) -> tuple[Tensor, Tensor]:
    """A label of blobs of two classes of three, and a prediction that misses and adds some pixels."""
    random = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.int64)
    for one in label[:, 0]:
        for k in (1, 2, 1, 2, 1):
            corner = [random.integers(0, side - 1) for side in one.shape]
            one[tuple(slice(c, c + random.integers(1, 4)) for c in corner)] = k
    prediction = np.where(random.random(shape) < 0.12, random.integers(0, 3, shape), label)
    if void:
        label[random.random(shape) < 0.1] = 255
    return torch.from_numpy(prediction), torch.from_numpy(label)


def masks(prediction: Tensor, label: Tensor) -> list[list[tuple[np.ndarray, np.ndarray]]]:
    """For each image and each class but the first: masks of prediction and label without void."""
    return [
        [((one[0] == k).numpy() & (own[0] != 255).numpy(), (own[0] == k).numpy()) for k in (1, 2)]
        for one, own in zip(prediction, label, strict=True)
    ]


def naive_dice(prediction: np.ndarray, label: np.ndarray) -> list[tuple[float, float]]:
    """Smallest and largest Dice of each object: a pixel that is equally near to two objects may go to either."""
    objects, bounds = flood(label), []
    away = {
        pixel: [min(sum((a - b) ** 2 for a, b in zip(pixel, other, strict=True)) for other in part) for part in objects]
        for pixel in np.ndindex(label.shape)
    }
    for j, part in enumerate(objects):
        both = sum(bool(prediction[pixel]) for pixel in part)
        sure = [p for p, apart in away.items() if apart[j] == min(apart) and apart.count(min(apart)) == 1]
        unsure = [p for p, apart in away.items() if apart[j] == min(apart) and apart.count(min(apart)) > 1]
        least = sum(bool(prediction[pixel]) for pixel in sure)
        most = least + sum(bool(prediction[pixel]) for pixel in unsure)
        bounds.append(tuple(2 * both / (predicted + len(part)) for predicted in (most, least)))
    return bounds


@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_component_dice_equals_plain_python(shape: tuple[int, ...], seed: int, void: bool) -> None:
    prediction, label = pair(shape, seed, void=void)
    metric = ComponentDiceMetric(num_classes=3, ignore_index=255)
    values = metric(prediction, label)
    for row, one in zip(values.tolist(), masks(prediction, label), strict=True):
        for value, (predicted, true) in zip(row, one, strict=True):
            bounds = np.array(naive_dice(predicted, true))
            if not len(bounds):
                assert math.isnan(value)
                continue
            assert bounds[:, 0].mean() - 1e-6 <= value <= bounds[:, 1].mean() + 1e-6
    assert metric.aggregate("mean_batch").tolist() == pytest.approx(np.nanmean(values.numpy(), axis=0).tolist())


def test_component_dice_of_hand_made_objects() -> None:
    label = torch.zeros(1, 1, 9, 9)
    label[..., :4, :4] = label[..., 8, 8] = 1
    found = label.clone()
    found[..., 8, 8] = 0
    metric = ComponentDiceMetric()
    assert metric(found, label).item() == 0.5  # one of two, although it is 16 of 17 pixels
    found[..., 8, 7:] = 1
    assert metric(found, label).item() == pytest.approx((1 + 2 / 3) / 2)
    found[..., 0, 8] = 1  # a false positive, equally near to both: in one of two regions
    assert metric(found, label).item() < (1 + 2 / 3) / 2
    metric.reset()
    with pytest.raises(ValueError, match=r"must be called before `aggregate`"):
        metric.aggregate()


@pytest.mark.skipif("per_component" not in inspect.signature(DiceMetric).parameters, reason="an older MONAI")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore:Voronoi")
def test_component_dice_equals_monais_for_one_class(shape: tuple[int, ...]) -> None:
    ours, theirs = ComponentDiceMetric(num_classes=2), DiceMetric(per_component=True, include_background=False)
    for seed in range(5):
        prediction, label = ((x > 0).long() for x in pair(shape, seed))
        one_hot = [torch.cat([1 - x, x], dim=1) for x in (prediction, label)]
        ours(prediction, label), theirs(*one_hot)
        torch.testing.assert_close(ours(*one_hot), ours(prediction, label))
    assert ours.aggregate().item() == pytest.approx(theirs.aggregate().item())


def test_spacing_decides_which_object_is_nearest() -> None:
    label, prediction = torch.zeros(1, 1, 5, 5), torch.zeros(1, 1, 5, 5)
    label[..., 0, 0], label[..., 2, 4] = 1, 1
    prediction[..., 0, 0], prediction[..., 0, 3] = 1, 1  # the second pixel is nearer to the second object
    values = [ComponentDiceMetric()(prediction, label, spacing=spacing).item() for spacing in (None, (9.0, 1.0))]
    assert values == pytest.approx([1 / 2, (2 / 3) / 2])


def naive_panoptic(prediction: np.ndarray, label: np.ndarray, threshold: float) -> tuple[int, int, int, float]:
    predicted, true = flood(prediction), flood(label)
    overlaps = [len(a & b) / len(a | b) for a in true for b in predicted]
    hits = [overlap for overlap in overlaps if overlap > threshold]
    return len(hits), len(predicted) - len(hits), len(true) - len(hits), sum(hits)


@pytest.mark.parametrize("threshold", [0.5, 0.7])
@pytest.mark.parametrize("void", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_panoptic_quality_equals_plain_python(shape: tuple[int, ...], void: bool, threshold: float) -> None:
    metric = ComponentPanopticQualityMetric(
        ("pq", "sq", "rq"), num_classes=3, ignore_index=255, match_iou_threshold=threshold
    )
    totals = np.zeros((2, 4))
    for seed in range(4):
        prediction, label = pair(shape, seed, void=void)
        counts = metric(prediction, label)
        expected = np.array([[naive_panoptic(*both, threshold) for both in one] for one in masks(prediction, label)])
        np.testing.assert_allclose(counts.numpy(), expected, rtol=1e-5)
        totals += expected.sum(axis=0)
    hits, extra, missed, iou = totals.T
    pq, sq, rq = (values.tolist() for values in metric.aggregate())
    assert sq == pytest.approx(iou / hits, rel=1e-4)
    assert rq == pytest.approx(2 * hits / (2 * hits + extra + missed), rel=1e-4)
    assert pq == pytest.approx(np.multiply(sq, rq), rel=1e-4)


def test_panoptic_quality_equals_monais_on_numbered_objects() -> None:
    ours, theirs = ComponentPanopticQualityMetric(num_classes=3), PanopticQualityMetric(num_classes=2)
    for seed in range(4):
        prediction, label = pair((2, 1, 12, 14), seed)
        ours(prediction, label)
        numbered = []
        for x in (prediction, label):
            instances = torch.zeros_like(x)
            for number, one in enumerate(x[:, 0].numpy()):
                parts = [part for k in (1, 2) for part in flood(one == k)]
                for j, part in enumerate(parts, start=1):
                    for pixel in part:
                        instances[number, 0][pixel] = j
            numbered.append(torch.cat([instances, x], dim=1))
        theirs(*numbered)
    torch.testing.assert_close(ours.aggregate(), theirs.aggregate())


@pytest.mark.parametrize("shape", SHAPES)
def test_object_scores_are_those_of_the_ignite_metric(shape: tuple[int, ...]) -> None:
    names = ObjectDetectionMetric.scores
    metric = ObjectDetectionMetric(names, size_groups=GROUPS, num_classes=3, ignore_index=255, min_iou=0.3)
    sizes = ObjectSizeMetric(ObjectSizeMetric.scores, size_groups=GROUPS, num_classes=3, ignore_index=255)
    detection = ObjectDetection(TABLE, size_groups=GROUPS, min_iou=0.3)
    iou = ClassIoU(TABLE, size_groups=GROUPS)
    for seed in range(4):
        prediction, label = pair(shape, seed, void=True)
        logits = torch.nn.functional.one_hot(prediction[:, 0], 3).movedim(-1, 1)
        for own in (metric, sizes):
            own(logits, label)  # one-hot prediction, label of class indices
        for ignite in (detection, iou):
            ignite.update((list(logits.float()), list(label)))
    expected = detection.compute()
    for name, values in zip(names, metric.aggregate("mean_batch"), strict=True):
        assert values.tolist() == pytest.approx([expected[f"{name}/{k}"] for k in ("car", "mast")], nan_ok=True)
    expected = iou.compute()
    for name, values in zip(ObjectSizeMetric.scores, sizes.aggregate("mean_batch"), strict=True):
        for value, k in zip(values.tolist(), ("car", "mast"), strict=True):
            assert math.isnan(value) or value == pytest.approx(expected[f"{name}_objects/{k}"])
    means = metric.aggregate()
    assert means[2].item() == pytest.approx(metric.aggregate("mean_batch")[2].mean().item())


def test_object_scores_of_hand_made_objects() -> None:
    label, found = torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 20)
    label[..., 1:3, 1:3], label[..., 1:3, 10], label[..., 10:14, 10:14] = 1, 1, 1
    found[..., 1:3, 1:3], found[..., 10:14, 10:13], found[..., 18, 0] = 1, 1, 1
    names = ("precision", "recall", "F1", "recall_small", "recall_medium", "recall_large")
    metric = ObjectDetectionMetric(names, size_groups=GROUPS)
    metric(found, label)
    assert [value.item() for value in metric.aggregate()] == pytest.approx([2 / 3, 2 / 3, 2 / 3, 0, 1, 1])
    sizes = ObjectSizeMetric(("recall_small", "recall_large", "IoU_medium"), size_groups=GROUPS)
    sizes(found, label)
    assert [value.item() for value in sizes.aggregate()] == pytest.approx([0, 12 / 16, 1])


def test_sizes_in_millimetres_come_from_the_call_or_from_the_label() -> None:
    label = torch.zeros(1, 1, 8, 8)
    label[..., :2, :2] = 1
    groups = SizeGroups((10, 100), "mm²")
    for affine, spacing in ((torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])), None), (None, (2.0, 3.0))):
        own = label if affine is None else [MetaTensor(label[0], affine=affine)]
        metric = ObjectDetectionMetric(("recall_small", "recall_medium"), size_groups=groups)
        metric(label if affine is None else [label[0]], own, spacing=spacing)
        small, medium = metric.aggregate()
        assert small.isnan() and medium == 1  # 4 pixels of 6 mm²
    with pytest.raises(ValueError, match="needs labels with a spacing"):
        ObjectDetectionMetric(size_groups=groups)(label, label)


METRICS: list[Any] = [ComponentDiceMetric, ComponentPanopticQualityMetric, ObjectDetectionMetric, ObjectSizeMetric]


@pytest.mark.parametrize("build", METRICS)
def test_metrics_plug_into_an_engine(build: Any) -> None:
    prediction, label = pair((2, 1, 12, 14), 0)
    engine = Engine(lambda engine, batch: [{"pred": p, "label": y} for p, y in zip(*batch, strict=True)])
    handler = IgniteMetricHandler(
        build(num_classes=3), output_transform=from_engine(["pred", "label"]), save_details=False
    )
    handler.attach(engine, "score")
    engine.run([(prediction, label), (prediction, label)])
    direct = build(num_classes=3)
    for _ in range(2):
        direct(prediction, label)
    found = torch.as_tensor(engine.state.metrics["score"])
    torch.testing.assert_close(found.double(), direct.aggregate().squeeze().double())


@pytest.mark.parametrize("build", METRICS)
def test_forms_of_labels_give_one_value(build: Any) -> None:
    prediction, label = pair((2, 1, 12, 14), 1)
    one_hot = [torch.nn.functional.one_hot(x[:, 0], 3).movedim(-1, 1) for x in (prediction, label)]
    expected = build(num_classes=3)(prediction, label)
    for forms in (one_hot, (prediction.float(), label.byte()), (MetaTensor(prediction), one_hot[1].float())):
        torch.testing.assert_close(build(num_classes=3)(*forms), expected, equal_nan=True)
    with_background = build(num_classes=3, include_background=True)(prediction, label)
    torch.testing.assert_close(with_background[:, 1:], expected, equal_nan=True)
    alone = build()((prediction == 1).int(), label == 1)
    torch.testing.assert_close(alone, expected[:, :1], equal_nan=True)
    signed = torch.where(label == 2, -1, label)
    assert build(num_classes=3, ignore_index=-1)(prediction, signed).shape == expected.shape


@pytest.mark.parametrize("build", METRICS)
def test_images_without_objects_and_of_void(build: Any) -> None:
    empty, void = torch.zeros(1, 1, 6, 6), torch.full((1, 1, 6, 6), 255)
    metric = build(num_classes=2, ignore_index=255)
    for prediction, label in ((empty, empty), (empty + 1, void)):
        value = metric(prediction, label)
        assert (value.isnan() | (value == 0)).all()
    total = metric.aggregate()
    assert total.isnan().all() or (total == 0).all()


@pytest.mark.parametrize("build", METRICS)
def test_thousands_of_objects_and_one_huge_one(build: Any) -> None:
    label = torch.zeros(1, 1, 128, 128)
    label[..., ::2, ::2] = 1
    for one in (label, torch.ones(1, 1, 128, 128)):
        metric = build()
        metric(one, one)
        assert metric.aggregate().nan_to_num(1).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (ComponentPanopticQualityMetric, {"match_iou_threshold": 0.3}, "`match_iou_threshold` must be from 0.5"),
        (ObjectDetectionMetric, {"min_iou": 0}, "`min_iou` must be above 0"),
        (ObjectDetectionMetric, {"metric_name": "IoU"}, "`metric_name` must be one or several of precision.*got 'IoU'"),
        (ObjectSizeMetric, {"metric_name": ()}, "`metric_name` must be one or several of IoU_small"),
        (ObjectSizeMetric, {"reduction": "none"}, "`reduction` must be 'mean' or 'mean_batch'; got 'none'"),
    ],
)
def test_bad_options_are_refused(build: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


@pytest.mark.parametrize("build", METRICS)
def test_bad_input_is_refused(build: Any) -> None:
    label = torch.zeros(1, 1, 6, 6)
    with pytest.raises(
        ValueError, match=r"must be class indices .* of one size; got \(1, 1, 6, 6\) and \(1, 1, 6, 5\)"
    ):
        build()(label, label[..., :5])
    with pytest.raises(ValueError, match=r"one-hot maps \(B,3,...\)"):
        build(num_classes=3)(torch.zeros(1, 2, 6, 6), label)
    with pytest.raises(ValueError, match=r"`y_pred` must hold 0 and 1; got \[0.5"):
        build()(label + 0.5, label)
    with pytest.raises(ValueError, match=r"`y` must hold classes 0 to 2; got \[255"):
        build(num_classes=3)(label, label + 255)
    with pytest.raises(TypeError, match="`y` must be a torch tensor"):
        build()(label)


def test_scores_need_images() -> None:
    with pytest.raises(ValueError, match="must be called before `aggregate`"):
        ObjectDetectionMetric().aggregate()
