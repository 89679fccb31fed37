"""The embedded samples of CamVid and Cityscapes: seeded street scenes in the layouts of both.

A scene is a street in one-point perspective. The same kinds of objects stand near, hundreds of pixels large, and far, a
few pixels large, in colours that the classes share. Only random integers and fractions, ``+ - * /``, floor and
comparisons reach the pixels, so that every machine draws the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from afma_med.checks import check_int
from afma_med.samples.sample_folder import SampleFolder, number_sections, picture_settings, save_pictures
from afma_med.samples.street_canvas import Scene
from afma_med.samples.street_objects import draw_ground, draw_objects, draw_plots, draw_sky

__all__ = ["draw_street_scene", "write_cityscapes_sample", "write_street_scenes"]

# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 1
_COUNTS = {"train": 64, "val": 16, "test": 16}
_MIN_SIDE = 32
# As in Cityscapes, a city lies in one section only.
_CITIES = {"train": ("lefthaven", "rightwick"), "val": ("northford", "southmere"), "test": ("eastbridge", "westholm")}
# By CamVid's train id: sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist, unlabelled.
_CITYSCAPES_IDS = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33, 0], dtype=np.uint8)


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
    seed, index = check_int("seed", seed), check_int("index", index)
    scene = Scene(np.random.default_rng([seed, index]), _check_size(size))
    draw_sky(scene)
    draw_ground(scene)
    draw_plots(scene)
    draw_objects(scene)
    return _develop(scene)


def write_street_scenes(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (192, 256),
) -> Path:
    """Write the sample as ``train/ trainannot/ val/ valannot/ test/ testannot/`` below ``root``, unless it is there.

    A marker file holds the settings. The sample is drawn next to ``root`` and moved there when complete. A sample with
    other settings, or with missing files, is drawn again. Scene i of a section does not depend on ``counts``.

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
    settings = _scene_settings(seed, counts=counts, size=size)
    numbered = number_sections(settings["counts"])
    files = [
        (index, (f"{name}/scene_{index:04d}.png", f"{name}annot/scene_{index:04d}.png")) for index, name in numbered
    ]
    folders = tuple(folder for section in _COUNTS for folder in (section, f"{section}annot"))
    sample = SampleFolder(settings, files, own=folders, folders=folders, marker="street_scenes.json")
    return sample.write(root, save_pictures(partial(draw_street_scene, seed, size=size)), title="Street scenes")


def write_cityscapes_sample(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (192, 256),
) -> Path:
    """Write street scenes as ``leftImg8bit/`` and ``gtFine/`` of Cityscapes below ``root``, unless they are there.

    Labels are Cityscapes' own label ids; the test section has none. Arguments and errors are those of
    :func:`~afma_med.samples.write_street_scenes`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_cityscapes_sample(folder, counts={"val": 1}, size=(48, 64))
        ...     [path.name for path in (root / "gtFine" / "val" / "southmere").iterdir()]
        ['southmere_000001_000019_gtFine_labelIds.png']
    """

    def draw(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image, label = draw_street_scene(seed, index, size=size)
        return image, _CITYSCAPES_IDS[label]

    settings = {"sample": "cityscapes_street_scenes", **_scene_settings(seed, counts=counts, size=size)}
    files = [(index, _cityscapes_paths(index, name)) for index, name in number_sections(settings["counts"])]
    folders = (*(f"leftImg8bit/{section}" for section in _CITIES), "gtFine/train", "gtFine/val")
    sample = SampleFolder(settings, files, own=("leftImg8bit", "gtFine"), folders=folders)
    return sample.write(root, save_pictures(draw), title="Cityscapes street scenes")


def _cityscapes_paths(index: int, section: str) -> tuple[str, ...]:
    city = _CITIES[section][index % 2]
    scene = f"{section}/{city}/{city}_{index:06d}_000019"
    paths = (f"leftImg8bit/{scene}_leftImg8bit.png", f"gtFine/{scene}_gtFine_labelIds.png")
    return paths[:1] if section == "test" else paths


def _scene_settings(seed: int, *, counts: Mapping[str, int] | None, size: Sequence[int]) -> dict[str, Any]:
    settings = picture_settings(_VERSION, seed, counts, default=_COUNTS)
    return settings | {"size": list(_check_size(size))}


def _check_size(size: Sequence[int]) -> tuple[int, int]:
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"`size` must be a pair (height, width); got {size!r}. Pass two integers ≥ {_MIN_SIDE}.")
    return check_int("size[0]", size[0], least=_MIN_SIDE), check_int("size[1]", size[1], least=_MIN_SIDE)


def _develop(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Average the oversampled picture; add tint, contrast and noise; mirror half of the scenes."""
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
