"""The embedded sample of Cityscapes: street scenes in its folder layout, with its label ids."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from afma_med.samples.sample_folder import write_pictures
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

    Labels are Cityscapes' own label ids; the test section has none. Arguments and errors are those of
    :func:`~afma_med.samples.write_street_scenes`.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     root = write_cityscapes_sample(folder, counts={"val": 1}, size=(48, 64))
        ...     [path.name for path in (root / "gtFine" / "val" / "southmere").iterdir()]
        ['southmere_000001_000019_gtFine_labelIds.png']
    """

    def place(index: int, section: str) -> tuple[str, ...]:
        city = _CITIES[section][index % 2]
        scene = f"{section}/{city}/{city}_{index:06d}_000019"
        paths = (f"leftImg8bit/{scene}_leftImg8bit.png", f"gtFine/{scene}_gtFine_labelIds.png")
        return paths[:1] if section == "test" else paths

    def draw(index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        image, label = draw_street_scene(seed, index, size=size)
        return image, _CITYSCAPES_IDS[label]

    return write_pictures(
        root,
        {"sample": "cityscapes_street_scenes", **scene_settings(seed, counts=counts, size=size)},
        place=place,
        draw=draw,
        title="Cityscapes street scenes",
        folders=(*(f"leftImg8bit/{section}" for section in _CITIES), "gtFine/train", "gtFine/val"),
        own=("leftImg8bit", "gtFine"),
    )
