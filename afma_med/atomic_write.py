"""Files that appear whole or not at all, and folders that are not overwritten."""

from __future__ import annotations

import itertools
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["move_aside", "replacing"]


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path beside ``target``, with the same suffix, and move it there if all went well.

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
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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
