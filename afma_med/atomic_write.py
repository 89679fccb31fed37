"""Write files and folders in one step, so that a crash leaves the old ones."""

from __future__ import annotations

import errno
import itertools
import os
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from afma_med.checks import RunError

__all__ = ["WriteError", "move_aside", "remove_leftovers", "replacing", "replacing_folder"]

_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
}


class WriteError(RunError, OSError):
    """An error that names the folder that cannot be written to, and the remedy."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path with the same suffix, and move it to ``target`` at the end, unless an error occurs.

    The data is flushed to the disk before the move: after a power failure, the old file or the new one is there.

    Raises:
        WriteError: If the folder cannot be written to or the disk is full. The old file stays.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp(), "scores.json")
        >>> with replacing(target) as temporary:
        ...     _ = temporary.write_text("{}", encoding="utf-8")
        >>> target.read_text(encoding="utf-8"), len(list(target.parent.iterdir()))
        ('{}', 1)
    """
    temporary = target.with_name(f".{uuid.uuid4().hex}.{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        raise _write_error(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder, and replace ``target`` with it at the end, unless an error occurs.

    Example:
        >>> target = Path(tempfile.mkdtemp(), "report")
        >>> with replacing_folder(target) as new:
        ...     (new / "page.html").touch()
        >>> [path.name for path in target.iterdir()], len(list(target.parent.iterdir()))
        (['page.html'], 1)
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        new = Path(work, "new")
        new.mkdir()
        yield new
        if target.exists():
            target.rename(Path(work, "earlier"))
        new.rename(target)


def _write_error(target: Path, error: OSError) -> WriteError:
    there = next(folder for folder in target.absolute().parents if folder.is_dir())
    return WriteError(
        f"`{target.parent}` must be a folder that can be written to; {target.name} could not be written: "
        f"{error.strerror}, {shutil.disk_usage(there).free / 2**20:.0f} MiB are free. The old files are intact. Free "
        "some space, or name another folder."
    )


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed processes left in a folder.

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
    """Rename a folder to ``NAME_DATE``, with the date of the file ``since``, and return the new path.

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
