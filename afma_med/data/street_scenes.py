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
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from afma_med.data.street_canvas import Scene
from afma_med.data.street_objects import draw_ground, draw_objects, draw_plots, draw_sky

__all__ = ["draw_street_scene", "is_street_scenes", "write_street_scenes"]

_MARKER = "street_scenes.json"
# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 1
_COUNTS = {"train": 64, "val": 16, "test": 16}
_MIN_SIDE = 32


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


def _develop(scene: Scene) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
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
