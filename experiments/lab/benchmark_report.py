"""Summarise the measurements of the benchmark: medians and ratios, growth with its powers, files and a chart."""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scipy import stats

from experiments.lab.benchmark_cases import GROWING

__all__ = ["fit_growth", "save_benchmark", "summarise"]

_GROWING, _UNITS = ("ours", "dense"), {"added_ms": "added time, ms", "added_mib": "added peak memory, MiB"}


def summarise(seconds: Mapping[str, Sequence[float]], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Summarise the seconds of variants.

    Returns:
        Median and interquartile range of each variant a, ``a_ms`` and ``a_iqr_ms``, and the median of the time that it
        adds to the bare variant, ``a_added_ms``, in milliseconds; of each pair the ratio of the medians, ``a/b``, and
        the median of the ratios round by round, ``a~b``.
    """
    result: dict[str, float] = {}
    for name, times in seconds.items():
        low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
        result |= {f"{name}_ms": 1e3 * middle, f"{name}_iqr_ms": 1e3 * (high - low)}
        if name != "bare" and "bare" in seconds:
            added = (a - b for a, b in zip(times, seconds["bare"], strict=True))
            result[f"{name}_added_ms"] = 1e3 * statistics.median(added)
    for one, other in pairs:
        if one in seconds and other in seconds:
            ratios = (a / b for a, b in zip(seconds[one], seconds[other], strict=True))
            result[f"{one}/{other}"] = result[f"{one}_ms"] / result[f"{other}_ms"]
            result[f"{one}~{other}"] = statistics.median(ratios)
    return result


def fit_growth(rows: Sequence[Mapping[str, Any]], by: str, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Collect ``points`` of (what grows, value) for each key, and their ``exponent``: the slope in logarithms.

    Args:
        rows: of :func:`measure_case`. Those without a key are left out.
        by: name of what grows, such as ``"pixels"``.
        keys: names of values.

    Returns:
        By key ``points``, ``exponent`` and the half-width ``reach`` of its 95 % interval, from the scatter of the
        points about their line; None for fewer than three points.
    """
    series = {}
    for key in keys:
        points = [(row[by], row[key]) for row in rows if key in row]
        logs = [(math.log(size), math.log(value)) for size, value in points if value > 0]
        series[key] = {"points": points, "exponent": None, "reach": None}
        if len(logs) > 2:
            line = stats.linregress(*zip(*logs, strict=True))
            series[key] |= {"exponent": line.slope, "reach": stats.t.ppf(0.975, len(logs) - 2) * line.stderr}
    return series


def save_benchmark(folder: Path, rows: Sequence[dict[str, Any]], **details: Any) -> None:
    """Write benchmark.json, with rows and details, benchmark.csv, and growth.png for rows of groups that grow."""
    of_group = {group: [row for row in rows if row["case"].startswith(f"{group}-")] for group in GROWING}
    keys = [f"{name}_{unit}" for name in _GROWING for unit in _UNITS]
    growth = {group: fit_growth(found, GROWING[group], keys) for group, found in of_group.items() if found}
    content = json.dumps({**details, "growth": growth, "rows": rows}, indent=1, default=str)
    (folder / "benchmark.json").write_text(content, encoding="utf-8")
    names = dict.fromkeys(name for row in rows for name in row if name != "seconds")
    with (folder / "benchmark.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*names], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    if growth:
        _draw_growth(growth, folder / "growth.png")


def _draw_growth(growth: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> None:
    # Imported here: the processes that are measured import this module, and do not draw.
    from matplotlib.figure import Figure

    from afma_med.visualize.figure_file import save_figure

    figure = Figure(figsize=(5 * len(growth), 8), dpi=150, layout="constrained")
    rows = figure.subplots(2, len(growth), squeeze=False)
    for (unit, title), row in zip(_UNITS.items(), rows, strict=True):
        for (group, series), axes in zip(growth.items(), row, strict=True):
            for name, style in zip(_GROWING, ("o-", "s--"), strict=True):
                points, exponent, reach = (series[f"{name}_{unit}"][key] for key in ("points", "exponent", "reach"))
                values = [value if value > 0 else math.nan for _, value in points]
                label = name + (f", power {exponent:.2f} ± {reach:.2f}" if exponent is not None else "")
                axes.loglog([size for size, _ in points], values, style, label=label)
            axes.set(xlabel=GROWING[group], ylabel=title)
            axes.legend()
    save_figure(figure, path)
