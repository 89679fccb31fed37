"""Comparisons of finished runs: what AFMA adds to a baseline, with confidence intervals."""

from afma_med.comparison.arms import Arm, Pairing, group_runs, pair_with_baselines
from afma_med.comparison.comparable import check_comparable
from afma_med.comparison.compare import compare_runs
from afma_med.runs.run import PixelCounts, Run, read_run

__all__ = ["Arm", "Pairing", "PixelCounts", "Run"]
__all__ += ["check_comparable", "compare_runs", "group_runs", "pair_with_baselines", "read_run"]
