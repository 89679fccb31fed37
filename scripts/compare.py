#!/usr/bin/env python
"""Compare finished, evaluated runs: what AFMA adds to its baseline, by class and by size of object."""

from __future__ import annotations

import argparse
from pathlib import Path

from afma_med.research.comparison import compare_runs


def main() -> None:
    """Compare the runs that the command line names, print the tables and say where the files are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="--output_dir of a training that was evaluated")
    parser.add_argument("--output_dir", type=Path, help="folder for the files (default: comparisons/BUNDLE)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--images", type=int, default=8, help="examples of each kind to show (default: %(default)s)")
    args = parser.parse_args()
    try:
        folder = compare_runs(args.runs, args.output_dir, resamples=args.resamples, images=args.images)
    except (OSError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"The comparison is in {folder / 'index.html'}, with comparison.md, .csv, .json and the pictures beside it.")


if __name__ == "__main__":
    main()
