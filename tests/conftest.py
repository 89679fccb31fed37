"""What every test shares: a fixed seed, hypothesis without a clock on a busy machine, and no network."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

# One thread a process: processes share the cores, and small networks gain nothing from more. Torch reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# Examples are derived from the test, so that a run is repeatable; nothing is timed, since machines differ.
for _name, _examples in (("unit", 10), ("nightly", 60)):
    settings.register_profile(_name, deadline=None, derandomize=True, max_examples=_examples, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "unit"))

# In this process, and in those that tests start.
_NO_NETWORK = str(Path(__file__).parent / "_helpers" / "no_network")
sys.path.insert(0, _NO_NETWORK)
sys.modules.pop("sitecustomize", None)  # that of the system, if it has one
import sitecustomize  # noqa: E402, F401

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_NO_NETWORK, os.environ.get("PYTHONPATH")]))


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Start every test from the same random numbers, in whatever order and selection they run."""
    import torch  # here, since the process that hands out the tests needs none of it

    torch.manual_seed(20230101)


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep what the package caches out of the user's folder."""
    os.environ["AFMA_MED_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Draw a dataset's small sample when it is first asked for, once; tests must not change its files."""
    from _helpers.bundle_runs import DRAW

    folder = tmp_path_factory.mktemp("samples")
    return lambda name: DRAW[name](folder / name)  # writers do nothing the second time
