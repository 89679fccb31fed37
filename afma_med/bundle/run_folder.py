"""The folder of a run: prepared and locked by the one process that writes to it."""

from __future__ import annotations

import logging
import os
import socket
import sys
from pathlib import Path
from typing import IO

from afma_med.atomic_write import move_aside, remove_leftovers
from afma_med.checks import RunError
from afma_med.handlers.run_files import BEST, LAST, LOCK

if sys.platform != "win32":
    import fcntl

__all__ = ["find_weights", "lock_folder", "open_run_folder"]

logger = logging.getLogger(__name__)

# The open files keep the locks of this process.
_LOCKS: dict[str, IO[str]] = {}


def open_run_folder(output_dir: str | os.PathLike[str], *, resume: bool | str = False, rank: int = 0) -> str | None:
    """Prepare and lock the folder of a run: find the checkpoint to resume from, or move an earlier run aside.

    Args:
        output_dir: Folder of the run.
        resume: True for the last checkpoint of the run, the path of a checkpoint, or False to start anew. The strings
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

    The lock is that of the operating system, so it ends with the process, however that ends. A process may lock a
    folder again. On Windows nothing is locked.

    Args:
        folder: Folder to lock.
        name: Id of the folder, for the error.

    Raises:
        RunError: If another process has the lock; the message names it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    path = os.path.realpath(Path(folder, LOCK))
    if sys.platform == "win32" or _is_held(path):
        return
    file = Path(path).open("a+", encoding="utf-8")  # noqa: SIM115 -- open as long as the process
    try:
        # Not flock: a process of a data loader would inherit it and keep it when this one was killed.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        raise RunError(
            f"`{name}` must be a folder that no other process writes to; `{folder}` is used by {holder or 'one'}. "
            f"Wait until it ends, stop it, or name another --{name}."
        ) from error
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    _LOCKS[path] = file


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
    """Return whether this process has the lock of a file that was not deleted since."""
    return path in _LOCKS and os.path.exists(path) and os.path.samestat(os.fstat(_LOCKS[path].fileno()), os.stat(path))


def _unlock(folder: Path) -> None:
    if (file := _LOCKS.pop(os.path.realpath(folder / LOCK), None)) is not None:
        file.close()
