"""Problems of a dataset's files: errors and warnings that name the files."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["DatasetError", "DatasetWarning", "collect_warnings", "list_files", "missing_layout", "warn_skipped"]

# What operating systems leave in folders.
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


class DatasetError(ValueError):
    """Report everything that is wrong with a dataset's files.

    Args:
        problems: one text each.
        items: the items that can be used, for a report that goes on.

    Example:
        >>> print(DatasetError(["1 images without a label:\\n  a.png"]))
        The dataset's files must fit together; got:
        1 images without a label:
          a.png
        Add, replace or remove these files.
    """

    def __init__(self, problems: Sequence[str], items: Sequence[dict[str, str]] = ()) -> None:
        self.problems, self.items = list(problems), list(items)
        text = "\n".join(self.problems)
        super().__init__(f"The dataset's files must fit together; got:\n{text}\nAdd, replace or remove these files.")


class DatasetWarning(UserWarning):
    """Report a possible problem of a dataset whose files can be used."""


@contextmanager
def collect_warnings() -> Iterator[list[str]]:
    """Collect the texts of the :class:`DatasetWarning` that the block raises; others are raised again after it."""
    texts: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DatasetWarning)
        yield texts
    for one in caught:
        if issubclass(one.category, DatasetWarning):
            texts.append(str(one.message))
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def missing_layout(dataset: str, root: Path, missing: Path, layout: str) -> FileNotFoundError:
    """Build the error for a folder that does not hold a dataset: root, first missing path, expected layout."""
    found = "no such folder" if not root.is_dir() else f"missing `{missing}`"
    return FileNotFoundError(f"`{root}` must hold {dataset}; {found}. Pass the folder that holds {layout}")


def list_files(what: str, items: Iterable[Path | str], *, shown: int = 8) -> str:
    """Return one problem with the first files that have it; an empty text without any."""
    found = sorted(str(item) for item in items)
    if not found:
        return ""
    more = f"\n  … and {len(found) - shown} more" if len(found) > shown else ""
    return f"{len(found)} {what}:\n  " + "\n  ".join(found[:shown]) + more


def warn_skipped(paths: Iterable[Path], *used: Mapping[str, Sequence[Path]]) -> None:
    """Warn of files that are in none of the groups used, with their number and first names; but not of hidden files."""
    known = {path for files in used for same in files.values() for path in same}
    left = [path for path in paths if path not in known and path.is_file()]
    skipped = [path for path in left if not path.name.startswith(".") and path.name.lower() not in _OF_SYSTEMS]
    if skipped:
        what = "files are skipped: their format cannot be read, or their names do not follow the layout"
        warnings.warn(list_files(what, skipped), DatasetWarning, stacklevel=2)
