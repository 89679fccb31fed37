"""The command line of ``monai.bundle run``: its files, its unknown ids, and readable errors."""

from __future__ import annotations

import ast
import difflib
import inspect
import itertools
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser

from afma_med.bundle.installed import run_command
from afma_med.checks import RunError

__all__ = [
    "evaluate_command",
    "explain_error",
    "find_unknown_ids",
    "prepare",
    "read_configuration",
    "warn_unknown_ids",
]

logger = logging.getLogger(__name__)


def prepare(rank: int = 0) -> None:
    """Make errors readable and warn of unknown ids; the first step of each bundle.

    After this call, an error that a user can fix ends the program with its message, without a traceback. Outside
    ``monai.bundle run`` the function does nothing.

    Args:
        rank: Rank of this process. Only the first process warns.
    """
    if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        sys.excepthook = _show
        if rank == 0:
            warn_unknown_ids()


def explain_error(error: BaseException) -> str | None:
    """Return the message of an error that a user can fix; None for other errors, which need their traceback.

    A user can fix a :class:`RunError`, any error while MONAI builds a component, and an OSError or ValueError of an
    expression, unless it comes from a step of the training or evaluation.

    Args:
        error: Error that ended a bundle.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    found: BaseException | None = next((one for one in chain if isinstance(one, RunError)), None)
    if found is None:
        for wrapper, cause in itertools.pairwise(chain):
            if _is_of_part(wrapper) or _is_of_expression(wrapper, cause):
                found = cause
    # str() of a KeyError puts its message in quotation marks.
    return None if found is None else str(found.args[0] if isinstance(found, KeyError) and found.args else found)


def evaluate_command(name: str, output_dir: str | os.PathLike[str], arguments: Sequence[str] | None = None) -> str:
    """Return the command that evaluates a run, with the same bundle file as its training.

    Args:
        name: Name of the bundle, such as ``"camvid_afma"``.
        output_dir: Folder of the run.
        arguments: Arguments of ``monai.bundle run``; default: those of this program.

    Example:
        >>> print(evaluate_command("camvid_afma", "runs/camvid_afma", []))
        python -m monai.bundle run --config_file "[...evaluate.json']" --output_dir runs/camvid_afma
    """
    typed = _configuration_files(arguments)
    bundle, folder = (Path(typed[0]).name, str(Path(typed[0]).parent)) if typed else (f"{name}.json", None)
    return run_command(bundle, "evaluate.json", options={"output_dir": output_dir}, folder=folder)


def warn_unknown_ids(arguments: Sequence[str] | None = None) -> None:
    """Warn of ids on the command line or in an overlay that nothing reads. MONAI accepts them silently.

    Args:
        arguments: Arguments of ``monai.bundle run``; default: those of this program.
    """
    for name, nearest in find_unknown_ids(sys.argv[1:] if arguments is None else arguments).items():
        meant = f"Did you mean {nearest}?" if nearest else "See the ids in the bundle's JSON file."
        logger.warning("`%s` is not an id of this bundle and has no effect. %s", name, meant)


def find_unknown_ids(arguments: Sequence[str]) -> dict[str, str | None]:
    """Find top-level ids that the bundle does not have and that no expression refers to.

    Args:
        arguments: Arguments of ``monai.bundle run``.

    Returns:
        Each unknown id with the most similar id of the bundle, or None if none is similar.

    Example:
        >>> find_unknown_ids(["--config_file", "bundles/camvid_afma.json", "--max_epoch", "3"])
        {'max_epoch': 'max_epochs'}
    """
    files = _configuration_files(arguments)
    try:
        configurations = [ConfigParser.load_config_file(file) for file in files]
    except (OSError, ValueError):
        return {}  # MONAI raises the error
    if not configurations:
        return {}
    # An overlay restores ids such as the fold from the settings of a run, and only some bundles have them.
    overlays = {
        key.lstrip("+-").split("#")[0]
        for configuration in configurations[1:]
        for key, value in configuration.items()
        if "@settings" not in str(value)
    }
    texts = [json.dumps(configurations, default=str), *arguments]
    known = {*configurations[0], *(name for text in texts for name in re.findall(r"@([A-Za-z_]\w*)", text))}
    given = [*(name.split("#")[0] for name, _ in _options(arguments)), *sorted(overlays)]
    unknown = [name for name in given if name not in known | _options_of_monai()]
    return {name: next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None) for name in unknown}


def read_configuration(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Read and merge the configuration files of ``monai.bundle run``.

    Args:
        arguments: Arguments of the command; default: those of this program.

    Returns:
        The configuration; empty if there are no files or one cannot be read.

    Example:
        >>> read_configuration(["--config_file", "bundles/camvid_afma.json"])["name"]
        'camvid_afma'
    """
    files = _configuration_files(arguments)
    try:
        return dict(ConfigParser.load_config_files(files)) if files else {}
    except (OSError, ValueError):
        return {}


def _is_of_part(wrapper: BaseException) -> bool:
    return str(wrapper).startswith("Failed to instantiate component")


def _is_of_expression(wrapper: BaseException, cause: BaseException) -> bool:
    """Return whether an expression of the bundle failed outside Ignite's loop over the batches."""
    if not str(wrapper).startswith("Failed to evaluate") or not isinstance(cause, OSError | ValueError):
        return False
    frames = [frame for frame, _ in traceback.walk_tb(cause.__traceback__)]
    return all(frame.f_globals.get("__name__") != "ignite.engine.engine" for frame in frames)


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = None if os.environ.get("AFMA_MED_TRACEBACK") else explain_error(error)
    if text is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(f"error: {text}\nSet AFMA_MED_TRACEBACK=1 to see the traceback.\n")


def _configuration_files(arguments: Sequence[str] | None) -> list[str]:
    given = [value for name, value in _options(sys.argv if arguments is None else arguments) if name == "config_file"]
    try:
        files = ast.literal_eval(given[0]) if given and given[0].startswith("[") else given[:1]
    except (SyntaxError, ValueError):
        return []
    return [str(file) for file in files]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield the names and values of ``--name value`` and ``--name=value``."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if re.fullmatch(r"--[A-Za-z_][\w#-]*", name):
            yield name[2:].replace("-", "_"), value if equals else after


def _options_of_monai() -> set[str]:
    return {*inspect.signature(monai.bundle.run).parameters, "help"}
