"""``afma measure``: measure whether trained networks' attention is learnt and whether it helps."""

from __future__ import annotations

import argparse
from pathlib import Path

from afma_med.cli.arguments import Commands, add_parser, positive_int

__all__ = ["add_command"]

_DESCRIPTION = """\
Measure whether trained networks' attention is learnt, whether its correction helps, and whether it
helps as claimed.

A line for each run on its attention, a table for each run with the attention left out, swapped with
another image's or made from the label, and a line for each evaluated run, baselines too, on small
objects with and without a large one. The result files of a list of trainings hold these figures."""

_EXAMPLES = """
afma measure runs/camvid_afma --section test
afma measure runs/camvid_afma --limit 20 --by_class
afma measure results/camvid/*.json          results of a list of trainings
"""


def add_command(commands: Commands) -> None:
    """Add ``afma measure``."""
    summary = "measure whether the attention of runs is learnt, and whether it helps"
    parser = add_parser(commands, "measure", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder, such as runs/camvid_afma, or result file")
    parser.add_argument("--section", default="val", help="of the dataset (default: %(default)s)")
    parser.add_argument("--by_class", action="store_true", help="print a table of the classes of each run too")
    parser.add_argument("--limit", type=positive_int, help="look at so many images only")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: %(default)s)")
    parser.add_argument(
        "--weights",
        choices=("model", "ema"),
        default="model",
        help="of run folders: model.pt, or the moving average in last.pt (default: %(default)s)",
    )
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.research.run_figures import measure_folder, read_figures, report_figures

    options = {"section": given.section, "limit": given.limit, "device": given.device, "weights": given.weights}
    found = []
    for path in map(Path, given.runs):
        is_result = path.suffix == ".json"
        figures = read_figures(path) if is_result else measure_folder(path, **options)
        if is_result and (given.section != "val" or given.limit):
            raise ValueError(f"`{path}` has figures of all validation images only. Name a run's folder instead.")
        found.append(figures)
    print(report_figures(found, by_class=given.by_class))
    return 0
