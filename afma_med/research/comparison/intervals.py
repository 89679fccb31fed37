"""Means over seeds, and how sure their differences are: Student's t over seeds, the bootstrap over images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

__all__ = [
    "CONFIDENCE",
    "Interval",
    "Summary",
    "bootstrap_weights",
    "paired_differences",
    "percentile_interval",
    "student_interval",
    "summarise_seeds",
]

#: Of all intervals.
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """Hold the two ends of an interval."""

    low: float
    high: float


class Summary(NamedTuple):
    """Hold a score over seeds.

    Args:
        mean: NaN without a value.
        deviation: sample standard deviation; None for fewer than two values.
        seeds: how many values there are.
    """

    mean: float
    deviation: float | None
    seeds: int


def summarise_seeds(values: Sequence[float]) -> Summary:
    """Summarise a score over seeds: mean, and sample standard deviation √(Σ(x − mean)² / (n − 1)).

    Args:
        values: one a seed; NaN, where the class does not occur, is left out.

    Example:
        >>> summarise_seeds([1.0, 3.0, math.nan])
        Summary(mean=2.0, deviation=1.4142135623730951, seeds=2)
    """
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return Summary(math.nan, None, 0)
    mean = math.fsum(known) / len(known)
    if len(known) < 2:
        return Summary(mean, None, 1)
    return Summary(mean, math.sqrt(math.fsum((x - mean) ** 2 for x in known) / (len(known) - 1)), len(known))


def paired_differences(values: Mapping[int, float], baseline: Mapping[int, float]) -> list[float]:
    """Subtract the baseline's value of the same seed, for each seed that both have a value for.

    Args:
        values: of an arm, by seed.
        baseline: of what it is compared with, by seed.

    Returns:
        One difference a common seed, in the order of the seeds; NaN, on either side, is left out.

    Example:
        >>> paired_differences({0: 0.5, 1: 0.75, 2: 0.5}, {1: 0.5, 0: 0.25, 7: 0.5})
        [0.25, 0.25]
    """
    differences = [values[seed] - baseline[seed] for seed in sorted(values.keys() & baseline.keys())]
    return [difference for difference in differences if not math.isnan(difference)]


def student_interval(values: Sequence[float], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Compute the confidence interval of a mean after Student: mean ± t(n − 1) · standard deviation / √n.

    It takes the values for a sample of a normal distribution: for paired differences, it says what other seeds of the
    training would give.

    Args:
        values: independent values.
        confidence: between 0 and 1.

    Returns:
        The interval; None for fewer than two values.

    Example:
        >>> [round(end, 2) for end in student_interval([1.0, 2.0, 3.0])]
        [-0.48, 4.48]
    """
    mean, deviation, n = summarise_seeds(values)
    if deviation is None:
        return None
    reach = float(stats.t.ppf((1 + confidence) / 2, n - 1)) * deviation / math.sqrt(n)
    return Interval(mean - reach, mean + reach)


def bootstrap_weights(images: int, *, resamples: int, seed: int) -> NDArray[np.float64]:
    """Draw how often each image occurs in each resample: as many images as there are, with replacement.

    The same weights go to all runs, so that they are compared on the same images. ``weights @ counts`` are then the
    counts of pixels of every resample.

    Args:
        images: I.
        resamples: R.
        seed: the same one draws the same weights.

    Returns:
        (R,I), each row a sum of I.

    Raises:
        ValueError: if one of them is not positive.

    Example:
        >>> bootstrap_weights(3, resamples=2, seed=0).sum(axis=1).tolist()
        [3.0, 3.0]
    """
    for name, value in (("images", images), ("resamples", resamples)):
        if value < 1:
            raise ValueError(f"`{name}` must be at least 1; got {value}. Pass a positive number.")
    drawn = np.random.default_rng(seed).multinomial(images, [1 / images] * images, size=resamples)
    return drawn.astype(np.float64)


def percentile_interval(samples: NDArray[np.float64], *, confidence: float = CONFIDENCE) -> Interval | None:
    """Compute the percentile interval of bootstrapped values: what leaves out as many below as above.

    It says what other images of the same kind would give, for the networks as they were trained.

    Args:
        samples: (R,) the value of each resample; NaN, where none of its images has the class, is left out.
        confidence: between 0 and 1.

    Returns:
        The interval; None if all are NaN.

    Example:
        >>> percentile_interval(np.arange(101.0), confidence=0.5)
        Interval(low=25.0, high=75.0)
    """
    known = samples[~np.isnan(samples)]
    if not known.size:
        return None
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))
