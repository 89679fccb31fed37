"""Pictures for TensorBoard: how the attention of a few small objects takes form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from afma_med.data.class_table import ClassInfo
from afma_med.handlers.spread_items import SpreadItems
from afma_med.visualize.attention import attend_image, attend_point, find_afma
from afma_med.visualize.attention_figure import compare_attention
from afma_med.visualize.figure_file import figure_pixels
from afma_med.visualize.object_points import object_classes, smallest_object

__all__ = ["AttentionPicturesHandler"]

# Objects of fewer pixels are rather slips of whoever drew the label.
_MIN_PIXELS = 10


class AttentionPicturesHandler:
    """Add the attention of the smallest object of some of the evaluator's images to TensorBoard, every few epochs.

    Images are those that :class:`~afma_med.handlers.spread_items.SpreadItems` chooses; the object is the smallest one
    of the label, so that the pictures of all epochs show the same patch. Images without an object, and volumes, give no
    picture; networks without attention none at all. The network runs once more on each of these images, in eval mode.

    Args:
        summary_writer: where the pictures go.
        network: an AFMANet, or what holds one, such as DistributedDataParallel.
        classes: table of the classes.
        every: epochs from one picture to the next; the first validation has one.
        count: how many images to show.
        unscored: names of classes whose objects do not count.

    Example:
        >>> from afma_med.data import camvid
        >>> handler = AttentionPicturesHandler(SummaryWriter("runs/example"), net, camvid.CLASSES)  # doctest: +SKIP
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        network: nn.Module,
        classes: Sequence[ClassInfo],
        *,
        every: int = 5,
        count: int = 2,
        unscored: Sequence[str] = (),
    ) -> None:
        self.summary_writer = summary_writer
        self.network = network
        self.classes = classes
        self.every = every
        self._object_classes = object_classes(classes, unscored)
        self._items = SpreadItems(count)
        self._last: int | None = None
        self._is_due = False

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated."""
        afma = find_afma(self.network)
        if afma is None or not hasattr(afma, "afma_block"):  # studied forms may have another attention
            return
        self._items.attach(engine)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        chosen = self._items.choose(engine)
        for number, item in chosen if self._is_due else []:
            picture = self._draw(item, engine.state.epoch)
            if picture is not None:
                self.summary_writer.add_image(f"attention/{number}", picture, engine.state.epoch, dataformats="HWC")

    def _start(self, engine: Engine) -> None:
        self._is_due = self._last is None or engine.state.epoch >= self._last + self.every
        if self._is_due:
            self._last = engine.state.epoch

    def _draw(self, item: dict[str, Any], epoch: int) -> np.ndarray | None:
        if item[CommonKeys.IMAGE].ndim != 3:
            return None
        label = item[CommonKeys.LABEL][0].cpu().numpy().astype(np.uint8)
        point = smallest_object(label, classes=self._object_classes, min_pixels=_MIN_PIXELS)
        if point is None:
            return None
        seen = attend_image(self.network, item[CommonKeys.IMAGE])
        asked = int(label[point]) if len(seen.values) > 1 else 0
        row = (f"epoch {epoch}", attend_point(seen, point, class_index=asked))
        return figure_pixels(compare_attention([row], self.classes))
