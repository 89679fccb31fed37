"""Refuse runs that cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from afma_med.comparison.arms import identify_arm
from afma_med.runs.run import Run

__all__ = ["check_comparable"]

# What must agree between all runs, by its name in messages: keys of the evaluation.
_EVALUATED = {
    "classes": "classes",
    "unscored classes": "unscored",
    "counting of unscored pixels": "count_unscored_pixels",
    "section": "section",
    "sizes of objects": "size_groups",
    "number of images": "images",
}


def check_comparable(runs: Sequence[Run], *, named: bool = False) -> None:
    """Refuse runs that were trained for different tasks or evaluated differently.

    Args:
        runs: at least one.
        named: whether the names of their arms distinguish the runs too, for arms that differ in no setting.

    Raises:
        ValueError: if two runs differ in bundle, classes, section, sizes of objects, images or labels, if a run is
            given twice, or if two runs have the same settings and seed. The message names both runs.

    Example:
        >>> check_comparable([])
        Traceback (most recent call last):
        ValueError: `folders` must name at least one run; got none. Name the folders of finished runs.
    """
    if not runs:
        raise ValueError("`folders` must name at least one run; got none. Name the folders of finished runs.")
    places: dict[object, Run] = {}
    trained: dict[object, Run] = {}
    for run in runs:
        place, training = run.folder.resolve(), (identify_arm(run), run.seed, run.arm if named else "")
        if place in places:
            raise ValueError(
                f"`folders` must name each run once; got {places[place].folder} and {run.folder}, which are one run. "
                "Leave one out."
            )
        if training in trained:
            raise ValueError(
                f"`folders` must hold one run of each seed; {trained[training].folder} and {run.folder} have the same "
                f"settings and the same seed, {run.seed}. Leave one out, or train it with another --seed."
            )
        if difference := _first_difference(runs[0], run):
            raise ValueError(
                f"`folders` must hold runs that can be compared; {runs[0].folder} and {run.folder} differ in "
                f"{difference}. Leave one out, or evaluate both in the same way."
            )
        places[place] = trained[training] = run


def _first_difference(a: Run, b: Run) -> str:
    """The first reason why two runs cannot be compared, with both values; empty if there is none."""
    if a.settings["name"] != b.settings["name"]:
        return f"bundle: {a.settings['name']} and {b.settings['name']}"
    for name, key in _EVALUATED.items():
        one, other = (run.evaluation.get(key, False) for run in (a, b))
        if one != other:
            return f"{name}: {one} and {other}"
    if only := sorted({*a.counts.images} ^ {*b.counts.images}):
        return f"images: only one was evaluated on {only[0]}"
    # Older results do not have the last objects, "lone" and "accompanied".
    common = min(len(run.counts.objects) for run in (a, b))
    labels = a.counts.pixels[:, :, :common, 0] != b.counts.pixels[:, :, :common, 0]
    if labels.any():
        return f"labels: those of {a.counts.images[int(np.argwhere(labels)[0][0])]} have other pixels"
    return ""
