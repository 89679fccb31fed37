"""Measure variants of a computation side by side: interleaved times, peak memory in processes of their own, growth.

``afma benchmark`` measures AFMA with it.
"""

from __future__ import annotations

import csv
import json
import math
import multiprocessing
import os
import platform
import re
import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import torch

__all__ = [
    "available_bytes",
    "describe_machine",
    "draw_growth",
    "fit_growth",
    "in_child",
    "limit_memory",
    "peak_bytes",
    "summarise",
    "time_interleaved",
    "write_results",
]


def time_interleaved(
    run: Callable[[str], object], names: Sequence[str], *, repeats: int, device: str
) -> dict[str, list[float]]:
    """Time each variant once a round, so that what disturbs a machine disturbs all of them.

    Args:
        run: runs the variant of a name once; each is warmed up by the caller.
        names: of the variants.
        repeats: rounds.
        device: ``"cpu"`` or ``"cuda"``.

    Returns:
        The seconds of each variant.
    """
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for name in [*names] * repeats:
        _wait(device)
        start = time.perf_counter()
        run(name)
        _wait(device)
        seconds[name].append(time.perf_counter() - start)
    return seconds


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def summarise(
    seconds: dict[str, list[float]], pairs: Sequence[tuple[str, str]], *, baseline: str = "bare"
) -> dict[str, float]:
    """Summarise what :func:`time_interleaved` gives.

    Args:
        seconds: of each variant.
        pairs: of variants that are compared.
        baseline: the variant beyond which the others are said to add time.

    Returns:
        Median and interquartile range of each variant a, ``a_ms`` and ``a_iqr_ms``, and the median of what it adds,
        ``a_added_ms``, in milliseconds; of each pair the ratio of the medians, ``a/b``, and the median of the ratios
        round by round, ``a~b``.
    """
    result: dict[str, float] = {}
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        result |= {f"{name}_ms": 1e3 * middle, f"{name}_iqr_ms": 1e3 * (high - low)}
    for name in seconds.keys() - {baseline} if baseline in seconds else ():
        added = (a - b for a, b in zip(seconds[name], seconds[baseline], strict=True))
        result[f"{name}_added_ms"] = 1e3 * statistics.median(added)
    for one, other in pairs:
        if one in seconds and other in seconds:
            rounds = list(zip(seconds[one], seconds[other], strict=True))
            result[f"{one}/{other}"] = result[f"{one}_ms"] / result[f"{other}_ms"]
            result[f"{one}~{other}"] = statistics.median(a / b for a, b in rounds)
    return result


def peak_bytes(device: str) -> int:
    """The most bytes that this process, or the allocator of its GPU, has held."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def available_bytes(device: str) -> int:
    """The bytes that are free on a device."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    if (info := Path("/proc/meminfo")).exists():  # counts what the page cache would give up, unlike sysconf
        return 1024 * int(info.read_text(encoding="utf-8").split("MemAvailable:")[1].split()[0])
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def limit_memory() -> None:
    """Make what does not fit into memory fail in this process, before the system ends some other one."""
    hard, free = resource.getrlimit(resource.RLIMIT_DATA)[1], available_bytes("cpu")
    resource.setrlimit(resource.RLIMIT_DATA, (free if hard == resource.RLIM_INFINITY else min(free, hard), hard))


def in_child(function: Callable[..., Any], *arguments: Any) -> Any:
    """Run a function in a process of its own, forked from a small one that has imported but not run anything.

    Raises:
        MemoryError: if memory ran out there.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["segmentation_models_pytorch", "torch.utils.flop_counter", "afma_med.losses", "afma_med.networks"]
    )
    try:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            return pool.submit(function, *arguments).result()
    except BrokenProcessPool:
        raise MemoryError("its process was ended from outside, as systems do when memory runs out") from None
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "allocate memory" not in str(error):
            raise
        raise MemoryError("memory ran out") from None


def fit_growth(rows: Sequence[dict[str, Any]], keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Points of ``pixels`` and of each key, and the exponent: the slope of a line through the logarithms.

    Args:
        rows: of results; those without a key are left out for it.
        keys: of what grows.

    Returns:
        For each key ``points``, and ``exponent``, None where two points are lacking.
    """
    series = {}
    for key in keys:
        points = [(row["pixels"], row[key]) for row in rows if key in row]
        logs = [(math.log(pixels), math.log(value)) for pixels, value in points if value > 0]
        slope = statistics.linear_regression(*zip(*logs, strict=True)).slope if len(logs) > 1 else None
        series[key] = {"points": points, "exponent": slope}
    return series


def draw_growth(series: dict[str, dict[str, Any]], panels: Mapping[str, Sequence[str]], path: Path) -> None:
    """Draw the series of :func:`fit_growth` on logarithmic axes.

    Args:
        series: of :func:`fit_growth`.
        panels: the keys of each panel, by its title.
        path: of the picture.
    """
    # Here, so that it is not in the memory of what is measured.
    from matplotlib.figure import Figure

    from afma_med.visualize.figure_file import save_figure

    figure = Figure(figsize=(5 * len(panels), 4), dpi=150, layout="constrained")
    for axes, (title, keys) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
        for key, style in zip(keys, ("o-", "s--", "^:"), strict=False):
            exponent = series[key]["exponent"]
            label = key.split("_")[0] + (f", pixels^{exponent:.2f}" if exponent is not None else "")
            drawn = [(pixels, value if value > 0 else math.nan) for pixels, value in series[key]["points"]]
            axes.loglog([pixels for pixels, _ in drawn], [value for _, value in drawn], style, label=label)
        axes.set(xlabel="pixels", ylabel=title)
        axes.legend()
    save_figure(figure, path)


def describe_machine(device: str) -> dict[str, Any]:
    """What a reader of figures wants to know of the machine they come from."""
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


def write_results(folder: Path, result: dict[str, Any]) -> None:
    """Write benchmark.json, all of a result, and benchmark.csv, the numbers of its ``rows``."""
    (folder / "benchmark.json").write_text(json.dumps(result, indent=1, default=str), encoding="utf-8")
    names = dict.fromkeys(name for row in result["rows"] for name in row if name != "seconds")
    with (folder / "benchmark.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(result["rows"])
