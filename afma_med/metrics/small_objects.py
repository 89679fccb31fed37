"""Scores of small objects by whether a large object of the same class is in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.metrics.pixel_scores import scores_from_pixels

__all__ = ["SmallObjects", "score_small_objects"]


class SmallObjects(NamedTuple):
    """Hold scores of small objects in images that have a large object of the same class, and in those that have none.

    Args:
        iou_with, iou_without: mean IoU of small objects over the classes; NaN where there is no such class.
        recall_with, recall_without: mean recall.
        classes: how many classes the means are over: those with small label objects in images of both kinds.
    """

    iou_with: float
    iou_without: float
    recall_with: float
    recall_without: float
    classes: int


def score_small_objects(pixels: NDArray[np.integer], objects: Sequence[str]) -> SmallObjects:
    """Score small objects next to a large object of their class in the label, and those without one.

    Pixels are summed over the images of each kind, class by class. Images without any object of a class are of the
    second kind: small objects that are predicted there lower the IoU, as in the scores of an evaluation.

    Args:
        pixels: (I,K,S,4) as in :class:`afma_med.runs.run.PixelCounts`, image by image.
        objects: S names of object sizes; all scores are NaN without ``"small"`` and ``"large"``.

    Raises:
        ValueError: if ``pixels`` is of another shape.

    Example:
        >>> large = [[[9, 9, 9, 9], [4, 2, 2, 3], [5, 5, 5, 5]]]  # an image with one class: all, small, large
        >>> alone = [[[4, 4, 1, 1], [4, 4, 1, 1], [0, 0, 0, 0]]]
        >>> score_small_objects(np.array([large, alone]), ["all", "small", "large"])
        SmallObjects(iou_with=0.5, iou_without=0.14285714285714285, recall_with=0.75, recall_without=0.25, classes=1)
    """
    if pixels.ndim != 4 or pixels.shape[2:] != (len(objects), 4):
        raise ValueError(
            f"`pixels` must be of shape (I,K,S,4), S being {len(objects)} `objects`; got {pixels.shape}. "
            "Give the counts of single images, and the names that go with them."
        )
    if not {"small", "large"} <= set(objects):
        return SmallObjects(math.nan, math.nan, math.nan, math.nan, 0)
    small, large = (pixels[:, :, objects.index(size)] for size in ("small", "large"))
    beside = large[..., :1] > 0
    sums = np.stack([(small * where).sum(axis=0) for where in (beside, ~beside)])  # (2,K,4)
    both = (sums[..., 0] > 0).all(axis=0)
    names = [str(k) for k in range(both.sum())]
    # As sizes go after "all", which is left empty here.
    scores = scores_from_pixels(np.stack([0 * sums, sums], axis=2)[:, both], names, ("all", "small"))
    iou, recall = (scores[f"{kind}_by_size/small"].tolist() for kind in ("IoU", "recall"))
    return SmallObjects(iou[0], iou[1], recall[0], recall[1], len(names))
