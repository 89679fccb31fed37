"""Statistics of comparisons: every figure against an independent computation."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import numpy as np
import pytest

from _helpers.synthetic_runs import (
    GROUPS,
    SCORED,
    SIZES,
    copy_run,
    plain_scores,
    random_rows,
    write_run,
)
from afma_med.comparison import group_runs, pair_with_baselines, read_run
from afma_med.comparison.arms import Arm, Pairing
from afma_med.comparison.charts import draw_class_gains, draw_curves, draw_size_gains
from afma_med.comparison.results import (
    Difference,
    Gain,
    Summary,
    bootstrap_weights,
    compare_with_baselines,
    percentile_interval,
    resample_scores,
    student_interval,
    summarise_arm,
    summarise_seeds,
)
from afma_med.comparison.tables import lay_out_tables, write_table
from afma_med.metrics.pixel_scores import scores_from_pixels

# Scores.


def test_scores_are_those_of_plain_loops() -> None:
    rows = random_rows(3, quality=0.5)
    # Of one class nothing occurs, of another one no small object.
    rows = {key: (0, 0, 0, 0) if key[1] == "fence" else counts for key, counts in rows.items()}
    rows = {key: (0, 9, 0, 0) if key[1:] == ("car", "small") else counts for key, counts in rows.items()}
    pixels = as_pixels(rows)
    found = scores_from_pixels(pixels.sum(axis=0), SCORED, ("all", *SIZES), groups=GROUPS)
    expected = plain_scores(rows, SCORED)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(value, nan_ok=True), name
    assert math.isnan(found["IoU/fence"])
    assert float(found["IoU_small_objects/car"]) == 0


def as_pixels(rows: dict[tuple[str, str, str], tuple[int, ...]]) -> np.ndarray:
    images = sorted({image for image, _, _ in rows})
    return np.array([[[rows[i, k, s] for s in ("all", *SIZES)] for k in SCORED] for i in images])


# Statistics.


@pytest.mark.parametrize("values", [[0.5, 0.75], [1.0, 2.0, 4.0, 8.0], [0.3, 0.3, 0.3]])
def test_seeds_are_summarised_as_by_the_standard_library(values: list[float]) -> None:
    found = summarise_seeds([*values, math.nan])
    assert found.mean == pytest.approx(statistics.mean(values))
    assert found.deviation == pytest.approx(statistics.stdev(values))
    assert found.seeds == len(values)


def test_one_seed_has_no_deviation_and_none_no_mean() -> None:
    assert summarise_seeds([0.5, math.nan]) == Summary(0.5, None, 1)
    nothing = summarise_seeds([math.nan])
    assert math.isnan(nothing.mean)
    assert nothing[1:] == (None, 0)


@pytest.mark.parametrize(
    ("values", "quantile"),  # of Student's t, from a printed table
    [([1.0, 3.0], 12.706), ([1.0, 2.0, 6.0], 4.303), ([1.0, 2.0, 3.0, 4.0, 5.0], 2.776)],
)
def test_student_interval_is_that_of_the_table(values: list[float], quantile: float) -> None:
    reach = quantile * statistics.stdev(values) / math.sqrt(len(values))
    middle = statistics.mean(values)
    assert student_interval(values) == pytest.approx((middle - reach, middle + reach), rel=1e-3)
    assert student_interval(values[:1]) is None


def test_differences_are_those_of_the_same_seed(gain: Gain) -> None:
    values, baseline = {0: 0.5, 2: 0.75, 3: 1.0, 5: math.nan}, {2: 0.5, 3: math.nan, 5: 0.5, 9: 0.25}

    def arm(of_seeds: dict[int, float]) -> Arm:
        run = gain.pairing.arm.runs[0]
        settings = [{**run.settings, "training": {"seed": seed}} for seed in of_seeds]
        runs = [run._replace(settings=one, scores={"a": x}) for one, x in zip(settings, of_seeds.values(), strict=True)]
        return Arm("", {}, tuple(runs))

    assert Gain(Pairing(arm(values), arm(baseline)), {}).of_seeds("a") == [0.25]
    assert Gain(Pairing(arm(values), arm(baseline)), {}).of_seeds("b") == []
    assert Gain(Pairing(arm(values), arm({9: 0.5})), {}).of_seeds("a") == []


def test_weights_draw_as_many_images_with_replacement() -> None:
    weights = bootstrap_weights(7, resamples=4000, seed=1)
    assert weights.shape == (4000, 7)
    assert (weights.sum(axis=1) == 7).all()
    # The number of times an image is drawn is binomial: mean 1, variance 6/7.
    assert weights.mean(axis=0) == pytest.approx(np.ones(7), abs=0.06)
    assert weights.var(axis=0) == pytest.approx(np.full(7, 6 / 7), abs=0.1)
    assert (weights == bootstrap_weights(7, resamples=4000, seed=1)).all()
    assert (weights != bootstrap_weights(7, resamples=4000, seed=2)).any()


def test_percentiles_leave_out_resamples_without_the_class() -> None:
    samples = np.concatenate([np.arange(1001) / 1000, [np.nan] * 50])
    assert percentile_interval(samples) == pytest.approx((0.025, 0.975))
    assert percentile_interval(np.array([np.nan, np.nan])) is None


def test_resamples_are_those_of_repeated_images(pairing: Pairing) -> None:
    run = pairing.arm.runs[0]
    weights = bootstrap_weights(len(run.counts.images), resamples=5, seed=3)
    found = resample_scores(run, weights, groups=GROUPS)
    rows = random_rows(0, quality=0.7)
    for resample, drawn in enumerate(weights.astype(int)):
        repeated = {
            (f"{image} {copy}", name, objects): counts
            for i, times in enumerate(drawn)
            for copy in range(times)
            for (image, name, objects), counts in rows.items()
            if image == run.counts.images[i]
        }
        expected = plain_scores(repeated, SCORED)
        assert {name: float(values[resample]) for name, values in found.items()} == pytest.approx(expected, nan_ok=True)


def test_bootstrap_covers_the_true_difference_as_often_as_it_says() -> None:
    """A hundred sets of images whose true gain is known: about 95 of the intervals must hold it."""
    rng, covered = np.random.default_rng(5), 0
    for _ in range(100):
        label = rng.integers(200, 400, size=60)
        hits = [(label * (0.5 + rng.uniform(-0.2, 0.2, size=60) + gain)).astype(int) for gain in (0.0, 0.1)]
        weights = bootstrap_weights(60, resamples=300, seed=int(rng.integers(1000)))
        # Predictions lie within the labels, so that IoU is hits / label: 0.5 and 0.6.
        sampled = [(weights @ one) / (weights @ label) for one in hits]
        low, high = percentile_interval(sampled[1] - sampled[0])
        covered += low <= 0.1 <= high
    assert 88 <= covered <= 100


# What AFMA adds.


def test_scores_of_arms_are_means_over_seeds(pairing: Pairing) -> None:
    scores = [plain_scores(random_rows(seed, quality=0.7), SCORED)["mIoU_small"] for seed in range(3)]
    found = summarise_arm(pairing.arm).scores["mIoU_small"]
    assert found == pytest.approx((statistics.mean(scores), statistics.stdev(scores), 3))


def test_gain_is_the_mean_difference_of_common_seeds(gain: Gain) -> None:
    both = [[plain_scores(random_rows(seed, quality=q), SCORED)["IoU/car"] for seed in range(3)] for q in (0.7, 0.6)]
    differences = [one - other for one, other in zip(*both, strict=True)]
    found = gain.scores["IoU/car"]
    assert found.value == pytest.approx(statistics.mean(differences))
    assert found.seeds == 3
    reach = 4.303 * statistics.stdev(differences) / math.sqrt(3)
    assert found.over_seeds == pytest.approx((found.value - reach, found.value + reach), rel=1e-3)
    assert found.over_images.low < found.value < found.over_images.high
    assert gain.pairing.label == "AFMA − baseline"


def test_gain_over_images_is_that_of_all_resamples(tmp_path: Path) -> None:
    """Two images: a quarter of the resamples holds one twice, and the interval reaches to those two values."""
    rows = [
        {("a", "car", "all"): (100, 50, 50, 50), ("b", "car", "all"): (100, 50, 50, 50)},
        {("a", "car", "all"): (100, 90, 90, 90), ("b", "car", "all"): (100, 60, 60, 60)},
    ]
    runs = [read_run(write_run(tmp_path / str(i), own, settings={"afma": bool(i)})) for i, own in enumerate(rows)]
    (found,) = compare_with_baselines(pair_with_baselines(group_runs(runs))[0], groups={}, resamples=400)
    assert found.scores["IoU/car"].value == pytest.approx(0.25)
    assert found.scores["IoU/car"].over_images == pytest.approx((0.1, 0.4))
    assert found.scores["IoU/car"].over_seeds is None


def test_images_that_are_all_alike_leave_no_doubt(tmp_path: Path) -> None:
    arms = {False: (100, 80, 60, 60), True: (100, 80, 70, 70)}
    runs = []
    for afma, counts in arms.items():
        rows = {(f"{i}", name, objects): counts for i in range(9) for name in SCORED for objects in ("all", *SIZES)}
        runs.append(read_run(write_run(tmp_path / str(afma), rows, settings={"afma": afma})))
    (found,) = compare_with_baselines(pair_with_baselines(group_runs(runs))[0], groups=GROUPS, resamples=50)
    for name in ("mIoU", "mIoU_small", "IoU/car", "IoU_by_size/small", "IoU_large_objects/road"):
        assert found.scores[name].over_images == pytest.approx((70 / 110 - 60 / 120,) * 2), name
    assert found.scores["recall_by_size/medium"].over_images == pytest.approx((0.1, 0.1))


def test_one_image_makes_no_interval_over_images(tmp_path: Path) -> None:
    rows = {afma: random_rows(0, quality=0.6 + 0.1 * afma, images=1) for afma in (False, True)}
    runs = [read_run(write_run(tmp_path / str(afma), own, settings={"afma": afma})) for afma, own in rows.items()]
    (found,) = compare_with_baselines(pair_with_baselines(group_runs(runs))[0], groups=GROUPS, resamples=20)
    assert found.scores["mIoU"].value > 0
    assert found.scores["mIoU"].over_images is None


def test_without_common_seeds_the_means_are_compared(folders: list[Path], tmp_path: Path) -> None:
    other = copy_run(folders[3], tmp_path / "other", training={"seed": 7})
    runs = [read_run(folder) for folder in (folders[0], folders[1], other)]
    (found,) = compare_with_baselines(pair_with_baselines(group_runs(runs))[0], groups=GROUPS, resamples=200)
    baseline = statistics.mean(run.scores["mIoU"] for run in runs[:2])
    one = found.scores["mIoU"]
    assert one.value == pytest.approx(runs[2].scores["mIoU"] - baseline)
    assert one.seeds == 0
    assert one.over_seeds is None
    assert one.over_images.low < one.value < one.over_images.high


def test_only_common_seeds_are_paired(folders: list[Path]) -> None:
    runs = [read_run(folder) for folder in (*folders[:2], *folders[4:])]
    pairings, _ = pair_with_baselines(group_runs(runs))
    assert pairings[0].common_seeds == (1,)
    assert [run.folder.name for run in pairings[0].shown] == ["afma1", "baseline1"]
    (found,) = compare_with_baselines(pairings, groups=GROUPS, resamples=20)
    assert found.scores["mIoU"].value == pytest.approx(runs[2].scores["mIoU"] - runs[1].scores["mIoU"])


def test_absent_classes_have_no_gain(tmp_path: Path) -> None:
    absent = {key: counts for key, counts in random_rows(0, quality=0.6).items() if key[1] != "fence"}
    better = {key: counts for key, counts in random_rows(0, quality=0.7).items() if key[1] != "fence"}
    runs = [
        read_run(write_run(tmp_path / str(afma), rows, settings={"afma": afma}))
        for afma, rows in ((False, absent), (True, better))
    ]
    arms = group_runs(runs)
    (found,) = compare_with_baselines(pair_with_baselines(arms)[0], groups=GROUPS, resamples=20)
    assert math.isnan(found.scores["IoU/fence"].value)
    assert found.scores["IoU/fence"][1:] == (0, None, None)
    assert found.scores["mIoU_large"].value > 0
    table = write_table(lay_out_tables(runs[0], ["IoU/fence", "mIoU"])[1], map(summarise_arm, arms), [found], [])
    assert [row.cells[2] for row in table.rows] == ["–", "–", "–", "–"]


def test_scores_that_no_counts_give_have_no_interval_over_images(folders: list[Path], tmp_path: Path) -> None:
    runs = []
    for number, afma in enumerate((False, False, True, True)):
        run = tmp_path / str(number)
        scores = {"lesion_F1/car": 0.5 + 0.1 * number, "surface_distance_mm/car": 3.0 - number}
        rows = random_rows(0, quality=0.6)
        runs.append(read_run(write_run(run, rows, seed=number % 2, settings={"afma": afma}, scores=scores)))
    (found,) = compare_with_baselines(pair_with_baselines(group_runs(runs))[0], groups=GROUPS, resamples=20)
    one = found.scores["lesion_F1/car"]
    assert (one.value, one.over_images) == (pytest.approx(0.2), None)
    assert one.over_seeds == pytest.approx((0.2, 0.2))
    table = write_table(lay_out_tables(runs[0], found.scores)[3], map(summarise_arm, group_runs(runs)), [found], [])
    assert table.title == "Further scores, % but for distances"
    assert table.header[2:] == ("lesion_F1/car", "surface_distance_mm/car")
    assert table.rows[0].cells == ("baseline", "2", "55.0 ± 7.1", "2.50 ± 0.71")
    assert table.rows[2].cells == ("AFMA − baseline", "2", "+20.0", "−2.00")


# Charts.


def test_bars_are_the_gains(gain: Gain) -> None:
    (axes,) = draw_class_gains([gain], {"small": ["pole", "car"], "other": ["sky"]}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        *("pole", "car", "mean of small", "sky", "mean of all")
    ]
    widths = [bar.get_width() for bar in axes.patches[:5]]
    scores = ["IoU/pole", "IoU/car", "mIoU_small", "IoU/sky", "mIoU"]
    assert widths == pytest.approx([100 * gain.scores[name].value for name in scores])
    assert axes.get_title() == "AFMA − baseline"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_arm_has_a_panel(gain: Gain, count: int) -> None:
    sizes = {size: f"{size} objects" for size in SIZES}
    assert len(draw_class_gains([gain] * count, {"small": ["pole"]}).axes) == count
    assert len(draw_size_gains([gain] * count, sizes, SCORED).axes) == count


def test_names_of_classes_do_not_overlap(gain: Gain) -> None:
    alike = {f"IoU_{size}_objects/{name}": Difference(0.01, 1, None, None) for size in SIZES for name in SCORED}
    alike["IoU_small_objects/car"] = Difference(0.1, 1, None, None)
    figure = draw_size_gains([gain._replace(scores=alike)], dict.fromkeys(SIZES, "of a size"), SCORED)
    (axes,) = figure.axes
    heights = sorted(text.xyann[1] for text in axes.texts if text.xyann[0] > 1.9)
    assert len(heights) == len(SCORED)
    assert min(np.diff(heights)) > 0.3


def test_curves_are_means_over_epochs_that_all_seeds_have() -> None:
    figure = draw_curves({"AFMA": [{1: 0.25, 2: 0.5, 3: 0.75}, {1: 0.75, 2: 1.0}], "baseline": [{2: 0.5}]})
    (axes,) = figure.axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["AFMA (2 seeds)"].get_xdata().tolist() == [1, 2]
    assert drawn["AFMA (2 seeds)"].get_ydata().tolist() == [0.5, 0.75]
    assert drawn["baseline"].get_ydata().tolist() == [0.5]
    assert drawn["baseline"].get_color() != drawn["AFMA (2 seeds)"].get_color()
