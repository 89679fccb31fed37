"""Files that appear whole or not at all, and folders that are not overwritten."""

from __future__ import annotations

import itertools
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["move_aside", "remove_leftovers", "replacing"]


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``, with the same suffix, and move it there if all went well.

    It is on the disk before it is moved, so that a machine that loses power has the old file or the new one.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp(), "scores.json")
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("{}")
        >>> target.read_text(), len(list(target.parent.iterdir()))
        ('{}', 1)
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of writers in this folder that were killed.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / f".{uuid.uuid4().hex}.last.pt").touch()
        >>> remove_leftovers(folder)
        >>> list(folder.iterdir())
        []
    """
    for path in folder.glob(".*"):
        if re.fullmatch(r"\.[0-9a-f]{32}\..+", path.name) and path.is_file():
            path.unlink()


def move_aside(folder: Path, *, since: Path) -> Path:
    """Rename a folder to ``NAME_DATE``, the date of one of its files, and return the new path.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp(), "run")
        >>> folder.mkdir()
        >>> move_aside(folder, since=folder).name.startswith("run_20")
        True
    """
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(since.stat().st_mtime))
    stamped = f"{folder.name}_{stamp}"
    names = itertools.chain([stamped], (f"{stamped}-{i}" for i in itertools.count(2)))
    aside = next(path for path in map(folder.with_name, names) if not path.exists())
    folder.rename(aside)
    return aside
