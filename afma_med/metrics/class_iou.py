"""Intersection over union per class, over a whole dataset, as named scalars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ignite.engine import Engine
from ignite.metrics import ConfusionMatrix
from torch import Tensor

from afma_med.data.class_table import ClassInfo, class_groups, class_names

__all__ = ["ClassIoU"]


class ClassIoU(ConfusionMatrix):
    """Compute per-class IoU from one confusion matrix over the whole set, and its means by object group.

    IoU_k = TP / (TP + FP + FN), pixels counted over all images; mIoU is the mean over the classes that occur in
    labels or predictions. Void pixels (values outside 0..K-1) are left out. So are, by default, the pixels of the
    ``unscored`` classes: they are no class of the benchmark, and what is predicted there is neither right nor wrong.

    Attached under a name, it leaves ``name`` (mIoU), ``name_small`` and ``name_large`` (means over the paper's
    groups) and ``<prefix>_IoU/<class>`` in ``engine.state.metrics``; the values of absent classes are NaN.

    Args:
        classes: table of the classes.
        unscored: names of classes that are left out of the means, as CamVid's "unlabelled".
        count_unscored_pixels: count predictions on pixels of unscored classes as false positives, as the released
            code does.
        prefix: prefix of the per-class names.
        output_transform: engine output -> (predictions, labels): lists or batches of logits (K,H,W) and of labels
            (1,H,W).

    Raises:
        ValueError: if an unscored class is not in the table.

    Example:
        >>> import torch
        >>> from afma_med.data import camvid
        >>> metric = ClassIoU(camvid.CLASSES)
        >>> metric.update(([torch.eye(12)[:, :, None]], [torch.arange(12)[None, :, None]]))
        >>> metric.compute()["mIoU"]
        1.0
    """

    def __init__(
        self,
        classes: Sequence[ClassInfo],
        *,
        unscored: Sequence[str] = ("unlabelled",),
        count_unscored_pixels: bool = False,
        prefix: str = "val",
        output_transform: Callable[[Any], Any] = lambda output: output,
    ) -> None:
        self.names = class_names(classes)
        unknown = [name for name in unscored if name not in self.names]
        if unknown:
            raise ValueError(f"`unscored` must name classes of {self.names}; got {unknown}. Choose out of them.")
        self.unscored = [self.names.index(name) for name in unscored]
        self.groups = class_groups(classes)
        self.count_unscored_pixels = count_unscored_pixels
        self.prefix = prefix
        super().__init__(num_classes=len(self.names), output_transform=output_transform)

    def update(self, output: tuple[Sequence[Tensor], Sequence[Tensor]]) -> None:
        """Count the pixels of predictions (K,H,W) against labels (1,H,W), image by image, so that sizes may differ."""
        for logits, label in zip(*output, strict=True):
            super().update((_plain(logits)[None], _plain(label).long()))

    def compute(self) -> dict[str, float]:
        """Return ``mIoU``, ``mIoU_small``, ``mIoU_large`` and ``IoU/<class>`` for every scored class."""
        confusion = super().compute().double()
        if not self.count_unscored_pixels:
            confusion[self.unscored] = 0
        hits = confusion.diag()
        iou = hits / (confusion.sum(dim=0) + confusion.sum(dim=1) - hits)
        scored = [k for k in range(len(self.names)) if k not in self.unscored]
        means = {"mIoU": scored, "mIoU_small": self.groups["small"], "mIoU_large": self.groups["large"]}
        result = {name: iou[indices].nanmean().item() for name, indices in means.items() if indices}
        return result | {f"IoU/{self.names[k]}": iou[k].item() for k in scored}

    def completed(self, engine: Engine, name: str) -> None:
        """Leave the named scalars in ``engine.state.metrics``."""
        result = self.compute()
        engine.state.metrics[name] = result.pop("mIoU")
        for key, value in result.items():
            target = key.replace("mIoU", name) if key.startswith("mIoU") else f"{self.prefix}_{key}"
            engine.state.metrics[target] = value


def _plain(x: Tensor) -> Tensor:
    return x.detach().as_subclass(Tensor)
