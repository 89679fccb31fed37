"""Commands in this process: a new one spends seconds on its imports alone."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

from _helpers.paths import SCRIPTS
from afma_med.cli import main
from experiments.lab.__main__ import main as lab


def _run(command: Callable[[], int | None], typed: list[str]) -> subprocess.CompletedProcess[str]:
    out, err = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = command() or 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            err.write(f"{ended.code}\n")
    return subprocess.CompletedProcess(typed, code, out.getvalue(), err.getvalue())


def run_afma(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``afma ARGUMENTS`` does."""
    typed = [str(argument) for argument in arguments]
    return _run(lambda: main(typed), ["afma", *typed])


def run_lab(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``python -m experiments.lab ARGUMENTS`` does."""
    typed = [str(argument) for argument in arguments]
    return _run(lambda: lab(typed), ["lab", *typed])


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``python scripts/NAME.py ARGUMENTS`` does."""
    typed = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    with mock.patch.object(sys, "argv", typed):
        return _run(lambda: runpy.run_path(typed[0], run_name="__main__") and None, typed)
