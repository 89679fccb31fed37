"""Which names belong to a section: split files, splits of datasets that come without any, and folds."""

from __future__ import annotations

import codecs
import itertools
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.files import as_one_form
from afma_med.data.problems import DatasetError, list_files

__all__ = [
    "FOLDS",
    "SplitFiles",
    "check_fold",
    "fold_names",
    "natural_key",
    "read_lines",
    "read_split_files",
    "refuse_shared_names",
    "section_names",
    "split_names",
]

#: How many folds there are.
FOLDS = 5
_SUFFIXES = (".txt", ".csv", ".tsv")
# First lines of tables that name a column.
_HEADERS = {"name", "names", "file", "files", "image", "images", "path", "volume"} | {
    "filename",
    "file_name",
    "image_name",
}


class SplitFiles(NamedTuple):
    """Hold the path and the names of each section that has a split file."""

    files: dict[str, Path]
    names: dict[str, set[str]]

    def missing(self, section: str, found: Collection[str]) -> str:
        """Return the names of a section's file that have no image, as a problem; an empty text if all have one."""
        names = self.names.get(section, set()).difference(found)
        return list_files(f"names of `{self.files.get(section)}` without an image", names)


def read_split_files(folder: Path, known: Collection[str]) -> SplitFiles:
    """Read ``train.txt``, ``val.txt`` and ``test.txt``, those that are there; ``.csv`` and ``.tsv`` count too.

    A line names one image: with or without folders and suffix, in quotes or not, alone or as a column of a table.

    Raises:
        DatasetError: if a file cannot be read or lists nothing, a line names several images, or a name is in two files.
    """
    files = {section: file for section in SECTIONS if (file := _find_split_file(folder, section))}
    listed = {section: _read_names(file, known) for section, file in files.items()}
    if empty := list_files("split files that list nothing", [files[key] for key, names in listed.items() if not names]):
        raise DatasetError([empty])
    refuse_shared_names(listed, folder)
    return SplitFiles(files, listed)


def read_lines(file: Path) -> list[tuple[int, str]]:
    """Read the lines of a text file that are not empty, with their numbers from 1 on.

    UTF-8 and UTF-16 are read, with or without a byte order mark, and lines that end as on Windows.

    Raises:
        DatasetError: naming file and line, if the text has another encoding.
    """
    data = file.read_bytes()
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].decode(encoding, errors="ignore").count("\n") + 1
        raise DatasetError(
            [f"`{file}` must be text in UTF-8; line {line} holds other bytes. Save the file again as UTF-8."]
        ) from error
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]


def refuse_shared_names(listed: Mapping[str, set[str]], folder: Path) -> None:
    """Raise a DatasetError that names what several sections list: a training must not see the images of the test."""
    shared = {name for a, b in itertools.combinations(listed.values(), 2) for name in a & b}
    if shared:
        raise DatasetError([list_files(f"names in several sections of the split files in `{folder}`", shared)])


def section_names(names: Iterable[str], section: str, listed: Mapping[str, set[str]]) -> set[str]:
    """Return the names of a section: those of its split file, or its share of those that no split file lists.

    Of the sections without a file, the first of train, test, val gets what is left.

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
    """Split names at random: 10 % val, 20 % test, each at least one, the rest train. The names alone decide.

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


def fold_names(names: Iterable[str], section: str, *, fold: int) -> set[str]:
    """Return the names of a section in one of five folds; each name is in the test section of exactly one fold.

    Names are cut into five runs of neighbours, because neighbouring slices often show one patient. The test section is
    the run of the fold. The val section is an eighth of all names, at least one, from the start of the run after the
    next (the first run follows the last), so it never borders on the test section. The train section is the rest.

    Example:
        >>> names = [f"slice{number}" for number in range(20)]
        >>> [sorted(fold_names(names, section, fold=0), key=natural_key) for section in ("test", "val")]
        [['slice0', 'slice1', 'slice2', 'slice3'], ['slice8', 'slice9']]
    """
    ordered = sorted(set(names), key=natural_key)
    if len(ordered) < FOLDS:
        raise ValueError(f"A dataset in {FOLDS} folds must have at least {FOLDS} images; got {ordered}. Add files.")
    starts = [len(ordered) * number // FOLDS for number in range(FOLDS + 1)]
    val = starts[(fold + 2) % FOLDS]
    parts = {
        "test": set(ordered[starts[fold] : starts[fold + 1]]),
        "val": set(ordered[val : val + max(1, len(ordered) // 8)]),
    }
    return parts[section] if section in parts else set(ordered).difference(*parts.values())


def check_fold(fold: object) -> None:
    """Raise a ValueError if a fold is not a whole number from 0 to 4."""
    if not isinstance(fold, int) or isinstance(fold, bool) or not 0 <= fold < FOLDS:
        raise ValueError(f"`fold` must be a whole number from 0 to {FOLDS - 1}; got {fold!r}. For example: --fold 0")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a key that sorts names by the numbers in them, ``"a9"`` before ``"a10"``."""
    # Every second part is a number, so numbers are compared with numbers.
    parts: list[str | int] = [int(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+)", name))]
    return parts, name


def _find_split_file(folder: Path, section: str) -> Path | None:
    """Return the split file of a section, whatever the case of its name; None if there is none."""
    wanted = [section + suffix for suffix in _SUFFIXES]
    found = sorted(path for path in folder.glob("*.*") if path.name.lower() in wanted)
    if len(found) > 1:
        raise DatasetError([list_files(f"split files of the section {section}, where one is needed", found)])
    return found[0] if found else None


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # Without a byte order mark, Latin letters of UTF-16 have a zero as their upper byte.
    if len(data) >= 2 and 0 in data[:2]:
        return "utf-16-be" if data[0] == 0 else "utf-16-le"
    return "utf-8-sig"


def _read_names(file: Path, known: Collection[str]) -> set[str]:
    lines = [(number, line) for number, line in read_lines(file) if any(_columns(line))]
    if lines and _columns(lines[0][1])[0].lower() in _HEADERS - set(known):
        lines = lines[1:]
    return {_read_name(file, number, line, known) for number, line in lines}


def _read_name(file: Path, number: int, line: str, known: Collection[str]) -> str:
    """Return the name that a line holds; of unknown names, that of the first column."""
    columns = _columns(line)
    words = [word for column in columns for word in column.split()]
    # A name may hold spaces and commas, so the line as a whole comes first.
    for entries in ([line], columns, words):
        found = (next((name for name in _meanings(entry) if name in known), None) for entry in entries)
        matches = list(dict.fromkeys(name for name in found if name is not None))
        # Of paths, the first one is the image's.
        if len(matches) == 1 or (matches and all(re.search(r"[/\\]", entry) for entry in entries)):
            return matches[0]
        if matches:
            raise DatasetError(
                [f"`{file}` must name one image in each line; line {number} names {matches}. Write one name a line."]
            )
    return _meanings(next(iter(words), line))[1].removesuffix(".nii")


def _columns(line: str) -> list[str]:
    return [_unquoted(column) for column in re.split(r"[,;\t]", line)]


def _unquoted(text: str) -> str:
    return text.strip().strip("\"'").strip()


def _meanings(entry: str) -> list[str]:
    """Return what an entry may mean: its file name, and that without one or two suffixes."""
    name = PurePosixPath(as_one_form(_unquoted(entry)).replace("\\", "/")).name
    stem = PurePosixPath(name).stem
    return [name, stem, PurePosixPath(stem).stem]
