"""Match the objects of a label with those of a prediction, and count them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from afma_med._ops.components import number_components
from afma_med.data.objects.sizes import SIZES, SizeGroups

__all__ = ["count_matches", "match_objects", "overlap_objects", "scores_from_matches"]


def count_matches(
    label: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    groups: SizeGroups,
    *,
    min_iou: float = 0.5,
    unit: float = 1.0,
) -> NDArray[np.int64]:
    """Count the objects of a class in one image, and those of them that are matched, by size.

    Args:
        label: (H,W) or (H,W,D) mask of the class in the label.
        prediction: Mask of the same shape in the prediction.
        groups: Bounds between small, medium and large objects.
        min_iou: Smallest intersection over union of a match.
        unit: Size of a pixel in the groups' unit.

    Returns:
        (3,4): for each size, label objects, matched ones, predicted objects, matched ones.
    """
    counts = np.zeros((len(SIZES), 4), dtype=np.int64)
    for column, (pixels, matched) in enumerate(zip(*match_objects(label, prediction, min_iou=min_iou), strict=True)):
        found = np.stack([np.ones_like(pixels), matched], axis=1)
        np.add.at(counts[:, 2 * column : 2 * column + 2], groups.group_of(pixels * unit), found)
    return counts


def scores_from_matches(counts: Tensor) -> dict[str, Tensor]:
    """Compute ``precision``, ``recall``, ``F1`` and ``recall_<size>`` from counts (...,3,4) summed over images.

    Example:
        >>> import torch
        >>> scores = scores_from_matches(torch.tensor([[2, 1, 1, 1], [0, 0, 0, 0], [1, 1, 2, 1]]))
        >>> round(scores["F1"].item(), 3), scores["recall_small"].item(), scores["recall_medium"].item()
        (0.667, 0.5, nan)
    """
    by_size = counts.double()
    objects, found, predicted, hits = by_size.sum(-2).unbind(-1)
    scores = {"precision": hits / predicted, "recall": found / objects, "F1": 2 * found / (objects + predicted)}
    recalls = (by_size[..., 1] / by_size[..., 0]).unbind(-1)
    return scores | {f"recall_{size}": recall for size, recall in zip(SIZES, recalls, strict=True)}


def match_objects(
    label: NDArray[np.bool_], prediction: NDArray[np.bool_], *, min_iou: float = 0.5
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Match the objects of two masks one to one, the largest overlap first, if their IoU is at least ``min_iou``.

    Returns:
        Numbers of pixels of the label objects and of the predicted objects, and whether each object is matched.

    Example:
        >>> label, prediction = np.array([[1, 1, 0, 1]]) > 0, np.array([[1, 1, 0, 0]]) > 0
        >>> sizes, matched = match_objects(label, prediction)
        >>> sizes[0].tolist(), matched[0].tolist(), matched[1].tolist()
        ([2, 1], [True, False], [True])
    """
    sizes, pairs, overlap = overlap_objects(label, prediction)
    of_label, of_prediction = (np.zeros(len(size), dtype=bool) for size in sizes)
    for number in np.argsort(-overlap, kind="stable"):
        i, j = pairs[:, number]
        if overlap[number] >= min_iou and not of_label[i] and not of_prediction[j]:
            of_label[i] = of_prediction[j] = True
    return sizes, (of_label, of_prediction)


def overlap_objects(
    label: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64], NDArray[np.float64]]:
    """Measure the overlaps of the objects of two masks.

    Returns:
        Numbers of pixels of the label objects and of the predicted objects, and for each pair of objects with common
        pixels their two indices, (2,P), and their intersection over union, (P,).
    """
    true, predicted = (number_components(mask)[0] for mask in (label, prediction))
    sizes = np.bincount(true.ravel())[1:], np.bincount(predicted.ravel())[1:]
    both = (true > 0) & (predicted > 0)
    pairs, common = np.unique(np.stack([true[both], predicted[both]]) - 1, axis=1, return_counts=True)
    overlap = common / (sizes[0][pairs[0]] + sizes[1][pairs[1]] - common)
    return (sizes[0].astype(np.int64), sizes[1].astype(np.int64)), pairs.astype(np.int64), overlap
