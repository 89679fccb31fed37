"""The ``afma`` command. Only the commands that need torch load it, and only when they run."""

from __future__ import annotations

import argparse
import inspect
import io
import os
import sys
import textwrap
from collections.abc import Sequence

from afma_med import __version__
from afma_med.cli.arguments import Command
from afma_med.cli.bundles import bundle, package
from afma_med.cli.datasets import advise, check, objects
from afma_med.cli.runs import compare, show
from afma_med.cli.trials import trial

__all__ = ["build_parser", "main", "run_command_line"]

# In the order of a user's steps.
_COMMANDS = (bundle, check, objects, advise, trial, show, compare, package)

_EPILOG = """\
examples:
  afma bundle camvid --copy .         copy a bundle here; the command prints how to train with it
  afma check camvid FOLDER            look into every file of a dataset before training
  afma trial camvid FOLDER            find out within an hour whether AFMA helps on a dataset
  afma show runs/camvid_afma          draw what a trained network attends to
  afma compare runs/*                 compare evaluated runs with their baselines
  afma show --help                    the options of one command

exit codes:
  0  all is well
  1  a finding, such as a broken file of a dataset
  2  a wrong command line, or an input that is missing or broken
"""


def build_parser(
    commands: Sequence[Command] = _COMMANDS,
    *,
    prog: str = "afma",
    description: str = "Bundles, datasets, trained networks and comparisons of afma_med.",
    epilog: str = _EPILOG,
) -> argparse.ArgumentParser:
    """Build the parser of a command line.

    Args:
        commands: Commands in the order of the help.
        prog: Name of the program.
        description, epilog: Text above and below the commands in the help.

    Example:
        >>> build_parser().parse_args(["bundle", "camvid"]).name
        'camvid'
    """
    parser = argparse.ArgumentParser(
        prog=prog,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"afma_med {__version__}")
    chosen = parser.add_subparsers(required=True, metavar="command", dest="command")
    for command in commands:
        description, _, examples = (inspect.getdoc(command.run) or "").partition("\n\nexamples:\n")
        own = chosen.add_parser(
            command.run.__name__,
            help=command.summary,
            description=description,
            epilog=f"examples:\n{textwrap.indent(examples, '  ')}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: arguments of the command line; default: those of this program.

    Returns:
        The exit code: 0, 1 for a finding, 2 for a missing or broken input.

    Raises:
        SystemExit: with 2 for a wrong command line, with 0 after the help.

    Example:
        >>> main(["compare", "runs/none"])
        2
    """
    return run_command_line(build_parser(), arguments)


def run_command_line(parser: argparse.ArgumentParser, arguments: list[str] | None = None) -> int:
    """Run a command of a parser as :func:`main` does, and return its exit code."""
    given = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # file names may hold bytes that are not text
    try:
        code: int = given.run(given)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output, such as head, has stopped reading
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return code
