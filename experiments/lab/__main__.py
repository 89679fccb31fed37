"""``python -m experiments.lab``: the commands of the laboratory."""

from __future__ import annotations

import sys

from afma_med.cli import build_parser, run_command_line
from experiments.lab.costs import benchmark, table5
from experiments.lab.runs import compare, measure, negative_cases, rivals, run

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run a command, as :func:`afma_med.cli.main` does."""
    parser = build_parser(
        (run, compare, measure, negative_cases, rivals, table5, benchmark),
        prog="python -m experiments.lab",
        description="Studies and measurements of the method, from a checkout of the repository.",
        epilog="`python -m experiments.lab benchmark --help` prints the options of one command.",
    )
    return run_command_line(parser, arguments)


if __name__ == "__main__":
    sys.exit(main())
