"""Paths as a person typed them after ``monai.bundle run``, which reads names such as 2018_06 as numbers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["typed_path"]


def typed_path(name: str, value: Any, arguments: Sequence[str] | None = None) -> Any:
    """Return the value of an id that is a path, with the text of the command line if it was given there.

    MONAI evaluates what is typed as Python: ``2018`` becomes a number, ``2018_06`` the number 201806, ``a#1`` becomes
    ``a``. The text that was typed is right for a path, unless it is an expression of MONAI.

    Args:
        name: of the id.
        value: what MONAI made of it.
        arguments: of ``monai.bundle run``; default: those of this program, if it is that one.

    Returns:
        The path as text; other values than numbers and text, such as None, as they are.

    Example:
        >>> typed_path("dataset_dir", 201806, ["--dataset_dir", "2018_06"]), typed_path("dataset_dir", 2018, [])
        ('2018_06', '2018')
    """
    if arguments is None:
        arguments = sys.argv[1:] if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py") else ()
    text = _find_text(name, arguments)
    if text and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if text and text not in ("None", "null") and text[0] not in "$@%":
        return text
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _find_text(name: str, arguments: Sequence[str]) -> str:
    """Return what follows the last ``--name`` or ``--name=``; an empty text if nothing does."""
    found = ""
    for argument, after in zip(arguments, [*arguments[1:], "--"], strict=False):
        option, equals, value = argument.partition("=")
        if option.replace("-", "_") == f"__{name}":
            found = value if equals else "" if after.startswith("--") else after
    return found
