"""Commands in this process: a new one spends seconds on its imports alone."""

from __future__ import annotations

import contextlib
import io
import runpy
import subprocess
import sys
from collections.abc import Callable
from unittest import mock

from _helpers.paths import ROOT, SCRIPTS
from afma_med.cli import main


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``python scripts/NAME.py ARGUMENTS`` does in the root of the checkout."""
    script = str(SCRIPTS / f"{name}.py")
    return _run([script, *map(str, arguments)], lambda: runpy.run_path(script, run_name="__main__"))


def run_afma(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``afma ARGUMENTS`` does in the root of the checkout."""
    typed = list(map(str, arguments))
    return _run(["afma", *typed], lambda: sys.exit(main(typed)))


def _run(typed: list[str], call: Callable[[], object]) -> subprocess.CompletedProcess[str]:
    out, err, code, before = io.StringIO(), io.StringIO(), 0, os.getcwd()
    os.chdir(ROOT)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), mock.patch.object(sys, "argv", typed):
            call()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            err.write(f"{ended.code}\n")
    return subprocess.CompletedProcess(typed, code, out.getvalue(), err.getvalue())


def run_afma(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``afma ARGUMENTS`` does."""
    typed = [str(argument) for argument in arguments]
    return _run(lambda: main(typed), ["afma", *typed])


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """What ``python scripts/NAME.py ARGUMENTS`` does."""
    typed = [str(SCRIPTS / f"{name}.py"), *map(str, arguments)]
    with mock.patch.object(sys, "argv", typed):
        return _run(lambda: runpy.run_path(typed[0], run_name="__main__") and None, typed)
