"""Scores by object size, by company and of whole objects equal a flood fill and counting in plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine
from monai.metrics import DiceMetric, SurfaceDistanceMetric

from afma_med.data.class_table import ClassInfo
from afma_med.data.object_sizes import SIZES, SizeGroups, count_objects, group_pixels, label_objects
from afma_med.handlers import ScoreReportHandler
from afma_med.metrics import ClassIoU, ObjectDetection, PerClassMetric
from afma_med.metrics.object_matches import match_objects
from afma_med.metrics.pixel_counts import COMPANY

TABLE = (
    ClassInfo("ground", 0, 0, (0, 0, 0)),
    ClassInfo("car", 1, 1, (1, 1, 1), "large"),
    ClassInfo("mast", 2, 2, (2, 2, 2), "small"),
    ClassInfo("unlabelled", 3, 3, (3, 3, 3)),
)
GROUPS = SizeGroups((3, 6))  # small 1-2, medium 3-6, large 7 and more


def grid(text: str) -> list[list[int]]:
    """Digits of a picture; ``.`` is class 0, ``x`` void."""
    return [[255 if c == "x" else int(c.replace(".", "0")) for c in line] for line in text.split()]


# Touching objects of two classes, objects that touch at a corner only, one that the prediction splits, two that it
# merges into a larger size, void and unlabelled pixels, a class that is in neither.
HAND_MADE = {
    "touching": (".112 .112 .... ..2.", ".112 .122 .... ...."),
    "corner": ("1... .1.. ..1. ....", "1... .1.. .... ...."),
    "split": ("1111111 ....... .......", "111.111 ....... ......."),
    "merged": ("11.11.. 11.11.. .......", "11111.. 11111.. ......."),
    "void": ("11x22.. 11x22.3 11x..33", "1112211 11.2211 11...11"),
    "absent": ("....... .......", "...2... ......."),
}


def as_arrays(name: str) -> tuple[np.ndarray, np.ndarray]:
    label, prediction = (np.array(grid(text)) for text in HAND_MADE[name])
    return label, prediction


def logits_of(prediction: np.ndarray, classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), classes).movedim(-1, 0).float()


def components(values: dict[tuple[int, ...], int]) -> Iterator[tuple[int, set[tuple[int, ...]]]]:
    """(class, pixels) of each connected component, corners touching, by flood fill."""
    left = set(values)
    while left:
        start = min(left)
        k, front, found = values[start], [start], {start}
        while front:
            pixel = front.pop()
            for step in itertools.product((-1, 0, 1), repeat=len(start)):
                other = tuple(a + b for a, b in zip(pixel, step, strict=True))
                if other in left and other not in found and values[other] == k:
                    found.add(other)
                    front.append(other)
        left -= found
        yield k, found


def size_of(pixels: int) -> str:
    return "small" if pixels < 3 else "large" if pixels > 6 else "medium"


def strata(array: np.ndarray, counted: set[tuple[int, ...]]) -> dict[tuple[int, ...], tuple[int, str]]:
    """(class, size) of each pixel that counts."""
    values = {pixel: int(array[pixel]) for pixel in counted}
    return {pixel: (k, size_of(len(found))) for k, found in components(values) for pixel in found}


def by_hand(pairs: list[tuple[np.ndarray, np.ndarray]], *, skip: tuple[int, ...]) -> dict[str, float]:
    """IoU and recall of each class and size over all pairs, in sets of pixels."""
    truth: dict[tuple[int, str], set] = {}
    guess: dict[tuple[int, str], set] = {}
    for number, (label, prediction) in enumerate(pairs):
        counted = {tuple(map(int, pixel)) for pixel in np.argwhere(~np.isin(label, skip))}
        for array, found in ((label, truth), (prediction, guess)):
            for pixel, stratum in strata(array, counted).items():
                found.setdefault(stratum, set()).add((number, *pixel))
    scores = company_by_hand(pairs, skip=skip)
    for k, name in enumerate(("ground", "car", "mast")):
        of_class = set().union(*(guess.get((k, size), set()) for size in SIZES))
        for size in SIZES:
            t, g = truth.get((k, size), set()), guess.get((k, size), set())
            scores[f"IoU_{size}_objects/{name}"] = len(t & g) / len(t | g) if t | g else math.nan
            scores[f"recall_{size}_objects/{name}"] = len(t & of_class) / len(t) if t else math.nan
    for size, score in itertools.product(SIZES, ("IoU", "recall")):
        names = [name for k, name in enumerate(("ground", "car", "mast")) if truth.get((k, size))]
        values = [scores[f"{score}_{size}_objects/{name}"] for name in names]
        scores[f"{score}_by_size/{size}"] = sum(values) / len(values) if values else math.nan
    return scores


def company_by_hand(pairs: list[tuple[np.ndarray, np.ndarray]], *, skip: tuple[int, ...]) -> dict[str, float]:
    """IoU and recall of each class over the images with one object of it, and over those with several."""
    scores: dict[str, float] = {}
    for which in COMPANY:
        values: dict[str, list[float]] = {"IoU": [], "recall": []}
        for k, name in enumerate(("ground", "car", "mast")):
            both = either = true = 0
            for label, prediction in pairs:
                counted = [tuple(map(int, pixel)) for pixel in np.argwhere(~np.isin(label, skip))]
                own = [pixel for pixel in counted if label[pixel] == k]
                objects = len(list(components(dict.fromkeys(own, k))))
                if objects == 0 or (objects == 1) != (which == "lone"):
                    continue
                both += sum(prediction[pixel] == k for pixel in own)
                either += sum(prediction[pixel] == k or label[pixel] == k for pixel in counted)
                true += len(own)
            for score, total in (("IoU", either), ("recall", true)):
                scores[f"{score}_{which}_objects/{name}"] = both / total if total else math.nan
                values[score] += [both / total] if total else []
        for score, known in values.items():
            scores[f"{score}_by_company/{which}"] = sum(known) / len(known) if known else math.nan
    return scores


def computed(pairs: list[tuple[np.ndarray, np.ndarray]], **options: object) -> dict[str, float]:
    metric = ClassIoU(TABLE, unscored=("unlabelled",), size_groups=GROUPS, **options)
    for label, prediction in pairs:
        metric.update(([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    return metric.compute()


@pytest.mark.parametrize(("count_unscored", "skip"), [(False, (255, 3)), (True, (255,))])
@pytest.mark.parametrize("names", [*((name,) for name in HAND_MADE), tuple(HAND_MADE)], ids="+".join)
def test_scores_by_size_equal_counting_by_hand(
    names: tuple[str, ...], count_unscored: bool, skip: tuple[int, ...]
) -> None:
    pairs = [as_arrays(name) for name in names]
    found = computed(pairs, count_unscored_pixels=count_unscored)
    expected = by_hand(pairs, skip=skip)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_merged_objects_count_as_large_in_the_prediction_and_as_found_in_the_recall() -> None:
    found = computed([as_arrays("merged")])
    assert found["IoU_medium_objects/car"] == 0, "two cars of 4 pixels are predicted as one of 10"
    assert found["recall_medium_objects/car"] == 1
    assert math.isnan(found["recall_large_objects/car"])
    assert found["IoU_large_objects/car"] == 0
    assert found["IoU/car"] == pytest.approx(8 / 10), "sizes change nothing in the score of the class"


def test_background_has_no_objects() -> None:
    """Its pieces are the holes between objects: a mean with them says little of the objects."""
    table = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 1, 1, (255, 0, 0)))
    label, prediction = np.array([[0, 1, 0, 1, 1]]), np.array([[0, 1, 1, 1, 0]])
    metric = ClassIoU(table, size_groups=GROUPS)
    metric.update(([logits_of(prediction, classes=2)], [torch.from_numpy(label)[None]]))
    found = metric.compute()
    for score in ("IoU", "recall"):
        assert not math.isnan(found[f"{score}_small_objects/background"])
        assert found[f"{score}_by_size/small"] == found[f"{score}_small_objects/lesion"]
        assert found[f"{score}_by_company/accompanied"] == found[f"{score}_accompanied_objects/lesion"]
    assert found["mIoU"] == pytest.approx((found["IoU/background"] + found["IoU/lesion"]) / 2)


@given(st.integers(0, 2**32 - 1))
def test_scores_by_size_equal_counting_on_random_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(1, 7, size=rng.integers(2, 4)))
    label, prediction = rng.choice([0, 1, 2, 3, 255], shape), rng.choice([0, 1, 2, 3], shape)
    other = rng.choice([0, 1, 2, 3, 255], (3, 4)), rng.choice([0, 1, 2, 3], (3, 4))
    expected = by_hand([(label, prediction), other], skip=(255, 3))
    found = computed([(label, prediction), other])
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_lone_objects_are_those_of_the_images_where_they_are_alone() -> None:
    alone, two = as_arrays("split"), as_arrays("merged")  # one car, then two
    nothing = np.zeros((2, 2), dtype=np.int64), np.ones((2, 2), dtype=np.int64)
    found = computed([alone, two, nothing])
    assert found["IoU_lone_objects/car"] == pytest.approx(6 / 7)
    assert found["IoU_accompanied_objects/car"] == pytest.approx(8 / 10)
    assert found["IoU/car"] == pytest.approx(14 / 21), "cars in an image without cars count for the class alone"
    assert math.isnan(found["IoU_lone_objects/mast"])
    assert {name.split("/")[1] for name in found if "_by_company/" in name} == set(COMPANY)


@given(st.integers(0, 2**32 - 1))
def test_objects_equal_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, size=rng.integers(1, 8, size=rng.integers(2, 4))).astype(np.uint8)
    numbers = label_objects(label)
    expected = {
        frozenset(pixels)
        for _, pixels in components({tuple(map(int, i)): label[tuple(i)] for i in np.argwhere(label < 9)})
    }
    found = {frozenset(tuple(map(int, i)) for i in np.argwhere(numbers == n)) for n in np.unique(numbers)}
    assert found == expected
    assert numbers.min() == 1


def test_counts_of_objects_by_size_and_class() -> None:
    label = np.array(grid("1111111 ......2 22....2 x......"))
    assert count_objects(label, 3, groups=GROUPS).tolist() == [[0, 0, 1], [0, 0, 1], [2, 0, 0]]


def test_sizes_in_millimetres_depend_on_the_spacing() -> None:
    label = np.zeros((4, 5, 6), dtype=np.uint8)
    label[1:3, 1:3, 1:3] = 1  # 8 voxels of 3 mm³
    groups = SizeGroups((10, 30), "mm³")
    assert group_pixels(label, groups, spacing=(1, 1.5, 2))[1, 1, 1] == 1
    assert group_pixels(label, groups, spacing=(1, 1, 1))[1, 1, 1] == 0
    affine = torch.diag(torch.tensor([1, 1.5, 2, 1], dtype=torch.float64))
    metric = ClassIoU(TABLE, size_groups=groups)
    metric.update(([logits_of(label)], [MetaTensor(torch.from_numpy(label)[None], affine=affine)]))
    assert metric.compute()["IoU_medium_objects/car"] == 1


@pytest.mark.parametrize(("unit", "axes"), [("mm²", 2), ("mm³", 3)])
def test_sizes_in_millimetres_need_a_spacing(unit: str, axes: int) -> None:
    label = np.zeros((2,) * axes, dtype=np.uint8)
    with pytest.raises(
        ValueError, match=f"`unit` '{unit}' needs labels with a spacing along {axes} axes; got spacing None"
    ):
        group_pixels(label, SizeGroups((1, 2), unit))
    other = np.zeros((2,) * (5 - axes), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"needs labels with a spacing along {axes} axes"):
        count_objects(other, 1, groups=SizeGroups((1, 2), unit), spacing=(1,) * (5 - axes))


@pytest.mark.parametrize("bounds", [(5, 3), (0, 3), (1,), (1, 2, 3)])
def test_bounds_that_are_none_are_refused(bounds: tuple) -> None:
    with pytest.raises(ValueError, match=r"`bounds` must be two numbers above zero, the smaller one first; got \("):
        SizeGroups(bounds)


def test_unknown_unit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`unit` must be one of .*got 'inches'"):
        SizeGroups((1, 2), "inches")


def test_sizes_only_every_few_epochs_and_nothing_stale_between() -> None:
    label, prediction = as_arrays("touching")

    def step(engine: Engine, batch: int) -> tuple:
        return [logits_of(prediction)], [torch.from_numpy(label)[None]]

    engine = Engine(step)
    ClassIoU(TABLE, unscored=("unlabelled",), size_groups=GROUPS, size_interval=2).attach(engine, "val/mIoU")
    names: list[set[str]] = []
    engine.add_event_handler("EPOCH_COMPLETED", lambda engine: names.append(set(engine.state.metrics)))
    engine.run([0], max_epochs=3)
    for part in ("_by_size/", "_by_company/", "_objects/"):
        assert [any(part in name for name in each) for each in names] == [False, True, False]
    assert all("val_IoU/car" in each for each in names)


def test_interval_must_be_positive() -> None:
    with pytest.raises(ValueError, match="`size_interval` must be a positive int; got 0"):
        ClassIoU(TABLE, size_interval=0)


def test_counts_of_images_sum_to_the_set() -> None:
    metric = ClassIoU(TABLE, unscored=("unlabelled",), size_groups=GROUPS)
    for name in HAND_MADE:
        label, prediction = as_arrays(name)
        metric.update(([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    label, prediction, both, covered = sum(metric.images).double().unbind(-1)
    scores = metric.compute()
    for k, name in enumerate(metric.class_names[:3]):
        assert (both / (label + prediction - both))[k, 0].item() == pytest.approx(scores[f"IoU/{name}"])
        assert (covered / label)[k, 1].item() == pytest.approx(scores[f"recall_small_objects/{name}"], nan_ok=True)


def detect(pairs: list[tuple[np.ndarray, np.ndarray]], **options: object) -> dict[str, float]:
    metric = ObjectDetection(TABLE, size_groups=GROUPS, **options)
    for label, prediction in pairs:
        metric.update(([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    return metric.compute()


@pytest.mark.parametrize(
    ("name", "min_iou", "precision", "recall", "f1"),
    [
        ("touching", 0.5, 1, 1, 1),  # 3 of 4 pixels of the car
        ("touching", 0.8, 0, 0, 0),
        ("split", 0.5, 0, 0, 0),  # neither half reaches half of the whole
        ("split", 0.4, 1 / 2, 1, 2 / 3),  # one half is matched, the other one is too many
        ("merged", 0.4, 1, 1 / 2, 2 / 3),  # the one object is matched once
        ("corner", 0.5, 1, 1, 1),  # three pixels in a diagonal are one object
    ],
)
def test_found_objects_by_hand(name: str, min_iou: float, precision: float, recall: float, f1: float) -> None:
    found = detect([as_arrays(name)], min_iou=min_iou)
    assert (found["precision/car"], found["recall/car"], found["F1/car"]) == pytest.approx((precision, recall, f1))


def test_objects_of_the_set_are_counted_not_averaged_and_by_size() -> None:
    found = detect([as_arrays(name) for name in ("touching", "split", "absent")])
    assert found["recall/car"] == pytest.approx(1 / 2)
    assert found["recall_medium/car"] == 1
    assert found["recall_large/car"] == 0
    assert math.isnan(found["recall_small/car"])
    # Masts: in "touching", one of 2 pixels and one of 1 pixel are predicted as one of 3; in "absent", one is predicted.
    assert found["precision/mast"] == pytest.approx(1 / 2)
    assert found["recall/mast"] == pytest.approx(1 / 2)


def test_objects_on_void_are_left_out() -> None:
    label, prediction = np.array(grid("xx.. xx.. ....")), np.array(grid("11.. 11.. ...."))
    assert math.isnan(detect([(label, prediction)])["precision/car"])


def test_class_without_objects_has_no_value() -> None:
    found = detect([(np.zeros((2, 2), int), np.zeros((2, 2), int))])
    assert all(math.isnan(found[name]) for name in ("precision/car", "recall/car", "F1/car"))


@pytest.mark.parametrize("min_iou", [0, 1.5, -1])
def test_overlap_out_of_range_is_refused(min_iou: float) -> None:
    with pytest.raises(ValueError, match="`min_iou` must be above 0 and at most 1; got"):
        ObjectDetection(TABLE, min_iou=min_iou)


def test_best_overlap_is_matched_first() -> None:
    label, prediction = np.array(grid("111111. ....... 11.....")) > 0, np.array(grid("1.1111. ....... 1......")) > 0
    sizes, matched = match_objects(label, prediction, min_iou=0.1)
    assert [x.tolist() for x in sizes] == [[6, 2], [1, 4, 1]]
    assert [x.tolist() for x in matched] == [[True, True], [False, True, True]]


@given(st.integers(0, 2**32 - 1))
def test_matches_equal_all_pairs(seed: int) -> None:
    """Above half an overlap, a match is unique: compare with every pair of flood-filled objects."""
    rng = np.random.default_rng(seed)
    label = rng.random((7, 8)) < 0.4
    prediction = label ^ (rng.random((7, 8)) < 0.1)
    objects = [
        [pixels for k, pixels in components({tuple(map(int, i)): int(x[tuple(i)]) for i in np.argwhere(x | True)}) if k]
        for x in (label, prediction)
    ]
    expected = sum(len(a & b) / len(a | b) > 0.5 for a in objects[0] for b in objects[1])
    sizes, matched = match_objects(label, prediction, min_iou=0.5 + 1e-9)
    assert [len(x) for x in sizes] == [len(x) for x in objects]
    assert [int(x.sum()) for x in matched] == [expected, expected]


def cubes(*corners: tuple[int, int, int]) -> np.ndarray:
    """A volume with a cube of 3×3×3 of class 1 at each corner."""
    volume = np.zeros((8, 8, 8), dtype=np.uint8)
    for x, y, z in corners:
        volume[x : x + 3, y : y + 3, z : z + 3] = 1
    return volume


def test_dice_of_volumes_is_the_mean_over_those_that_have_the_class() -> None:
    metric = PerClassMetric(DiceMetric(include_background=True), TABLE)
    pairs = [(cubes((0, 0, 0)), cubes((0, 0, 1))), (cubes((0, 0, 0)), cubes((0, 0, 0))), (cubes(), cubes((1, 1, 1)))]
    for label, prediction in pairs:
        metric.update(([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    assert metric.compute()["car"] == pytest.approx((2 * 18 / 54 + 1) / 2)
    assert math.isnan(metric.compute()["mast"])
    assert {name: len(values) for name, values in metric.per_image().items()} == {"car": 3, "mast": 3, "unlabelled": 3}


def test_surface_distance_is_in_millimetres_and_without_missed_objects() -> None:
    distance = SurfaceDistanceMetric(include_background=True, symmetric=True)
    metric = PerClassMetric(distance, TABLE, use_spacing=True)
    affine = torch.diag(torch.tensor([1, 1, 5, 1], dtype=torch.float64))
    line = np.zeros((3, 3, 9), dtype=np.uint8)
    line[1, 1, 2] = 1
    moved = np.roll(line, 2, axis=2)
    for label, prediction in ((line, moved), (line, np.zeros_like(line))):
        metric.update(([logits_of(prediction)], [MetaTensor(torch.from_numpy(label)[None], affine=affine)]))
    assert metric.compute()["car"] == pytest.approx(10), (
        "two voxels of 5 mm; the volume without a prediction is left out"
    )
    assert metric.per_image()["car"][1] == math.inf


def test_attached_they_leave_named_scalars() -> None:
    label, prediction = as_arrays("touching")

    def step(engine: Engine, batch: int) -> tuple:
        return [logits_of(prediction)], [torch.from_numpy(label)[None]]

    engine = Engine(step)
    ObjectDetection(TABLE).attach(engine, "val_object")
    PerClassMetric(DiceMetric(include_background=True), TABLE).attach(engine, "val_Dice")
    metrics = engine.run([0]).metrics
    assert {"val_object_F1/car", "val_object_recall_small/mast", "val_Dice/car"} <= set(metrics)
    assert all(isinstance(value, float) for value in metrics.values())


def score_part(rank: int, processes: int, folder: Path) -> None:
    """Score this process's part of the hand-made pairs, uneven parts, and write the report."""
    if processes > 1:
        meeting = f"file://{folder.parent}/meeting"
        torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=processes)
        idist.get_rank()
    names = list(HAND_MADE)
    parts = {1: [names], 2: [names[:4], names[4:]], 3: [names[:4], names[4:5], names[5:]]}

    def step(engine: Engine, name: str) -> list[dict]:
        label, prediction = as_arrays(name)
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


def test_scores_of_objects_leave_out_the_background_wherever_it_stands() -> None:
    usual = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("cell", 1, 1, (1, 1, 1)))
    swapped = tuple(info._replace(name=name) for info, name in zip(usual, ("cell", "Background"), strict=True))
    label = torch.tensor([grid("11..1 11... ....x 1.111")])
    logits = torch.tensor([grid("11... 11..1 ....1 1.11.")]).float()
    first = (torch.cat([0.5 - logits, logits]), label)
    second = (first[0].flip(0), torch.where(label == 255, label, 1 - label))
    for make in (ObjectDetection, lambda table: PerClassMetric(DiceMetric(include_background=True), table)):
        found = []
        for table, (prediction, target) in ((usual, first), (swapped, second)):
            metric = make(table)
            metric.update(([prediction], [target]))
            found.append(metric.compute())
        assert found[0].keys() == found[1].keys() and all("ackground" not in name for name in found[0])
        assert found[0] == pytest.approx(found[1], nan_ok=True)
        assert 0 < next(iter(found[0].values())) < 1
