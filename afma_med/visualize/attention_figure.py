"""Figures of attention, as in Figs. 6 to 8 of the paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure, SubFigure

from afma_med.data.class_table import ClassInfo, class_names
from afma_med.visualize.attention_panels import (
    class_patches,
    in_short,
    map_names,
    map_scale,
    show_changes,
    show_close_up,
    show_map,
    show_patch,
    show_prediction,
    show_regions,
)
from afma_med.visualize.point_attention import PointAttention

__all__ = ["compare_attention", "draw_attention"]

_WIDTH, _COMPARED_WIDTH, _DPI = 13.0, 15.0, 110
# Images with a lower height / width get a wider figure.
_WIDE = 0.6
# Inches for the title of a panel, or the text below it.
_TEXT = 0.45


def draw_attention(point: PointAttention, class_table: Sequence[ClassInfo], *, title: str = "") -> Figure:
    """Draw the attention of one point to each class, and its effect on the prediction.

    Args:
        point: Attention to draw.
        class_table: Table of the classes.
        title: Title of the figure, such as the names of network and image.

    Raises:
        ValueError: If ``class_table`` does not hold the classes of the network.

    Example:
        >>> import torch
        >>> from afma_med import AFMANet
        >>> from afma_med.data import ISIC
        >>> from afma_med.visualize import attend_image, attend_point
        >>> host = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, 2), torch.nn.ConvTranspose2d(4, 2, 2, 2))
        >>> seen = attend_image(AFMANet(host, 2, feature="0"), torch.rand(3, 40, 60))
        >>> draw_attention(attend_point(seen, (25, 7)), ISIC.classes, title="Unet")
        <Figure size 1430x... with 13 Axes>
    """
    names = map_names(class_table, len(point.maps))
    columns = max(4, math.ceil(len(names) / math.ceil(len(names) / 7)))
    aspect = point.seen.after.shape[0] / point.seen.after.shape[1]
    width = _WIDTH if aspect > _WIDE else 1.3 * _WIDTH
    panels = 2 * (width / 4 * aspect + _TEXT)
    maps = _TEXT + math.ceil(len(names) / columns) * (width * 0.92 / columns * aspect + _TEXT)
    figure = Figure(figsize=(width, panels + maps + 0.7), dpi=_DPI, layout="constrained")
    parts: Any = figure.subfigures(2, 1, height_ratios=(panels, maps))
    figure.suptitle(f"{title}\n{_describe(point, class_table)}".strip(), size=11)
    _draw_panels(parts[0], point, names, class_table)
    _draw_maps(parts[1], point, names, columns)
    return figure


def compare_attention(
    rows: Sequence[tuple[str, PointAttention]], class_table: Sequence[ClassInfo], *, title: str = ""
) -> Figure:
    """Draw the attention of several networks, depths or points, one in each row.

    Args:
        rows: Name and attention of each row. The map is that of the attention's ``class_index``.
        class_table: Table of the classes.
        title: Title of the figure.

    Raises:
        ValueError: If there are no rows, or ``class_table`` does not hold the classes of a network.

    Example:
        >>> import torch
        >>> from afma_med import AFMANet
        >>> from afma_med.data import ISIC
        >>> from afma_med.visualize import attend_image, attend_point
        >>> host = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, 2), torch.nn.ConvTranspose2d(4, 2, 2, 2))
        >>> seen = attend_image(AFMANet(host, 2, feature="0"), torch.rand(3, 40, 60))
        >>> compare_attention([("a", attend_point(seen, (25, 7))), ("b", attend_point(seen, (3, 50)))], ISIC.classes)
        <Figure size 1650x... with 12 Axes>
    """
    if not rows:
        raise ValueError("`rows` must hold at least one point; got none. Pass results of attend_point.")
    aspect = max(point.seen.after.shape[0] / point.seen.after.shape[1] for _, point in rows)
    height = _COMPARED_WIDTH / 6 * aspect + 2.2 * _TEXT
    figure = Figure(figsize=(_COMPARED_WIDTH, height * len(rows) + _TEXT), dpi=_DPI, layout="constrained")
    if title:
        figure.suptitle(title, size=11)
    parts: Any = figure.subfigures(len(rows), 1, squeeze=False)
    for part, (name, point) in zip(parts.flat, rows, strict=True):
        part.suptitle(f"{name}; {_describe(point, class_table)}", size=10)
        _draw_row(part, point, map_names(class_table, len(point.maps)), class_table)
    entries = class_patches([point.seen for _, point in rows], class_table)
    figure.legend(handles=entries, loc="outside lower center", ncols=12, frameon=False, fontsize=8)
    return figure


def _describe(point: PointAttention, class_table: Sequence[ClassInfo]) -> str:
    """Describe the prediction at a point, before and after the correction, and which of several attentions is shown."""
    names = class_names(class_table)
    after, before = names[point.seen.after[point.point]], names[point.seen.before[point.point]]
    text = f"row {point.point[0]}, column {point.point[1]}, predicted as {after}"
    text += "" if after == before else f", before the correction as {before}"
    return f"{text}; attention of {point.seen.parts[0].name}" if point.seen.parts else text


def _draw_panels(figure: SubFigure, point: PointAttention, names: list[str], class_table: Sequence[ClassInfo]) -> None:
    panels = figure.subplots(2, 4)
    strongest = point.strongest
    show_patch(panels[0, 0], point)
    show_close_up(panels[0, 1], point)
    title = f"strongest attention: {names[strongest]}"
    show_map(panels[0, 2], point, strongest, title=title, scale=map_scale(point.maps), over_image=True)
    show_regions(panels[0, 3], point, name=names[point.class_index])
    show_prediction(panels[1, 0], point, class_table, corrected=False, title="prediction before the correction")
    show_prediction(panels[1, 1], point, class_table, corrected=True, title="prediction after the correction")
    show_changes(panels[1, 2], point)
    entries = class_patches([point.seen], class_table)
    panels[1, 3].axis("off")
    panels[1, 3].legend(handles=entries, loc="center", ncols=1 + (len(entries) > 8), frameon=False, fontsize=9)


def _draw_maps(figure: SubFigure, point: PointAttention, names: list[str], columns: int) -> None:
    figure.suptitle("attention to each class, and the mean X of its correction, logits · (1 + X), in the patch", size=9)
    panels = list(figure.subplots(math.ceil(len(names) / columns), columns, squeeze=False).flat)
    scale = map_scale(point.maps)
    for index, panel in enumerate(panels):
        if index in point.seen.class_indices:
            title = f"{names[index]}  {in_short(point.corrections[index])}"
            drawn = show_map(panel, point, index, title=title, scale=scale)
            continue
        panel.axis("off")
        if index < len(names):
            text = f"{names[index]}\nnot in this attention"
            panel.text(0.5, 0.5, text, size=8, ha="center", transform=panel.transAxes)
    shown = panels[: len(names)]
    figure.colorbar(drawn, ax=shown, shrink=0.9, aspect=30, label="attention").ax.tick_params(labelsize=8)


def _draw_row(figure: SubFigure, point: PointAttention, names: list[str], class_table: Sequence[ClassInfo]) -> None:
    panels = figure.subplots(1, 6)
    name, own_map = names[point.class_index], point.maps[point.class_index]
    show_patch(panels[0], point)
    title = f"attention: {name}, up to {in_short(own_map.max())}"
    show_map(panels[1], point, point.class_index, title=title, scale=map_scale(own_map), over_image=True)
    show_regions(panels[2], point, name=name)
    show_prediction(panels[3], point, class_table, corrected=False, title="before the correction")
    show_prediction(panels[4], point, class_table, corrected=True, title="after the correction")
    show_changes(panels[5], point)
