"""The error that a user sees if a bundle refuses a command line."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from afma_med.bundle.command_line import explain_error


@contextmanager
def refused(match: str) -> Iterator[None]:
    """Expect an error that the command shows as ``error: MESSAGE``, without a traceback."""
    with pytest.raises(SystemExit, match=match):
        try:
            yield
        except Exception as error:
            message = explain_error(error)
            if message is None:
                raise
            raise SystemExit(f"error: {message}") from error
