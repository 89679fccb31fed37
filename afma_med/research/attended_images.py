"""The images of a run as its network attends to them: what measurements of the attention share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import Item
from afma_med.networks import AFMANet
from afma_med.networks.probing import probing
from afma_med.runs.finished_run import FinishedRun
from afma_med.visualize.attention import find_afma

__all__ = ["Attended", "attend", "check_measurable", "labelled_items", "with_next"]


class Attended(NamedTuple):
    """Hold what a network says of an image, and the image's label.

    Args:
        logits: (1,K,H,W), before the correction.
        attention: of the network, between patches if it is AFMA's own.
        label: (1,H,W) int64 train ids, -1 where there is none.
    """

    logits: Tensor
    attention: Any
    label: Tensor


def check_measurable(run: FinishedRun) -> AFMANet:
    """Return the AFMA network of a run whose attention can be measured.

    Raises:
        ValueError: if the run has no attention, or its dataset is one of volumes.
    """
    afma = find_afma(run.network)
    if afma is None or run.reader.read_volume is not None:
        raise ValueError(
            f"`run` must be one with AFMA, of images; got {run.title} of {run.reader.title}. Name another run."
        )
    return afma


def labelled_items(run: FinishedRun, section: str, limit: int | None = None) -> list[Item]:
    """List the images of a section that have labels, at most ``limit`` of them.

    Raises:
        ValueError: if there is none.
    """
    items: list[Item] = [i for i in run.reader.datalist(run.settings["dataset_dir"], section) if "label" in i]
    if not items:
        raise ValueError(f"`section` must have labels; got {section!r} without any. Choose another section.")
    return items[:limit]


def attend(run: FinishedRun, afma: AFMANet, item: Item) -> Attended:
    """Send an image through the network, with its label at the size at which the network sees it."""
    image = run.prepare(item["image"])
    index = run.read_label(item, image.shape[1:])
    label = torch.where(index < len(class_names(run.reader.classes)), index, -1)
    with probing(afma):
        return Attended(*afma.attend(image[None].to(run.device)), label[None].to(run.device))


def with_next(run: FinishedRun, afma: AFMANet, items: Sequence[Item]) -> Iterator[tuple[Attended, Attended]]:
    """Yield each image with the next one, the last with the first; each goes through the network once."""
    first = own = attend(run, afma, items[0])
    for item in items[1:]:
        following = attend(run, afma, item)
        yield own, following
        own = following
    yield own, first
