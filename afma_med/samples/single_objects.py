"""The embedded samples of ISIC and CUB: seeded pictures of one skin lesion, or one bird, in the datasets' layouts.

The object is large or small, among things of its colours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afma_med.checks import check_int
from afma_med.samples.bird_pictures import bird_species, draw_bird
from afma_med.samples.sample_folder import SampleFolder, check_counts, number_sections, write_sample
from afma_med.samples.skin_lesions import draw_lesion

__all__ = ["draw_bird", "draw_lesion", "write_birds", "write_lesions"]

# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 1
_JPEG_QUALITY = 95
_LESION_COUNTS = {"train": 48, "val": 8, "test": 16}
_ISIC_SECTIONS = {"train": "Training", "val": "Validation", "test": "Test"}
_BIRD_COUNTS = {"train": 60, "test": 16}


def write_lesions(root: str | os.PathLike[str], *, seed: int = 0, counts: Mapping[str, int] | None = None) -> Path:
    """Write lesions in the folders of ISIC 2018, task 1, below ``root``, unless they are there.

    A marker file holds the settings. The sample is drawn beside ``root`` and moved there when complete; a sample with
    other settings, or with files missing, is drawn anew. Image i of a section does not depend on ``counts``.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        counts: images per section, ≥ 0; None for 48 train, 8 val, 16 test, 0 for a section left out.

    Returns:
        ``root`` as a path.

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
    settings: dict[str, Any] = {"sample": "lesions", "version": _VERSION, "seed": check_int("seed", seed)}
    settings["counts"] = check_counts(counts, default=_LESION_COUNTS)
    files = []
    for index, section in number_sections(settings["counts"]):
        image_dir, mask_dir = _isic_folders(section)
        files.append((index, (f"{image_dir}/ISIC_{index:07d}.jpg", f"{mask_dir}/ISIC_{index:07d}_segmentation.png")))
    own = tuple(folder for section in _LESION_COUNTS for folder in _isic_folders(section))

    def draw(index: int, paths: Sequence[Path]) -> None:
        _save(draw_lesion(seed, index), paths)

    return write_sample(root, SampleFolder(settings, files, own=own), draw=draw, title="Lesions")


def write_birds(root: str | os.PathLike[str], *, seed: int = 0, counts: Mapping[str, int] | None = None) -> Path:
    """Write birds as ``images/``, ``segmentations/`` and lists of CUB-200-2011 below ``root``, unless they are there.

    For the rest as :func:`write_lesions`.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        seed: which sample, ≥ 0.
        counts: images per section, ≥ 0; None for 60 train, 16 test, 0 for a section left out.

    Returns:
        ``root`` as a path.

    Raises:
        FileExistsError: if ``root`` holds anything else, which is left alone.
        TypeError: if a number is not an integer.
        ValueError: if a number is negative, or a section unknown.

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
    settings: dict[str, Any] = {"sample": "birds", "version": _VERSION, "seed": check_int("seed", seed)}
    settings["counts"] = check_counts(counts, default=_BIRD_COUNTS)
    files, listed = [], []
    for index, section in number_sections(settings["counts"]):
        number, species = bird_species(index)
        name = f"{number + 1:03d}.{species}/{species}_{index + 1:04d}_{index + 1}"
        files.append((index, (f"images/{name}.jpg", f"segmentations/{name}.png")))
        listed.append((f"{name}.jpg", int(section == "train")))
    rows = list(enumerate(sorted(listed), 1))
    texts = {
        "images.txt": "".join(f"{row} {name}\n" for row, (name, _) in rows),
        "train_test_split.txt": "".join(f"{row} {train}\n" for row, (_, train) in rows),
    }

    def draw(index: int, paths: Sequence[Path]) -> None:
        _save(draw_bird(seed, index), paths)

    sample = SampleFolder(settings, files, texts=texts, own=("images", "segmentations"))
    return write_sample(root, sample, draw=draw, title="Birds")


def _isic_folders(section: str) -> tuple[str, str]:
    part = _ISIC_SECTIONS[section]
    return f"ISIC2018_Task1-2_{part}_Input", f"ISIC2018_Task1_{part}_GroundTruth"


def _save(arrays: Sequence[NDArray[np.uint8]], paths: Sequence[Path]) -> None:
    """Write a picture and its mask; Pillow ignores the quality where the format has none."""
    for array, path in zip(arrays, paths, strict=True):
        Image.fromarray(array).save(path, quality=_JPEG_QUALITY)
