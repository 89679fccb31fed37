"""``afma objects``: count the objects of a dataset by class and size."""

from __future__ import annotations

import argparse

from afma_med.cli.arguments import SECTIONS, Commands, add_dataset, add_parser

__all__ = ["add_command"]

_DESCRIPTION = """\
Count the objects of a dataset by class and size; print the table, and write it with a bar chart."""

_EXAMPLES = """
afma objects camvid data/camvid
afma objects lits data/lits --section train --output_dir lits_objects
"""


def add_command(commands: Commands) -> None:
    """Add ``afma objects``."""
    summary = "count the objects of a dataset by class and size; write a table and a bar chart"
    parser = add_parser(commands, "objects", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    add_dataset(parser)
    parser.add_argument("--output_dir", help="folder for objects.csv and objects.png (default: objects/NAME)")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.research.object_report import report_objects

    folder = given.output_dir or f"objects/{given.reader.name}"
    sections = [given.section] if given.section else SECTIONS
    print(report_objects(given.reader, given.root, sections, folder), end="")
    return 0
