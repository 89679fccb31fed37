"""The machine of a benchmark: its description, code and memory, and measurements in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

__all__ = ["available_bytes", "describe_machine", "find_commit", "in_child", "limit_memory", "peak_bytes"]

# What a measurement imports must not count as its memory.
_PRELOADED = ["segmentation_models_pytorch", "torch.utils.flop_counter", "afma_med.losses", "afma_med.networks"]


def describe_machine(device: str) -> dict[str, Any]:
    """Describe the machine, so that readers can judge its figures."""
    info = Path("/proc/cpuinfo")
    models = re.findall(r"model name\s*: (.*)", info.read_text(encoding="utf-8")) if info.exists() else []
    return {
        "cpu": models[0] if models else platform.processor(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "load_average": os.getloadavg(),
    }


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


def find_commit() -> str:
    """Return the commit of the running code, marked if it has changes; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return found.stdout.strip()
