"""The ``afma`` command: ``check`` says what a dataset holds and what is wrong, ``objects`` counts its objects."""

from __future__ import annotations

import argparse
import importlib
import os
import sys

from afma_med.data.dataset_reader import SECTIONS, DatasetReader
from afma_med.data.readers import READERS
from afma_med.research.dataset_report import report_dataset
from afma_med.research.object_report import report_objects


def main(arguments: list[str] | None = None) -> int:
    """Print the report of a dataset; 1 if something is wrong with it, 2 if it is not there."""
    parser = argparse.ArgumentParser(prog="afma", description="What a dataset holds.")
    commands = parser.add_subparsers(required=True, metavar="command", dest="command")
    check = commands.add_parser("check", help="look into every file; print counts, sizes, classes, objects, problems")
    objects = commands.add_parser("objects", help="count objects by class and size; write a table and a bar chart")
    for command in (check, objects):
        command.add_argument(
            "reader", metavar="name", type=_find_reader, help=f"{', '.join(READERS)}, or MODULE:READER"
        )
        command.add_argument("root", help="its folder")
        command.add_argument("--section", choices=SECTIONS, help="look at this section only")
    objects.add_argument("--output_dir", help="folder for objects.csv and objects.png (default: objects/NAME)")
    given = parser.parse_args(arguments)
    sections = [given.section] if given.section else SECTIONS
    sound = True
    try:
        if given.command == "check":
            text, sound = report_dataset(given.reader, given.root, sections)
        else:
            folder = given.output_dir or f"objects/{given.reader.name}"
            text = report_objects(given.reader, given.root, sections, folder)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0 if sound else 1


def _find_reader(name: str) -> DatasetReader:
    """A dataset of the package by its name, or any DatasetReader as MODULE:NAME."""
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
