"""Charts of a comparison: gain by class, gain against the size of objects, training curves."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from afma_med.research.comparison.intervals import paired_differences
from afma_med.research.comparison.results import Difference, Gain

__all__ = ["draw_class_gains", "draw_curves", "draw_size_gains"]

# Okabe and Ito's colours, which every kind of colour vision tells apart.
_PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_GROUP_COLORS = {"small": "#D55E00", "large": "#0072B2", "other": "#009E73"}
_MEAN_COLOR = "#777777"
_MOST_IN_A_ROW = 2
_UNKNOWN = Difference(math.nan, 0, None, None)


def draw_class_gains(gains: Sequence[Gain], groups: Mapping[str, Sequence[str]]) -> Figure:
    """Draw what AFMA adds to the IoU of each class, a panel an arm.

    A bar is the difference, with its interval over images; a point is a seed.

    Args:
        gains: at least one.
        groups: names of classes by ``"small"``, ``"large"``, ``"other"``, from top to bottom; the mean of a group is
            below it.

    Returns:
        The figure.
    """
    rows = _class_rows(groups)
    figure, panels = _panels(len(gains), width=5.6, height=1.4 + 0.3 * len(rows))
    places = np.arange(len(rows))
    for axes, gain in zip(panels, gains, strict=True):
        known = [gain.scores.get(score, _UNKNOWN) for _, score, _ in rows]
        axes.barh(places, [100 * one.value for one in known], color=[color for *_, color in rows], height=0.7)
        middles, reaches = _error_bars(known)
        axes.errorbar(
            middles, places, xerr=reaches, fmt="none", ecolor="black", label="95 % over images", elinewidth=1, capsize=3
        )
        for place, (_, score, _) in zip(places, rows, strict=True):
            seeds = paired_differences(gain.pairing.arm.values(score), gain.pairing.baseline.values(score))
            axes.plot([100 * x for x in seeds], [place] * len(seeds), "o", mfc="white", mec="black", ms=3.5, mew=0.8)
        axes.plot([], [], "o", mfc="white", mec="black", ms=3.5, mew=0.8, label="a seed")
        for group in groups:
            axes.barh([0], [0], color=_GROUP_COLORS[group], label=f"{group} classes")
        axes.axvline(0, color="black", linewidth=1)
        axes.set(
            title=_in_lines(gain.pairing.label), xlabel="gain in IoU, percentage points", ylim=(len(rows) - 0.4, -0.6)
        )
        axes.set_yticks(places, [label for label, *_ in rows])
        axes.grid(axis="x", alpha=0.3)
        axes.set_axisbelow(True)
    panels[0].legend(fontsize=8)
    return figure


def draw_size_gains(gains: Sequence[Gain], sizes: Mapping[str, str], classes: Sequence[str]) -> Figure:
    """Draw what AFMA adds to the IoU of small, medium and large objects, a panel an arm.

    A square is the mean over the classes, with its interval over images; a point is a class.

    Args:
        gains: at least one.
        sizes: headings by name.
        classes: names.

    Returns:
        The figure.
    """
    figure, panels = _panels(len(gains), width=6.4, height=5.0)
    places = np.arange(len(sizes))
    points = [_class_points(gain, sizes, classes) for gain in gains]
    drawn = [0.0, *(value for panel in points for column in panel for value in column.values())]
    gap = 0.035 * (max(drawn) - min(drawn))
    for axes, gain, columns in zip(panels, gains, points, strict=True):
        means = [gain.scores.get(f"IoU_by_size/{size}", _UNKNOWN) for size in sizes]
        axes.plot(places, [100 * one.value for one in means], "s", color="#D55E00", zorder=3, label="mean over classes")
        middles, reaches = _error_bars(means)
        axes.errorbar(
            places, middles, yerr=reaches, fmt="none", ecolor="black", label="95 % over images", elinewidth=1, capsize=3
        )
        for place, column in zip(places, columns, strict=True):
            _draw_points(axes, place + 0.12, column, gap=gap)
        axes.plot([], [], "o", color="#56B4E9", ms=4.5, label="a class")
        axes.axhline(0, color="black", linewidth=1)
        axes.set(
            title=_in_lines(gain.pairing.label), ylabel="gain in IoU, percentage points", xlim=(-0.3, len(sizes) - 0.3)
        )
        axes.set_xticks(places, [heading.replace(" ", "\n", 1) for heading in sizes.values()])
        axes.grid(axis="y", alpha=0.3)
    panels[0].legend(fontsize=8)
    return figure


def draw_curves(curves: Mapping[str, Sequence[Mapping[int, float]]], *, ylabel: str = "validation mIoU") -> Figure:
    """Draw training curves as the paper's Fig. 12: a thick line is the mean over seeds, a thin one is a seed.

    Args:
        curves: of each arm, by its label, one a seed: values by epoch.
        ylabel: of the vertical axis.

    Returns:
        The figure.

    Example:
        >>> figure = draw_curves({"AFMA": [{1: 0.25, 2: 0.5}, {1: 0.75, 2: 1.0}]})
        >>> figure.axes[0].lines[-1].get_ydata().tolist()
        [0.5, 0.75]
    """
    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.subplots()
    for number, (label, seeds) in enumerate(curves.items()):
        color, style = _PALETTE[number % len(_PALETTE)], ("-", "--", ":")[number // len(_PALETTE) % 3]
        for values in seeds:
            axes.plot([*values], [*values.values()], style, color=color, linewidth=0.8, alpha=0.45)
        # Means of all seeds only: those of fewer would jump.
        common = sorted(set.intersection(*({*values} for values in seeds))) if seeds else []
        means = [math.fsum(values[epoch] for values in seeds) / len(seeds) for epoch in common]
        count = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        axes.plot(common, means, style, color=color, linewidth=2.2, label=label + count)
    axes.set(xlabel="epoch", ylabel=ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def _in_lines(title: str) -> str:
    """Break what is wider than an axes."""
    return "\n".join(textwrap.wrap(title, 44))


def _class_rows(groups: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Label, score and colour of each bar, from top to bottom."""
    rows = []
    for group, names in groups.items():
        rows += [(name, f"IoU/{name}", _GROUP_COLORS[group]) for name in names]
        if group != "other":
            rows.append((f"mean of {group}", f"mIoU_{group}", _MEAN_COLOR))
    return [*rows, ("mean of all", "mIoU", _MEAN_COLOR)]


def _class_points(gain: Gain, sizes: Iterable[str], classes: Sequence[str]) -> list[dict[str, float]]:
    """Percentage points by class, of each size; classes without a value are left out."""
    columns = []
    for size in sizes:
        values = {name: gain.scores.get(f"IoU_{size}_objects/{name}", _UNKNOWN).value for name in classes}
        columns.append({name: 100 * value for name, value in values.items() if not math.isnan(value)})
    return columns


def _draw_points(axes: Axes, x: float, values: Mapping[str, float], *, gap: float) -> None:
    """Points above each other, their names next to them, so far apart that they can be read."""
    ordered = sorted(values.items(), key=lambda pair: pair[1])
    heights = [value for _, value in ordered]
    for _ in range(200):
        for i in range(len(heights) - 1):
            lacking = gap - (heights[i + 1] - heights[i])
            if lacking > 0:
                heights[i], heights[i + 1] = heights[i] - lacking / 2, heights[i + 1] + lacking / 2
    line = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
    for (name, value), height in zip(ordered, heights, strict=True):
        axes.plot(x, value, "o", color="#56B4E9", ms=4.5)
        axes.annotate(name, (x, value), (x + 0.09, height), arrowprops=line, va="center", fontsize=7)


def _panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with so many panels, which share their axes."""
    columns = min(count, _MOST_IN_A_ROW)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for axes in panels[count:]:
        axes.remove()
    for axes in panels[:count]:
        axes.tick_params(labelbottom=True)  # above other panels too
    return figure, panels[:count]


def _error_bars(differences: Sequence[Difference]) -> tuple[list[float], list[list[float]]]:
    """Middles and reaches of the intervals over images, in percentage points: they need not hold the value itself."""
    ends = [one.over_images or (math.nan, math.nan) for one in differences]
    return [50 * (low + high) for low, high in ends], [[50 * (high - low) for low, high in ends]] * 2
