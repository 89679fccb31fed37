"""Measurements in processes of their own, and the memory that they take."""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

__all__ = ["available_bytes", "in_child", "limit_memory", "peak_bytes"]

# What a measurement imports must not count as its memory.
_PRELOADED = ["segmentation_models_pytorch", "torch.utils.flop_counter", "afma_med.losses", "afma_med.networks"]


def available_bytes(device: str) -> int:
    """Return the free memory of a device in bytes."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if (info := Path("/proc/meminfo")).exists():  # counts what the page cache would give up, unlike sysconf
        return 1024 * int(info.read_text(encoding="utf-8").split("MemAvailable:")[1].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def peak_bytes(device: str) -> int:
    """Return the most bytes that this process, or the allocator of its GPU, has held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def limit_memory() -> None:
    """Limit this process to the free memory, so that it fails before the system ends another process."""
    hard, free = resource.getrlimit(resource.RLIMIT_DATA)[1], available_bytes("cpu")
    resource.setrlimit(resource.RLIMIT_DATA, (free if hard == resource.RLIM_INFINITY else min(free, hard), hard))


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a new process, forked from a small one that has imported the package but not run anything.

    Raises:
        MemoryError: if memory ran out there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise MemoryError("its process was ended from outside, as systems do when memory runs out") from None
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError("memory ran out") from None
