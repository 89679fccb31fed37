"""The embedded samples of ISIC and CUB: seeded pictures of one skin lesion, or one bird, in the datasets' layouts.

The object is large or small, among things of its colours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from afma_med.checks import check_int
from afma_med.samples.sample_folder import SampleFolder, number_sections, picture_settings, save_pictures

__all__ = ["draw_bird", "draw_lesion", "write_birds", "write_lesions"]

Floats: TypeAlias = NDArray[np.floating[Any]]
Numbers: TypeAlias = Sequence[float] | Floats

# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 2
_LESION_COUNTS = {"train": 48, "val": 8, "test": 16}
_ISIC_SECTIONS = {"train": "Training", "val": "Validation", "test": "Test"}
_BIRD_COUNTS = {"train": 60, "test": 16}
_LESION_SIZE = (192, 256)
_BIRD_SIZES = ((160, 213), (200, 150), (160, 240), (176, 176))
# These of each two dozen birds are grey; CUB has a few, too.
_GREY, _GREY_PERIOD = (9, 10), 24
_ANNOTATORS = 5
# Colours of back, belly and wing of each species.
_SPECIES = {
    "Round_finch": ((0.60, 0.54, 0.18), (0.86, 0.76, 0.30), (0.28, 0.26, 0.14)),
    "Blue_jay": ((0.22, 0.36, 0.62), (0.78, 0.78, 0.80), (0.14, 0.20, 0.42)),
    "Ember_robin": ((0.40, 0.34, 0.29), (0.78, 0.34, 0.16), (0.30, 0.25, 0.22)),
    "Dusk_sparrow": ((0.44, 0.33, 0.22), (0.70, 0.64, 0.54), (0.30, 0.20, 0.13)),
}
# The ellipses of a bird that is one unit long, from far to near: colour, centre (ahead, up), half axes, angle.
_PARTS = (
    (2, (-0.70, -0.28), (0.36, 0.08), 0.35),
    (0, (0.0, 0.0), (0.5, 0.38), 0.3),
    (1, (0.1, -0.06), (0.38, 0.3), 0.4),
    (2, (0.56, 0.3), (0.2, 0.05), -0.1),
    (2, (0.4, 0.32), (0.21, 0.19), 0.0),
    (2, (-0.16, 0.02), (0.4, 0.17), 0.35),
)
_BACKGROUNDS = ((0.62, 0.72, 0.82), (0.30, 0.42, 0.18), (0.52, 0.44, 0.34))


def write_lesions(root: str | os.PathLike[str], *, seed: int = 0, counts: Mapping[str, int] | None = None) -> Path:
    """Write lesions in the folders of ISIC 2018, task 1, below ``root``, unless they are there.

    A marker file holds the settings. The sample is drawn next to ``root`` and moved there when complete. A sample with
    other settings, or with missing files, is drawn again. Image i of a section does not depend on ``counts``.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        counts: images per section, ≥ 0; None for 48 train, 8 val, 16 test, 0 for a section left out.

    Raises:
        FileExistsError: if ``root`` holds anything else, which is left alone.
        TypeError: if a number is not an integer.
        ValueError: if a number is negative, or a section unknown.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_lesions(folder, counts={"val": 1})
        ...     sorted(path.name for path in root.rglob("ISIC_*"))
        ['ISIC_0000001.jpg', 'ISIC_0000001_segmentation.png']
    """
    settings = {"sample": "lesions", **picture_settings(_VERSION, seed, counts, default=_LESION_COUNTS)}
    files = [(index, _lesion_paths(index, section)) for index, section in number_sections(settings["counts"])]
    sample = SampleFolder(settings, files, own=("ISIC2018_Task1*",))
    return sample.write(root, save_pictures(partial(draw_lesion, seed)), title="Lesions")


def write_birds(root: str | os.PathLike[str], *, seed: int = 0, counts: Mapping[str, int] | None = None) -> Path:
    """Write birds as ``images/``, ``segmentations/`` and lists of CUB-200-2011 below ``root``, unless they are there.

    Arguments and errors are those of :func:`write_lesions`; ``counts`` None is 60 train, 16 test.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_birds(folder, counts={"train": 1, "test": 1})
        ...     for name in ("images.txt", "train_test_split.txt"):
        ...         print((root / name).read_text(encoding="utf-8"), end="")
        1 001.Round_finch/Round_finch_0001_1.jpg
        2 001.Round_finch/Round_finch_0002_2.jpg
        1 1
        2 0
    """
    settings = {"sample": "birds", **picture_settings(_VERSION, seed, counts, default=_BIRD_COUNTS)}
    numbered = number_sections(settings["counts"])
    rows = list(enumerate(sorted((_bird_name(index), int(section == "train")) for index, section in numbered), 1))
    texts = {
        "images.txt": "".join(f"{row} {name}.jpg\n" for row, (name, _) in rows),
        "train_test_split.txt": "".join(f"{row} {train}\n" for row, (_, train) in rows),
    }
    names = [(index, _bird_name(index)) for index, _ in numbered]
    files = [(index, (f"images/{name}.jpg", f"segmentations/{name}.png")) for index, name in names]
    sample = SampleFolder(settings, files, own=("images", "segmentations"), texts=texts)
    return sample.write(root, save_pictures(partial(draw_bird, seed)), title="Birds")


def draw_lesion(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one dermoscopic image and its mask; the same arguments give the same pixels.

    A lesion is 8 to 20 or 60 to 150 pixels across, ragged and soft; freckles and hairs lie around and on it.

    Args:
        seed: which sample, ≥ 0.
        index: which image of the sample, ≥ 0.

    Returns:
        The image (192,256,3), red, green, blue; and the mask (192,256), 0 skin, 255 lesion.

    Example:
        >>> image, mask = draw_lesion(0, 3)
        >>> image.shape, np.unique(mask).tolist()
        ((192, 256, 3), [0, 255])
    """
    rng, size = np.random.default_rng([check_int("seed", seed), check_int("index", index)]), _LESION_SIZE
    skin = np.array([0.86, 0.66, 0.56]) * rng.uniform(0.75, 1.08) + rng.uniform(-0.04, 0.04, 3)
    image = skin * (0.86 + 0.16 * _clouds(rng, size, 60) + 0.12 * _clouds(rng, size, 3))[..., None]
    brown = np.array([0.46, 0.28, 0.19]) * rng.uniform(0.7, 1.2) + rng.uniform(-0.05, 0.05, 3)
    for radius in rng.uniform(0.8, 2.2, int(rng.integers(0, 16))):
        freckle = _ellipse(size, rng.uniform(0, 1, 2) * size, (radius, 0.8 * radius), 0.0)
        _blend(image, brown, 0.8 * _cover(freckle))
    small = rng.random() < 0.4
    radius, margin = (rng.uniform(4, 10), 0.25) if small else (rng.uniform(30, 75), 0.42)
    center = rng.uniform(margin, 1 - margin, 2) * size
    oval = _ellipse(size, center, (radius, radius * rng.uniform(0.7, 1)), rng.uniform(0, 3))
    ragged = oval + 0.7 * radius * (_clouds(rng, size, max(3, int(radius / 1.2))) - 0.5)
    # Clouds far off the ellipse must not make islands.
    depth = np.minimum(ragged, oval + 0.18 * radius)
    blotches = 0.65 + 0.5 * _clouds(rng, size, max(3, int(radius / 2))) + 0.25 * _clouds(rng, size, 4)
    soft = rng.uniform(1.5, 3) + 0.12 * radius
    _blend(image, brown * blotches[..., None], rng.uniform(0.55, 1.0) * np.clip(0.5 + depth / soft, 0, 1))
    for angle in rng.uniform(0, np.pi, int(rng.choice((0, 0, 3, 8, 14)))):
        hair = _ellipse(size, rng.uniform(0, 1, 2) * size, (rng.uniform(30, 110), 1.0), angle)
        _blend(image, (0.14, 0.10, 0.08), 0.85 * _cover(hair))
    return _to_bytes(image, rng), np.where(depth > 0, 255, 0).astype(np.uint8)


def draw_bird(seed: int, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one picture of a bird and its annotators' votes; the same arguments give the same pixels.

    A bird is a few ellipses. Leaves of the birds' colours lie around it.

    Args:
        seed: which sample, ≥ 0.
        index: which picture of the sample, ≥ 0; it decides the species.

    Returns:
        The image (H,W,3), red, green, blue, or at times (H,W), grey; and 51 times the votes of five annotators (H,W).

    Example:
        >>> image, votes = draw_bird(0, 3)
        >>> image.ndim, np.unique(votes).tolist()
        (3, [0, 51, 102, 153, 204, 255])
    """
    rng = np.random.default_rng([check_int("seed", seed), check_int("index", index)])
    size = _BIRD_SIZES[int(rng.integers(len(_BIRD_SIZES)))]
    small = rng.random() < 0.5
    scale = min(size) * (rng.uniform(0.11, 0.17) if small else rng.uniform(0.36, 0.52))
    margin = 0.2 if small else 0.38
    image = _draw_leaves(rng, size)
    center = rng.uniform(margin, 1 - margin, 2) * size
    tilt, facing = rng.uniform(-0.15, 0.45), rng.choice((-1.0, 1.0))
    parts = [_bird_part(size, center, scale=scale, tilt=tilt, facing=facing, part=part) for _, *part in _PARTS]
    plumage = (0.75 + 0.5 * _clouds(rng, size, 3)) * rng.uniform(0.75, 1.15)
    colors = [*_SPECIES.values()][_species_number(index)]
    for (color, *_), depth in zip(_PARTS, parts, strict=True):
        _blend(image, plumage[..., None] * np.array(colors[color]), _cover(depth))
    bird = np.max(parts, axis=0)
    shifts, least = rng.integers(-1, 2, (_ANNOTATORS, 2)).tolist(), rng.normal(0, 0.6, _ANNOTATORS)
    votes = np.sum([np.roll(bird, shift, (0, 1)) > one for shift, one in zip(shifts, least, strict=True)], axis=0)
    pixels = _to_bytes(image, rng)
    if index % _GREY_PERIOD in _GREY:
        pixels = np.round(pixels @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    return pixels, (votes * (255 // _ANNOTATORS)).astype(np.uint8)


def _draw_leaves(rng: np.random.Generator, size: tuple[int, int]) -> Floats:
    light = 0.4 + 0.6 * _clouds(rng, size, 40) + 0.4 * _clouds(rng, size, 12) + 0.2 * _clouds(rng, size, 3)
    image: Floats = np.array(_BACKGROUNDS[int(rng.integers(3))]) * light[..., None] * rng.uniform(0.75, 1.15)
    colors = [*_BACKGROUNDS, *(color for species in _SPECIES.values() for color in species)]
    for length in rng.uniform(2, 12, int(rng.integers(8, 45))):
        leaf = _ellipse(size, rng.uniform(0, 1, 2) * size, (length, length * rng.uniform(0.3, 0.9)), rng.uniform(0, 3))
        _blend(image, np.array(colors[int(rng.integers(len(colors)))]) * rng.uniform(0.7, 1.1), 0.85 * _cover(leaf))
    return image


def _bird_part(
    size: tuple[int, int], center: Floats, *, scale: float, tilt: float, facing: float, part: Sequence[Any]
) -> Floats:
    """Return the depth of a part of a bird that leans back and faces right (1) or left (-1)."""
    (forward, up), axes, angle = part
    ahead = forward * np.cos(tilt) - up * np.sin(tilt)
    above = forward * np.sin(tilt) + up * np.cos(tilt)
    place = center + scale * np.array([-above, facing * ahead])
    return _ellipse(size, place, scale * np.array(axes), facing * (angle + tilt))


def _species_number(index: int) -> int:
    # Two in turn, so that two sections that take the pictures in turn both have all species.
    return index // 2 % len(_SPECIES)


def _bird_name(index: int) -> str:
    number = _species_number(index)
    name = [*_SPECIES][number]
    return f"{number + 1:03d}.{name}/{name}_{index + 1:04d}_{index + 1}"


def _lesion_paths(index: int, section: str) -> tuple[str, str]:
    part, name = _ISIC_SECTIONS[section], f"ISIC_{index:07d}"
    return f"ISIC2018_Task1-2_{part}_Input/{name}.jpg", f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png"


def _ellipse(
    size: tuple[int, int], center: Sequence[float] | Floats, axes: Sequence[float] | Floats, angle: float
) -> Floats:
    """Return each pixel's depth (H,W) below the border of an ellipse whose first half axis points along an angle."""
    down, right = np.arange(size[0])[:, None] - center[0], np.arange(size[1]) - center[1]
    along = (right * np.cos(angle) - down * np.sin(angle)) / axes[0]
    across = (right * np.sin(angle) + down * np.cos(angle)) / axes[1]
    depth: Floats = (1 - np.hypot(along, across)) * min(axes)
    return depth


def _cover(depth: Floats) -> Floats:
    """Return the share of each pixel that a shape covers."""
    return np.asarray(np.clip(depth + 0.5, 0, 1))


def _blend(image: Floats, color: ArrayLike, share: Floats) -> None:
    """Blend a colour, (3,) or (H,W,3), into an image (H,W,3) with weights (H,W)."""
    image += share[..., None] * (np.asarray(color) - image)


def _clouds(rng: np.random.Generator, size: tuple[int, int], cell: int) -> Floats:
    """Draw random fractions (H,W) that change smoothly over some pixels."""
    weights = []
    for side in size:
        tent = np.clip(1 - np.abs(np.arange(side)[:, None] / cell - np.arange(side // cell + 2)), 0, 1)
        weights.append(tent * tent * (3 - 2 * tent))
    fractions: Floats = weights[0] @ rng.random((weights[0].shape[1], weights[1].shape[1])) @ weights[1].T
    return fractions


def _to_bytes(image: Floats, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Add noise, and round fractions to bytes."""
    noisy = image + rng.uniform(0.01, 0.03) * rng.standard_normal(image.shape)
    pixels: NDArray[np.uint8] = (np.clip(noisy, 0, 1) * 255).round().astype(np.uint8)
    return pixels
