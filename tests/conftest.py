"""What every test shares: a fixed seed, and hypothesis without a clock on a busy machine."""

import pytest
import torch
from hypothesis import settings

# Examples are derived from the test, so that a run is repeatable; nothing is timed, since machines differ.
settings.register_profile("afma_med", deadline=None, derandomize=True, max_examples=20, database=None)
settings.load_profile("afma_med")


@pytest.fixture(autouse=True)
def _fixed_seed():
    """Start every test from the same random numbers, in whatever order and selection they run."""
    torch.manual_seed(20230101)
