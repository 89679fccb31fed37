"""The embedded samples of ISIC and CUB: seeded pictures of one skin lesion, or one bird, in the datasets' layouts.

The object is large or small, among things of its colours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from afma_med.samples.bird_pictures import bird_species, draw_bird
from afma_med.samples.sample_folder import number_sections, sample_settings, write_pictures
from afma_med.samples.skin_lesions import draw_lesion

__all__ = ["draw_bird", "draw_lesion", "write_birds", "write_lesions"]

# Raise it with every change of the pixels: samples of another version are redrawn.
_VERSION = 1
_LESION_COUNTS = {"train": 48, "val": 8, "test": 16}
_ISIC_SECTIONS = {"train": "Training", "val": "Validation", "test": "Test"}
_BIRD_COUNTS = {"train": 60, "test": 16}


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
    return write_pictures(
        root,
        {"sample": "lesions", **sample_settings(_VERSION, seed, counts, default=_LESION_COUNTS)},
        place=_place_lesion,
        draw=partial(draw_lesion, seed),
        title="Lesions",
        own=tuple(path.split("/")[0] for section in _LESION_COUNTS for path in _place_lesion(0, section)),
    )


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
    settings = {"sample": "birds", **sample_settings(_VERSION, seed, counts, default=_BIRD_COUNTS)}
    listed = [(_bird_name(index), int(section == "train")) for index, section in number_sections(settings["counts"])]
    rows = list(enumerate(sorted(listed), 1))
    texts = {
        "images.txt": "".join(f"{row} {name}.jpg\n" for row, (name, _) in rows),
        "train_test_split.txt": "".join(f"{row} {train}\n" for row, (_, train) in rows),
    }
    return write_pictures(
        root,
        settings,
        place=lambda index, _: (f"images/{_bird_name(index)}.jpg", f"segmentations/{_bird_name(index)}.png"),
        draw=partial(draw_bird, seed),
        title="Birds",
        texts=texts,
        own=("images", "segmentations"),
    )


def _place_lesion(index: int, section: str) -> tuple[str, ...]:
    part, name = _ISIC_SECTIONS[section], f"ISIC_{index:07d}"
    return f"ISIC2018_Task1-2_{part}_Input/{name}.jpg", f"ISIC2018_Task1_{part}_GroundTruth/{name}_segmentation.png"


def _bird_name(index: int) -> str:
    number, species = bird_species(index)
    return f"{number + 1:03d}.{species}/{species}_{index + 1:04d}_{index + 1}"
