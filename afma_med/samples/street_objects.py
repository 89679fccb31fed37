"""Objects of the scenes of the embedded sample: sky, street, houses, trees, cars, people, posts and signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from afma_med.samples.street_canvas import CIRCLE, EYE_HEIGHT, LEAVES, PAINTS, SKINS, WALLS, Floats, Region, Scene

__all__ = ["draw_ground", "draw_objects", "draw_plots", "draw_sky"]

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
# Objects on the pavements: figures, at most how many, the nearest (metres), share of the pavement that they use.
_CROWD = ((("walker", "long coat"), 16, 6.0, 0.8), (("lamp post", "lamp post", "post"), 7, 8.0, 0.15),
          (("round sign", "warning sign", "board", "stop light", "go light"), 9, 8.0, 0.15),
          (("bin",), 6, 6.0, 0.7), (("tree",), 4, 14.0, 0.2))  # fmt: skip
# Colours that carry meaning; the other tones of a figure are drawn at random.
_TONES = {"dark": (0.08, 0.08, 0.09), "spoke": (0.42, 0.42, 0.42), "off": (0.2, 0.2, 0.18),
          "red": (0.95, 0.2, 0.15), "green": (0.25, 0.85, 0.45)}  # fmt: skip


def draw_sky(scene: Scene) -> None:
    rows, columns = (np.arange(side) + 0.5 for side in scene.label.shape)
    rise = np.clip(1.0 - rows / scene.horizon, 0.0, 1.0)[:, None, None]
    scene.image[:] = scene.haze_color + (scene.sky - scene.haze_color) * rise
    x, y = columns / scene.focal * 5, (rows / scene.focal * 9)[:, None]
    veil = scene.cloud(x, y)
    for octave in (2, 4, 8):
        veil = veil + scene.cloud(x * octave, y * octave) / octave
    cover = np.clip((veil - scene.between(0.7, 1.2)) * 2.0, 0.0, 0.8)[..., None]
    scene.image += cover * (np.array([0.96, 0.96, 0.97]) * scene.between(0.7, 1.0) - scene.image)


def draw_ground(scene: Scene) -> None:
    """Draw road, markings, curbs and pavements, with the shadows of the houses of one side."""
    top, width = int(scene.horizon) + 1, scene.label.shape[1]
    rows, columns = np.arange(top, scene.label.shape[0])[:, None] + 0.5, np.arange(width) + 0.5
    z = EYE_HEIGHT * scene.focal / (rows - scene.horizon) + 0.0 * columns
    x = (columns - scene.center) * z / scene.focal
    region = Region((slice(top, None), slice(None)), rows, columns, np.ones(z.shape, dtype=np.bool_))
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


def draw_plots(scene: Scene) -> None:
    """Draw the end of the street, then the houses and gardens along both sides, far to near."""
    for x in np.arange(-60.0, 61.0, 12.0).tolist():
        wide, tall = scene.between(5, 12), scene.between(3, 11)
        _draw_facade(scene, (x - wide, x + wide, 140, 140, tall), scene.color(WALLS))
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
            _draw_fence(scene, (wall, wall, near, far, scene.between(1, 2.2)), scene.color(WALLS + PAINTS) * light)


def _draw_house(scene: Scene, wall: float, near: float, far: float, light: float) -> None:
    height, color, tiles = scene.between(5, 14), scene.color(WALLS), scene.color(WALLS) * 0.6
    back = wall + (6 if wall > 0 else -6)
    ridge, up = (wall + back) / 2, height + scene.between(0, 3)
    scene.fill([(wall, height, far), (ridge, up, far), (ridge, up, near), (wall, height, near)], tiles, "building")
    scene.fill([(wall, height, near), (ridge, up, near), (back, height, near)], color * 0.8, "building")
    _draw_facade(scene, (wall, back, near, near, height), color * 0.9)
    _draw_facade(scene, (wall, wall, near, far, height), color * light)


def _cover_plane(scene: Scene, plane: Sequence[float]) -> tuple[Region, Floats, Floats, Floats]:
    """Find the pixels of an upright plane (right from, to, ahead from, to, height), and their along, up and ahead."""
    x, x_end, z, z_end, height = plane
    region = scene.cover([(x, 0, z), (x_end, 0, z_end), (x_end, height, z_end), (x, height, z)])
    offset = region.columns - scene.center
    depth = np.clip(scene.focal * x / offset, z, z_end)
    up = EYE_HEIGHT - (region.rows - scene.horizon) * depth / scene.focal
    return region, depth if z_end > z else offset * z / scene.focal, up, depth + 0.0 * up


def _draw_fence(scene: Scene, plane: Sequence[float], color: Floats) -> None:
    region, along, up, depth = _cover_plane(scene, plane)
    bars = (along * 5 % 1 < 0.4) | (np.abs(up - plane[4] + 0.08) < 0.05)
    alpha = np.where(bars, 1.0, 0.3 if scene.between(0, 1) < 0.5 else 1.0)
    shade = np.where(bars, 1.0, 0.72) * (0.85 + 0.25 * scene.texture(along * 5, up * 0.3))
    scene.paint(region, shade[..., None] * color, "fence", depth, alpha)


def _draw_facade(scene: Scene, plane: Sequence[float], color: Floats) -> None:
    region, along, up, depth = _cover_plane(scene, plane)
    pitch, storey, wide, tall = (scene.between(*span) for span in ((1.4, 3), (2.6, 3.4), (0.4, 0.8), (0.4, 0.7)))
    sign, glass = scene.color(PAINTS), scene.between(0.08, 0.3) + 0.35 * scene.sky
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


def _draw_tree(scene: Scene, x: float, z: float) -> None:
    up, radius, leaves, start = scene.between(3, 6), scene.between(1.3, 2.8), scene.color(LEAVES), scene.between(0, 64)
    scene.stand(x, z, "tree box -.14 0 .14 3 bark", {"bark": scene.color(WALLS) * 0.45}, (1.0, up / 3))
    region = scene.cover([(x + 1.3 * radius * a, up + 1.3 * radius * b, z) for a, b in CIRCLE])
    right = ((region.columns - scene.center) * z / scene.focal - x) / radius
    rise = (EYE_HEIGHT - (region.rows - scene.horizon) * z / scene.focal - up) / radius
    lobes, twigs = scene.cloud(start + right * 2.3, rise * 2.3), scene.cloud(start + right * 9, rise * 9)
    crown = right * right + rise * rise < 0.3 + 0.9 * lobes + 0.7 * (twigs - 0.5)
    light = 0.45 + 0.3 * rise + 0.5 * lobes + 0.5 * twigs
    scene.paint(region._replace(inside=crown & region.inside), np.clip(light, 0.3, 1.5)[..., None] * leaves, "tree", z)


def _draw_car(scene: Scene, x: float, z: float) -> None:
    paint, dark = scene.color(PAINTS), np.array([0.06, 0.06, 0.07])
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
            scene.fill([(side, 0.34 + radius * up, hub + radius * along) for along, up in CIRCLE], tone, "car")
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


def _draw_bin(scene: Scene, x: float, z: float) -> None:
    half, up, deep = scene.between(0.2, 0.5), scene.between(0.6, 1.4), scene.between(0.4, 1.2)
    scene.block(x, (half, 0, z, z + deep), (half * 0.95, up, z, z + deep), scene.color(PAINTS), "unlabelled")


def _draw_railing(scene: Scene, x: float, z: float) -> None:
    _draw_fence(scene, (x, x, z, z + 2.5, 1.1), scene.metal)


def _draw_figure(scene: Scene, x: float, z: float, name: str) -> None:
    tones = {tone: np.array(color) for tone, color in _TONES.items()} | {"metal": scene.metal}
    tones |= {"coat": scene.color(PAINTS), "legs": scene.color(PAINTS), "skin": scene.color(SKINS)}
    tones |= {"shade": tones["coat"] * 0.75, "hair": scene.color(SKINS) * 0.4}
    stretch = scene.between(0.85, 1.15) * (1 if x < 0 else -1), scene.between(0.85, 1.12)
    for part in _FIGURES[name]:
        scene.stand(x, z, part, tones, stretch)


def draw_objects(scene: Scene) -> None:
    """Draw the objects on road and pavements, far to near, and at times the bonnet of the camera's car."""
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
        scene.fill(bonnet, 0.5 * scene.color(PAINTS) + 0.2 * scene.sky, "unlabelled")


def _place_cars(scene: Scene) -> Iterator[tuple[float, float, str]]:
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


def _place_crowd(scene: Scene) -> Iterator[tuple[float, float, str]]:
    """Place objects on the pavements, and bicyclists on the road; more of it far away."""
    for names, most, nearest, share in _CROWD:
        for _ in range(int(scene.rng.integers(most // 2, most + 1))):
            side, distance = int(scene.rng.integers(2)), scene.between(0, 1)
            x = scene.curbs[side] + (0.1 + scene.between(0, share)) * (scene.walls[side] - scene.curbs[side])
            yield nearest + 75 * distance * distance, x, names[int(scene.rng.integers(len(names)))]
    for _ in range(int(scene.rng.integers(2, 6))):
        distance, lane = scene.between(0, 1), (-1.4, 1.6, 4.7)[int(scene.rng.integers(3))]
        yield 7 + 70 * distance * distance, lane + scene.between(-0.3, 0.3), "cyclist"
