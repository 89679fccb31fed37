"""``afma table5``: parameters and multiply-adds of the paper's hosts next to its Table 5."""

from __future__ import annotations

import argparse
from pathlib import Path

from afma_med.cli.arguments import Commands, add_parser, positive_int
from afma_med.research.table5 import PAPER, TABLE_5

__all__ = ["add_command"]

_DESCRIPTION = """\
Print and write parameters and multiply-adds of the paper's hosts, with and without AFMA, next to its
Table 5, and name every difference. Nothing is trained and nothing is downloaded."""

_EXAMPLES = """
afma table5
afma table5 --hosts Unet FPN --encoder resnet18 --size 512 512 --csv unet_fpn.csv
"""


def add_command(commands: Commands) -> None:
    """Add ``afma table5``."""
    summary = "parameters and multiply-adds of the paper's hosts next to its Table 5"
    parser = add_parser(commands, "table5", summary, description=_DESCRIPTION, examples=_EXAMPLES)
    for name, default in PAPER.items():
        kind = positive_int if isinstance(default, int) else str
        parser.add_argument(f"--{name}", type=kind, default=default, help="default: %(default)s, the paper's")
    parser.add_argument(
        "--size", type=positive_int, nargs=2, default=[640, 960], metavar=("H", "W"), help="default: 640 960"
    )
    parser.add_argument("--hosts", nargs="+", default=[*TABLE_5], choices=TABLE_5, metavar="HOST", help="%(choices)s")
    parser.add_argument("--csv", type=Path, default=Path("runs/model_table.csv"), help="default: %(default)s")
    parser.set_defaults(run=_run)


def _run(given: argparse.Namespace) -> int:
    from afma_med.research.model_table import HostSettings, format_model_table, measure_hosts, write_model_table

    settings = HostSettings(given.encoder, given.classes, given.feature, given.patch_size, tuple(given.size))
    rows = list(measure_hosts(given.hosts, settings))
    try:
        write_model_table(rows, given.csv)
    except OSError as error:
        raise ValueError(f"--csv must be a file that can be written; {error}. Name another file.") from error
    print(format_model_table(rows))
    print(f"The table is in {given.csv}")
    return 0
