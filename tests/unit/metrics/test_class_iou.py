"""IoU by class, by object size and by company equals counting sets of pixels in plain Python."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from ignite.engine import Engine
from monai.data import MetaTensor

from _helpers.flood_fill import flood
from afma_med.data import CAMVID
from afma_med.data.class_table import ClassInfo
from afma_med.data.objects.sizes import SIZES, SizeGroups, count_objects, group_pixels, label_objects
from afma_med.metrics import ClassIoU
from afma_med.metrics.pixel_counts import COMPANY

TABLE = (
    ClassInfo("ground", 0, 0, (0, 0, 0)),
    ClassInfo("car", 1, 1, (1, 1, 1), "large"),
    ClassInfo("mast", 2, 2, (2, 2, 2), "small"),
    ClassInfo("unlabelled", 3, 3, (3, 3, 3)),
)
NAMES = ("ground", "car", "mast")
GROUPS = SizeGroups((3, 6))  # small 1-2, medium 3-6, large 7 and more
Pair = tuple[np.ndarray, np.ndarray]


def grid(text: str) -> np.ndarray:
    """Digits of a picture; ``.`` is class 0, ``x`` void."""
    return np.array([[255 if c == "x" else int(c.replace(".", "0")) for c in line] for line in text.split()])


# Touching objects of two classes, objects that touch at a corner only, one that the prediction splits, two that it
# merges into a larger size, void and unlabelled pixels, a class that is in neither.
HAND_MADE = {
    "touching": (grid(".112 .112 .... ..2."), grid(".112 .122 .... ....")),
    "corner": (grid("1... .1.. ..1. ...."), grid("1... .1.. .... ....")),
    "split": (grid("1111111 ....... ......."), grid("111.111 ....... .......")),
    "merged": (grid("11.11.. 11.11.. ......."), grid("11111.. 11111.. .......")),
    "void": (grid("11x22.. 11x22.3 11x..33"), grid("1112211 11.2211 11...11")),
    "absent": (grid("....... ......."), grid("...2... .......")),
}


def logits_of(prediction: np.ndarray, num_classes: int = 4) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.from_numpy(prediction).long(), num_classes).movedim(-1, 0).float()


def measured(pairs: list[Pair], table: tuple[ClassInfo, ...] = TABLE, **options: object) -> ClassIoU:
    metric = ClassIoU(table, **options)
    for label, prediction in pairs:
        metric.update(([logits_of(prediction, len(table))], [torch.from_numpy(label)[None]]))
    return metric


def computed(pairs: list[Pair], **options: object) -> dict[str, float]:
    return measured(pairs, unscored=("unlabelled",), size_groups=GROUPS, **options).compute()


def ratio(part: set, whole: set) -> float:
    return len(part) / len(whole) if whole else math.nan


def mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def sizes_of(mask: np.ndarray) -> dict[str, set]:
    """The pixels of a mask by the size of their object."""
    found: dict[str, set] = {size: set() for size in SIZES}
    for pixels in flood(mask):
        found["small" if len(pixels) < 3 else "large" if len(pixels) > 6 else "medium"] |= pixels
    return found


def by_hand(pairs: list[Pair], *, skip: tuple[int, ...]) -> dict[str, float]:
    """All scores from sets of (image, pixel)."""
    scores: dict[str, float] = {}
    truths: dict[tuple[str, str], set] = {}
    for k, name in enumerate(NAMES):
        truth, guess = ({which: set() for which in (*SIZES, *COMPANY)} for _ in range(2))
        true, predicted = set(), set()
        for number, (label, prediction) in enumerate(pairs):
            counted = ~np.isin(label, skip)
            of_label, of_guess = ((x == k) & counted for x in (label, prediction))
            for found, mask in ((truth, of_label), (guess, of_guess)):
                for size, pixels in sizes_of(mask).items():
                    found[size] |= {(number, *pixel) for pixel in pixels}
            own, other = ({(number, *pixel) for pixel in np.argwhere(x).tolist()} for x in (of_label, of_guess))
            true, predicted = true | own, predicted | other
            objects = len(flood(of_label))
            if objects:
                which = COMPANY[int(objects > 1)]
                truth[which], guess[which] = truth[which] | own, guess[which] | other
        scores[f"IoU/{name}"] = ratio(true & predicted, true | predicted)
        for which in (*SIZES, *COMPANY):
            truths[which, name] = truth[which]
            scores[f"IoU_{which}_objects/{name}"] = ratio(truth[which] & guess[which], truth[which] | guess[which])
            scores[f"recall_{which}_objects/{name}"] = ratio(truth[which] & predicted, truth[which])
    scores["mIoU"] = mean([scores[f"IoU/{name}"] for name in NAMES])
    for which, kind in itertools.product((*SIZES, *COMPANY), ("IoU", "recall")):
        by = "size" if which in SIZES else "company"
        values = [scores[f"{kind}_{which}_objects/{name}"] for name in NAMES if truths[which, name]]
        scores[f"{kind}_by_{by}/{which}"] = mean(values)
    return scores


@pytest.mark.parametrize(("count_unscored", "skip"), [(False, (255, 3)), (True, (255,))])
@pytest.mark.parametrize("names", [*((name,) for name in HAND_MADE), tuple(HAND_MADE)], ids="+".join)
def test_scores_equal_counting_by_hand(names: tuple[str, ...], count_unscored: bool, skip: tuple[int, ...]) -> None:
    pairs = [HAND_MADE[name] for name in names]
    found = computed(pairs, count_unscored_pixels=count_unscored)
    groups = {"mIoU_small": found["IoU/mast"], "mIoU_large": found["IoU/car"]}
    assert found == pytest.approx(by_hand(pairs, skip=skip) | groups, nan_ok=True)


@given(st.integers(0, 2**32 - 1))
def test_scores_equal_counting_on_random_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = (tuple(rng.integers(1, 7, size=rng.integers(2, 4))), (3, 4))
    pairs = [(rng.choice([0, 1, 2, 3, 255], shape), rng.choice([0, 1, 2, 3], shape)) for shape in shapes]
    expected, found = by_hand(pairs, skip=(255, 3)), computed(pairs)
    assert {name: found[name] for name in expected} == pytest.approx(expected, nan_ok=True)


def test_background_has_no_objects() -> None:
    """Its pieces are the holes between objects: a mean with them says little of the objects."""
    table = (ClassInfo("background", 0, 0, (0, 0, 0)), ClassInfo("lesion", 1, 1, (255, 0, 0)))
    found = measured([(grid(".1.11"), grid(".111."))], table, size_groups=GROUPS).compute()
    for score in ("IoU", "recall"):
        assert not math.isnan(found[f"{score}_small_objects/background"])
        assert found[f"{score}_by_size/small"] == found[f"{score}_small_objects/lesion"]
        assert found[f"{score}_by_company/accompanied"] == found[f"{score}_accompanied_objects/lesion"]
    assert found["mIoU"] == pytest.approx((found["IoU/background"] + found["IoU/lesion"]) / 2)


def test_counts_of_images_sum_to_the_set() -> None:
    metric = measured(list(HAND_MADE.values()), unscored=("unlabelled",), size_groups=GROUPS)
    label, prediction, both, covered = sum(metric.images).double().unbind(-1)
    scores = metric.compute()
    for k, name in enumerate(NAMES):
        assert (both / (label + prediction - both))[k, 0].item() == pytest.approx(scores[f"IoU/{name}"])
        assert (covered / label)[k, 1].item() == pytest.approx(scores[f"recall_small_objects/{name}"], nan_ok=True)


def test_batches_of_tensors_work_and_reset_forgets() -> None:
    metric = measured([(grid("1"), grid("."))])
    metric.reset()
    metric.update((torch.stack([logits_of(grid(".1")), logits_of(grid("11"))]), torch.tensor([[[[0, 1]]], [[[1, 0]]]])))
    assert metric.compute()["IoU/car"] == pytest.approx(2 / 3)


def test_attached_it_gives_scalars_with_sizes_only_every_few_epochs() -> None:
    label, prediction = HAND_MADE["touching"]
    engine = Engine(lambda engine, batch: ([logits_of(prediction)], [torch.from_numpy(label)[None]]))
    ClassIoU(TABLE, unscored=("unlabelled",), size_groups=GROUPS, size_interval=2).attach(engine, "val/mIoU")
    names: list[set[str]] = []
    engine.add_event_handler("EPOCH_COMPLETED", lambda engine: names.append(set(engine.state.metrics)))
    metrics = engine.run([0], max_epochs=3).metrics
    plain = {"val/mIoU", "val/mIoU_small", "val/mIoU_large", *(f"val_IoU/{name}" for name in NAMES)}
    assert names[0] == names[2] == plain, "nothing stale of the second epoch"
    assert all(isinstance(value, float) for value in metrics.values())
    for part in ("_by_size/", "_by_company/", "_objects/"):
        assert any(part in name for name in names[1])


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (CAMVID.classes, {"unscored": ("void",)}, r"`unscored` must name classes of \['sky'.*got \['void'\]"),
        (TABLE, {"size_interval": 0}, "`size_interval` must be a positive int; got 0"),
    ],
)
def test_bad_options_are_refused(table: tuple[ClassInfo, ...], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassIoU(table, **options)


def test_class_count_mismatch_is_refused() -> None:
    with pytest.raises(ValueError, match="number of classes"):
        ClassIoU(TABLE).update(([logits_of(grid("."), 5)], [torch.tensor([[[0]]])]))


# --- sizes of objects


@given(st.integers(0, 2**32 - 1))
def test_objects_equal_flood_fill(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 3, size=rng.integers(1, 8, size=rng.integers(2, 4))).astype(np.uint8)
    numbers = label_objects(label)
    expected = {frozenset(pixels) for k in range(3) for pixels in flood(label == k)}
    assert {frozenset(map(tuple, np.argwhere(numbers == n).tolist())) for n in np.unique(numbers)} == expected
    assert numbers.min() == 1


def test_counts_of_objects_by_size_and_class() -> None:
    label = grid("1111111 ......2 22....2 x......")
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
    with pytest.raises(ValueError, match=f"`unit` '{unit}' needs .* along {axes} axes; got spacing None"):
        group_pixels(np.zeros((2,) * axes, dtype=np.uint8), SizeGroups((1, 2), unit))
    other = np.zeros((2,) * (5 - axes), dtype=np.uint8)
    with pytest.raises(ValueError, match=f"needs labels with a spacing along {axes} axes"):
        count_objects(other, 1, groups=SizeGroups((1, 2), unit), spacing=(1,) * (5 - axes))


@pytest.mark.parametrize("options", [((5, 3),), ((0, 3),), ((1,),), ((1, 2, 3),), ((1, 2), "inches")])
def test_other_bounds_and_units_are_refused(options: tuple) -> None:
    with pytest.raises(ValueError, match=r"`(bounds|unit)` must be (two numbers above zero|one of).*got (\(|'inches')"):
        SizeGroups(*options)
