"""``python -m afma_med.data check NAME ROOT``: what a dataset holds and what is wrong with it."""

from __future__ import annotations

import argparse
import sys

from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.readers import READERS
from afma_med.data.report import report_dataset


def main(arguments: list[str] | None = None) -> int:
    """Print the report of a dataset; 1 if something is wrong with it, 2 if it is not there."""
    parser = argparse.ArgumentParser(prog="python -m afma_med.data", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="command")
    check = commands.add_parser("check", help="look into every file; print counts, sizes, classes, objects, problems")
    check.add_argument("name", choices=sorted(READERS), help="which dataset")
    check.add_argument("root", help="its folder")
    check.add_argument("--section", choices=SECTIONS, help="look at this section only")
    given = parser.parse_args(arguments)
    try:
        text, sound = report_dataset(READERS[given.name], given.root, [given.section] if given.section else SECTIONS)
    except FileNotFoundError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
