"""Pictures for TensorBoard: image, label and prediction in class colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch.utils.tensorboard import SummaryWriter

from afma_med.data.class_table import ClassInfo
from afma_med.visualize.class_colors import compare_segmentations

__all__ = ["SegmentationPictures"]


class SegmentationPictures:
    """Add image, label and prediction of some of the evaluator's images to TensorBoard, side by side, each epoch.

    They are spread evenly over the section: the first frames of a drive, or slices of a volume, look all the same.

    Args:
        summary_writer: where the pictures go.
        classes: table of the classes, for colours and legend.
        count: how many images to show.

    Example:
        >>> from afma_med.data import camvid
        >>> handler = SegmentationPictures(SummaryWriter("runs/example"), camvid.CLASSES)  # doctest: +SKIP
    """

    def __init__(self, summary_writer: SummaryWriter, classes: Sequence[ClassInfo], *, count: int = 4) -> None:
        self.summary_writer = summary_writer
        self.classes = classes
        self.count = count
        self._shown = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        length = engine.state.epoch_length or 1
        # The middles of `count` equal parts of the epoch; this batch shows as many images as fall upon it.
        middles = [int((part + 0.5) * length / self.count) for part in range(self.count)]
        items: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for item in items[: middles.count((engine.state.iteration - 1) % length)]:
            prediction = item[CommonKeys.PRED].argmax(dim=0)
            picture = compare_segmentations(
                _array(item[CommonKeys.IMAGE]),
                _array(item[CommonKeys.LABEL])[0].astype(np.uint8),
                _array(prediction).astype(np.uint8),
                classes=self.classes,
            )
            self._shown += 1
            tag = f"image, label, prediction/{self._shown}"
            self.summary_writer.add_image(tag, picture, engine.state.epoch, dataformats="HWC")

    def _start(self, engine: Engine) -> None:
        self._shown = 0


def _array(x: Any) -> Any:
    return x.detach().cpu().numpy()
