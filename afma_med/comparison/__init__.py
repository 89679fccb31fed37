"""Comparisons of finished runs: what AFMA adds to a baseline, and how sure that is."""

from afma_med.comparison.compare import compare_runs
from afma_med.comparison.runs import PixelCounts, Run, read_run
from afma_med.comparison.variants import Pairing, Variant, check_comparable, group_runs, pair_with_baselines

__all__ = [
    "Pairing",
    "PixelCounts",
    "Run",
    "Variant",
    "check_comparable",
    "compare_runs",
    "group_runs",
    "pair_with_baselines",
    "read_run",
]
