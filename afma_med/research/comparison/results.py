"""The figures of a comparison: every score of every arm, and what AFMA adds to its baseline."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.metrics.pixel_scores import mean_of_known, scores_from_pixels
from afma_med.research.comparison.arms import Arm, Pairing
from afma_med.research.comparison.intervals import (
    Interval,
    Summary,
    bootstrap_weights,
    paired_differences,
    percentile_interval,
    student_interval,
    summarise_seeds,
)
from afma_med.runs.run import Run

__all__ = ["ArmScores", "Difference", "Gain", "compare_with_baselines", "resample_scores", "summarise_arm"]


class ArmScores(NamedTuple):
    """Hold the scores of an arm over its seeds.

    Args:
        arm: whose they are.
        scores: by name.
    """

    arm: Arm
    scores: dict[str, Summary]


class Difference(NamedTuple):
    """Hold how much higher a score is with AFMA than without.

    Args:
        value: mean of the differences of common seeds; without common seeds, the difference of the means. NaN if a side
            has no value.
        seeds: common seeds with a value on both sides.
        over_seeds: 95 % interval over seeds; None for fewer than two.
        over_images: 95 % interval over images; None for fewer than two, and for scores that do not follow from counts
            of pixels.
    """

    value: float
    seeds: int
    over_seeds: Interval | None
    over_images: Interval | None


class Gain(NamedTuple):
    """Hold what AFMA adds to a baseline.

    Args:
        pairing: the arm and its baseline.
        scores: differences by name.
    """

    pairing: Pairing
    scores: dict[str, Difference]


def summarise_arm(arm: Arm) -> ArmScores:
    """Summarise every score of an arm over its seeds.

    Args:
        arm: one or more runs.

    Returns:
        Mean, sample standard deviation and number of seeds of each score.
    """
    return ArmScores(arm, {name: summarise_seeds([*arm.values(name).values()]) for name in _score_names(arm.runs)})


def resample_scores(
    run: Run, weights: NDArray[np.float64], *, groups: Mapping[str, Sequence[str]]
) -> dict[str, NDArray[np.float64]]:
    """Compute a run's scores on resamples of its images.

    Args:
        run: whose counts are added up.
        weights: (R,I) of :func:`~afma_med.research.comparison.intervals.bootstrap_weights`.
        groups: names of classes by ``"small"`` and ``"large"``.

    Returns:
        (R,) values of each score.
    """
    pixels = run.counts.pixels
    resampled = (weights @ pixels.reshape(len(pixels), -1)).reshape(-1, *pixels.shape[1:])
    return scores_from_pixels(resampled, run.counts.classes, run.counts.objects, groups=groups)


def compare_with_baselines(
    pairings: Sequence[Pairing], *, groups: Mapping[str, Sequence[str]], resamples: int = 2000, seed: int = 0
) -> list[Gain]:
    """Compute what AFMA adds to each baseline, with intervals over seeds and over images.

    The interval over images is the percentile bootstrap: images are drawn with replacement, the same for all runs;
    their counts of pixels are summed and the scores computed anew, then averaged over the seeds.

    Args:
        pairings: of :func:`~afma_med.research.comparison.arms.pair_with_baselines`.
        groups: names of classes by ``"small"`` and ``"large"``.
        resamples: R of the bootstrap.
        seed: of the bootstrap.

    Returns:
        One a pairing.

    Raises:
        ValueError: if ``resamples`` is not positive.

    Example:
        >>> compare_with_baselines([], groups={})
        []
    """
    if not pairings:
        return []
    images = len(pairings[0].arm.runs[0].counts.images)
    weights = bootstrap_weights(images, resamples=resamples, seed=seed)
    runs = {run.folder: run for pairing in pairings for side in pairing for run in side.runs}
    resampled = {folder: resample_scores(run, weights, groups=groups) for folder, run in runs.items()}
    if images < 2:  # nothing else could have been drawn, which does not make it certain
        resampled = {folder: {} for folder in runs}
    return [_compare(pairing, resampled) for pairing in pairings]


def _compare(pairing: Pairing, resampled: Mapping[Path, Mapping[str, NDArray[np.float64]]]) -> Gain:
    names = _score_names([*pairing.arm.runs, *pairing.baseline.runs])
    counted = set.intersection(*({*resampled[run.folder]} for side in pairing for run in side.runs))
    scores = {}
    for name in names:
        values, baseline = pairing.arm.values(name), pairing.baseline.values(name)
        paired = paired_differences(values, baseline)
        if pairing.common_seeds:
            value = summarise_seeds(paired).mean
        else:
            value = summarise_seeds([*values.values()]).mean - summarise_seeds([*baseline.values()]).mean
        samples = _resampled_difference(pairing, resampled, name) if name in counted else None
        over_images = None if samples is None else percentile_interval(samples)
        scores[name] = Difference(value, len(paired), student_interval(paired), over_images)
    return Gain(pairing, scores)


def _resampled_difference(
    pairing: Pairing, resampled: Mapping[Path, Mapping[str, NDArray[np.float64]]], name: str
) -> NDArray[np.float64]:
    """(R,) the difference of a score in each resample, by the same rule as that of the scores themselves."""
    if pairing.common_seeds:
        both = [resampled[run.folder][name] - resampled[other.folder][name] for run, other in pairing.runs]
        return mean_of_known(np.stack(both, axis=-1))
    means = [mean_of_known(np.stack([resampled[run.folder][name] for run in side.runs], axis=-1)) for side in pairing]
    return means[0] - means[1]


def _score_names(runs: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.scores))
