"""What a user typed after ``monai.bundle run``: its configuration files, and ids that nothing knows."""

from __future__ import annotations

import ast
import difflib
import inspect
import json
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import monai.bundle
from monai.bundle import ConfigParser

__all__ = ["find_unknown_ids", "read_configuration", "warn_unknown_ids"]

logger = logging.getLogger(__name__)


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
    files = _configuration_files(arguments)
    try:
        configurations = [ConfigParser.load_config_file(file) for file in files]
    except (OSError, ValueError):
        return {}  # MONAI says what is wrong with them
    if not configurations:
        return {}
    overlays = {key.lstrip("+-").split("#")[0] for configuration in configurations[1:] for key in configuration}
    texts = [json.dumps(configurations, default=str), *arguments]
    known = {*configurations[0], *(name for text in texts for name in re.findall(r"@([A-Za-z_]\w*)", text))}
    given = [*(name.split("#")[0] for name, _ in _options(arguments)), *sorted(overlays)]
    unknown = [name for name in given if name not in known | _options_of_monai()]
    return {name: next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None) for name in unknown}


def read_configuration(arguments: Sequence[str]) -> dict[str, Any]:
    """Read and merge the configuration files that a command line of ``monai.bundle run`` names.

    Returns:
        The configuration; empty if no files are named or one cannot be read.

    Example:
        >>> read_configuration(["--config_file", "bundles/camvid_afma.json"])["name"]
        'camvid_afma'
    """
    files = _configuration_files(arguments)
    try:
        return dict(ConfigParser.load_config_files(files)) if files else {}
    except (OSError, ValueError):
        return {}


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
