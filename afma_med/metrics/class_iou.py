"""Intersection over union by class, by object size and by company, over a whole dataset."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from ignite.metrics import Metric
from ignite.metrics.metric import reinit__is_reduced, sync_all_reduce
from torch import Tensor

from afma_med._ops.finite import check_finite
from afma_med._ops.labels import whole_numbers
from afma_med._ops.tensors import without_metadata
from afma_med.data.class_table import ClassInfo, class_groups, class_names
from afma_med.data.objects.sizes import SIZES, SizeGroups
from afma_med.metrics.pixel_counts import OBJECTS, count_pixels, object_counts, spacing_of
from afma_med.metrics.pixel_scores import scores_from_pixels

__all__ = ["ClassIoU", "predicted_index", "unscored_indices"]


class ClassIoU(Metric):
    """Compute IoU by class, by object size and by company from counts of pixels over the whole dataset.

    IoU_k = TP / (TP + FP + FN), with pixels summed over all images. mIoU is the mean over the classes that occur in
    labels or predictions. Void pixels (values outside 0..K-1) are ignored, and so are those of ``unscored``
    classes by default.

    With ``size_groups``, objects are the connected components of labels and of predictions, without ignored pixels;
    pixels that touch at a corner are connected. For a class and a size, IoU is the number of pixels in both a label
    object and a predicted object of that size, divided by the number in either (Table 4 of the paper); recall is the
    part of the pixels of label objects of that size that is predicted as the class. An object is lone if it is the only
    one of its class in the label of an image, and accompanied if there are several: all pixels of the class in such
    images count.

    Attached under a name, the metric writes ``name`` (mIoU), ``name_small`` and ``name_large`` (means over the paper's
    groups of classes) and ``<prefix>_IoU/<class>`` to ``engine.state.metrics``. With sizes, it adds
    ``<prefix>_IoU_by_size/<size>``, the mean over the classes but the background that have such objects in the labels,
    ``<prefix>_IoU_<size>_objects/<class>``, the same with ``by_company`` and ``lone`` or ``accompanied``, and all of
    these for ``recall``. Scores of classes and objects that do not occur are NaN.

    Args:
        class_table: Table of the classes.
        unscored: Names of classes that do not count for the means, such as CamVid's "unlabelled".
        count_unscored_pixels: Count predictions on pixels of unscored classes as false positives, as the released
            code does.
        size_groups: Bounds between small, medium and large objects; None for no scores of objects. Sizes in mm² or mm³
            need labels that are MetaTensors with a spacing.
        size_interval: Epochs of the engine between two scores by size, which take the CPU a tenth of a second an image.
        prefix: Prefix of the names of single classes.
        output_transform: Function of the engine's output that returns predictions and labels: lists or batches of
            logits, probabilities or one-hot maps (K,H,W) or (K,H,W,D), whose largest channel is the class, and of
            labels (1,H,W) or (1,H,W,D).

    Raises:
        ValueError: If an unscored class is not in the table, or the interval is not positive.

    Example:
        >>> from afma_med.data import CAMVID
        >>> metric = ClassIoU(CAMVID.classes)
        >>> metric.update(([torch.eye(12)[:, :, None]], [torch.arange(12)[None, :, None]]))
        >>> metric.compute()["mIoU"]
        1.0
    """

    def __init__(
        self,
        class_table: Sequence[ClassInfo],
        *,
        unscored: Sequence[str] = (),
        count_unscored_pixels: bool = False,
        size_groups: SizeGroups | None = None,
        size_interval: int = 1,
        prefix: str = "val",
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        if size_interval < 1:
            raise ValueError(f"`size_interval` must be a positive int; got {size_interval!r}. 1 is every epoch.")
        self.class_names = class_names(class_table)
        self.unscored = unscored_indices(self.class_names, unscored)
        self.groups = class_groups(class_table)
        self.count_unscored_pixels = count_unscored_pixels
        self.size_groups = size_groups
        self.size_interval = size_interval
        self.prefix = prefix
        self._scores_sizes = size_groups is not None
        super().__init__(output_transform=output_transform)

    @property
    def scored(self) -> list[int]:
        """Train ids of the classes that have scores."""
        return [k for k in range(len(self.class_names)) if k not in self.unscored]

    @reinit__is_reduced
    def reset(self) -> None:
        """Set all counts to zero."""
        strata = len(self.class_names) * len(SIZES)
        self.confusion = torch.zeros(strata, strata, dtype=torch.int64, device=self._device)
        self.counts = torch.zeros(len(self.class_names), len(OBJECTS), 4, dtype=torch.int64, device=self._device)
        #: (K,6,4) of :func:`~afma_med.metrics.pixel_counts.object_counts` for each image of this process.
        self.images: list[Tensor] = []

    @reinit__is_reduced
    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Count the pixels of predictions (K,H,W) against labels (1,H,W), image by image, so that sizes may differ.

        Raises:
            ValueError: If a prediction does not have K channels or the size of its label, or a value of the label is
                not a whole number.
            NonFiniteError: If a prediction is NaN or infinite; the message names the image.
        """
        for logits, label in zip(*output, strict=True):
            index, target = predicted_index(logits, label, num_classes=len(self.class_names))
            if not self.count_unscored_pixels:
                target = torch.where(torch.isin(target, target.new_tensor(self.unscored)), -1, target)
            groups = self.size_groups if self._scores_sizes else None
            matrix, objects = count_pixels(
                index, target, len(self.class_names), groups=groups, spacing=spacing_of(label)
            )
            self.images.append(object_counts(matrix, objects))
            self.confusion += matrix.to(self.confusion)
            self.counts += self.images[-1].to(self.counts)

    @sync_all_reduce("confusion", "counts")
    def compute(self) -> dict[str, float]:
        """Return the scores of :func:`~afma_med.metrics.pixel_scores.scores_from_pixels`, over all processes."""
        #: The matrix over all processes. After this call, ``confusion`` is again the matrix of this process.
        self.total = self.confusion.clone()
        objects = OBJECTS if self._scores_sizes else OBJECTS[:1]
        pixels = self.counts[self.scored, : len(objects)].cpu().numpy()
        groups = {group: [self.class_names[k] for k in indices] for group, indices in self.groups.items()}
        scores = scores_from_pixels(pixels, [self.class_names[k] for k in self.scored], objects, groups=groups)
        return {name: float(value) for name, value in scores.items()}

    def started(self, engine: Engine) -> None:
        """Start an epoch of the engine."""
        self._scores_sizes = self.size_groups is not None and engine.state.epoch % self.size_interval == 0
        super().started(engine)

    def completed(self, engine: Engine, name: str) -> None:
        """Write the named scalars to ``engine.state.metrics``."""
        # Scores of objects of an earlier epoch are out of date.
        for key in [key for key in engine.state.metrics if re.search("_by_size/|_by_company/|_objects/", key)]:
            del engine.state.metrics[key]
        for key, value in self.compute().items():
            target = key.replace("mIoU", name) if key.startswith("mIoU") else f"{self.prefix}_{key}"
            engine.state.metrics[target] = value


def predicted_index(logits: Tensor, label: Tensor, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Return the class of each pixel of a prediction and of its label, without metadata and channel.

    Args:
        logits: (K,H,W) or (K,H,W,D) logits, probabilities or one-hot maps: the largest channel is the class.
        label: (1,H,W) or (1,H,W,D) class indices of any number type; other values, such as void, become -1.
        num_classes: Number of classes K.

    Raises:
        ValueError: If the channels are not K and 1, the sizes differ, or a value of the label is not a whole number.
        NonFiniteError: If the largest value of a pixel is NaN or infinite.
    """
    if len(logits) != num_classes or len(label) != 1 or logits.shape[1:] != label.shape[1:]:
        raise ValueError(
            f"Predictions and labels must be (K,H,W) and (1,H,W), where the number of classes is K = {num_classes}; "
            f"got {tuple(logits.shape)} and {tuple(label.shape)}. Give network and metric the same classes."
        )
    largest = without_metadata(logits.detach()).max(dim=0)
    check_finite(largest.values, logits, label)
    target = whole_numbers("label", label.detach())[0]
    # Only then to int32, in which large values wrap around.
    return largest.indices.int(), target.where((target >= 0) & (target < num_classes), -1).int()


def unscored_indices(names: Sequence[str], unscored: Sequence[str]) -> list[int]:
    """Return the train ids of the classes without scores; an error names those that do not exist."""
    unknown = [name for name in unscored if name not in names]
    if unknown:
        raise ValueError(f"`unscored` must name classes of {list(names)}; got {unknown}. Choose from them.")
    return [names.index(name) for name in unscored]
