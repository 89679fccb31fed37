"""Compute scores from pixel counts, for one evaluation or many resamples at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import background_classes
from afma_med.metrics.pixel_counts import COMPANY

__all__ = ["has_objects", "image_iou", "mean_of_known", "scores_from_pixels"]

_LABEL, _PREDICTION, _INTERSECTION, _COVERED = range(4)  # places on the last axis of the counts


def scores_from_pixels(
    pixels: NDArray[np.generic],
    class_names: Sequence[str],
    objects: Sequence[str],
    *,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, NDArray[np.float64]]:
    """Compute scores from pixels summed over images, with the names of ``evaluation/scores.json``.

    IoU is the number of pixels in both label and prediction divided by the number in either; recall is the number of
    covered pixels of the label divided by all of them. ``mIoU`` is the mean over the classes that occur, ``mIoU_small``
    and ``mIoU_large`` the means over a group of them. ``IoU_by_size/SIZE``, ``IoU_by_company/lone`` and so on are means
    over the classes but the background that have such objects in the labels.

    Args:
        pixels: (...,K,S,4) pixels of the label, of the prediction, of both, and of the label that are covered.
        class_names: Names of the K classes.
        objects: S names: ``"all"``, then the object sizes, then ``"lone"`` and ``"accompanied"``.
        groups: Names of classes for the groups ``"small"`` and ``"large"``.

    Returns:
        Values (...) by score; NaN if none of the classes occurs.

    Example:
        >>> pixels = np.array([[[8, 6, 4, 4]], [[0, 0, 0, 0]]])
        >>> scores = scores_from_pixels(pixels, ["car", "tram"], ["all"])
        >>> {name: float(value) for name, value in scores.items()}
        {'IoU/car': 0.4, 'IoU/tram': nan, 'mIoU': 0.4}
    """
    counts = np.asarray(pixels, dtype=np.float64)
    iou = _iou(counts)
    recall = _divide(counts[..., _COVERED], counts[..., _LABEL])
    scores = {f"IoU/{name}": iou[..., k, 0] for k, name in enumerate(class_names)}
    for group, names in {"": class_names, **(groups or {})}.items():
        members = [k for k, name in enumerate(class_names) if name in names]
        if members:
            scores[f"mIoU_{group}" if group else "mIoU"] = mean_of_known(iou[..., members, 0])
    counted = has_objects(class_names)
    for s, which in enumerate(objects[1:], start=1):
        by = "company" if which in COMPANY else "size"
        absent = (counts[..., s, _LABEL] == 0) | ~counted
        for kind, values in (("IoU", iou[..., s]), ("recall", recall[..., s])):
            scores[f"{kind}_by_{by}/{which}"] = mean_of_known(np.where(absent, np.nan, values))
            scores |= {f"{kind}_{which}_objects/{name}": values[..., k] for k, name in enumerate(class_names)}
    return scores


def has_objects(class_names: Sequence[str]) -> NDArray[np.bool_]:
    """Return for each of K classes whether it has objects, (K,): all but the background."""
    return ~np.isin(np.arange(len(class_names)), background_classes(class_names))


def image_iou(pixels: NDArray[np.generic]) -> NDArray[np.float64]:
    """Compute the mean IoU of each image over the classes that occur in its label, (I,K,S,4) -> (I,).

    Example:
        >>> image_iou(np.array([[[[8, 6, 4, 4]], [[0, 3, 0, 0]]]])).tolist()
        [0.4]
    """
    counts = np.asarray(pixels, dtype=np.float64)[..., 0, :]
    return mean_of_known(np.where(counts[..., _LABEL] == 0, np.nan, _iou(counts)))


def mean_of_known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average over the last axis and ignore NaN; NaN if all values are NaN.

    Example:
        >>> mean_of_known(np.array([[1.0, np.nan, 2.0], [np.nan] * 3])).tolist()
        [1.5, nan]
    """
    known = ~np.isnan(values)
    return _divide(np.where(known, values, 0).sum(axis=-1), known.sum(axis=-1))


def _iou(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    intersection = counts[..., _INTERSECTION]
    return _divide(intersection, counts[..., _LABEL] + counts[..., _PREDICTION] - intersection)


def _divide(numerator: NDArray[np.float64], denominator: NDArray[np.float64]) -> NDArray[np.float64]:
    quotient = np.full(numerator.shape, np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient
