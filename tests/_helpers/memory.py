"""How much memory tensors take."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes that tensors, temporaries of torch's own included, take beyond what there is before."""
    run()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        run()
    events = profile.profiler.kineto_results.events()
    changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
    return max(itertools.accumulate(change for _, change in changes))
