"""Statistics of a comparison: scores of arms, and what AFMA adds, with intervals over seeds and over images."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from afma_med.comparison.arms import Arm, Pairing
from afma_med.metrics.pixel_scores import mean_of_known, scores_from_pixels
from afma_med.runs.run import Run

__all__ = ["CONFIDENCE", "ArmScores", "Comparison", "Difference", "Gain", "Interval", "Published"]
__all__ += [
    "PublishedRow",
    "Summary",
    "bootstrap_weights",
    "compare_with_baselines",
    "percentile_interval",
    "resample_scores",
]
__all__ += ["student_interval", "summarise_arm", "summarise_seeds"]

#: Confidence level of all intervals.
CONFIDENCE = 0.95

_Groups = Mapping[str, Sequence[str]]
_Scores = Mapping[str, NDArray[np.float64]]


class Interval(NamedTuple):
    """Hold the two ends of an interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """Hold mean and sample standard deviation of a score over seeds; a single seed has no deviation."""

    mean: float = math.nan
    deviation: float | None = None
    seeds: int = 0


class ArmScores(NamedTuple):
    """Hold an arm and the summaries of its scores by name."""

    arm: Arm
    scores: dict[str, Summary]


class Difference(NamedTuple):
    """Hold how much higher a score is with AFMA than without.

    Args:
        value: mean difference of the common seeds; without common seeds, difference of the means.
        seeds: number of common seeds with a value on both sides.
        over_seeds: interval over seeds; None for fewer than two.
        over_images: interval over images; None for fewer than two, and for scores that do not follow from counts of
            pixels.
    """

    value: float = math.nan
    seeds: int = 0
    over_seeds: Interval | None = None
    over_images: Interval | None = None


class Gain(NamedTuple):
    """Hold an arm with its baseline and the differences of their scores by name."""

    pairing: Pairing
    scores: dict[str, Difference]

    def of_seeds(self, score: str) -> list[float]:
        """Return the difference of a score for each common seed that has a value on both sides."""
        pairs = [[run.scores.get(score, math.nan) for run in pair] for pair in self.pairing.runs]
        return [arm - baseline for arm, baseline in pairs if not math.isnan(arm - baseline)]


class PublishedRow(NamedTuple):
    """Hold scores that were published elsewhere, for the tables that have these scores.

    Args:
        label: of the row.
        scores: fractions of 1, or differences of them, by the names of the comparison's scores.
        source: publication and protocol.
        is_difference: whether the row holds differences from another one.
    """

    label: str
    scores: Mapping[str, float]
    source: str
    is_difference: bool = False


class Published(NamedTuple):
    """Hold what was published elsewhere about the images of a comparison.

    Args:
        rows: scores.
        class_order: names of classes in the order of the columns; empty for that of the dataset's class table.
        note: remark for the reader, such as the source of the rows; empty for none.
    """

    rows: Sequence[PublishedRow] = ()
    class_order: Sequence[str] = ()
    note: str = ""


class Comparison(NamedTuple):
    """Hold all that a comparison found.

    Args:
        title: of the dataset.
        scope: number of images, and their section.
        run: any of the runs, for what all of them share.
        arms: scores of the arms.
        gains: what AFMA adds.
        published: what was published elsewhere about the same images.
        notes: remarks for the reader, such as what was left out and why.
        resamples, seed: of the bootstrap.
    """

    title: str
    scope: str
    run: Run
    arms: Sequence[ArmScores]
    gains: Sequence[Gain]
    published: Published
    notes: Sequence[str]
    resamples: int
    seed: int


def summarise_seeds(values: Iterable[float]) -> Summary:
    """Summarise a score over seeds, without NaN, which stands for a class that does not occur."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Summary()
    return Summary(statistics.fmean(known), statistics.stdev(known) if len(known) > 1 else None, len(known))


def student_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Compute Student's confidence interval of a mean: mean ± t(n − 1) · standard deviation / √n.

    For paired differences, it estimates what other seeds of the training would give. It assumes that the values are
    independent and normally distributed, and is None for fewer than two of them.
    """
    mean, deviation, n = summarise_seeds(values)
    if deviation is None:
        return None
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean - reach, mean + reach)


def bootstrap_weights(images: int, *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Draw how often each image occurs in each resample, which has as many images, drawn with replacement.

    All runs get the same weights, so that they are compared on the same images. ``weights @ counts`` are the counts of
    pixels of every resample.

    Returns:
        (R,I) for R resamples of I images; each row sums to I.
    """
    drawn = np.random.default_rng(seed).multinomial(images, [1 / images] * images, size=resamples)
    return drawn.astype(np.float64)


def percentile_interval(samples: NDArray[np.float64], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Compute the percentile interval of bootstrapped values (R,), leaving out NaN of resamples without the class.

    It estimates what other images of the same kind would give for the same trained networks. It is None if all values
    are NaN.
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return None
    return Interval(*np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2]).tolist())


def summarise_arm(arm: Arm) -> ArmScores:
    """Summarise every score of an arm over its seeds."""
    values = {name: [run.scores.get(name, math.nan) for run in arm.runs] for name in _score_names(arm.runs)}
    return ArmScores(arm, {name: summarise_seeds(each) for name, each in values.items()})


def resample_scores(run: Run, weights: NDArray[np.float64], *, groups: _Groups) -> dict[str, NDArray[np.float64]]:
    """Compute a run's scores on R resamples of its images, (R,) each, with weights of :func:`bootstrap_weights`."""
    pixels = run.counts.pixels
    resampled = (weights @ pixels.reshape(len(pixels), -1)).reshape(-1, *pixels.shape[1:])
    return scores_from_pixels(resampled, run.counts.classes, run.counts.objects, groups=groups)


def compare_with_baselines(
    pairings: Sequence[Pairing], *, groups: _Groups, resamples: int = 2000, seed: int = 0
) -> list[Gain]:
    """Compute what AFMA adds to each baseline, with intervals over seeds and over images.

    The interval over images is the percentile bootstrap: images are drawn with replacement, the same for all runs;
    their counts of pixels are summed, and the scores computed again and averaged over the seeds.

    Args:
        pairings: pairings of :func:`~afma_med.comparison.arms.pair_with_baselines`.
        groups: names of classes by ``"small"`` and ``"large"``.
        resamples, seed: of the bootstrap.
    """
    runs = {run.folder: run for pairing in pairings for side in pairing for run in side.runs}
    resampled: dict[Path, _Scores] = {folder: {} for folder in runs}
    images = len(next(iter(runs.values())).counts.images) if runs else 0
    if images > 1:  # resamples of a single image are all the same, which would look like certainty
        weights = bootstrap_weights(images, resamples=resamples, seed=seed)
        resampled = {folder: resample_scores(run, weights, groups=groups) for folder, run in runs.items()}
    return [_compare(pairing, resampled) for pairing in pairings]


def _compare(pairing: Pairing, resampled: Mapping[Path, _Scores]) -> Gain:
    runs, gain = [*pairing.arm.runs, *pairing.baseline.runs], Gain(pairing, {})
    for name in _score_names(runs):
        value = _mean_difference(pairing, {run.folder: np.float64(run.scores.get(name, math.nan)) for run in runs})
        over_images = None
        if all(name in resampled[run.folder] for run in runs):
            samples = _mean_difference(pairing, {run.folder: resampled[run.folder][name] for run in runs})
            over_images = percentile_interval(samples)
        of_seeds = gain.of_seeds(name)
        gain.scores[name] = Difference(float(value), len(of_seeds), student_interval(of_seeds), over_images)
    return gain


def _mean_difference(pairing: Pairing, values: Mapping[Path, NDArray[np.float64] | np.float64]) -> NDArray[np.float64]:
    """Mean difference (...) over the common seeds, or without any the difference of the means; values (...) by run."""
    if pairing.runs:
        differences = [values[run.folder] - values[other.folder] for run, other in pairing.runs]
        return mean_of_known(np.stack(differences, axis=-1))
    arm, baseline = (mean_of_known(np.stack([values[run.folder] for run in side.runs], axis=-1)) for side in pairing)
    return arm - baseline


def _score_names(runs: Iterable[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.scores))
