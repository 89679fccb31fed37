"""What the commands share: how they are described, and types of arguments."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

__all__ = ["Command", "command", "positive_int", "positive_number", "read_point"]


class Command(NamedTuple):
    """Hold a command: a summary for the list of commands, and the functions that add its arguments and run it."""

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def command(
    summary: str, add_arguments: Callable[[argparse.ArgumentParser], None]
) -> Callable[[Callable[[argparse.Namespace], int]], Command]:
    """Make a command of a function that returns the exit code.

    The function's name is the name of the command, its docstring the help: a description, then examples.
    """
    return partial(Command, summary, add_arguments)


def positive_int(text: str) -> int:
    """Read a whole number above 0, as the ``type`` of an argument of argparse."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def positive_number(text: str) -> float:
    """Read a finite number above 0, as the ``type`` of an argument of argparse."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0; got {text!r}")
    return number


def read_point(text: str) -> tuple[int, int]:
    """Read ROW,COLUMN, as the ``type`` of an argument of argparse."""
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ROW,COLUMN in pixels; got {text!r}") from None
    return row, column
