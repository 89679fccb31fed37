"""Pictures for TensorBoard: segmentations in class colours, and the attention of small objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ignite.engine import Engine, Events
from monai.utils.enums import CommonKeys
from numpy.typing import NDArray
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from afma_med._ops.labels import whole_numbers
from afma_med._ops.tensors import without_metadata
from afma_med.data.class_table import ClassInfo
from afma_med.visualize.attention import attend_image, decide, find_afma
from afma_med.visualize.attention_figure import compare_attention
from afma_med.visualize.class_colors import compare_segmentations
from afma_med.visualize.figure_file import figure_pixels
from afma_med.visualize.object_points import object_classes, smallest_object
from afma_med.visualize.point_attention import attend_point
from afma_med.visualize.volume_slices import spread_evenly

__all__ = ["AttentionPicturesHandler", "SegmentationPicturesHandler"]

# Smaller objects are often slips in the label.
_MIN_PIXELS = 10


class _PicturesHandler:
    """Draw some of an evaluator's items, the same ones in each epoch.

    They are spread evenly over the epoch, because neighbouring frames of a drive or slices of a volume look alike.
    """

    tag: str

    def __init__(self, summary_writer: SummaryWriter, class_table: Sequence[ClassInfo], count: int) -> None:
        self.summary_writer = summary_writer
        self.class_table = class_table
        self.count = count
        self._drawn = 0

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        length = engine.state.epoch_length or 1
        output: Any = engine.state.output
        in_batch = spread_evenly(length, self.count).count((engine.state.iteration - 1) % length)
        for item in output[:in_batch]:
            self._drawn += 1
            picture, tag = self._draw(item, engine.state.epoch), f"{self.tag}/{self._drawn}"
            if picture is not None:
                self.summary_writer.add_image(tag, picture, engine.state.epoch, dataformats="HWC")

    def _start(self, engine: Engine) -> None:
        self._drawn = 0

    def _draw(self, item: dict[str, Any], epoch: int) -> NDArray[np.uint8] | None:
        raise NotImplementedError


class SegmentationPicturesHandler(_PicturesHandler):
    """Add image, label and prediction of some of the evaluator's images to TensorBoard in each epoch.

    The images are spread evenly over the section and are the same in each epoch. Predictions are logits or
    probabilities (K,H,W), or logits (1,H,W) of a binary network; labels are class indices (1,H,W).

    Args:
        summary_writer: Writer of the pictures.
        class_table: Table of the classes, for colours and legend.
        count: Number of images to show.
    """

    tag = "image, label, prediction"

    def __init__(self, summary_writer: SummaryWriter, class_table: Sequence[ClassInfo], *, count: int = 4) -> None:
        super().__init__(summary_writer, class_table, count)

    def _draw(self, item: dict[str, Any], epoch: int) -> NDArray[np.uint8]:
        image, prediction = item[CommonKeys.IMAGE].detach().cpu().numpy(), item[CommonKeys.PRED].detach()
        decided = decide(without_metadata(prediction)[None])[0]
        return compare_segmentations(image, _label_array(item), decided, class_table=self.class_table)


class AttentionPicturesHandler(_PicturesHandler):
    """Add the attention of the smallest object of some of the evaluator's images to TensorBoard, every few epochs.

    The images are spread evenly over the section. The object is the smallest one of the label, so that the pictures of
    all epochs show the same patch. Images without an object, volumes, and networks without attention give no picture.
    The network runs once more on each of these images, in eval mode.

    Args:
        summary_writer: Writer of the pictures.
        network: AFMANet, or a module that holds one, such as DistributedDataParallel.
        class_table: Table of the classes.
        every: Epochs between two pictures. The first validation has one.
        count: Number of images to show.
        unscored: Names of classes whose objects do not count.
    """

    tag = "attention"

    def __init__(
        self,
        summary_writer: SummaryWriter,
        network: nn.Module,
        class_table: Sequence[ClassInfo],
        *,
        every: int = 5,
        count: int = 2,
        unscored: Sequence[str] = (),
    ) -> None:
        super().__init__(summary_writer, class_table, count)
        self.network = network
        self.every = every
        self._object_classes = object_classes(class_table, unscored)
        self._last: int | None = None

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated."""
        afma = find_afma(self.network)
        if afma is not None and hasattr(afma, "afma_block"):  # studied forms may have another attention
            super().attach(engine)

    def _start(self, engine: Engine) -> None:
        super()._start(engine)
        if self._last is None or engine.state.epoch >= self._last + self.every:
            self._last = engine.state.epoch

    def _draw(self, item: dict[str, Any], epoch: int) -> NDArray[np.uint8] | None:
        if epoch != self._last or item[CommonKeys.IMAGE].ndim != 3:
            return None
        label = _label_array(item)
        point = smallest_object(label, class_indices=self._object_classes, min_pixels=_MIN_PIXELS)
        if point is None:
            return None
        seen = attend_image(self.network, item[CommonKeys.IMAGE])
        class_index = int(label[point]) if len(seen.values) > 1 else 0
        row = (f"epoch {epoch}", attend_point(seen, point, class_index=class_index))
        return figure_pixels(compare_attention([row], self.class_table))


def _label_array(item: dict[str, Any]) -> NDArray[np.int64]:
    array: NDArray[np.int64] = whole_numbers("label", item[CommonKeys.LABEL].detach())[0].cpu().numpy()
    return array
