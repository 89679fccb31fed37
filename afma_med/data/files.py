"""Files: forms of their names, lists of them, what identifies their content, and work on many of them in threads."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

__all__ = [
    "as_one_form",
    "cache_folder",
    "file_identity",
    "files_below",
    "files_by_name",
    "files_by_relative_name",
    "join_names",
    "map_files",
    "shown_name",
]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# Seconds between two reports of the progress in a log file; shorter work is not reported there.
_LOG_INTERVAL = 30


def as_one_form(name: str) -> str:
    """Return a name in one form of Unicode (NFC): macOS, and archives made there, write accents as own characters.

    Example:
        >>> as_one_form("zellko\\u0308rper") == "zellk\\u00f6rper"
        True
    """
    return unicodedata.normalize("NFC", name)


def shown_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed and written; bytes that are not UTF-8 are escaped.

    Example:
        >>> shown_name(os.fsdecode(b"caf\\xe9.png"))
        'caf\\\\xe9.png'
    """
    return os.fspath(path).encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


def join_names(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Name several paths; those that differ only in their form of Unicode, and look alike, with escaped characters.

    Example:
        >>> join_names(["a.png", "a.jpg"]), join_names(["\\u00f6.png", "o\\u0308.png"])
        ('a.png and a.jpg', '\\\\xf6.png and o\\\\u0308.png')
    """
    texts = [shown_name(path) for path in paths]
    if len({as_one_form(text) for text in texts}) < len(texts):
        texts = [text.encode("ascii", errors="backslashreplace").decode() for text in texts]
    return " and ".join(texts)


def files_below(root: Path) -> list[Path]:
    """List every file below a folder, in linked folders too, but nothing hidden."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        # A link may lead back up.
        real = os.path.realpath(folder)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and real not in seen]
        if real not in seen:
            found += [Path(folder, name) for name in sorted(files) if not name.startswith(".")]
        seen.add(real)
    return found


def files_by_name(
    paths: Iterable[Path], suffixes: Sequence[str], *, name_prefix: str = "", name_suffix: str = ""
) -> dict[str, list[Path]]:
    """Group files of some kinds (suffixes in lower case) by name, without the prefix and suffix of every name.

    Hidden files, and those without prefix and suffix, are left out.

    Example:
        >>> files_by_name([Path("a_L.png"), Path("b.txt")], (".png",), name_suffix="_L")
        {'a': [PosixPath('a_L.png')]}
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = as_one_form(path.name[: -len(suffix)])
        if name.startswith(name_prefix) and name.endswith(name_suffix):
            found.setdefault(name.removeprefix(name_prefix).removesuffix(name_suffix), []).append(path)
    return found


def files_by_relative_name(root: Path, paths: Iterable[Path], suffixes: Sequence[str]) -> dict[str, list[Path]]:
    """Group files below a folder by their path in it, without suffix."""
    found: dict[str, list[Path]] = {}
    for path in paths:
        for name, files in files_by_name([path], suffixes).items():
            found.setdefault(str(path.relative_to(root).with_name(name)), []).extend(files)
    return found


def cache_folder() -> Path:
    """Return the folder of cached results: ``AFMA_MED_CACHE``, or ``~/.cache/afma_med``."""
    return Path(os.environ.get("AFMA_MED_CACHE") or "~/.cache/afma_med").expanduser()


def file_identity(path: str | os.PathLike[str]) -> str:
    """Identify the content of a file by its path, its size in bytes and its time of change."""
    status = os.stat(path)
    return f"{Path(path).resolve()}|{status.st_size}|{status.st_mtime_ns}"


def map_files(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, title: str, unit: str = "file"
) -> list[_Result]:
    """Return ``[function(item) for item in items]``, computed in threads; for work outside of Python, as of decoders.

    The terminal shows the progress and the remaining time; a log file gets them every 30 seconds. An exception, or
    Ctrl-C, ends the work after the items that were begun.
    """
    intervals = ("mininterval", "maxinterval", "delay")
    pace = {} if sys.stderr.isatty() else dict.fromkeys(intervals, _LOG_INTERVAL)
    with ThreadPoolExecutor() as pool, tqdm(total=len(items), desc=title, unit=unit, **pace) as progress:
        try:
            results = []
            for result in pool.map(function, items):
                results.append(result)
                progress.update()
            return results
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
