"""Keep the contents of pictures and their labels, so that a dataset is read from end to end only once."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from afma_med.data.dataset_reader import DatasetReader, Inspected, Item
from afma_med.data.files import cache_folder, file_identity
from afma_med.data.label_pixels import MaskReader
from afma_med.data.picture_reader import inspect_pictures
from afma_med.data.problems import DatasetWarning
from afma_med.version import __version__

__all__ = ["kept_inspections"]

_Inspect = Callable[[Item], list[Inspected]]


@contextmanager
def kept_inspections(reader: DatasetReader) -> Iterator[_Inspect]:
    """Give a reader's ``inspect`` that keeps its results in a file, and reads no picture again that has not changed.

    A picture has changed if its path, its size in bytes or its time of change has. Each result is kept at once, so that
    a survey that was stopped goes on where it was. Files with problems are read again. Only pictures that this package
    itself reads are kept: it cannot know when a function of somebody else changes.

    Warns:
        DatasetWarning: if the file cannot be used; everything is read then.
    """
    kind = _kind(reader.inspect)
    if kind is None:
        yield reader.inspect
        return
    path = cache_folder() / f"{reader.name}.sqlite"
    with closing(_Kept(path, reader.inspect, kind)) as kept:
        yield kept
    if kept.problem:
        text = f"{path} cannot keep what was read: {kept.problem}. Set AFMA_MED_CACHE to another folder."
        warnings.warn(text, DatasetWarning, stacklevel=3)


class _Kept:
    """Look an item up, or inspect it and keep the result; after a problem with the file, inspect only."""

    def __init__(self, path: Path, inspect: _Inspect, kind: str) -> None:
        self.inspect, self.kind = inspect, kind
        self.problem: Exception | None = None
        # The threads of a survey share the connection, and take turns.
        self.lock = threading.Lock()
        self.connection: sqlite3.Connection | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            self.problem = error
        self._execute("PRAGMA synchronous = OFF")  # a crash may lose entries; they are read again
        self._execute("CREATE TABLE IF NOT EXISTS inspections (key TEXT PRIMARY KEY, content TEXT)")

    def __call__(self, item: Item) -> list[Inspected]:
        try:
            files = [(name, file_identity(value)) for name, value in sorted(item.items())]
        except OSError:  # a missing file, which its reader names
            return self.inspect(item)
        key = hashlib.sha256(json.dumps([__version__, Inspected._fields, self.kind, files]).encode()).hexdigest()
        rows = self._execute("SELECT content FROM inspections WHERE key = ?", key)
        if rows:
            return [_decode(item, kept) for kept in json.loads(rows[0][0])]
        found = self.inspect(item)
        if all(one.item == item for one in found):
            content = json.dumps([_encode(one) for one in found])
            self._execute("INSERT OR REPLACE INTO inspections VALUES (?, ?)", key, content)
        return found

    def close(self) -> None:
        """Close the file."""
        if self.connection is not None:
            self.connection.close()

    def _execute(self, statement: str, *values: str) -> list[Any]:
        with self.lock:
            if self.problem or self.connection is None:
                return []
            try:
                return self.connection.execute(statement, values).fetchall()
            except sqlite3.Error as error:
                self.problem = error
                return []


def _kind(inspect: Any) -> str | None:
    """Describe a function that inspects pictures; None if it is not this package's own."""
    if not isinstance(inspect, partial) or inspect.func is not inspect_pictures or inspect.args:
        return None
    read_label, num_classes = inspect.keywords.get("read_label"), inspect.keywords.get("num_classes")
    if type(read_label) is MaskReader:
        return f"{read_label} {num_classes}"
    module, name = getattr(read_label, "__module__", ""), getattr(read_label, "__qualname__", "")
    return f"{module}.{name} {num_classes}" if module.startswith("afma_med.") and "<" not in name and name else None


def _encode(one: Inspected) -> dict[str, Any]:
    values = {key: value for key, value in one._asdict().items() if key != "item"}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in values.items()}


def _decode(item: Item, kept: dict[str, Any]) -> Inspected:
    counts = None if kept["counts"] is None else np.array(kept["counts"], dtype=np.int64)
    objects = None if kept["objects"] is None else np.array(kept["objects"], dtype=np.int64).reshape(-1, 3)
    return Inspected(dict(item), tuple(kept["size"]), counts, kept["highest"], objects, kept["reading"])
