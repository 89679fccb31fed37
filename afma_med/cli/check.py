"""``afma check``: look into every file of a dataset."""

from __future__ import annotations

import argparse

from afma_med.cli.arguments import SECTIONS, Commands, add_dataset, add_parser

__all__ = ["add_command"]

_DESCRIPTION = """\
Look into every file of a dataset; print sections, image sizes, classes with their weights, objects by
size, warnings, and every problem. The exit code is 1 if there is a problem, 2 if the dataset is missing."""

_EXAMPLES = """
afma check camvid data/camvid
afma check lits data/lits --section train
afma check mydata:READER data/mine          a DatasetReader of your own, in mydata.py
"""


def add_command(commands: Commands) -> None:
    """Add ``afma check``."""
    summary = "look into every file of a dataset; print counts, sizes, classes, objects, problems"
    parser = add_parser(commands, "check", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    add_dataset(parser)
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.research.dataset_report import report_dataset

    text, sound = report_dataset(given.reader, given.root, [given.section] if given.section else SECTIONS)
    print(text, end="")
    return 0 if sound else 1
