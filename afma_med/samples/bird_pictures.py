"""Seeded pictures of one bird each, and the votes of five annotators on where it is.

A bird is a few ellipses. Leaves, berries and stones of the birds' colours and a branch lie around it.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from afma_med.checks import check_int
from afma_med.samples.soft_shapes import Floats, blend, clouds, cover, ellipse, to_bytes

__all__ = ["bird_species", "draw_bird"]

_Pair: TypeAlias = tuple[float, float]
_Tone: TypeAlias = tuple[float, float, float]

_SIZES = ((160, 213), (200, 150), (160, 240), (176, 176))
# These of each two dozen pictures are grey; CUB has a few, too.
_GRAY, _GRAY_PERIOD = (9, 10), 24
_ANNOTATORS = 5


class _Part(NamedTuple):
    """An ellipse of a bird: centre (forward, up), half axes and angle, the body one unit long."""

    tone: _Tone
    center: _Pair
    axes: _Pair
    angle: float


class _Stance(NamedTuple):
    """Where a bird is (row, column), how many pixels long, how far leaning back, and facing right (1) or left (-1)."""

    center: Floats
    scale: float
    tilt: float
    facing: float


class _Species(NamedTuple):
    """Colours and proportions of a bird; the body is one unit long."""

    name: str
    back: _Tone
    belly: _Tone
    wing: _Tone
    depth: float
    tail: float
    beak: float


_SPECIES = (
    _Species("Round_finch", (0.60, 0.54, 0.18), (0.86, 0.76, 0.30), (0.28, 0.26, 0.14), 0.42, 0.24, 0.12),
    _Species("Long_tailed_jay", (0.22, 0.36, 0.62), (0.78, 0.78, 0.80), (0.14, 0.20, 0.42), 0.33, 0.55, 0.18),
    _Species("Ember_robin", (0.40, 0.34, 0.29), (0.78, 0.34, 0.16), (0.30, 0.25, 0.22), 0.39, 0.28, 0.14),
    _Species("Dusk_sparrow", (0.44, 0.33, 0.22), (0.70, 0.64, 0.54), (0.30, 0.20, 0.13), 0.36, 0.32, 0.10),
)
_BACKGROUNDS = {"sky": (0.62, 0.72, 0.82), "foliage": (0.30, 0.42, 0.18), "ground": (0.52, 0.44, 0.34)}
_BARK = (0.36, 0.28, 0.20)


def bird_species(index: int) -> tuple[int, str]:
    """Number, from 0, and name the species of a picture."""
    # Two in turn, so that two sections that take the pictures in turn both have all species.
    number = index // 2 % len(_SPECIES)
    return number, _SPECIES[number].name


def draw_bird(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one picture of a bird and its annotators' votes; the same arguments give the same pixels.

    Args:
        seed: which sample, ≥ 0.
        index: which picture of the sample, ≥ 0; it decides the species.

    Returns:
        The image (H,W,3), red, green, blue, or at times (H,W), grey; and 51 times the votes of five annotators (H,W).

    Example:
        >>> image, votes = draw_bird(0, 3)
        >>> image.shape, np.unique(votes).tolist()
        ((160, 240, 3), [0, 51, 102, 153, 204, 255])
    """
    rng = np.random.default_rng([check_int("seed", seed), check_int("index", index)])
    size = _SIZES[int(rng.integers(len(_SIZES)))]
    small, side = rng.random() < 0.5, min(size)
    scale = side * (rng.uniform(0.11, 0.17) if small else rng.uniform(0.36, 0.52))
    margin = 0.2 if small else 0.38
    center = rng.uniform(margin, 1 - margin, 2) * size
    image = _draw_surroundings(rng, size, center, scale)
    stance = _Stance(center, scale, rng.uniform(-0.15, 0.45), rng.choice((-1.0, 1.0)))
    parts = _list_parts(_SPECIES[bird_species(index)[0]])
    light, jitter = rng.uniform(0.75, 1.15), rng.uniform(-0.06, 0.06, 3)
    up = np.clip(0.5 - (np.arange(size[0]) - center[0]) / (2 * scale), 0, 1)[:, None]
    plumage = (0.75 + 0.25 * up + 0.25 * (clouds(rng, size, 3) - 0.5)) * light
    for part in parts:
        blend(image, plumage[..., None] * (np.array(part.tone) + jitter), cover(_part_depth(size, part, stance)))
    votes = np.zeros(size, dtype=np.uint8)
    for _ in range(_ANNOTATORS):
        seen, least = stance._replace(center=center + rng.normal(0, 0.6, 2)), rng.normal(0, 0.6)
        votes += np.max([_part_depth(size, part, seen) for part in parts], axis=0) > least
    image += rng.uniform(0.01, 0.03) * rng.standard_normal(image.shape)
    pixels = to_bytes(image)
    if index % _GRAY_PERIOD in _GRAY:
        pixels = np.round(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return pixels, votes * np.uint8(255 // _ANNOTATORS)


def _draw_surroundings(rng: np.random.Generator, size: tuple[int, int], center: Floats, scale: float) -> Floats:
    """Draw sky, foliage or ground with things of the birds' colours, and a branch below the bird's feet."""
    kind = str(rng.choice(list(_BACKGROUNDS)))
    rough = 0.25 if kind == "sky" else 0.8
    light = 1 + rough * (clouds(rng, size, 40) + 0.6 * clouds(rng, size, 12) + 0.4 * clouds(rng, size, 3) - 1)
    color = np.array(_BACKGROUNDS[kind]) * rng.uniform(0.75, 1.15) + rng.uniform(-0.05, 0.05, 3)
    image: Floats = color * light[..., None]
    palette = [tone for species in _SPECIES for tone in (species.back, species.belly, species.wing)]
    palette += [_BACKGROUNDS["foliage"], (0.42, 0.52, 0.2), (0.2, 0.32, 0.14)] * 4
    for _ in range(int(rng.integers(2, 8) if kind == "sky" else rng.integers(15, 45))):
        length = rng.uniform(2, 12)
        place, axes = rng.uniform(0, 1, 2) * size, (length, length * rng.uniform(0.3, 0.9))
        leaf = ellipse(size, place, axes=axes, angle=rng.uniform(0, 3))
        blend(image, np.array(palette[int(rng.integers(len(palette)))]) * rng.uniform(0.7, 1.1), 0.85 * cover(leaf))
    if kind != "ground":
        rows, columns = np.ogrid[: size[0], : size[1]]
        middle = center[0] + 0.6 * scale + rng.uniform(-0.3, 0.3) * (columns - center[1])
        bark = np.array(_BARK) * (0.7 + 0.6 * clouds(rng, size, 4))[..., None]
        blend(image, bark, cover(rng.uniform(1.5, 2.5) + 0.05 * scale - np.abs(rows - middle)))
    return image


def _part_depth(size: tuple[int, int], part: _Part, stance: _Stance) -> Floats:
    """Depth of the pixels (H,W) below the border of a part of a bird as it stands."""
    (forward, up), cosine, sine = part.center, np.cos(stance.tilt), np.sin(stance.tilt)
    ahead, above = forward * cosine - up * sine, forward * sine + up * cosine
    center = stance.center + stance.scale * np.array([-above, stance.facing * ahead])
    angle = stance.facing * (part.angle + stance.tilt)
    return ellipse(size, center, axes=stance.scale * np.array(part.axes), angle=angle)


def _list_parts(species: _Species) -> list[_Part]:
    """List the parts of a bird from far to near."""
    horn = (0.25, 0.22, 0.18)
    return [
        _Part(species.wing, (-0.42 - species.tail, -0.2 - 0.3 * species.tail), (species.tail + 0.1, 0.08), 0.35),
        _Part(horn, (-0.06, -0.45), (0.03, 0.17), 0.0),
        _Part(horn, (0.1, -0.45), (0.03, 0.17), 0.0),
        _Part(species.back, (0.0, 0.0), (0.5, species.depth), 0.3),
        _Part(species.belly, (0.1, -0.06), (0.38, species.depth * 0.78), 0.4),
        _Part(horn, (0.56, 0.3), (species.beak + 0.06, 0.05), -0.1),
        _Part(species.wing, (0.4, 0.32), (0.21, 0.19), 0.0),
        _Part(species.wing, (-0.16, 0.02), (0.4, 0.17), 0.35),
        _Part((0.05, 0.05, 0.05), (0.47, 0.36), (0.035, 0.035), 0.0),
    ]
