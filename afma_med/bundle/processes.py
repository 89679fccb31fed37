"""One process of several that torchrun started, as bundles need it; nothing to do where there is only one."""

from __future__ import annotations

import os
from collections.abc import Sized
from datetime import timedelta

import ignite.distributed as idist
import torch
import torch.distributed as dist
from monai.data import DistributedSampler

__all__ = ["process_device", "split_among_processes", "start_processes", "stop_processes"]


def start_processes(timeout_minutes: float = 30) -> int:
    """Join the processes that torchrun started, on the GPU of this one if there are any, and return the rank.

    Args:
        timeout_minutes: so long a process waits for the others before it ends with an error, as it does when one of
            them hangs; when one dies, the others end at once.
    """
    if not dist.is_initialized():
        backend = "nccl" if torch.cuda.is_available() else "gloo"
        dist.init_process_group(backend=backend, timeout=timedelta(minutes=timeout_minutes))
    if torch.cuda.is_available():
        torch.cuda.set_device(process_device())
    # Asked for at once: later only the first process would build what asks, and wait for the others for ever.
    return idist.get_rank()


def process_device() -> torch.device:
    """Return the device of this process of several, by torchrun's LOCAL_RANK."""
    return torch.device(f"cuda:{os.environ['LOCAL_RANK']}" if torch.cuda.is_available() else "cpu")


def split_among_processes(dataset: Sized) -> DistributedSampler:
    """Return a sampler that gives every process its share of a dataset to score, no image twice.

    Raises:
        ValueError: if there are fewer images or volumes than processes, which would wait for each other for ever.
    """
    if len(dataset) < dist.get_world_size():
        raise ValueError(
            f"`nproc_per_node` must be at most the number of images or volumes to score, {len(dataset)}; got "
            f"{dist.get_world_size()} processes. Start fewer."
        )
    return DistributedSampler(dataset, even_divisible=False, shuffle=False)  # type: ignore[arg-type]


def stop_processes() -> None:
    """Leave the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()
