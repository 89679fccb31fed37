"""The folder of a comparison: whole or absent, never a mixture of two, and never in place of anything else."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from afma_med.atomic_write import replacing_folder
from afma_med.research.comparison.files import Comparison, format_csv, format_json, format_text
from afma_med.research.comparison.page import Picture, format_page

__all__ = ["check_replaceable", "write_folder"]

# The file that tells a comparison from other folders; it lists the others.
_MARKER = "comparison.json"


def check_replaceable(folder: str | os.PathLike[str]) -> None:
    """Refuse a folder that holds anything but an earlier comparison.

    Args:
        folder: absent, empty, or written by :func:`write_folder`.

    Raises:
        FileExistsError: if it holds something else, or files were put into it.

    Example:
        >>> check_replaceable("no/such/folder")
    """
    target = Path(folder)
    if not target.exists() and not target.is_symlink():
        return
    found = {path.name for path in target.iterdir()} if target.is_dir() else {target.name}
    if found and _MARKER not in found:
        raise FileExistsError(
            f"`output_dir` must be a new folder or an earlier comparison; `{target}` holds no {_MARKER}. "
            "Choose another --output_dir."
        )
    foreign = sorted(found - _listed_files(target / _MARKER)) if found else []
    if foreign:
        raise FileExistsError(
            f"`output_dir` must hold nothing but an earlier comparison; `{target}` holds {', '.join(foreign)} too. "
            "Move that elsewhere first."
        )


def write_folder(folder: str | os.PathLike[str], found: Comparison, pictures: Sequence[Picture]) -> None:
    """Write a comparison beside its folder and move it there when complete; an earlier one goes.

    Args:
        folder: that :func:`check_replaceable` lets pass.
        found: the comparison.
        pictures: of it.
    """
    target = Path(os.path.realpath(folder))
    texts = {
        "index.html": format_page(found, pictures),
        "comparison.md": format_text(found),
        "details.md": format_text(found, detail=True),
        "comparison.csv": format_csv(found),
    }
    contents = {name: text.encode("utf-8") for name, text in texts.items()}
    contents |= {picture.name: picture.content for picture in pictures}
    contents[_MARKER] = format_json(found, files=[*contents, _MARKER]).encode("utf-8")
    with replacing_folder(target) as new:
        for name, content in contents.items():
            (new / name).write_bytes(content)


def _listed_files(marker: Path) -> set[str]:
    """The files that a comparison says it has; none if its list cannot be read."""
    try:
        return set(json.loads(marker.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()
