"""What a user typed after ``monai.bundle run``: its files, ids that nothing knows, and errors that say what to do."""

from __future__ import annotations

import ast
import difflib
import functools
import inspect
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

import monai.bundle
from monai.bundle import ConfigParser

from afma_med.bundle.installed import run_command

__all__ = [
    "evaluate_command",
    "exit_on_error",
    "explain_error",
    "find_unknown_ids",
    "prepare",
    "read_configuration",
    "warn_unknown_ids",
]

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def prepare() -> None:
    """Make ready for a person at the command line: what a bundle does first. In other programs it does nothing."""
    if Path(sys.argv[0]).parts[-3:] == ("monai", "bundle", "__main__.py"):
        warn_unknown_ids()
        sys.excepthook = _show


def explain_error(error: BaseException) -> str | None:
    """Return what went wrong where a bundle's parts are built, without the traceback that MONAI puts around it.

    Returns:
        The message of the error itself; None for errors from elsewhere, which need their traceback.

    Example:
        >>> explain_error(ValueError("a bug")) is None
        True
    """
    found: BaseException | None = None
    while error.__cause__ is not None:
        if str(error).startswith("Failed to instantiate component"):
            found = error.__cause__
        error = error.__cause__
    # The text of a KeyError is a quotation of its message.
    return None if found is None else str(found.args[0] if isinstance(found, KeyError) and found.args else found)


def exit_on_error(
    function: Callable[P, R], errors: type[Exception] | tuple[type[Exception], ...] = (OSError, ValueError)
) -> Callable[P, R]:
    """Make a function's refusals end the program with their message alone.

    MONAI wraps what goes wrong in a bundle's expression or in a transform into a traceback of its own, in which the
    message that tells the user what to do is lost.

    Args:
        function: whose errors are for the user.
        errors: which of them, raised or the cause of what is raised.

    Returns:
        The same function, raising SystemExit instead.

    Example:
        >>> exit_on_error(open)("no/such/file")
        Traceback (most recent call last):
        SystemExit: error: [Errno 2] No such file or directory: 'no/such/file'
    """

    @functools.wraps(function)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            found: BaseException | None = error
            while found is not None and not isinstance(found, errors):
                found = found.__cause__
            if found is None:
                raise
            raise SystemExit(f"error: {found}") from error

    return guarded


def evaluate_command(name: str, output_dir: str | os.PathLike[str], arguments: Sequence[str] | None = None) -> str:
    """Return the command that evaluates the run of a training, with the files that the training was started with.

    Args:
        name: of the bundle, such as ``"camvid_afma"``.
        output_dir: folder of the run.
        arguments: of ``monai.bundle run``; default: those of this program.

    Example:
        >>> print(evaluate_command("camvid_afma", "runs/camvid_afma", []))
        python -m monai.bundle run --config_file "[...evaluate.json']" --output_dir runs/camvid_afma
    """
    typed = _configuration_files(sys.argv if arguments is None else arguments)
    bundle, folder = (Path(typed[0]).name, str(Path(typed[0]).parent)) if typed else (f"{name}.json", None)
    return run_command(bundle, "evaluate.json", options={"output_dir": output_dir}, folder=folder)


def warn_unknown_ids(arguments: Sequence[str] | None = None) -> None:
    """Warn of ids that were typed, or stand in an overlay, and that nothing reads; MONAI adds them without a word.

    Args:
        arguments: of ``monai.bundle run``; default: those of this program.
    """
    for name, nearest in find_unknown_ids(sys.argv[1:] if arguments is None else arguments).items():
        meant = f"Did you mean {nearest}?" if nearest else "See the ids of the bundle's JSON file."
        logger.warning("`%s` is no id of this bundle: it changes nothing. %s", name, meant)


def find_unknown_ids(arguments: Sequence[str]) -> dict[str, str | None]:
    """Find top-level ids that the bundle has not and to which nothing refers.

    Args:
        arguments: of ``monai.bundle run``.

    Returns:
        The nearest id of the bundle for each, None if none is near.

    Example:
        >>> find_unknown_ids(["--config_file", "bundles/camvid_afma.json", "--max_epoch", "3"])
        {'max_epoch': 'max_epochs'}
    """
    files = _configuration_files(sys.argv if arguments is None else arguments)
    try:
        configurations = [ConfigParser.load_config_file(file) for file in files]
    except (OSError, ValueError):
        return {}  # MONAI says what is wrong with them
    if not configurations:
        return {}
    # What an overlay restores from a run's settings, such as the fold, only some bundles have.
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
    """Read and merge the configuration files that a command line of ``monai.bundle run`` names.

    Args:
        arguments: of the command; default: those of this process.

    Returns:
        The configuration; empty if no files are named or one cannot be read.

    Example:
        >>> read_configuration(["--config_file", "bundles/camvid_afma.json"])["name"]
        'camvid_afma'
    """
    files = _configuration_files(sys.argv if arguments is None else arguments)
    try:
        return dict(ConfigParser.load_config_files(files)) if files else {}
    except (OSError, ValueError):
        return {}


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = None if os.environ.get("AFMA_MED_TRACEBACK") else explain_error(error)
    if text is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(f"error: {text}\nAFMA_MED_TRACEBACK=1 shows where.\n")


def _configuration_files(arguments: Sequence[str]) -> list[str]:
    given = [value for name, value in _options(arguments) if name == "config_file"]
    try:
        files = ast.literal_eval(given[0]) if given and given[0].startswith("[") else given[:1]
    except (SyntaxError, ValueError):
        return []
    return [str(file) for file in files]


def _options(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Names and values of ``--name value`` and ``--name=value``."""
    for argument, after in zip(arguments, [*arguments[1:], ""], strict=False):
        name, equals, value = argument.partition("=")
        if re.fullmatch(r"--[A-Za-z_][\w#-]*", name):
            yield name[2:].replace("-", "_"), value if equals else after


def _options_of_monai() -> set[str]:
    return {*inspect.signature(monai.bundle.run).parameters, "help"}
