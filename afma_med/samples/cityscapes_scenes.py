"""The embedded sample of Cityscapes: street scenes in its folder layout, with its label ids."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from afma_med.samples.sample_folder import SampleFolder, number_sections, write_sample
from afma_med.samples.street_scenes import draw_street_scene, scene_settings

__all__ = ["write_cityscapes_sample"]

# As in Cityscapes, a city lies in one section only.
_CITIES = {"train": ("lefthaven", "rightwick"), "val": ("northford", "southmere"), "test": ("eastbridge", "westholm")}
# By CamVid's train id: sky, building, pole, road, pavement, tree, sign, fence, car, pedestrian, bicyclist, unlabelled.
_CITYSCAPES_IDS = np.array([23, 11, 17, 7, 8, 21, 20, 13, 26, 24, 33, 0], dtype=np.uint8)


def write_cityscapes_sample(
    root: str | os.PathLike[str],
    *,
    seed: int = 0,
    counts: Mapping[str, int] | None = None,
    size: tuple[int, int] = (192, 256),
) -> Path:
    """Write street scenes as ``leftImg8bit/`` and ``gtFine/`` of Cityscapes below ``root``, unless they are there.

    Labels are Cityscapes' own label ids; the test section has none. For the rest as :func:`write_street_scenes`.

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
        ...     root = write_cityscapes_sample(folder, counts={"val": 1}, size=(48, 64))
        ...     [path.name for path in (root / "gtFine" / "val" / "southmere").iterdir()]
        ['southmere_000001_000019_gtFine_labelIds.png']
    """
    settings = {"sample": "cityscapes_street_scenes", **scene_settings(seed, counts=counts, size=size)}
    files = []
    for index, section in number_sections(settings["counts"]):
        city = _CITIES[section][index % 2]
        scene = f"{section}/{city}/{city}_{index:06d}_000019"
        paths = (f"leftImg8bit/{scene}_leftImg8bit.png", f"gtFine/{scene}_gtFine_labelIds.png")
        files.append((index, paths[:1] if section == "test" else paths))
    folders = (*(f"leftImg8bit/{section}" for section in _CITIES), "gtFine/train", "gtFine/val")
    sample = SampleFolder(settings, files, folders=folders, own=("leftImg8bit", "gtFine"))

    def draw(index: int, paths: Sequence[Path]) -> None:
        image, label = draw_street_scene(seed, index, size=size)
        for path, array in zip(paths, (image, _CITYSCAPES_IDS[label]), strict=False):
            Image.fromarray(array).save(path)

    return write_sample(root, sample, draw=draw, title="Cityscapes street scenes")
