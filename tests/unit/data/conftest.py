"""What the tests of datasets share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what is cached of files out of the user's folder."""
    monkeypatch.setenv("AFMA_MED_CACHE", str(tmp_path / "cache"))
