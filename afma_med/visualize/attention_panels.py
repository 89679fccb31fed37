"""The panels of attention figures. Each function draws into given axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, to_rgba
from matplotlib.image import AxesImage
from matplotlib.patches import Patch
from matplotlib.patches import Rectangle as Box
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from afma_med._ops.patches import ceil_divide
from afma_med.data.class_table import ClassInfo, class_colors, class_names
from afma_med.visualize.attention import AttendedImage
from afma_med.visualize.class_colors import colorize, stretch_image
from afma_med.visualize.point_attention import PointAttention, Rectangle

__all__ = ["class_patches", "in_short", "map_names", "map_scale"]
__all__ += ["show_changes", "show_close_up", "show_map", "show_patch", "show_prediction", "show_regions"]

# Okabe and Ito's colours, distinct in all kinds of colour vision. A black line below makes them visible everywhere.
_POINT, _REGION, _CHANGED = "#F0E442", "#56B4E9", "#D55E00"
_MAP = "viridis"
# Sides of a close-up: this multiple of the patch's sides, and at least this number of pixels.
_CLOSE_UP, _LEAST_CLOSE_UP = 8, 48
# Changed pixels are drawn as dots: at most this number along the longer side, so that a single one is visible.
_DOTS = 160
# A box of less than this part of the longer side is too small to see or to write into.
_SEEN = 0.02


def map_names(class_table: Sequence[ClassInfo], count: int) -> list[str]:
    """Return the names of a network's maps: the classes, or the object of a binary network.

    Raises:
        ValueError: If ``count``, the number of maps, is neither 1 nor that of the classes.
    """
    names = class_names(class_table)
    if count == 1:
        return names[-1:]
    if count != len(names):
        raise ValueError(
            f"`class_table` must hold the {count} classes of the network; got {len(names)}. Pass that of its dataset."
        )
    return names


def in_short(number: float) -> str:
    """Format a number with two digits, such as 0.12 or 7.4e-8."""
    return f"{number + 0:.2g}".replace("e-0", "e-")


def map_scale(maps: NDArray[np.float32]) -> Normalize:
    """Return a common scale of several maps, which includes zero."""
    low, high = min(0.0, float(maps.min())), float(maps.max())
    return Normalize(low, high if high > low else low + 1)


def show_patch(axes: Axes, point: PointAttention) -> None:
    """Show the image and mark the patch."""
    axes.imshow(stretch_image(point.seen.image))
    _finish(axes, point, "image and patch")


def show_close_up(axes: Axes, point: PointAttention) -> None:
    """Show the image around the patch, and the point."""
    axes.imshow(stretch_image(point.seen.image))
    _finish(axes, point, "close-up", mark=False)
    _outline(axes, point.rectangle, _POINT)
    row, column = point.point
    axes.plot(column, row, "+", color=_POINT, markersize=7, markeredgewidth=1.2, path_effects=_stroke(2.4))
    top, bottom = _around(point.rectangle.top, point.rectangle.bottom, point.seen.after.shape[0])
    left, right = _around(point.rectangle.left, point.rectangle.right, point.seen.after.shape[1])
    axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))


def show_map(
    axes: Axes, point: PointAttention, index: int, *, title: str, scale: Normalize, over_image: bool = False
) -> AxesImage:
    """Show the attention to the feature patches of one class, alone or over the image."""
    grid = point.maps[index]
    height, width = (sides * size for sides, size in zip(grid.shape, point.seen.region_size, strict=True))
    if over_image:
        axes.imshow(_faded(point.seen))
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    drawn = axes.imshow(
        grid, cmap=_MAP, norm=scale, extent=extent, interpolation="nearest", alpha=0.6 if over_image else None
    )
    _finish(axes, point, title)
    return drawn


def show_regions(axes: Axes, point: PointAttention, *, name: str) -> None:
    """Show the numbered regions that contribute most to the correction of a class, with their contributions below."""
    axes.imshow(stretch_image(point.seen.image))
    weights = []
    for number, region in enumerate(point.regions, start=1):
        _outline(axes, region.rectangle, _REGION)
        _number(axes, region.rectangle, number, shifted=_is_small(point, region.rectangle))
        weights.append(f"{number}: {in_short(region.contribution)}")
    _finish(axes, point, f"votes for {name}, sum {in_short(point.corrections[point.class_index])}")
    lines = ["   ".join(weights[first : first + 3]) for first in range(0, len(weights), 3)]
    axes.set_xlabel("\n".join(lines) if lines else "nothing", size=7)


def show_prediction(
    axes: Axes, point: PointAttention, class_table: Sequence[ClassInfo], *, corrected: bool, title: str
) -> None:
    """Show the prediction before or after the correction in the colours of the classes, and mark the patch."""
    shown = point.seen.after if corrected else point.seen.before
    axes.imshow(colorize(shown, class_table), interpolation="nearest")
    _finish(axes, point, title)


def show_changes(axes: Axes, point: PointAttention) -> None:
    """Show the pixels that the correction changes as dots; a dot is more opaque if more of its pixels change."""
    changed = point.seen.changed
    axes.imshow(_faded(point.seen))
    step = ceil_divide(max(changed.shape), _DOTS)
    bottom, right = (-side % step for side in changed.shape)
    blocks = np.pad(changed, ((0, bottom), (0, right))).reshape(ceil_divide(changed.shape[0], step), step, -1, step)
    share = blocks.mean(axis=(1, 3))
    dots = np.tile(to_rgba(_CHANGED), (*share.shape, 1))
    dots[..., 3] = np.where(share > 0, 0.3 + 0.7 * share, 0)
    extent = (-0.5, dots.shape[1] * step - 0.5, dots.shape[0] * step - 0.5, -0.5)
    axes.imshow(dots, extent=extent, interpolation="nearest")
    count = int(changed.sum())
    _finish(axes, point, "changed pixels")
    axes.set_xlabel(f"{count} of {changed.size} pixels, {count / changed.size:.2%}", size=7)


def class_patches(seen: Sequence[AttendedImage], class_table: Sequence[ClassInfo]) -> list[Patch]:
    """Return the entries of a legend, for the classes that occur in the predictions."""
    occurring = np.unique(np.concatenate([np.unique([x.before, x.after]) for x in seen]))
    names, colors = class_names(class_table), class_colors(class_table) / 255
    return [Patch(facecolor=colors[k], edgecolor="black", lw=0.5, label=names[k]) for k in occurring.tolist()]


def _finish(axes: Axes, point: PointAttention, title: str, *, mark: bool = True) -> None:
    """Limit the axes to the image, because the last feature patches may reach beyond it, and mark the patch.

    A very small patch gets a ring instead of an outline.
    """
    height, width = point.seen.after.shape
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, size=9)
    if mark and _is_small(point, point.rectangle):
        ring: dict[str, Any] = {"fillstyle": "none", "markersize": 9, "markeredgewidth": 1.5}
        axes.plot(*_centre(point.rectangle), "o", color=_POINT, path_effects=_stroke(3), **ring)
    elif mark:
        _outline(axes, point.rectangle, _POINT)


def _number(axes: Axes, rectangle: Rectangle, number: int, *, shifted: bool) -> None:
    """Write a number into a box, or shifted next to a small box."""
    angle = 2 * math.pi * number / 5
    axes.annotate(
        str(number),
        _centre(rectangle),
        (9 * math.sin(angle), 9 * math.cos(angle)) if shifted else (0, 0),
        textcoords="offset points",
        color="white",
        size=8,
        ha="center",
        va="center",
        path_effects=_stroke(2),
    )


def _centre(rectangle: Rectangle) -> tuple[float, float]:
    top, left, bottom, right = rectangle
    return (left + right - 1) / 2, (top + bottom - 1) / 2


def _is_small(point: PointAttention, rectangle: Rectangle) -> bool:
    sides = rectangle.bottom - rectangle.top, rectangle.right - rectangle.left
    return bool(max(sides) < _SEEN * max(point.seen.after.shape))


def _outline(axes: Axes, rectangle: Rectangle, color: str) -> None:
    top, left, bottom, right = rectangle
    style: dict[str, Any] = {"fill": False, "edgecolor": color, "linewidth": 1.2, "path_effects": _stroke(2.4)}
    axes.add_patch(Box((left - 0.5, top - 0.5), right - left, bottom - top, **style))


def _stroke(width: float) -> list[Any]:
    return [withStroke(linewidth=width, foreground="black")]


def _faded(seen: AttendedImage) -> NDArray[np.uint8]:
    """Return the image in pale grey, as a background for colours."""
    grey = 255 - 0.7 * (255 - stretch_image(seen.image).mean(axis=2, keepdims=True))
    return np.broadcast_to(grey.round(), (*grey.shape[:2], 3)).astype(np.uint8)


def _around(first: int, last: int, side: int) -> tuple[int, int]:
    """Return the limits of a close-up along one axis, inside the image if it is large enough."""
    length = min(side, max(_LEAST_CLOSE_UP, _CLOSE_UP * (last - first)))
    start = min(max(0, (first + last - length) // 2), side - length)
    return start, start + length
