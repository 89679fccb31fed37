"""MONAI metrics of objects equal a flood fill and counting in plain Python, and MONAI's own metrics."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import IgniteMetricHandler, from_engine
from monai.metrics import DiceMetric, PanopticQualityMetric
from torch import Tensor

from _helpers.flood_fill import flood
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
from afma_med.metrics.object_matches import match_objects

TABLE = tuple(ClassInfo(name, k, k, (k, k, k)) for k, name in enumerate(("ground", "car", "mast")))
GROUPS = SizeGroups((3, 6))
SHAPES = [(3, 1, 12, 14), (2, 1, 6, 5, 7)]
METRICS: list[Any] = [ComponentDiceMetric, ComponentPanopticQualityMetric, ObjectDetectionMetric, ObjectSizeMetric]


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


def one_hot(x: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(x[:, 0], 3).movedim(-1, 1)


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


@pytest.mark.skipif("per_component" not in inspect.signature(DiceMetric).parameters, reason="an older MONAI")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.filterwarnings("ignore:Voronoi")
def test_component_dice_equals_monais_for_one_class(shape: tuple[int, ...]) -> None:
    ours, theirs = ComponentDiceMetric(num_classes=2), DiceMetric(per_component=True, include_background=False)
    for seed in range(5):
        prediction, label = ((x > 0).long() for x in pair(shape, seed))
        ours(prediction, label), theirs(*(torch.cat([1 - x, x], dim=1) for x in (prediction, label)))
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
def test_panoptic_counts_equal_plain_python(shape: tuple[int, ...], void: bool, threshold: float) -> None:
    metric = ComponentPanopticQualityMetric(num_classes=3, ignore_index=255, match_iou_threshold=threshold)
    for seed in range(4):
        prediction, label = pair(shape, seed, void=void)
        expected = [[naive_panoptic(*both, threshold) for both in one] for one in masks(prediction, label)]
        np.testing.assert_allclose(metric(prediction, label).numpy(), np.array(expected), rtol=1e-5)


def test_panoptic_quality_equals_monais_on_numbered_objects() -> None:
    names = ("pq", "sq", "rq")
    ours, theirs = ComponentPanopticQualityMetric(names, num_classes=3), PanopticQualityMetric(2, names)
    for seed in range(4):
        prediction, label = pair((2, 1, 12, 14), seed)
        ours(prediction, label)
        numbered = []
        for x in (prediction, label):
            instances = torch.zeros_like(x)
            for number, one in enumerate(x[:, 0].numpy()):
                for j, part in enumerate([part for k in (1, 2) for part in flood(one == k)], start=1):
                    for pixel in part:
                        instances[number, 0][pixel] = j
            numbered.append(torch.cat([instances, x], dim=1))
        theirs(*numbered)
    torch.testing.assert_close(ours.aggregate(), theirs.aggregate())


@pytest.mark.parametrize("shape", SHAPES)
def test_scores_are_those_of_the_ignite_metrics(shape: tuple[int, ...]) -> None:
    names = ObjectDetectionMetric.scores
    metric = ObjectDetectionMetric(names, size_groups=GROUPS, num_classes=3, ignore_index=255, min_iou=0.3)
    sizes = ObjectSizeMetric(ObjectSizeMetric.scores, size_groups=GROUPS, num_classes=3, ignore_index=255)
    detection, iou = ObjectDetection(TABLE, size_groups=GROUPS, min_iou=0.3), ClassIoU(TABLE, size_groups=GROUPS)
    for seed in range(4):
        prediction, label = pair(shape, seed, void=True)
        for own in (metric, sizes):
            own(one_hot(prediction), label)
        for ignite in (detection, iou):
            ignite.update((list(one_hot(prediction).float()), list(label)))
    expected = detection.compute()
    for name, values in zip(names, metric.aggregate("mean_batch"), strict=True):
        assert values.tolist() == pytest.approx([expected[f"{name}/{k}"] for k in ("car", "mast")], nan_ok=True)
    expected = iou.compute()
    for name, values in zip(ObjectSizeMetric.scores, sizes.aggregate("mean_batch"), strict=True):
        for value, k in zip(values.tolist(), ("car", "mast"), strict=True):
            assert math.isnan(value) or value == pytest.approx(expected[f"{name}_objects/{k}"])
    assert metric.aggregate()[2].item() == pytest.approx(metric.aggregate("mean_batch")[2].mean().item())


def mask(text: str) -> np.ndarray:
    return np.array([[c == "1" for c in line] for line in text.split()])


@pytest.mark.parametrize(
    ("label", "prediction", "min_iou", "matched_label", "matched_prediction"),
    [
        (".11 .11", ".11 .1.", 0.5, [1], [1]),  # 3 of 4 pixels
        (".11 .11", ".11 .1.", 0.8, [0], [0]),
        ("1111111", "111.111", 0.5, [0], [0, 0]),  # neither half reaches half of the whole
        ("1111111", "111.111", 0.4, [1], [1, 0]),  # one half is matched, the other one is too many
        ("11.11 11.11", "11111 11111", 0.4, [1, 0], [1]),  # the one object is matched once
        ("1.. .1. ..1", "1.. .1. ...", 0.5, [1], [1]),  # three pixels in a diagonal are one object
        ("111111. ....... 11.....", "1.1111. ....... 1......", 0.1, [1, 1], [0, 1, 1]),  # the best overlap first
        ("...", "...", 0.5, [], []),
    ],
)
def test_matches_by_hand(
    label: str, prediction: str, min_iou: float, matched_label: list[int], matched_prediction: list[int]
) -> None:
    sizes, matched = match_objects(mask(label), mask(prediction), min_iou=min_iou)
    assert [x.tolist() for x in matched] == [matched_label, matched_prediction]
    assert [x.tolist() for x in sizes] == [[len(part) for part in flood(mask(x))] for x in (label, prediction)]


@given(st.integers(0, 2**32 - 1))
def test_matches_equal_all_pairs(seed: int) -> None:
    """Above half an overlap, a match is unique: compare with every pair of flood-filled objects."""
    rng = np.random.default_rng(seed)
    label = rng.random((7, 8)) < 0.4
    prediction = label ^ (rng.random((7, 8)) < 0.1)
    objects = [flood(x) for x in (label, prediction)]
    expected = sum(len(a & b) / len(a | b) > 0.5 for a in objects[0] for b in objects[1])
    sizes, matched = match_objects(label, prediction, min_iou=0.5 + 1e-9)
    assert [len(x) for x in sizes] == [len(x) for x in objects]
    assert [int(x.sum()) for x in matched] == [expected, expected]


def test_scores_of_hand_made_objects() -> None:
    label, found = torch.zeros(1, 1, 20, 20), torch.zeros(1, 1, 20, 20)
    label[..., 1:3, 1:3], label[..., 1:3, 10], label[..., 10:14, 10:14] = 1, 1, 1
    found[..., 1:3, 1:3], found[..., 10:14, 10:13], found[..., 18, 0] = 1, 1, 1
    metric = ObjectDetectionMetric(ObjectDetectionMetric.scores, size_groups=GROUPS)
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


@pytest.mark.parametrize("build", METRICS)
def test_metrics_plug_into_an_engine(build: Any) -> None:
    prediction, label = pair((2, 1, 12, 14), 0)
    engine = Engine(lambda engine, batch: [{"pred": p, "label": y} for p, y in zip(*batch, strict=True)])
    transform = from_engine(["pred", "label"])
    IgniteMetricHandler(build(num_classes=3), output_transform=transform, save_details=False).attach(engine, "score")
    engine.run([(prediction, label), (prediction, label)])
    direct = build(num_classes=3)
    for _ in range(2):
        direct(prediction, label)
    found = torch.as_tensor(engine.state.metrics["score"])
    torch.testing.assert_close(found.double(), direct.aggregate().squeeze().double())


@pytest.mark.parametrize("build", METRICS)
def test_forms_of_labels_give_one_value(build: Any) -> None:
    prediction, label = pair((2, 1, 12, 14), 1)
    expected = build(num_classes=3)(prediction, label)
    coded = one_hot(prediction), one_hot(label)
    for forms in (coded, (prediction.float(), label.byte()), (MetaTensor(prediction), coded[1].float())):
        torch.testing.assert_close(build(num_classes=3)(*forms), expected, equal_nan=True)
    with_background = build(num_classes=3, include_background=True)(prediction, label)
    torch.testing.assert_close(with_background[:, 1:], expected, equal_nan=True)
    alone = build()((prediction == 1).int(), label == 1)
    torch.testing.assert_close(alone, expected[:, :1], equal_nan=True)
    signed = torch.where(label == 2, -1, label)
    assert build(num_classes=3, ignore_index=-1)(prediction, signed).shape == expected.shape


@pytest.mark.parametrize("build", METRICS)
def test_images_without_objects_of_void_and_of_thousands_of_objects(build: Any) -> None:
    empty, void = torch.zeros(1, 1, 6, 6), torch.full((1, 1, 6, 6), 255)
    metric = build(num_classes=2, ignore_index=255)
    for prediction, label in ((empty, empty), (empty + 1, void)):
        value = metric(prediction, label)
        assert (value.isnan() | (value == 0)).all()
    total = metric.aggregate()
    assert total.isnan().all() or (total == 0).all()
    many = torch.zeros(1, 1, 128, 128)
    many[..., ::2, ::2] = 1
    for one in (many, torch.ones(1, 1, 128, 128)):
        metric = build()
        metric(one, one)
        assert metric.aggregate().nan_to_num(1).item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("build", "options", "message"),
    [
        (ComponentPanopticQualityMetric, {"match_iou_threshold": 0.3}, "`match_iou_threshold` .*got 0.3"),
        *((ObjectDetectionMetric, {"min_iou": value}, f"`min_iou` .*got {value}") for value in (0, 1.5, -1)),
        (ObjectDetectionMetric, {"metric_name": "IoU"}, "`metric_name` must be one or several of precision.*got 'IoU'"),
        (ObjectSizeMetric, {"metric_name": ()}, "`metric_name` must be one or several of IoU_small"),
        (ObjectSizeMetric, {"reduction": "none"}, "`reduction` must be 'mean' or 'mean_batch'; got 'none'"),
    ],
)
def test_bad_options_are_refused(build: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


LABEL = torch.zeros(1, 1, 6, 6)


@pytest.mark.parametrize("build", METRICS)
@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, (LABEL, LABEL[..., :5]), r"must be class indices .*; got \(1, 1, 6, 6\) and \(1, 1, 6, 5\)"),
        ({"num_classes": 3}, (torch.zeros(1, 2, 6, 6), LABEL), r"one-hot maps \(B,3,...\)"),
        ({}, (LABEL + 0.5, LABEL), r"`y_pred` must hold 0 and 1; got \[0.5"),
        ({"num_classes": 3}, (LABEL, LABEL + 255), r"`y` must hold classes 0 to 2; got \[255"),
        ({}, (LABEL,), "`y` must be a torch tensor"),
    ],
)
def test_bad_input_is_refused(build: Any, options: dict[str, Any], given: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        build(**options)(*given)


@pytest.mark.parametrize("build", [ComponentDiceMetric, ObjectDetectionMetric])
def test_scores_need_images(build: Any) -> None:
    with pytest.raises(ValueError, match="must be called before `aggregate`"):
        build().aggregate()
