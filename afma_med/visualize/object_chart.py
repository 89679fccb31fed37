"""Charts of a dataset's objects: their number by size, as in Fig. 9 of the paper, and which a network would lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from afma_med.data.objects.sizes import SIZES, SizeGroups

__all__ = ["SIZE_COLORS", "draw_lost_objects", "draw_object_counts", "size_titles"]

#: Colours of small, medium and large objects, distinct in all kinds of colour vision (Okabe and Ito).
SIZE_COLORS = ("#d55e00", "#e69f00", "#0072b2")


def size_titles(groups: SizeGroups) -> list[str]:
    """Return the names of the groups with their bounds, such as "small (< 1024 pixels)"."""
    low, high = (f"{bound:g}" for bound in groups.bounds)
    limits = (f"< {low}", f"{low} to {high}", f"> {high}")
    return [f"{size} ({limit} {groups.unit})" for size, limit in zip(SIZES, limits, strict=True)]


def draw_object_counts(
    counts: Mapping[str, NDArray[np.integer]], names: Sequence[str], *, groups: SizeGroups, title: str
) -> Figure:
    """Draw the number of objects of each class by size, one panel for each section.

    Args:
        counts: (K,3) numbers of objects of each section.
        names: Names of the K classes.
        groups: Bounds between the sizes.
        title: Title of the dataset.

    Example:
        >>> draw_object_counts({"train": np.ones((2, 3), int)}, ["a", "b"], groups=SizeGroups(), title="Example")
        <Figure size 624x360 with 1 Axes>
    """
    figure = Figure(figsize=(0.8 + 4.4 * len(counts), max(3.0, 1.3 + 0.45 * len(names))), dpi=120, layout="constrained")
    panels = figure.subplots(1, len(counts), sharey=True, squeeze=False)[0]
    places = np.arange(len(names))
    for panel, (section, rows) in zip(panels, counts.items(), strict=True):
        for size, (label, color) in enumerate(zip(size_titles(groups), SIZE_COLORS, strict=True)):
            bars = panel.barh(places + 0.27 * (size - 1), rows[:, size], 0.25, color=color, label=label)
            panel.bar_label(bars, fontsize=7, padding=2)
        panel.set_title(f"{section}: {int(rows.sum())} objects", fontsize=10)
        panel.set_xlabel("number of objects")
        panel.margins(x=0.12)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_yticks(places, names)
    panels[0].invert_yaxis()
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    figure.suptitle(f"Objects in the labels of {title}, by size", fontsize=11)
    return figure


def draw_lost_objects(shares: Mapping[str, Sequence[float]], columns: Sequence[str], *, title: str) -> Figure:
    """Draw which share of each class's objects a network would lose, one row for each way to lose them.

    Args:
        shares: By class, a share from 0 to 1 for each column.
        columns: Ways to lose objects.
        title: Title of the dataset.
    """
    values = np.array(list(shares.values())).T
    size = 2.9 + 0.63 * len(shares), 2.1 + 0.3 * len(columns)
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    panel = figure.subplots()
    panel.imshow(values, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for row, column in np.ndindex(values.shape):
        color = "white" if values[row, column] < 0.5 else "black"
        panel.text(column, row, f"{values[row, column]:.0%}", ha="center", va="center", color=color, fontsize=8)
    panel.set_xticks(range(len(shares)), list(shares), rotation=45, ha="right")
    panel.set_yticks(range(len(columns)), columns)
    panel.set_title(f"Share of the objects of {title}", fontsize=10)
    return figure
