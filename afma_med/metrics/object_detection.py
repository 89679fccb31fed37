"""Precision, recall and F1 of objects instead of pixels, for lesions, birds, tumours."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from numpy.typing import NDArray
from torch import Tensor

from afma_med.data.class_table import ClassInfo, class_names, classes_with_objects
from afma_med.data.objects.sizes import SIZES, SizeGroups, label_objects
from afma_med.metrics.class_iou import predicted_index
from afma_med.metrics.pixel_counts import spacing_of

__all__ = ["ObjectDetection", "count_matches", "match_objects", "overlap_objects", "scores_from_matches"]


class ObjectDetection(Metric):
    """Compute precision, recall and F1 of objects (lesion-wise scores) over the whole dataset.

    Objects are the connected components of a class in labels and predictions; pixels that touch at a corner are
    connected. Label objects and predicted objects of a class are matched one to one, the largest overlap first, if
    their IoU is at least ``min_iou``. Over all images, recall is the part of the label objects that are matched,
    precision the part of the predicted objects that are matched, and F1 = 2 · matched / (label objects + predicted
    objects). Void pixels are ignored.

    Attached under a name, the metric writes ``<name>_precision/<class>``, ``<name>_recall/<class>`` and
    ``<name>_F1/<class>`` to ``engine.state.metrics``, and ``<name>_recall_<size>/<class>`` for label objects of each
    size. Scores of classes and sizes that do not occur are NaN.

    Args:
        classes: Table of the classes. The background, or without such a name the first class, has no scores.
        min_iou: Smallest IoU of a match; the LiTS challenge uses 0.5.
        size_groups: Bounds between small, medium and large objects; default: 32² and 96² pixels.
        output_transform: Function of the engine's output that returns predictions and labels: lists or batches of
            logits, probabilities or one-hot maps (K,H,W) or (K,H,W,D), whose largest channel is the class, and of
            labels (1,H,W) or (1,H,W,D).

    Raises:
        ValueError: If ``min_iou`` is not in (0, 1].

    Example:
        >>> from afma_med.data import ISIC
        >>> metric = ObjectDetection(ISIC.classes)
        >>> label = torch.tensor([[[1, 0, 1]]])
        >>> metric.update(([torch.tensor([[[0, 1, 1]], [[1, 0, 0]]])], [label]))
        >>> metric.compute()["recall/lesion"]
        0.5

    Reference:
        Bilic et al.: The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023.
    """

    def __init__(
        self,
        classes: Sequence[ClassInfo],
        *,
        min_iou: float = 0.5,
        size_groups: SizeGroups | None = None,
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        if not 0 < min_iou <= 1:
            raise ValueError(f"`min_iou` must be above 0 and at most 1; got {min_iou!r}. 0.5 is usual.")
        self.names = class_names(classes)
        self.min_iou = min_iou
        self.size_groups = size_groups or SizeGroups()
        super().__init__(output_transform=output_transform)

    @reinit__is_reduced
    def reset(self) -> None:
        """Set all counts to zero."""
        # For each class and size: label objects, matched ones, predicted objects, matched ones.
        self.counts = torch.zeros(len(self.names), len(SIZES), 4, dtype=torch.int64, device=self._device)

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Count the objects of predictions (K,H,W) and labels (1,H,W), image by image.

        Raises:
            ValueError: If a prediction does not have K channels or the size of its label, a value of the label is not a
                whole number, or sizes need a spacing.
            NonFiniteError: If a prediction is NaN or infinite; the message names the image.
        """
        for logits, label in zip(*output, strict=True):
            index, target = (x.cpu().numpy() for x in predicted_index(logits, label, classes=len(self.names)))
            unit = self.size_groups.pixel_size(spacing_of(label), target.ndim)
            index[(target < 0) | (target >= len(self.names))] = -1
            for k in classes_with_objects(self.names):
                counts = count_matches(target == k, index == k, self.size_groups, min_iou=self.min_iou, unit=unit)
                self.counts[k] += torch.from_numpy(counts).to(self.counts)

    @sync_all_reduce("counts")
    def compute(self) -> dict[str, float]:
        """Return ``precision/<class>``, ``recall/<class>``, ``F1/<class>``, ``recall_<size>/<class>``."""
        scores = {}
        for k in classes_with_objects(self.names):
            for key, value in scores_from_matches(self.counts[k]).items():
                scores[f"{key}/{self.names[k]}"] = value.item()
        return scores

    @sync_all_reduce("counts")
    def matches(self) -> dict[str, list[list[int]]]:
        """Return the counts by class, as lists of :func:`count_matches`'s form."""
        return {self.names[k]: self.counts[k].tolist() for k in classes_with_objects(self.names)}

    def completed(self, engine: Engine, name: str) -> None:
        """Write the named scalars to ``engine.state.metrics``."""
        engine.state.metrics.update({f"{name}_{key}": value for key, value in self.compute().items()})


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
    """Compute ``precision``, ``recall``, ``F1`` and ``recall_<size>`` from counts that are summed over images.

    Args:
        counts: (...,3,4) of :func:`count_matches`.

    Returns:
        Values (...) by score; NaN without objects.

    Example:
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
    """Match the objects of a label with those of a prediction, one to one, the largest overlap first.

    Args:
        label: (H,W) or (H,W,D) mask of the class in the label.
        prediction: Mask of the same shape in the prediction.
        min_iou: Smallest intersection over union of a match.

    Returns:
        Numbers of pixels of the label objects and of the predicted objects, and whether each object is matched.

    Example:
        >>> label, prediction = np.array([[1, 1, 0, 1]]) > 0, np.array([[1, 1, 0, 0]]) > 0
        >>> sizes, matched = match_objects(label, prediction)
        >>> sizes[0].tolist(), matched[0].tolist(), matched[1].tolist()
        ([2, 1], [True, False], [True])
    """
    sizes, pairs, overlap = overlap_objects(label, prediction)
    matched = [np.zeros(len(size), dtype=bool) for size in sizes]
    for number in np.argsort(-overlap, kind="stable"):
        i, j = pairs[:, number]
        if overlap[number] >= min_iou and not matched[0][i] and not matched[1][j]:
            matched[0][i] = matched[1][j] = True
    return sizes, (matched[0], matched[1])


def overlap_objects(
    label: NDArray[np.bool_], prediction: NDArray[np.bool_]
) -> tuple[tuple[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64], NDArray[np.float64]]:
    """Measure the overlaps of the objects of a label with those of a prediction.

    Args:
        label: (H,W) or (H,W,D) mask of the class in the label.
        prediction: Mask of the same shape in the prediction.

    Returns:
        Numbers of pixels of the label objects and of the predicted objects, and for each pair of objects with common
        pixels their two indices, (2,P), and their intersection over union, (P,).
    """
    objects = [_number_objects(mask) for mask in (label, prediction)]
    sizes = [np.bincount(numbers.ravel())[1:] for numbers in objects]
    both = (objects[0] > 0) & (objects[1] > 0)
    pairs, common = np.unique(np.stack([numbers[both] - 1 for numbers in objects]), axis=1, return_counts=True)
    overlap = common / (sizes[0][pairs[0]] + sizes[1][pairs[1]] - common)
    return (sizes[0].astype(np.int64), sizes[1].astype(np.int64)), pairs.astype(np.int64), overlap


def _number_objects(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Number the objects of a mask from 1, with 0 elsewhere. Only the bounding box of the mask is searched."""
    numbers = np.zeros(mask.shape, dtype=np.int32)
    if mask.any():
        box = tuple(slice(where.min(), where.max() + 1) for where in mask.nonzero())
        part = label_objects(mask[box].astype(np.uint8))
        part[~mask[box]] = 0
        _, renumbered = np.unique(part, return_inverse=True)
        numbers[box] = renumbered.reshape(part.shape) + (0 if (part == 0).any() else 1)
    return numbers
