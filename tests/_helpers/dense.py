"""The dense form, which the benchmark times too, under a short name."""

from afma_med.research.dense import *  # noqa: F403
