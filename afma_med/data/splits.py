"""Which files belong to a section: split files, and splits of datasets that come without any."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from afma_med.data.datalist import DatasetError, list_files
from afma_med.data.dataset_reader import SECTIONS

__all__ = ["read_split_files", "refuse_shared_names", "section_names", "split_names", "unlisted"]


def read_split_files(folder: Path) -> dict[str, set[str]]:
    """Read ``train.txt``, ``val.txt`` and ``test.txt``, those that are there.

    Args:
        folder: of the files: a name a line; of lines that hold paths (image, label), the first one's name counts.

    Returns:
        The names of each section that has a file.

    Raises:
        DatasetError: if one lists nothing, or a name is in two of them.
    """
    files = {section: folder / f"{section}.txt" for section in SECTIONS}
    listed = {section: _read_names(file) for section, file in files.items() if file.is_file()}
    empty = [files[section] for section, names in listed.items() if not names]
    if empty:
        raise DatasetError([list_files("split files that list nothing", empty)])
    refuse_shared_names(listed, folder)
    return listed


def refuse_shared_names(listed: Mapping[str, set[str]], folder: Path) -> None:
    """Refuse sections that share names: what is trained on must not be tested on.

    Raises:
        DatasetError: naming them.
    """
    shared = {name for a, b in itertools.combinations(listed.values(), 2) for name in a & b}
    if shared:
        raise DatasetError([list_files(f"names in several sections of the split files in `{folder}`", shared)])


def section_names(names: Iterable[str], section: str, listed: Mapping[str, set[str]]) -> set[str]:
    """Take a section of a dataset: what its split file lists, or its share of what no split file lists.

    Args:
        names: all there are.
        section: ``"train"``, ``"val"`` or ``"test"``.
        listed: names of the sections that have a split file.

    Returns:
        The names of the section. Of sections without a file, the first of train, test, val gets what is left.

    Example:
        >>> [len(section_names(map(str, range(10)), section, {"test": {"1"}})) for section in ("train", "val", "test")]
        [8, 1, 1]
    """
    if section in listed:
        return listed[section]
    left = set(names).difference(*listed.values())
    *shares, rest = [name for name in ("val", "test", "train") if name not in listed]
    parts = {name: split_names(left, name) for name in shares}
    return parts[section] if section != rest else left.difference(*parts.values())


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


def _read_names(split_file: Path) -> set[str]:
    lines = split_file.read_text(encoding="utf-8").splitlines()
    return {Path(line.split()[0]).stem for line in lines if line.strip()}
