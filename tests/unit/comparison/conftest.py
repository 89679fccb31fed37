"""Six runs and their comparison, for all tests of comparisons."""

from pathlib import Path

import pytest

from _helpers.synthetic_runs import GROUPS, write_six_runs
from afma_med.comparison import Pairing, group_runs, pair_with_baselines, read_run
from afma_med.comparison.results import Gain, compare_with_baselines


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Write three seeds of a baseline, then three of AFMA; tests must not change them."""
    return write_six_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def pairing(folders: list[Path]) -> Pairing:
    """Pair the arm with AFMA and its baseline."""
    return pair_with_baselines(group_runs([read_run(folder) for folder in folders]))[0][0]


@pytest.fixture(scope="module")
def gain(pairing: Pairing) -> Gain:
    """Compare the two."""
    return compare_with_baselines([pairing], groups=GROUPS, resamples=300)[0]
