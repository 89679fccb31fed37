"""Where results of files are cached, and what tells whether a file has changed."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_folder", "file_identity"]


def cache_folder(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of cached results: the one given, ``AFMA_MED_CACHE``, or ``~/.cache/afma_med``."""
    return Path(cache_dir or os.environ.get("AFMA_MED_CACHE") or "~/.cache/afma_med").expanduser()


def file_identity(path: str | os.PathLike[str]) -> str:
    """Identify the content of a file by its path, its size in bytes and its time of change.

    Raises:
        OSError: if there is no such file.
    """
    status = os.stat(path)
    return f"{Path(path).resolve()}|{status.st_size}|{status.st_mtime_ns}"
