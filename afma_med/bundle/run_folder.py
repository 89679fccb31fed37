"""The folder of a run: prepared and locked by the one process that writes to it."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from pathlib import Path

from afma_med.atomic_write import move_aside, remove_leftovers
from afma_med.checks import RunError
from afma_med.handlers.run_files import BEST, LAST

if sys.platform != "win32":
    import fcntl

__all__ = ["find_weights", "lock_folder", "open_run_folder"]

logger = logging.getLogger(__name__)

# Open folders by path; they keep the locks of this process.
_LOCKS: dict[str, int] = {}


def open_run_folder(output_dir: str | os.PathLike[str], *, resume: bool | str = False, rank: int = 0) -> str | None:
    """Prepare and lock the folder of a run: find the checkpoint to resume from, or move an earlier run aside.

    Args:
        output_dir: Folder of the run.
        resume: True for the last checkpoint of the run, the path of a checkpoint, or False to start again. The strings
            "true" and "false" are accepted, because MONAI's command line passes such words on as text.
        rank: Rank of this process. Only the first process changes the folder.

    Returns:
        Path of the checkpoint to resume from, or None.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.
        RunError: If another process writes to the folder.

    Example:
        >>> import tempfile
        >>> open_run_folder(tempfile.mkdtemp() + "/run") is None
        True
    """
    folder = Path(output_dir)
    last = folder / LAST
    if str(resume).lower() != "false":
        checkpoint = last if str(resume).lower() == "true" else Path(str(resume))
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f"`resume` must find a checkpoint; got {resume!r} and there is no file `{checkpoint}`. "
                "Name the run's --output_dir, or leave --resume out to start anew."
            )
        logger.info("Resuming from %s.", checkpoint)
        if rank == 0:
            lock_folder(folder)
            remove_leftovers(folder)
        return str(checkpoint)
    if rank > 0:
        return None
    lock_folder(folder)
    if last.exists():
        _unlock(folder)  # the earlier run may be resumed where it is moved to
        aside = move_aside(folder, since=last)
        logger.warning("Moved the earlier run to %s; continue it with --output_dir %s --resume True.", aside, aside)
        lock_folder(folder)
    return None


def lock_folder(folder: str | os.PathLike[str], *, name: str = "output_dir") -> None:
    """Make a folder where there is none, and keep other processes from writing to it until this process ends.

    The lock is that of the operating system on the folder itself, so it ends with the process, however that ends, and
    leaves no file. A process may lock a folder again. Where folders cannot be locked, as on Windows, nothing is.

    Args:
        folder: Folder to lock.
        name: Name of the folder's id in the error.

    Raises:
        RunError: If another process has the lock; the message names it where the system tells.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = os.path.realpath(folder)
    if sys.platform == "win32" or _is_held(path):
        return
    opened = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(opened)
        raise RunError(
            f"`{name}` must be a folder that no other process writes to; `{folder}` is used by {_find_holder(path)}. "
            f"Wait until it ends, stop it, or name another --{name}."
        ) from error
    except OSError:  # some network drives lock no folders
        os.close(opened)
    else:
        _LOCKS[path] = opened


def find_weights(output_dir: str | os.PathLike[str]) -> str:
    """Return the path of the best weights of a run.

    Raises:
        FileNotFoundError: If the run has no weights.
    """
    weights = Path(output_dir) / BEST
    if not weights.is_file():
        raise FileNotFoundError(
            f"`output_dir` must hold trained weights; there is no file `{weights}`. "
            "Train first, or name another run. evaluate.json, inference.json and `afma show` take --checkpoint FILE."
        )
    return str(weights)


def _is_held(path: str) -> bool:
    """Return whether this process has the lock of a folder that was not replaced since."""
    return path in _LOCKS and os.path.samestat(os.fstat(_LOCKS[path]), os.stat(path))


def _unlock(folder: Path) -> None:
    if (opened := _LOCKS.pop(os.path.realpath(folder), None)) is not None:
        os.close(opened)


def _find_holder(path: str) -> str:
    """Name the process that has locked a folder, as Linux lists it."""
    with suppress(OSError):
        for line in Path("/proc/locks").read_text(encoding="utf-8").splitlines():
            kind, process, file = (line.split()[column] for column in (1, 4, 5))
            if kind == "FLOCK" and file.endswith(f":{os.stat(path).st_ino}"):
                return f"process {process}"
    return "another one"


def _drop_locks() -> None:
    """Close a forked process's copies: a data loader must not keep the locks of a training that was killed."""
    for opened in _LOCKS.values():
        os.close(opened)
    _LOCKS.clear()


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_drop_locks)
