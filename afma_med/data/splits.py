"""Which files belong to a section: split files, and splits of datasets that come without any."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from afma_med.data.datalist import list_files

__all__ = ["read_names", "split_names", "unlisted"]


def read_names(split_file: Path) -> set[str]:
    """Read the names of a split file; of lines that hold paths (image, label), the first one's name counts."""
    lines = split_file.read_text(encoding="utf-8").splitlines()
    return {Path(line.split()[0]).stem for line in lines if line.strip()}


def split_names(names: Iterable[str], section: str, *, seed: int = 0) -> set[str]:
    """Take a section of a dataset that comes without sections: 10 % val, 20 % test, each at least one, the rest train.

    The split depends on nothing but the names.

    Args:
        names: of the images, or of whatever must stay together.
        section: ``"train"``, ``"val"`` or ``"test"``.
        seed: which split.

    Returns:
        The names of the section.

    Raises:
        ValueError: if there are fewer than three names.

    Example:
        >>> [len(split_names(map(str, range(10)), section)) for section in ("train", "val", "test")]
        [7, 1, 2]
    """
    ordered = np.random.default_rng(seed).permutation(sorted(set(names))).tolist()
    if len(ordered) < 3:
        raise ValueError(
            f"A dataset without sections must have at least 3 images or volumes to be split; got {ordered}. Add files."
        )
    val, test = max(1, len(ordered) // 10), max(1, len(ordered) // 5)
    parts = {"val": ordered[:val], "test": ordered[val : val + test], "train": ordered[val + test :]}
    return set(parts[section])


def unlisted(split_file: Path, wanted: Iterable[str], found: Iterable[str]) -> str:
    """Say which names of a split file have no image; empty if all have."""
    return list_files(f"names of `{split_file}` without an image", set(wanted) - set(found))
