"""A folder with files of every kind, for all commands."""

from pathlib import Path

import pytest

from _helpers.places import write_place


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the folder once; tests must not change it."""
    return write_place(tmp_path_factory.mktemp("place"))
