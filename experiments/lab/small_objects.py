"""Scores of small objects with and without a large object of their class in the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.metrics.pixel_scores import has_objects, scores_from_pixels

__all__ = ["SmallObjects", "score_small_objects"]


class SmallObjects(NamedTuple):
    """Scores of small objects in images with and without a large object of the same class.

    Args:
        iou_with, iou_without: Mean IoU of small objects over the classes; NaN without such classes.
        recall_with, recall_without: Mean recall.
        classes: Number of classes in the means: those with small label objects in images of both kinds.
    """

    iou_with: float
    iou_without: float
    recall_with: float
    recall_without: float
    classes: int


def score_small_objects(pixels: NDArray[np.integer], objects: Sequence[str], classes: Sequence[str]) -> SmallObjects:
    """Score small objects in images whose label has a large object of their class, and in all other images.

    Pixels are summed over the images of each kind, class by class. Images without objects of a class are of the second
    kind, where predicted small objects lower the IoU.

    Args:
        pixels: (I,K,S,4) counts of single images, as in :class:`afma_med.runs.run.PixelCounts`.
        objects: S names of object sizes; all scores are NaN without ``"small"`` and ``"large"``.
        classes: K names of classes. The background does not count, for its pieces are the holes between objects.

    Raises:
        ValueError: If ``pixels`` has another shape.

    Example:
        >>> large = [[[9, 9, 9, 9], [4, 2, 2, 3], [5, 5, 5, 5]]]  # an image with one class: all, small, large
        >>> alone = [[[4, 4, 1, 1], [4, 4, 1, 1], [0, 0, 0, 0]]]
        >>> score_small_objects(np.array([large, alone]), ["all", "small", "large"], ["car"])
        SmallObjects(iou_with=0.5, iou_without=0.14285714285714285, recall_with=0.75, recall_without=0.25, classes=1)
    """
    if pixels.ndim != 4 or pixels.shape[2:] != (len(objects), 4):
        raise ValueError(
            f"`pixels` must have the shape (I,K,S,4) with S = {len(objects)} `objects`; got {pixels.shape}. "
            "Pass the counts of single images and their names of object sizes."
        )
    if not {"small", "large"} <= set(objects):
        return SmallObjects(math.nan, math.nan, math.nan, math.nan, 0)
    small, large = (pixels[:, :, objects.index(size)] for size in ("small", "large"))
    with_large = large[..., :1] > 0
    sums = np.stack([(small * where).sum(axis=0) for where in (with_large, ~with_large)])  # (2,K,4)
    both = (sums[..., 0] > 0).all(axis=0) & has_objects(classes)
    names = [str(k) for k in range(both.sum())]
    # The first size is "all", which stays empty here.
    scores = scores_from_pixels(np.stack([0 * sums, sums], axis=2)[:, both], names, ("all", "small"))
    iou, recall = (scores[f"{kind}_by_size/small"].tolist() for kind in ("IoU", "recall"))
    return SmallObjects(iou[0], iou[1], recall[0], recall[1], len(names))
