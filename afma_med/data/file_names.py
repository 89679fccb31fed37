"""File names: when two are the same, and how they are shown."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence

__all__ = ["as_one_form", "join_names", "shown_name"]


def as_one_form(name: str) -> str:
    """Return a name in one form of Unicode (NFC): macOS, and archives made there, write accents as own characters.

    Example:
        >>> as_one_form("zellko\\u0308rper") == "zellk\\u00f6rper"
        True
    """
    return unicodedata.normalize("NFC", name)


def shown_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text that can be printed and written; bytes that are not UTF-8 are escaped.

    Example:
        >>> shown_name(os.fsdecode(b"caf\\xe9.png"))
        'caf\\\\xe9.png'
    """
    return os.fspath(path).encode("utf-8", errors="surrogateescape").decode("utf-8", errors="backslashreplace")


def join_names(paths: Sequence[str | os.PathLike[str]]) -> str:
    """Name several paths; those that differ only in their form of Unicode, and look alike, with escaped characters.

    Example:
        >>> join_names(["a.png", "a.jpg"]), join_names(["\\u00f6.png", "o\\u0308.png"])
        ('a.png and a.jpg', '\\\\xf6.png and o\\\\u0308.png')
    """
    texts = [shown_name(path) for path in paths]
    if len({as_one_form(text) for text in texts}) < len(texts):
        texts = [text.encode("ascii", errors="backslashreplace").decode() for text in texts]
    return " and ".join(texts)
