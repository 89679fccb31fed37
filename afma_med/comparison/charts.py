"""Charts of a comparison: gain by class, gain against the size of objects, training curves."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from afma_med.comparison.page import Picture
from afma_med.comparison.results import Comparison, Difference, Gain
from afma_med.comparison.tables import group_classes, size_headings

__all__ = ["draw_charts", "draw_class_gains", "draw_curves", "draw_size_gains"]

# Okabe and Ito's colours, which remain distinct in every kind of colour vision.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GROUP_COLORS = {"small": "#D55E00", "large": "#0072B2", "other": "#009E73"}
_MEAN_COLOR = "#777777"
_MOST_IN_A_ROW = 2
_SEED: Mapping[str, Any] = {"marker": "o", "ls": "", "mfc": "white", "mec": "black", "ms": 3.5, "mew": 0.8}
_ERROR_BAR: Mapping[str, Any] = {"fmt": "none", "ecolor": "black", "elinewidth": 1, "capsize": 3}
_CLASS: Mapping[str, Any] = {"marker": "o", "ls": "", "color": "#56B4E9", "ms": 4.5}


def draw_charts(found: Comparison) -> tuple[list[Picture], list[str]]:
    """Draw gains by class and by size of object, and training curves; return also why some are left out."""
    pictures, wide, sizes = [], len(found.gains) > 1, size_headings(found.run)
    if found.gains:
        caption = "Gain in IoU of each class over the baseline: 95 % interval over images, and each common seed."
        figure = draw_class_gains(found.gains, group_classes(found.run))
        pictures.append(Picture("gains.png", "What AFMA adds", caption, _to_png(figure), wide))
    means = [gain.scores.get(f"IoU_by_size/{size}", Difference()).value for gain in found.gains for size in sizes]
    if not all(map(math.isnan, means)):
        caption = "Gain in IoU against the size of objects: mean over classes with its 95 % interval, and each class."
        figure = draw_size_gains(found.gains, sizes, found.run.counts.classes)
        pictures.append(Picture("sizes.png", "What AFMA adds", caption, _to_png(figure), wide))
    curves = {one.arm.label: [run.curve for run in one.arm.runs if run.curve] for one in found.arms}
    if drawn := {label: seeds for label, seeds in curves.items() if seeds}:
        caption = "mIoU of the validation images by epoch: mean over seeds (thick), each seed (thin)."
        pictures.append(Picture("curves.png", "Training", caption, _to_png(draw_curves(drawn))))
    missing = " and ".join(label for label in curves if label not in drawn)
    return pictures, [f"Training curves of {missing} are left out: no event files with val/mIoU."] if missing else []


def draw_class_gains(gains: Sequence[Gain], groups: Mapping[str, Sequence[str]]) -> Figure:
    """Draw what AFMA adds to the IoU of each class and each group of classes, one panel for each arm.

    A bar is the difference, with its interval over images; a point is a seed.
    """
    rows = _class_rows(groups)
    figure, panels = _panels(len(gains), width=5.6, height=1.4 + 0.3 * len(rows))
    places = np.arange(len(rows))
    for axes, gain in zip(panels, gains, strict=True):
        known = [gain.scores.get(score, Difference()) for _, score, _ in rows]
        axes.barh(places, [100 * one.value for one in known], color=[color for *_, color in rows], height=0.7)
        middles, reaches = _intervals(known)
        axes.errorbar(middles, places, xerr=reaches, label="95 % over images", **_ERROR_BAR)
        for place, (_, score, _) in zip(places, rows, strict=True):
            seeds = gain.of_seeds(score)
            axes.plot([100 * x for x in seeds], [place] * len(seeds), **_SEED)
        axes.plot([], [], label="a seed", **_SEED)
        for group in groups:
            axes.barh([0], [0], color=_GROUP_COLORS[group], label=f"{group} classes")
        axes.axvline(0, color="black", linewidth=1)
        axes.set(title=_title(gain), xlabel="gain in IoU, percentage points", ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].legend(fontsize=8)
    return figure


def draw_size_gains(gains: Sequence[Gain], sizes: Mapping[str, str], classes: Sequence[str]) -> Figure:
    """Draw what AFMA adds to the IoU of small, medium and large objects, one panel for each arm.

    A square is the mean over the classes, with its interval over images; a point is a class.
    """
    figure, panels = _panels(len(gains), width=6.4, height=5.0)
    places = np.arange(len(sizes))
    points = [[_class_values(gain, size, classes) for size in sizes] for gain in gains]
    drawn = [0.0, *(value for panel in points for column in panel for value in column.values())]
    gap = 0.035 * (max(drawn) - min(drawn))
    for axes, gain, columns in zip(panels, gains, points, strict=True):
        means = [gain.scores.get(f"IoU_by_size/{size}", Difference()) for size in sizes]
        axes.plot(places, [100 * one.value for one in means], "s", color="#D55E00", zorder=3, label="mean over classes")
        middles, reaches = _intervals(means)
        axes.errorbar(places, middles, yerr=reaches, label="95 % over images", **_ERROR_BAR)
        for place, column in zip(places, columns, strict=True):
            _draw_points(axes, place + 0.12, column, gap=gap)
        axes.plot([], [], label="a class", **_CLASS)
        axes.axhline(0, color="black", linewidth=1)
        axes.set(title=_title(gain), ylabel="gain in IoU, percentage points", xlim=(-0.3, len(sizes) - 0.3))
        axes.set_xticks(places, [heading.replace(" ", "\n", 1) for heading in sizes.values()])
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


def draw_curves(curves: Mapping[str, Sequence[Mapping[int, float]]], *, ylabel: str = "validation mIoU") -> Figure:
    """Draw training curves as the paper's Fig. 12: a thick line is the mean over seeds, a thin one is a seed."""
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (label, seeds) in enumerate(curves.items()):
        color, style = _PALETTE[number % len(_PALETTE)], ("-", "--", ":")[number // len(_PALETTE) % 3]
        for values in seeds:
            axes.plot([*values], [*values.values()], style, color=color, linewidth=0.8, alpha=0.45)
        # Only epochs that all seeds have: the mean would jump where one ends.
        common = sorted(set.intersection(*map(set, seeds)))
        means = [statistics.fmean(values[epoch] for values in seeds) for epoch in common]
        count = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        axes.plot(common, means, style, color=color, linewidth=2.2, label=label + count)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _title(gain: Gain) -> str:
    return textwrap.fill(gain.pairing.label, 44)


def _class_rows(groups: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Label, score and colour of each bar, from top to bottom."""
    rows = []
    for group, names in groups.items():
        rows += [(name, f"IoU/{name}", _GROUP_COLORS[group]) for name in names]
        if group != "other":
            rows.append((f"mean of {group}", f"mIoU_{group}", _MEAN_COLOR))
    return [*rows, ("mean of all", "mIoU", _MEAN_COLOR)]


def _class_values(gain: Gain, size: str, classes: Sequence[str]) -> dict[str, float]:
    """Gains in percentage points by class; classes without objects of the size are left out."""
    values = {name: 100 * gain.scores.get(f"IoU_{size}_objects/{name}", Difference()).value for name in classes}
    return {name: value for name, value in values.items() if not math.isnan(value)}


def _draw_points(axes: Axes, x: float, values: Mapping[str, float], *, gap: float) -> None:
    """Points above each other; their names next to them are moved apart until they can be read."""
    ordered = sorted(values.items(), key=lambda pair: pair[1])
    heights = [value for _, value in ordered]
    for _ in range(200):
        for i in range(len(heights) - 1):
            overlap = gap - (heights[i + 1] - heights[i])
            if overlap > 0:
                heights[i], heights[i + 1] = heights[i] - overlap / 2, heights[i + 1] + overlap / 2
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    for (name, value), height in zip(ordered, heights, strict=True):
        axes.plot(x, value, **_CLASS)
        axes.annotate(name, (x, value), (x + 0.09, height), arrowprops=line, va="center", fontsize=7)


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with ``count`` panels, which share their axes."""
    columns = min(count, _MOST_IN_A_ROW)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.tick_params(labelbottom=True)  # above other panels too
    return figure, panels[:count]


def _intervals(differences: Sequence[Difference]) -> tuple[list[float], list[float]]:
    """Middles and half widths of the intervals over images, in percentage points."""
    ends = [one.over_images or (math.nan, math.nan) for one in differences]
    return [50 * (low + high) for low, high in ends], [50 * (high - low) for low, high in ends]


def _to_png(figure: Figure) -> bytes:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=130)
    return content.getvalue()
