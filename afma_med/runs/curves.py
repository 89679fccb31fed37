"""Training curves out of TensorBoard's event files."""

from __future__ import annotations

import math
import os
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

__all__ = ["read_curve"]

# All scalars; of everything else as little as the reader lets one ask for.
_GUIDANCE = {"scalars": 0, "images": 1, "tensors": 1, "histograms": 1, "compressedHistograms": 1, "audio": 1}


def read_curve(folder: str | os.PathLike[str], tag: str = "val/mIoU") -> dict[int, float]:
    """Read a scalar by epoch out of the event files of a run.

    Args:
        folder: of the run; its own event files are read, not those of folders below.
        tag: of the scalar.

    Returns:
        Values by step, in the order of the steps; of a step that a resumed run went through twice, the last value.
        Empty without event files, or if they lack the tag.

    Example:
        >>> read_curve("runs/none")
        {}
    """
    found = []
    for path in sorted(Path(folder).glob("events.out.tfevents*")):
        # Without purging, which would drop what follows a restart of the steps.
        events = EventAccumulator(str(path), size_guidance=_GUIDANCE, purge_orphaned_data=False).Reload()
        if tag in events.Tags()["scalars"]:
            found += [event for event in events.Scalars(tag) if not math.isnan(event.value)]
    values = {event.step: event.value for event in sorted(found, key=lambda event: event.wall_time)}
    return dict(sorted(values.items()))
