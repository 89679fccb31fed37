"""Pool the results of all folds of a cross-validation into one result, in which every image is tested once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from afma_med.comparison.tables import group_classes
from afma_med.data.splits import FOLDS
from afma_med.metrics.object_matches import scores_from_matches
from afma_med.metrics.pixel_scores import scores_from_pixels
from afma_med.runs.result_file import read_result, write_result
from afma_med.runs.run import PixelCounts, Run
from afma_med.trial.training_list import FOLDS_FOLDER, Training

__all__ = ["pool_if_complete", "pool_runs"]

# What may differ between the folds of a training.
_OF_FOLD = ("fold", "dataset_dir")
_OF_EVALUATION = ("checkpoint", "dataset", "images", "matches")
# Entries of a fold's result that the pooled result does not repeat.
_NOT_REPEATED = ("version", "settings", "counts")


def pool_if_complete(training: Training, results_dir: Path) -> list[Path]:
    """Pool the results of all folds of a training into ``ARM_SEED.json``, for each evaluation with complete folds.

    Returns:
        The files that were written: those that were missing, or older than the result of a fold.

    Raises:
        ValueError: if the results do not belong together, or a file is malformed.
    """
    if training.pooled is None:
        return []
    whole = training._replace(name=training.pooled, options=_without(training.options, ["fold"]), pooled=None)
    written = []
    for protocol in ("", *training.evaluations):
        parts = [results_dir / FOLDS_FOLDER / protocol / f"{training.pooled}_fold{fold}.json" for fold in range(FOLDS)]
        target = results_dir / protocol / f"{training.pooled}.json"
        if all(part.is_file() for part in parts) and _is_outdated(target, parts):
            run = pool_runs([read_result(part) for part in parts], target)
            folds = [_without(json.loads(part.read_text(encoding="utf-8")), _NOT_REPEATED) for part in parts]
            named = {"protocol": protocol} if protocol else {}
            write_result(target, run, details={"training": whole._asdict(), **named, "folds": folds})
            written.append(target)
    return written


def pool_runs(runs: Sequence[Run], target: Path) -> Run:
    """Pool the runs of all folds into one run, whose scores follow from the pixels and objects counted in all images.

    Scores that do not follow from counts, such as MONAI's, are left out.

    Returns:
        The run of the file ``target``, with the settings that the folds share, and the mean of their validation curves
        over the epochs that all of them have.

    Raises:
        ValueError: if two runs differ in more than the fold, or an image is tested twice. The message names them.
    """
    first, tested = runs[0], Counter(image for run in runs for image in run.counts.images)
    for other in runs[1:]:
        if difference := _first_difference(first, other):
            raise ValueError(
                f"`runs` must be folds of one training; {first.folder} and {other.folder} differ in {difference}. "
                "Remove the result of one of them, and run the list again."
            )
    image, count = tested.most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"`runs` must test every image once; got {image} in {count} folds. "
            "Remove the results of these folds, and run the list again."
        )
    counts = _pool_counts([run.counts for run in runs])
    groups = {name: members for name, members in group_classes(first).items() if name != "other"}
    scores = scores_from_pixels(counts.pixels.sum(axis=0), counts.classes, counts.objects, groups=groups)
    matches = _pool_matches([run.evaluation.get("matches", {}) for run in runs])
    evaluation = {**first.evaluation, "images": sum(int(run.evaluation["images"]) for run in runs)}
    for metric, of_classes in matches.items():
        for name, found in of_classes.items():
            of_objects = scores_from_matches(torch.tensor(found))
            scores |= {f"{metric}_{kind}/{name}": value.numpy() for kind, value in of_objects.items()}
    epochs = sorted(set.intersection(*(set(run.curve) for run in runs)))
    return Run(
        target,
        _without(first.settings, _OF_FOLD),
        evaluation | ({"matches": matches} if matches else {}),
        {name: float(value) for name, value in scores.items()},
        counts,
        {epoch: float(np.mean([run.curve[epoch] for run in runs])) for epoch in epochs},
    )


def _pool_counts(counts: Sequence[PixelCounts]) -> PixelCounts:
    images = [image for one in counts for image in one.images]
    order = np.argsort(images)
    pixels = np.concatenate([one.pixels for one in counts])[order]
    return counts[0]._replace(images=tuple(images[i] for i in order), pixels=pixels)


def _pool_matches(matches: Sequence[Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Add up the counts of objects by metric and class; nothing if an older evaluation has none."""
    if not all(matches):
        return {}
    return {
        metric: {name: np.sum([one[metric][name] for one in matches], axis=0).tolist() for name in classes}
        for metric, classes in matches[0].items()
    }


def _first_difference(one: Run, other: Run) -> str:
    """The first setting in which two runs differ, with both values; empty if they are folds of one training."""
    for part, left_out in (("settings", _OF_FOLD), ("evaluation", _OF_EVALUATION)):
        mine, others = (_without(getattr(run, part), left_out) for run in (one, other))
        for name in sorted(mine.keys() | others.keys()):
            if mine.get(name) != others.get(name):
                return f"{name}: {mine.get(name)} and {others.get(name)}"
    return ""


def _without(values: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _is_outdated(target: Path, parts: Sequence[Path]) -> bool:
    return not target.is_file() or target.stat().st_mtime < max(part.stat().st_mtime for part in parts)
