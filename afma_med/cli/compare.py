"""``afma compare``: compare evaluated runs with their baselines."""

from __future__ import annotations

import argparse
from pathlib import Path

from afma_med.cli.arguments import Commands, add_parser

__all__ = ["add_command"]

_DESCRIPTION = """\
Compare finished, evaluated runs: what AFMA adds to its baseline, by class and by size of object."""

_EXAMPLES = """
afma compare runs/baseline runs/camvid_afma
afma compare runs/* --output_dir comparison --resamples 10000
afma compare results/camvid/*.json          results of a list of trainings
"""


def add_command(commands: Commands) -> None:
    """Add ``afma compare``."""
    summary = "compare evaluated runs: tables, charts and pictures of what AFMA adds"
    parser = add_parser(commands, "compare", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", help="--output_dir of a training that was evaluated, or a result file"
    )
    parser.add_argument("--output_dir", type=Path, help="folder for the files (default: comparisons/BUNDLE)")
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--images", type=int, default=8, help="examples of each kind to show (default: %(default)s)")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.research.comparison import compare_runs

    folder = compare_runs(given.runs, given.output_dir, resamples=given.resamples, images=given.images)
    print((folder / "comparison.md").read_text(encoding="utf-8"))
    print(f"The comparison is in {folder / 'index.html'}, with comparison.md, .csv, .json and the pictures next to it.")
    return 0
