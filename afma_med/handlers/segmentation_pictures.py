"""Pictures for TensorBoard: image, label and prediction in class colours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch.utils.tensorboard import SummaryWriter

from afma_med.data.class_table import ClassInfo
from afma_med.handlers.spread_items import SpreadItems
from afma_med.visualize.class_colors import compare_segmentations

__all__ = ["SegmentationPicturesHandler"]


class SegmentationPicturesHandler:
    """Add image, label and prediction of some of the evaluator's images to TensorBoard, side by side, each epoch.

    They are spread evenly over the section, see :class:`~afma_med.handlers.spread_items.SpreadItems`.

    Args:
        summary_writer: where the pictures go.
        classes: table of the classes, for colours and legend.
        count: how many images to show.

    Example:
        >>> from afma_med.data import camvid
        >>> handler = SegmentationPicturesHandler(SummaryWriter("runs/example"), camvid.CLASSES)  # doctest: +SKIP
    """

    def __init__(self, summary_writer: SummaryWriter, classes: Sequence[ClassInfo], *, count: int = 4) -> None:
        self.summary_writer = summary_writer
        self.classes = classes
        self._items = SpreadItems(count)

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated."""
        self._items.attach(engine)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        for number, item in self._items.choose(engine):
            prediction = item[CommonKeys.PRED].argmax(dim=0)
            picture = compare_segmentations(
                _array(item[CommonKeys.IMAGE]),
                _array(item[CommonKeys.LABEL])[0].astype(np.uint8),
                _array(prediction).astype(np.uint8),
                classes=self.classes,
            )
            tag = f"image, label, prediction/{number}"
            self.summary_writer.add_image(tag, picture, engine.state.epoch, dataformats="HWC")


def _array(x: Any) -> Any:
    return x.detach().cpu().numpy()
