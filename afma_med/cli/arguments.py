"""What the commands share: their description as data, and types of arguments. Nothing here loads torch."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import NamedTuple

from afma_med.bundle.installed import bundle_names

__all__ = ["Command", "add_bundle_name", "positive_int", "read_point"]


class Command(NamedTuple):
    """Describe a command.

    Args:
        name: of the command.
        summary: one line for the list of commands.
        description: what the command does, in lines of up to 100 characters.
        examples: lines of the shell.
        add_arguments: adds its arguments to a parser.
        run: runs the parsed command and returns its exit code.
    """

    name: str
    summary: str
    description: str
    examples: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def add_bundle_name(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a bundle."""
    names = bundle_names()
    parser.add_argument("name", metavar="NAME", choices=names, help=f"dataset: {', '.join(names)}")


def positive_int(text: str) -> int:
    """Read a whole number above 0, as the ``type`` of an argument of argparse.

    Example:
        >>> positive_int("3")
        3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def read_point(text: str) -> tuple[int, int]:
    """Read ROW,COLUMN, as the ``type`` of an argument of argparse.

    Example:
        >>> read_point("12,34")
        (12, 34)
    """
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ROW,COLUMN in pixels; got {text!r}") from None
    return row, column
