"""The embedded sample: seeded synthetic street scenes in CamVid's folder layout, with CamVid's 12 classes.

A scene is a street in one-point perspective. The same kinds of objects stand near, hundreds of pixels large, and far, a
few pixels large, in colours that the classes share. Only random integers and fractions, ``+ - * /``, floor and
comparisons reach the pixels, so that every machine draws the same bytes.
"""

from __future__ import annotations

import json
import operator
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from tqdm import tqdm

from afma_med.data import camvid
from afma_med.data.class_table import class_names

__all__ = ["draw_street_scene", "is_street_scenes", "write_street_scenes"]

_Floats: TypeAlias = NDArray[np.floating[Any]]

_MARKER = "street_scenes.json"
# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 1
_COUNTS = {"train": 64, "val": 16, "test": 16}
_MIN_SIDE = 32
_TRAIN_ID = {name: train_id for train_id, name in enumerate(class_names(camvid.CLASSES))}

# The scene is drawn this many times larger along both axes, and averaged down against jagged edges.
_OVERSAMPLING = 2
_EYE_HEIGHT = 1.5  # metres above the road
# One palette for cars, clothes, signs, shops and bins, so that a colour does not tell the class.
_PAINTS = ((0.9, 0.9, 0.88), (0.6, 0.62, 0.65), (0.3, 0.31, 0.33), (0.1, 0.1, 0.12), (0.62, 0.1, 0.1),
           (0.13, 0.22, 0.5), (0.4, 0.28, 0.2), (0.15, 0.32, 0.2), (0.8, 0.64, 0.2), (0.3, 0.5, 0.7))  # fmt: skip
_WALLS = ((0.55, 0.33, 0.26), (0.72, 0.63, 0.5), (0.6, 0.59, 0.57), (0.42, 0.35, 0.3), (0.83, 0.81, 0.76),
          (0.5, 0.4, 0.32), (0.35, 0.36, 0.4), (0.66, 0.5, 0.4))  # fmt: skip
_LEAVES = ((0.2, 0.34, 0.13), (0.3, 0.42, 0.16), (0.14, 0.26, 0.14), (0.45, 0.38, 0.15), (0.5, 0.3, 0.16))
_SKINS = ((0.85, 0.66, 0.55), (0.6, 0.43, 0.33), (0.36, 0.25, 0.2))
_SKIES = ((0.4, 0.58, 0.85), (0.6, 0.7, 0.82), (0.72, 0.74, 0.77), (0.55, 0.57, 0.62))
# (right, ahead) of a bicycle: seen from behind, at two slants, and from the side.
_HEADINGS = ((0.0, 1.0), (0.28, 0.96), (0.6, 0.8), (1.0, 0.0))
_SQUARE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])
_CIRCLE = np.array([(1.0, 0.0), (0.866, 0.5), (0.5, 0.866), (0.0, 1.0), (-0.5, 0.866), (-0.866, 0.5), (-1.0, 0.0),
                    (-0.866, -0.5), (-0.5, -0.866), (0.0, -1.0), (0.5, -0.866), (0.866, -0.5)])  # fmt: skip
# Outlines of the figures, and whether they turn with the figure's heading instead of facing the camera.
_OUTLINES = {"box": (_SQUARE, False), "disc": (_CIRCLE, False), "bar": (_SQUARE, True), "wheel": (_CIRCLE, True),
             "cap": (np.array([(-1.0, -1.0), (1.0, -1.0), (0.0, 1.0)]), False)}  # fmt: skip
_LIGHTS = ("signsymbol box -.22 2.3 .22 3.3 dark; disc -.13 2.98 .13 3.24 {}; disc -.13 2.67 .13 2.93 {}; "
           "disc -.13 2.36 .13 2.62 {}")  # fmt: skip
# Upright figures, painted from left to right: class, then outline, left, bottom, right, top (metres), tone.
_FIGURES = {
    "walker": ["pedestrian box -.2 0 -.05 .85 legs; box .03 .04 .18 .85 legs; box -.29 .75 .29 1.3 shade; "
               "box -.21 .68 .21 1.38 coat; disc -.12 1.4 .12 1.68 hair; disc -.09 1.37 .11 1.6 skin"],
    "long coat": ["pedestrian box -.12 0 -.01 .5 legs; box .01 .02 .12 .5 legs; cap -.36 .3 .36 1.5 coat; "
                  "box -.23 .8 .23 1.36 coat; disc -.13 1.36 .13 1.66 hair; disc -.1 1.38 .06 1.58 skin"],
    "cyclist": ["bicyclist box -.03 0 .03 .7 dark; wheel -.87 0 -.15 .72 dark; wheel -.8 .07 -.22 .65 spoke; "
                "wheel .15 0 .87 .72 dark; wheel .22 .07 .8 .65 spoke; bar -.5 .33 .1 .4 shade; "
                "bar -.25 .68 .45 .75 shade; bar .4 .35 .47 1.05 dark; box -.17 .3 -.03 .95 legs; "
                "box .03 .42 .17 .95 legs; box -.2 .8 .2 1.2 coat; disc -.24 .8 .28 1.52 coat; "
                "disc -.08 1.42 .14 1.7 skin; disc -.1 1.56 .14 1.74 hair"],
    "lamp post": ["pole box -.07 0 .07 7 metal; box -.1 0 .1 1 metal; box 0 6.9 1.3 7.02 metal; "
                  "box .8 6.9 1.4 7.15 metal"],
    "post": ["pole box -.09 0 .09 1 metal; box -.09 .8 .09 .95 coat"],
    "round sign": ["pole box -.05 0 .05 2.4 metal", "signsymbol disc -.4 2.2 .4 3 coat; disc -.28 2.32 .28 2.88 legs"],
    "warning sign": ["pole box -.05 0 .05 2.3 metal", "signsymbol cap -.5 2.1 .5 3 coat; cap -.3 2.2 .3 2.75 legs"],
    "board": ["pole box -.05 0 .05 2.4 metal", "signsymbol box -.5 2 .5 3.1 coat; box -.42 2.5 .42 3 legs"],
    "stop light": ["pole box -.06 0 .06 2.4 metal", _LIGHTS.format("red", "off", "off")],
    "go light": ["pole box -.06 0 .06 2.4 metal", _LIGHTS.format("off", "off", "green")],
}  # fmt: skip
# What stands on the pavements: figures, at most how many, the nearest (metres), share of the pavement that they use.
_CROWD = ((("walker", "long coat"), 16, 6.0, 0.8), (("lamp post", "lamp post", "post"), 7, 8.0, 0.15),
          (("round sign", "warning sign", "board", "stop light", "go light"), 9, 8.0, 0.15),
          (("bin",), 6, 6.0, 0.7), (("tree",), 4, 14.0, 0.2))  # fmt: skip
# Colours that carry meaning; the other tones of a figure are drawn at random.
_TONES = {"dark": (0.08, 0.08, 0.09), "spoke": (0.42, 0.42, 0.42), "off": (0.2, 0.2, 0.18),
          "red": (0.95, 0.2, 0.15), "green": (0.25, 0.85, 0.45)}  # fmt: skip


def draw_street_scene(
    seed: int, index: int, *, size: tuple[int, int] = (192, 256)
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one street scene and its label; the same arguments give the same bytes on every machine.

    Args:
        seed: which sample, ≥ 0.
        index: which scene of the sample, ≥ 0.
        size: (H, W) in pixels, each ≥ 32; another size shows the same street.

    Returns:
        The image (H,W,3), red, green, blue, 0 to 255; and the label (H,W), CamVid's train ids 0 to 11.

    Raises:
        TypeError: if a number is not an integer, or ``size`` not a pair.
        ValueError: if a number is too small.

    Example:
        >>> image, label = draw_street_scene(0, 7, size=(48, 64))
        >>> image.shape, label.shape, int(label.max()) <= 11
        ((48, 64, 3), (48, 64), True)
    """
    seed, index = _check_int("seed", seed), _check_int("index", index)
    scene = _Scene(np.random.default_rng([seed, index]), _check_size(size))
    _draw_sky(scene)
    _draw_ground(scene)
    _draw_plots(scene)
    _draw_objects(scene)
    return _develop(scene)


def write_street_scenes(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (192, 256),
) -> Path:
    """Write the sample as ``train/ trainannot/ val/ valannot/ test/ testannot/`` below ``root``, unless it is there.

    A marker file holds the settings. The sample is drawn beside ``root`` and moved there when complete; a sample with
    other settings, or with files missing, is drawn anew. Scene i of a section does not depend on ``counts``.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        counts: scenes per section, ≥ 0; None for 64 train, 16 val, 16 test, 0 for a section left out.
        size: (H, W) in pixels, each ≥ 32.

    Returns:
        ``root`` as a path.

    Raises:
        FileExistsError: if ``root`` holds anything else, which is left alone.
        TypeError: if a number is not an integer, or ``size`` not a pair.
        ValueError: if a number is too small, or a section unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_street_scenes(folder, counts={"train": 2}, size=(48, 64))
        ...     sorted(path.name for path in (root / "trainannot").iterdir())
        ['scene_0000.png', 'scene_0003.png']
    """
    root = Path(root).absolute()
    height, width = _check_size(size)
    settings = {"version": _VERSION, "seed": _check_int("seed", seed), "counts": _check_counts(counts)}
    settings["size"] = [height, width]
    if _is_complete(root, settings):
        return root
    _check_replaceable(root)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, prefix=f".{root.name}-") as folder:
        _write_sections(Path(folder, "new"), settings)
        try:
            if root.exists():
                root.rename(Path(folder, "old"))
            Path(folder, "new").rename(root)
        except OSError:
            # Another process may have put the same sample there meanwhile, which is as good.
            if not _is_complete(root, settings):
                raise
    return root


def is_street_scenes(root: str | os.PathLike[str]) -> bool:
    """Tell whether ``root`` holds the sample that :func:`write_street_scenes` writes, by its marker file.

    Example:
        >>> is_street_scenes("no/such/folder")
        False
    """
    return Path(root, _MARKER).is_file()


class _Region(NamedTuple):
    """Locate the pixels of a shape: a window of the picture, its pixel centres, and which of them are inside."""

    window: tuple[slice, slice]
    rows: _Floats
    columns: _Floats
    inside: NDArray[np.bool_]


class _Scene:
    """Hold picture, label, camera and street of one scene; places are (right, up, ahead) of the camera in metres."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int]) -> None:
        rows, columns = size[0] * _OVERSAMPLING, size[1] * _OVERSAMPLING
        self.rng, self.grain = rng, rng.random((64, 64))
        self.image, self.label = np.zeros((rows, columns, 3)), np.zeros((rows, columns), dtype=np.uint8)
        self.horizon, self.center = rows * self.between(0.42, 0.58), columns * self.between(0.3, 0.65)
        self.focal = columns * self.between(0.75, 1.05)
        self.sky, self.metal = self.color(_SKIES, 0.03), self.color(_PAINTS[:4])
        self.haze_color, self.haze = 0.45 * self.sky + 0.48, self.between(0.2, 0.75)
        # A strip of parked cars widens the road; the curbs, and the walls behind the pavements, follow from it.
        self.parking = self.between(0, 1) < 0.7, self.between(0, 1) < 0.7
        self.curbs = -1.9 - 2.1 * self.parking[0], 5.1 + 2.1 * self.parking[1]
        self.walls = self.curbs[0] - self.between(2, 7), self.curbs[1] + self.between(2, 7)

    def between(self, low: float, high: float) -> float:
        return low + (high - low) * float(self.rng.random())

    def color(self, palette: Sequence[tuple[float, float, float]], spread: float = 0.12) -> _Floats:
        base = np.array(palette[int(self.rng.integers(len(palette)))])
        return base * self.between(0.8, 1.2) + spread * (self.rng.random(3) - 0.5)

    def texture(self, x: ArrayLike, y: ArrayLike) -> _Floats:
        """Look up a random fraction per unit square of the plane."""
        fractions: _Floats = self.grain[np.floor(x).astype(np.int64) & 63, np.floor(y).astype(np.int64) & 63]
        return fractions

    def cloud(self, x: _Floats, y: _Floats) -> _Floats:
        """Interpolate the fractions of :meth:`texture` linearly."""
        left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        u, v = x - left, y - top
        a, b, c, d = (self.grain[(left + i) & 63, (top + j) & 63] for j in (0, 1) for i in (0, 1))
        fractions: _Floats = (a * (1 - u) + b * u) * (1 - v) + (c * (1 - u) + d * u) * v
        return fractions

    def cover(self, points: ArrayLike) -> _Region:
        """Project a convex polygon (n,3) and find its pixels."""
        right, up, ahead = np.asarray(points, dtype=np.float64).T
        x = self.center + self.focal * right / ahead
        y = self.horizon + self.focal * (_EYE_HEIGHT - up) / ahead
        height, width = self.label.shape
        top, bottom = (int(min(max(edge, 0), height)) for edge in (np.floor(y.min()), np.ceil(y.max())))
        first, last = (int(min(max(edge, 0), width)) for edge in (np.floor(x.min()), np.ceil(x.max())))
        rows, columns = np.arange(top, bottom)[:, None] + 0.5, np.arange(first, last) + 0.5
        edge_x, edge_y = np.append(x[1:], x[0]) - x, np.append(y[1:], y[0]) - y
        side = edge_x[:, None, None] * (rows - y[:, None, None]) - edge_y[:, None, None] * (columns - x[:, None, None])
        inside = (side >= 0).all(axis=0) | (side <= 0).all(axis=0)
        return _Region((slice(top, bottom), slice(first, last)), rows, columns, inside)

    def paint(self, region: _Region, color: ArrayLike, name: str | None, depth: ArrayLike, alpha: Any = 1.0) -> None:
        """Blend ``color``, (3,) or (h,w,3), into a region behind the haze of ``depth``; None leaves the label."""
        haze = (self.haze * np.asarray(depth) / (np.asarray(depth) + 60.0))[..., None]
        pixels, weight = self.image[region.window], (region.inside * alpha)[..., None]
        pixels += weight * (np.asarray(color) * (1.0 - haze) + self.haze_color * haze - pixels)
        if name is not None:
            self.label[region.window][region.inside] = _TRAIN_ID[name]

    def fill(self, points: ArrayLike, color: _Floats, name: str | None, alpha: float = 1.0) -> None:
        """Paint a convex polygon (n,3), lighter at its top and a little worn."""
        region, depth = self.cover(points), float(np.asarray(points)[0, 2])
        if not region.inside.any():
            return
        height = _EYE_HEIGHT - (region.rows - self.horizon) * depth / self.focal
        shade = 0.86 + 0.09 * np.clip(height, 0.0, 2.5) + 0.07 * self.texture(height * 9, region.columns * depth / 40)
        self.paint(region, shade[..., None] * color, name, depth, alpha)

    def stand(self, x: float, z: float, figure: str, tones: Mapping[str, _Floats], stretch: Sequence[float]) -> None:
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

    def block(self, x: float, bottom: Sequence[float], top: Sequence[float], color: _Floats, name: str) -> None:
        """Fill side, lid and front of a block between two level rectangles (half width, up, near, far)."""
        (half, up, near, far), (half_top, up_top, near_top, far_top) = bottom, top
        side, side_top = (x - half, x - half_top) if x > 0 else (x + half, x + half_top)
        flank = [(side, up, near), (side, up, far), (side_top, up_top, far_top), (side_top, up_top, near_top)]
        self.fill(flank, color * 0.8, name)
        left, right = x - half_top, x + half_top
        lid = [(left, up_top, near_top), (right, up_top, near_top), (right, up_top, far_top), (left, up_top, far_top)]
        self.fill(lid, color * 1.15, name)
        self.fill([(x - half, up, near), (x + half, up, near), *lid[1::-1]], color, name)


def _draw_sky(scene: _Scene) -> None:
    rows, columns = (np.arange(side) + 0.5 for side in scene.label.shape)
    rise = np.clip(1.0 - rows / scene.horizon, 0.0, 1.0)[:, None, None]
    scene.image[:] = scene.haze_color + (scene.sky - scene.haze_color) * rise
    x, y = columns / scene.focal * 5, (rows / scene.focal * 9)[:, None]
    veil = scene.cloud(x, y)
    for octave in (2, 4, 8):
        veil = veil + scene.cloud(x * octave, y * octave) / octave
    cover = np.clip((veil - scene.between(0.7, 1.2)) * 2.0, 0.0, 0.8)[..., None]
    scene.image += cover * (np.array([0.96, 0.96, 0.97]) * scene.between(0.7, 1.0) - scene.image)


def _draw_ground(scene: _Scene) -> None:
    """Draw road, markings, curbs and pavements, with the shadows of the houses of one side."""
    top, width = int(scene.horizon) + 1, scene.label.shape[1]
    rows, columns = np.arange(top, scene.label.shape[0])[:, None] + 0.5, np.arange(width) + 0.5
    z = _EYE_HEIGHT * scene.focal / (rows - scene.horizon) + 0.0 * columns
    x = (columns - scene.center) * z / scene.focal
    region = _Region((slice(top, None), slice(None)), rows, columns, np.ones(z.shape, dtype=np.bool_))
    grit = (0.88 + 0.2 * scene.texture(x * 20, z * 8) + 0.15 * scene.texture(x * 0.8, z * 0.1))[..., None]
    joints = np.where((x * 1.4 % 1 < 0.07) | (z * 0.9 % 1 < 0.06), 0.85, 1.0)[..., None]
    asphalt, slabs = (np.array([1.03, 1.0, 0.96]) * scene.between(*span) for span in ((0.26, 0.46), (0.34, 0.64)))
    scene.paint(region, grit * joints * slabs, "pavement", z)
    (left, right), crossing = scene.curbs, scene.between(8, 60)
    on_road = (x > left) & (x < right)
    scene.paint(region._replace(inside=on_road), grit * asphalt, "road", z)
    lines = (np.abs(x - 1.65) < 0.07) & (z % scene.between(5, 9) < 3)
    lines |= (z > crossing) & (z < crossing + 3) & (x % 1.2 < 0.6) & (crossing < 30)
    for curb, inward in ((left, 0.35), (right, -0.35)):
        lines |= np.abs(x - curb - inward) < 0.06 * (scene.between(0, 1) < 0.7)
        edge = np.abs(x - curb + inward * 0.25) < 0.1
        scene.paint(region._replace(inside=edge), slabs * 1.15, "pavement", z)
    scene.paint(region._replace(inside=lines & on_road), grit * scene.between(0.65, 0.85), "road", z, 0.8)
    shaded = x < scene.between(-9, 9) + 3 * scene.texture(z / 9, 0.0)
    scene.paint(region._replace(inside=shaded), np.zeros(3), None, z, scene.between(0, 0.45))


def _draw_plots(scene: _Scene) -> None:
    """Draw the end of the street, then the houses and gardens along both sides, far to near."""
    for x in np.arange(-60.0, 61.0, 12.0).tolist():
        wide, tall = scene.between(5, 12), scene.between(3, 11)
        _draw_facade(scene, (x - wide, x + wide, 140, 140, tall), scene.color(_WALLS))
        _draw_tree(scene, x + scene.between(-5, 5), 139)
    for wall in scene.walls:
        edges, light, built = [scene.between(2, 9)], scene.between(0.65, 1.1), scene.between(0.35, 0.95)
        while edges[-1] < 130:
            edges.append(edges[-1] + scene.between(7, 18))
        for near, far in zip(edges[-2::-1], edges[:0:-1], strict=True):
            if scene.between(0, 1) < built:
                _draw_house(scene, wall, near, far, light)
                continue
            for setback in (2.0, 1.6, 1.3):
                _draw_tree(scene, wall * setback, scene.between(near, far))
            _draw_fence(scene, (wall, wall, near, far, scene.between(1, 2.2)), scene.color(_WALLS + _PAINTS) * light)


def _draw_house(scene: _Scene, wall: float, near: float, far: float, light: float) -> None:
    height, color, tiles = scene.between(5, 14), scene.color(_WALLS), scene.color(_WALLS) * 0.6
    back = wall + (6 if wall > 0 else -6)
    ridge, up = (wall + back) / 2, height + scene.between(0, 3)
    scene.fill([(wall, height, far), (ridge, up, far), (ridge, up, near), (wall, height, near)], tiles, "building")
    scene.fill([(wall, height, near), (ridge, up, near), (back, height, near)], color * 0.8, "building")
    _draw_facade(scene, (wall, back, near, near, height), color * 0.9)
    _draw_facade(scene, (wall, wall, near, far, height), color * light)


def _cover_plane(scene: _Scene, plane: Sequence[float]) -> tuple[_Region, _Floats, _Floats, _Floats]:
    """Find the pixels of an upright plane (right from, to, ahead from, to, height), and their along, up and ahead."""
    x, x_end, z, z_end, height = plane
    region = scene.cover([(x, 0, z), (x_end, 0, z_end), (x_end, height, z_end), (x, height, z)])
    offset = region.columns - scene.center
    depth = np.clip(scene.focal * x / offset, z, z_end)
    up = _EYE_HEIGHT - (region.rows - scene.horizon) * depth / scene.focal
    return region, depth if z_end > z else offset * z / scene.focal, up, depth + 0.0 * up


def _draw_fence(scene: _Scene, plane: Sequence[float], color: _Floats) -> None:
    region, along, up, depth = _cover_plane(scene, plane)
    bars = (along * 5 % 1 < 0.4) | (np.abs(up - plane[4] + 0.08) < 0.05)
    alpha = np.where(bars, 1.0, 0.3 if scene.between(0, 1) < 0.5 else 1.0)
    shade = np.where(bars, 1.0, 0.72) * (0.85 + 0.25 * scene.texture(along * 5, up * 0.3))
    scene.paint(region, shade[..., None] * color, "fence", depth, alpha)


def _draw_facade(scene: _Scene, plane: Sequence[float], color: _Floats) -> None:
    region, along, up, depth = _cover_plane(scene, plane)
    pitch, storey, wide, tall = (scene.between(*span) for span in ((1.4, 3), (2.6, 3.4), (0.4, 0.8), (0.4, 0.7)))
    sign, glass = scene.color(_PAINTS), scene.between(0.08, 0.3) + 0.35 * scene.sky
    bricks = 0.84 + 0.2 * scene.texture(along * 4, up * 9) + 0.16 * scene.cloud(along * 0.4, up * 0.4)
    skin = bricks[..., None] * color
    across, level = np.abs(along / pitch % 1 - 0.5) * 2, np.abs(up / storey % 1 - 0.5) * 2
    upstairs = (up > storey) & (up < plane[4] - 0.4)
    frame = (across < wide + 0.12) & (level < tall + 0.1) & upstairs
    pane = (across < wide) & (level < tall) & upstairs
    if scene.between(0, 1) < 0.5:
        skin = np.where(((up > storey - 0.9) & (up < storey))[..., None], sign * bricks[..., None], skin)
        pane |= (across < 0.85) & (up > 0.6) & (up < storey - 0.9)
    skin = np.where(frame[..., None], 0.5 * skin + scene.between(0.1, 0.45), skin)
    light = (0.4 + 0.8 * scene.texture(along / pitch, up / storey))[..., None]
    scene.paint(region, np.where(pane[..., None], glass * light, skin), "building", depth)


def _draw_tree(scene: _Scene, x: float, z: float) -> None:
    up, radius, leaves, start = scene.between(3, 6), scene.between(1.3, 2.8), scene.color(_LEAVES), scene.between(0, 64)
    scene.stand(x, z, "tree box -.14 0 .14 3 bark", {"bark": scene.color(_WALLS) * 0.45}, (1.0, up / 3))
    region = scene.cover([(x + 1.3 * radius * a, up + 1.3 * radius * b, z) for a, b in _CIRCLE])
    right = ((region.columns - scene.center) * z / scene.focal - x) / radius
    rise = (_EYE_HEIGHT - (region.rows - scene.horizon) * z / scene.focal - up) / radius
    lobes, twigs = scene.cloud(start + right * 2.3, rise * 2.3), scene.cloud(start + right * 9, rise * 9)
    crown = right * right + rise * rise < 0.3 + 0.9 * lobes + 0.7 * (twigs - 0.5)
    light = 0.45 + 0.3 * rise + 0.5 * lobes + 0.5 * twigs
    scene.paint(region._replace(inside=crown & region.inside), np.clip(light, 0.3, 1.5)[..., None] * leaves, "tree", z)


def _draw_car(scene: _Scene, x: float, z: float) -> None:
    paint, dark = scene.color(_PAINTS), np.array([0.06, 0.06, 0.07])
    glass = dark + 0.06 + 0.2 * scene.sky
    half, van, hood = scene.between(0.82, 0.95), scene.between(0, 1) < 0.15, scene.between(0.1, 1.1)
    tall, length = (scene.between(2, 3), scene.between(5, 8)) if van else (scene.between(1.4, 1.65), 4.2)
    belt, back, wide = 0.62 * tall, z + length, half + 0.2
    shadow = [(x - wide, 0, z - 0.3), (x + wide, 0, z - 0.3), (x + wide, 0, back), (x - wide, 0, back)]
    scene.fill(shadow, dark, None, 0.6)
    tones = {"dark": dark, "plate": dark + 0.75, "bumper": paint * 0.5}
    # The camera's side of the road shows tail lights, the other one headlights.
    tones["lamp"] = np.array([0.75, 0.1, 0.08] if x < 1.6 else [0.95, 0.94, 0.86])
    scene.stand(x, z, "car box -.9 0 -.64 .4 dark; box .64 0 .9 .4 dark", tones, (half / 0.92, 1.0))
    scene.block(x, (half, 0.28, z, back), (half, belt, z, back), paint, "car")
    side = x - half if x > 0 else x + half
    for hub in (back - 0.8, z + 0.8):
        for radius, tone in ((0.34, dark), (0.18, dark + 0.4)):
            scene.fill([(side, 0.34 + radius * up, hub + radius * along) for along, up in _CIRCLE], tone, "car")
    cabin = (half - 0.04, belt, z + hood, back - 0.9), (half - 0.2, tall - 0.1, z + hood + 0.45, back - 1.4)
    scene.block(x, *cabin, glass, "car")
    scene.block(x, cabin[1], (half - 0.22, tall, z + hood + 0.5, back - 1.4), paint, "car")
    lamps = "box -.88 .6 -.6 .77 lamp; box .6 .6 .88 .77 lamp"
    scene.stand(
        x,
        z,
        f"car box -.88 .28 .88 .42 bumper; box -.26 .44 .26 .56 plate; {lamps}",
        tones,
        (half / 0.92, 0.2 + 0.5 * tall),
    )


def _draw_bin(scene: _Scene, x: float, z: float) -> None:
    half, up, deep = scene.between(0.2, 0.5), scene.between(0.6, 1.4), scene.between(0.4, 1.2)
    scene.block(x, (half, 0, z, z + deep), (half * 0.95, up, z, z + deep), scene.color(_PAINTS), "unlabelled")


def _draw_railing(scene: _Scene, x: float, z: float) -> None:
    _draw_fence(scene, (x, x, z, z + 2.5, 1.1), scene.metal)


def _draw_figure(scene: _Scene, x: float, z: float, name: str) -> None:
    tones = {tone: np.array(color) for tone, color in _TONES.items()} | {"metal": scene.metal}
    tones |= {"coat": scene.color(_PAINTS), "legs": scene.color(_PAINTS), "skin": scene.color(_SKINS)}
    tones |= {"shade": tones["coat"] * 0.75, "hair": scene.color(_SKINS) * 0.4}
    stretch = scene.between(0.85, 1.15) * (1 if x < 0 else -1), scene.between(0.85, 1.12)
    for part in _FIGURES[name]:
        scene.stand(x, z, part, tones, stretch)


def _draw_objects(scene: _Scene) -> None:
    """Draw what stands on road and pavements, far to near, and at times the bonnet of the camera's car."""
    placed = [*_place_cars(scene), *_place_crowd(scene)]
    for curb, parking in zip(scene.curbs, scene.parking, strict=True):
        start, panels = scene.between(4, 40), 0 if parking else int(scene.rng.integers(12))
        placed += [(start + 2.5 * panel, curb, "railing") for panel in range(panels)]
    solids = {"car": _draw_car, "bin": _draw_bin, "railing": _draw_railing, "tree": _draw_tree}
    for z, x, name in sorted(placed, reverse=True):
        if name in solids:
            solids[name](scene, x, z)
        else:
            _draw_figure(scene, x, z, name)
    if scene.between(0, 1) < 0.35:
        bonnet = [(-0.85, 0.75, 1.3), (-0.55, 0.82, 1.6), (0.55, 0.82, 1.6), (0.85, 0.75, 1.3)]
        scene.fill(bonnet, 0.5 * scene.color(_PAINTS) + 0.2 * scene.sky, "unlabelled")


def _place_cars(scene: _Scene) -> Iterator[tuple[float, float, str]]:
    """Place driving and parked cars in their lanes: (right, first ahead, share of the gaps taken)."""
    lanes = [(0.0, 9.0, 0.35), (3.3, 7.0, 0.45)]
    lanes += [(scene.curbs[0] + 1.05, 4.0, 0.75)] * scene.parking[0]
    lanes += [(scene.curbs[1] - 1.05, 4.0, 0.75)] * scene.parking[1]
    for x, start, share in lanes:
        z = start + scene.between(0, 6)
        while z < 110:
            if scene.between(0, 1) < share:
                yield z, x + scene.between(-0.2, 0.2), "car"
            z += 8.6 + scene.between(0, 5)


def _place_crowd(scene: _Scene) -> Iterator[tuple[float, float, str]]:
    """Place what stands on the pavements, and bicyclists on the road; more of it far away."""
    for names, most, nearest, share in _CROWD:
        for _ in range(int(scene.rng.integers(most // 2, most + 1))):
            side, distance = int(scene.rng.integers(2)), scene.between(0, 1)
            x = scene.curbs[side] + (0.1 + scene.between(0, share)) * (scene.walls[side] - scene.curbs[side])
            yield nearest + 75 * distance * distance, x, names[int(scene.rng.integers(len(names)))]
    for _ in range(int(scene.rng.integers(2, 6))):
        distance, lane = scene.between(0, 1), (-1.4, 1.6, 4.7)[int(scene.rng.integers(3))]
        yield 7 + 70 * distance * distance, lane + scene.between(-0.3, 0.3), "cyclist"


def _develop(scene: _Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Average the oversampled picture; add the light's tint, contrast and noise; drive on either side of the road."""
    full, rng = scene.image, scene.rng
    image = (full[::2, ::2] + full[1::2, ::2] + full[::2, 1::2] + full[1::2, 1::2]) / 4
    height, width = image.shape[:2]
    light = 0.92 + 0.16 * scene.cloud(np.arange(width) * 14 / width, (np.arange(height) * 10 / height)[:, None])
    tint, contrast = scene.between(0.65, 1.15) * (1.0 + 0.16 * (rng.random(3) - 0.5)), scene.between(0, 0.6)
    image = np.clip(image * tint * light[..., None], 0, 1)
    image += contrast * (image * image * (3 - 2 * image) - image)
    flip = slice(None, None, 1 if scene.between(0, 1) < 0.5 else -1)
    image += scene.between(0.02, 0.07) * (rng.random(image.shape) + rng.random(image.shape) - 1)
    pixels = np.floor(np.clip(image, 0, 1) * 255 + 0.5).astype(np.uint8)
    return np.ascontiguousarray(pixels[:, flip]), np.ascontiguousarray(scene.label[1::2, 1::2][:, flip])


def _write_sections(root: Path, settings: Mapping[str, Any]) -> None:
    """Draw every scene of the settings below a new folder, and the marker last."""
    for section in _COUNTS:
        for folder in (section, f"{section}annot"):
            Path(root, folder).mkdir(parents=True)
    # None: no bar where stderr is no terminal.
    for index, paths in tqdm(list(_scene_paths(root, settings)), unit="image", desc="Street scenes", disable=None):
        for path, array in zip(paths, draw_street_scene(settings["seed"], index, size=settings["size"]), strict=True):
            Image.fromarray(array).save(path)
    Path(root, _MARKER).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _scene_paths(root: Path, settings: Mapping[str, Any]) -> Iterator[tuple[int, tuple[Path, Path]]]:
    """List scene index, image and label path; the sections take the indices in turn, so that they never share one."""
    for offset, section in enumerate(_COUNTS):
        for index in range(offset, offset + len(_COUNTS) * settings["counts"][section], len(_COUNTS)):
            name = f"scene_{index:04d}.png"
            yield index, (Path(root, section, name), Path(root, f"{section}annot", name))


def _is_complete(root: Path, settings: Mapping[str, Any]) -> bool:
    try:
        found = json.loads(Path(root, _MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return found == settings and all(path.is_file() for _, pair in _scene_paths(root, settings) for path in pair)


def _check_replaceable(root: Path) -> None:
    if not root.exists():
        return
    found = {path.name for path in root.iterdir()} if root.is_dir() else {"a file of that name"}
    own = {_MARKER, *_COUNTS, *(f"{section}annot" for section in _COUNTS)} if is_street_scenes(root) else set()
    if found - own:
        raise FileExistsError(
            f"`root` must be a new or empty folder, or hold nothing but the sample; got {root} with "
            f"{sorted(found - own)[0]!r} in it. Choose another folder, or move that away."
        )


def _check_int(name: str, value: int, least: int = 0) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"`{name}` must be an integer ≥ {least}; got {value!r}. Pass an int.") from None
    if number < least:
        raise ValueError(f"`{name}` must be ≥ {least}; got {number}. Pass a larger number.")
    return number


def _check_size(size: Sequence[int]) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"`size` must be a pair (height, width); got {size!r}. Pass two integers ≥ {_MIN_SIDE}.")
    return _check_int("size[0]", size[0], _MIN_SIDE), _check_int("size[1]", size[1], _MIN_SIDE)


def _check_counts(counts: Mapping[str, int] | None) -> dict[str, int]:
    if counts is None:
        return dict(_COUNTS)
    unknown = sorted(set(counts) - set(_COUNTS))
    if unknown:
        raise ValueError(f"`counts` must name sections of {list(_COUNTS)}; got {unknown[0]!r}. Rename or drop it.")
    return {section: _check_int(f"counts[{section!r}]", counts.get(section, 0)) for section in _COUNTS}
