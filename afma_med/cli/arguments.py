"""What the commands share: their parsers, and types of arguments. Nothing here loads torch."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING, TypeAlias

from afma_med.bundle.installed import bundle_names

if TYPE_CHECKING:
    from afma_med.data.dataset_reader import DatasetReader

__all__ = ["SECTIONS", "Commands", "add_dataset", "add_parser", "find_reader", "positive_int", "read_point"]

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

#: Those of :data:`afma_med.data.dataset_reader.SECTIONS`, which would load torch.
SECTIONS = ("train", "val", "test")


def add_parser(
    commands: Commands, name: str, summary: str, *, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add the parser of a command.

    Args:
        commands: of the program.
        name: of the command.
        summary: one line for the list of commands.
        description: what the command does, lines up to 100 characters.
        examples: lines of the shell.
    """
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a dataset.

    Args:
        parser: of the command.
    """
    names = ", ".join(bundle_names())
    parser.add_argument("reader", metavar="name", type=find_reader, help=f"{names}, or MODULE:READER for your own")
    parser.add_argument("root", help="folder of the dataset")
    parser.add_argument("--section", choices=SECTIONS, help="look at this section only")


def find_reader(name: str) -> DatasetReader:
    """Find a dataset of the package by its name, or any DatasetReader as MODULE:NAME.

    Args:
        name: as typed.

    Raises:
        ArgumentTypeError: if there is none.

    Example:
        >>> find_reader("camvid").title
        'CamVid'
    """
    from afma_med.data.dataset_reader import DatasetReader
    from afma_med.data.readers import READERS

    if name in READERS:
        return READERS[name]
    module, _, attribute = name.partition(":")
    if not attribute:
        raise argparse.ArgumentTypeError(f"unknown dataset {name!r}; choose of {list(READERS)}, or name MODULE:READER")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise argparse.ArgumentTypeError(f"{name!r} cannot be imported: {error}") from error
    if not isinstance(found, DatasetReader):
        raise argparse.ArgumentTypeError(f"{name!r} must be a DatasetReader; it is a {type(found).__name__}")
    return found


def positive_int(text: str) -> int:
    """Read a whole number above 0, as the ``type`` of an argument of argparse.

    Args:
        text: as typed.

    Raises:
        ArgumentTypeError: if it is another text.

    Example:
        >>> positive_int("3")
        3
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0; got {text!r}")
    return int(text)


def read_point(text: str) -> tuple[int, int]:
    """Read ROW,COLUMN, as the ``type`` of an argument of argparse.

    Args:
        text: as typed.

    Raises:
        ArgumentTypeError: if it is another text.

    Example:
        >>> read_point("12,34")
        (12, 34)
    """
    try:
        row, column = map(int, text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be ROW,COLUMN in pixels; got {text!r}") from None
    return row, column
