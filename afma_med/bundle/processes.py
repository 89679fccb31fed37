"""One of several processes that torchrun started: its device, and its share of the images."""

from __future__ import annotations

import os
from collections.abc import Sequence, Sized
from datetime import timedelta

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.data import DistributedSampler, DistributedWeightedRandomSampler
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from afma_med.bundle.recipe import check_sample_weights

__all__ = ["process_device", "shared_sampler", "split_among_processes", "start_processes", "stop_processes"]


def start_processes(timeout_minutes: float = 30) -> int:
    """Join the processes that torchrun started, select the GPU of this one if there are any, and return its rank.

    Args:
        timeout_minutes: Time that a process waits for a process that hangs before it raises an error. If a process
            dies, the others end at once.
    """
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend=backend, timeout=timedelta(minutes=timeout_minutes))
    if torch.cuda.is_available():
        torch.cuda.set_device(process_device())
    # Called here, where all processes are: ignite's first call waits for all of them.
    return idist.get_rank()


def process_device() -> torch.device:
    """Return the device of this process, by torchrun's LOCAL_RANK."""
    return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu")


def split_among_processes(dataset: Sized) -> DistributedSampler:
    """Return a sampler that gives each process its share of the images to score, each image once.

    Raises:
        ValueError: If there are fewer images than processes, because processes without images would wait for ever.
    """
    if len(dataset) < dist.get_world_size():
        raise ValueError(
            f"`nproc_per_node` must be at most the number of images or volumes to score, {len(dataset)}; got "
            f"{dist.get_world_size()} processes. Start fewer."
        )
    return DistributedSampler(dataset, even_divisible=False, shuffle=False)  # type: ignore[arg-type]


def shared_sampler(dataset: Dataset[object], weights: Sequence[float] | Tensor | None = None) -> Sampler[int]:
    """Return a sampler that gives each process the same number of training images.

    Args:
        dataset: Training images.
        weights: Weight of each image; None to draw all images alike.

    Raises:
        ValueError: If the weights do not fit the images.
    """
    if weights is None:
        return DistributedSampler(dataset, even_divisible=True, shuffle=True)
    count = len(dataset)  # type: ignore[arg-type]
    return DistributedWeightedRandomSampler(dataset, weights=check_sample_weights(weights, count))  # type: ignore[arg-type]


def stop_processes() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()
