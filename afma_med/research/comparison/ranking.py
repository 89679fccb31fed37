"""Which images AFMA helped most, and which it hurt most (Sec. 4.8)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.metrics.pixel_scores import image_iou, mean_of_known
from afma_med.research.comparison.arms import Pairing
from afma_med.runs.run import Run

__all__ = ["ImageScore", "most_changed", "rank_images"]


class ImageScore(NamedTuple):
    """Hold how well an image is segmented without and with AFMA.

    Args:
        image: name.
        baseline: mean IoU over the classes of the image's label, averaged over seeds.
        arm: the same with AFMA.
    """

    image: str
    baseline: float
    arm: float

    @property
    def gain(self) -> float:
        """What AFMA adds."""
        return self.arm - self.baseline


def rank_images(pairing: Pairing) -> list[ImageScore]:
    """Rank the images by what AFMA adds to their mean IoU over the classes that occur in their label.

    Args:
        pairing: an arm and its baseline; the mean is over common seeds, without any over those of each.

    Returns:
        The images from the one that AFMA helped most to the one that it hurt most; those without a class are left out.
    """
    pairs = pairing.runs
    sides = list(zip(*pairs, strict=True)) if pairs else [pairing.arm.runs, pairing.baseline.runs]
    arm, baseline = (_mean_over_seeds(side) for side in sides)
    images = pairing.arm.runs[0].counts.images
    scores = [ImageScore(*row) for row in zip(images, baseline.tolist(), arm.tolist(), strict=True)]
    return sorted((one for one in scores if not math.isnan(one.gain)), key=lambda one: (-one.gain, one.image))


def most_changed(ranked: Sequence[ImageScore], count: int) -> tuple[list[ImageScore], list[ImageScore]]:
    """Take so many images that were helped most, and so many that were hurt most, each from the largest change on.

    Example:
        >>> ranked = [ImageScore("a", 0.5, 0.75), ImageScore("b", 0.5, 0.5), ImageScore("c", 0.5, 0.25)]
        >>> [[one.image for one in part] for part in most_changed(ranked, 8)]
        [['a'], ['c']]
    """
    helped = [one for one in ranked if one.gain > 0]
    hurt = [one for one in reversed(ranked) if one.gain < 0]
    return helped[:count], hurt[:count]


def _mean_over_seeds(runs: Sequence[Run]) -> NDArray[np.float64]:
    return mean_of_known(np.stack([image_iou(run.counts.pixels) for run in runs], axis=-1))
