"""The canvas of the embedded sample: picture, label and camera of one scene, and shapes on it in metres.

Only random integers and fractions, ``+ - * /``, floor and comparisons reach the pixels, so that every machine draws the
same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from afma_med.data import CAMVID
from afma_med.data.class_table import class_names

__all__ = ["CIRCLE", "EYE_HEIGHT", "LEAVES", "OVERSAMPLING", "PAINTS", "SKINS", "WALLS", "Floats", "Region", "Scene"]

Floats: TypeAlias = NDArray[np.floating[Any]]

_TRAIN_ID = {name: train_id for train_id, name in enumerate(class_names(CAMVID.classes))}
# The scene is drawn this many times larger along both axes, and averaged down against jagged edges.
OVERSAMPLING = 2
EYE_HEIGHT = 1.5  # metres above the road
# One palette for cars, clothes, signs, shops and bins, so that a colour does not reveal the class.
PAINTS = ((0.9, 0.9, 0.88), (0.6, 0.62, 0.65), (0.3, 0.31, 0.33), (0.1, 0.1, 0.12), (0.62, 0.1, 0.1),
           (0.13, 0.22, 0.5), (0.4, 0.28, 0.2), (0.15, 0.32, 0.2), (0.8, 0.64, 0.2), (0.3, 0.5, 0.7))  # fmt: skip
WALLS = ((0.55, 0.33, 0.26), (0.72, 0.63, 0.5), (0.6, 0.59, 0.57), (0.42, 0.35, 0.3), (0.83, 0.81, 0.76),
          (0.5, 0.4, 0.32), (0.35, 0.36, 0.4), (0.66, 0.5, 0.4))  # fmt: skip
LEAVES = ((0.2, 0.34, 0.13), (0.3, 0.42, 0.16), (0.14, 0.26, 0.14), (0.45, 0.38, 0.15), (0.5, 0.3, 0.16))
SKINS = ((0.85, 0.66, 0.55), (0.6, 0.43, 0.33), (0.36, 0.25, 0.2))
_SKIES = ((0.4, 0.58, 0.85), (0.6, 0.7, 0.82), (0.72, 0.74, 0.77), (0.55, 0.57, 0.62))
# (right, ahead) of a bicycle: seen from behind, at two slants, and from the side.
_HEADINGS = ((0.0, 1.0), (0.28, 0.96), (0.6, 0.8), (1.0, 0.0))
_SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
CIRCLE = np.array([(1.0, 0.0), (0.866, 0.5), (0.5, 0.866), (0.0, 1.0), (-0.5, 0.866), (-0.866, 0.5), (-1.0, 0.0),
                    (-0.866, -0.5), (-0.5, -0.866), (0.0, -1.0), (0.5, -0.866), (0.866, -0.5)])  # fmt: skip
# Outlines of the figures, and whether they turn with the figure's heading instead of facing the camera.
_OUTLINES = {"box": (_SQUARE, False), "disc": (CIRCLE, False), "bar": (_SQUARE, True), "wheel": (CIRCLE, True),
             "cap": (np.array([(-1.0, -1.0), (1.0, -1.0), (0.0, 1.0)]), False)}  # fmt: skip


class Region(NamedTuple):
    """Locate the pixels of a shape: a window of the picture, its pixel centres, and which of them are inside."""

    window: tuple[slice, slice]
    rows: Floats
    columns: Floats
    inside: NDArray[np.bool_]


class Scene:
    """Hold picture, label, camera and street of one scene; places are (right, up, ahead) of the camera in metres."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        rows, columns = size[0] * OVERSAMPLING, size[1] * OVERSAMPLING
        self.rng, self.grain = rng, rng.random((64, 64))
        self.image, self.label = np.zeros((rows, columns, 3)), np.zeros((rows, columns), dtype=np.uint8)
        self.horizon, self.center = rows * self.between(0.42, 0.58), columns * self.between(0.3, 0.65)
        self.focal = columns * self.between(0.75, 1.05)
        self.sky, self.metal = self.color(_SKIES, 0.03), self.color(PAINTS[:4])
        self.haze_color, self.haze = 0.45 * self.sky + 0.48, self.between(0.2, 0.75)
        # A strip of parked cars widens the road; the curbs, and the walls behind the pavements, follow from it.
        self.parking = self.between(0, 1) < 0.7, self.between(0, 1) < 0.7
        self.curbs = -1.9 - 2.1 * self.parking[0], 5.1 + 2.1 * self.parking[1]
        self.walls = self.curbs[0] - self.between(2, 7), self.curbs[1] + self.between(2, 7)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def color(self, palette: Sequence[tuple[float, float, float]], spread: float = 0.12) -> Floats:
        base = np.array(palette[int(self.rng.integers(len(palette)))])
        return base * self.between(0.8, 1.2) + spread * (self.rng.random(3) - 0.5)

    def texture(self, x: ArrayLike, y: ArrayLike) -> Floats:
        """Look up a random fraction per unit square of the plane."""
        fractions: Floats = self.grain[np.floor(x).astype(np.int64) & 63, np.floor(y).astype(np.int64) & 63]
        return fractions

    def cloud(self, x: Floats, y: Floats) -> Floats:
        """Interpolate the fractions of :meth:`texture` linearly."""
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        u, v = x - left, y - top
        a, b, c, d = (self.grain[(left + i) & 63, (top + j) & 63] for j in (0, 1) for i in (0, 1))
        fractions: Floats = (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v
        return fractions

    def cover(self, points: ArrayLike) -> Region:
        """Project a convex polygon (n,3) and find its pixels."""
        right, up, ahead = np.asarray(points, dtype=np.float64).T
        x = self.center + self.focal * right / ahead
        y = self.horizon + self.focal * (EYE_HEIGHT - up) / ahead
        height, width = self.label.shape
        top, bottom = (int(min(max(edge, 0), height)) for edge in (np.floor(y.min()), np.ceil(y.max())))
        first, last = (int(min(max(edge, 0), width)) for edge in (np.floor(x.min()), np.ceil(x.max())))
        rows, columns = np.arange(top, bottom)[:, None] + 0.5, np.arange(first, last) + 0.5
        edge_x, edge_y = np.append(x[1:], x[0]) - x, np.append(y[1:], y[0]) - y
        side = edge_x[:, None, None] * (rows - y[:, None, None]) - edge_y[:, None, None] * (columns - x[:, None, None])
        inside = (side >= 0).all(axis=0) | (side <= 0).all(axis=0)
        return Region((slice(top, bottom), slice(first, last)), rows, columns, inside)

    def paint(self, region: Region, color: ArrayLike, name: str | None, depth: ArrayLike, alpha: Any = 1.0) -> None:
        """Blend ``color``, (3,) or (h,w,3), into a region behind the haze of ``depth``; None leaves the label."""
        haze = (self.haze * np.asarray(depth) / (np.asarray(depth) + 60.0))[..., None]
        pixels, weight = self.image[region.window], (region.inside * alpha)[..., None]
        pixels += weight * (np.asarray(color) * (1.0 - haze) + self.haze_color * haze - pixels)
        if name is not None:
            self.label[region.window][region.inside] = _TRAIN_ID[name]

    def fill(self, points: ArrayLike, color: Floats, name: str | None, alpha: float = 1.0) -> None:
        """Paint a convex polygon (n,3), lighter at its top and a little worn."""
        region, depth = self.cover(points), float(np.asarray(points)[0, 2])
        if not region.inside.any():
            return
        height = EYE_HEIGHT - (region.rows - self.horizon) * depth / self.focal
        shade = 0.86 + 0.09 * np.clip(height, 0.0, 2.5) + 0.07 * self.texture(height * 9, region.columns * depth / 40)
        self.paint(region, shade[..., None] * color, name, depth, alpha)

    def stand(self, x: float, z: float, figure: str, tones: Mapping[str, Floats], stretch: Sequence[float]) -> None:
        """Fill a figure's shapes, stretched to the side and upwards, at a place on the ground; some along a heading."""
        heading = _HEADINGS[int(self.rng.integers(len(_HEADINGS)))]
        name, shapes = figure.split(maxsplit=1)
        for shape in shapes.split(";"):
            kind, *numbers, tone = shape.split()
            outline, turns = _OUTLINES[kind]
            left, bottom, right, top = map(float, numbers)
            # Two oversampled pixels at least, so that a far post stays a line of whole pixels in picture and label.
            half = max((right - left) / 2, z / self.focal)
            along = stretch[0] * (left + right) / 2 + outline[:, 0] * half
            up = stretch[1] * ((bottom + top) / 2 + outline[:, 1] * (top - bottom) / 2)
            turn = heading if turns else (1.0, 0.0)
            self.fill(np.stack([x + along * turn[0], up, z + along * turn[1]], axis=1), tones[tone], name)

    def block(self, x: float, bottom: Sequence[float], top: Sequence[float], color: Floats, name: str) -> None:
        """Fill side, lid and front of a block between two level rectangles (half width, up, near, far)."""
        (half, up, near, far), (half_top, up_top, near_top, far_top) = bottom, top
        side, side_top = (x - half, x - half_top) if x > 0 else (x + half, x + half_top)
        flank = [(side, up, near), (side, up, far), (side_top, up_top, far_top), (side_top, up_top, near_top)]
        self.fill(flank, color * 0.8, name)
        left, right = x - half_top, x + half_top
        lid = [(left, up_top, near_top), (right, up_top, near_top), (right, up_top, far_top), (left, up_top, far_top)]
        self.fill(lid, color * 1.15, name)
        self.fill([(x - half, up, near), (x + half, up, near), *lid[1::-1]], color, name)
