"""What there is to know of the attention of runs, and of the small objects of evaluated ones, as tables."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.data import READERS
from afma_med.metrics.small_objects import score_small_objects
from afma_med.research.attention_report import AttentionReport, attention_from_json, report_attention, report_classes
from afma_med.research.mechanism import measure_run
from afma_med.research.mechanism_report import (
    MechanismReport,
    mechanism_from_json,
    report_mechanism,
    report_small_objects,
)
from afma_med.runs.evaluated_run import EVALUATION, Run, read_run
from afma_med.runs.finished_run import load_run
from afma_med.runs.result_file import read_result

__all__ = ["RunFigures", "measure_folder", "read_figures", "report_figures"]

_ATTENTION = (
    "error: squared distance to the gold attention, 1 for an attention of zeros; cosine: 1 for the gold one up to\n"
    "a factor; changed: pixels that the correction gives another class; mended, harmed: of these, what it makes\n"
    "right and wrong."
)
_CLASSES = (
    "share: of the gold attention's square; AUC: how well the strongest attention of a patch tells whether it\n"
    "has the class, 0.5 for not at all."
)
_MECHANISM = (
    "before: the network's own logits; zero: corrected by an attention of zeros; after: as trained; swap: by keys\n"
    "and values of the next image; gold: by the attention made from the label. IoU and recall: of small objects, in\n"
    "images with a large object of their class and without one. If large objects help small ones, as the paper\n"
    "claims, after is better than before where there is a large one, and swap is worse there."
)
_SMALL_OBJECTS = (
    "Small objects by the pixels that the evaluation counted, in images with a large object of their class and\n"
    "without one; classes: how many have small objects in both."
)


class RunFigures(NamedTuple):
    """Hold what there is on one run.

    Args:
        name: of the run.
        attention: whether its attention is learnt; None if that was not measured.
        mechanism: what its attention does; None if that was not measured.
        evaluated: the run as evaluation left it; None if it is not evaluated.
        reason: why attention or mechanism are None.
    """

    name: str
    attention: AttentionReport | None
    mechanism: MechanismReport | None
    evaluated: Run | None
    reason: str


def measure_folder(
    path: str | os.PathLike[str],
    *,
    section: str = "val",
    limit: int | None = None,
    device: str = "cpu",
    weights: str = "model",
) -> RunFigures:
    """Measure the run in a folder.

    Args:
        path: the folder.
        section: of the dataset.
        limit: look at so many images only.
        device: for the network.
        weights: ``"model"`` for the best ones, ``"ema"`` for the moving average in ``last.pt``.

    Raises:
        FileNotFoundError: if there is no such run.
        ValueError: if it, the section or the device cannot be used.

    Example:
        >>> measure_folder("runs/none")
        Traceback (most recent call last):
        FileNotFoundError: ...
    """
    path = Path(path)
    run = load_run(path, weights=weights, device=device)
    attention, mechanism = measure_run(run, section=section, limit=limit)
    # Of a baseline there is nothing else.
    evaluated = read_run(path) if mechanism is None or (path / EVALUATION).is_dir() else None
    return RunFigures(path.name, attention, mechanism, evaluated, _reason(run.settings, attention, mechanism))


def read_figures(path: str | os.PathLike[str]) -> RunFigures:
    """Read the figures in the result file of a run; lists share names, so the folder's name is part of the run's.

    Args:
        path: of the file, which a list of trainings wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no result of a run.

    Example:
        >>> read_figures("none.json")
        Traceback (most recent call last):
        FileNotFoundError: ...
    """
    path = Path(path)
    run = read_result(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    attention, mechanism = content.get("attention"), content.get("mechanism")
    return RunFigures(
        f"{path.parent.name}/{path.stem}",
        None if attention is None else attention_from_json(attention),
        None if mechanism is None else mechanism_from_json(mechanism),
        run,
        _reason(run.settings, attention, mechanism),
    )


def report_figures(found: Sequence[RunFigures], *, by_class: bool = False) -> str:
    """Write the tables, each with its explanation, and what they lack.

    Args:
        found: of the runs.
        by_class: write a table of the classes of each run too.

    Example:
        >>> report_figures([])
        ''
    """
    parts = []
    attentions = [(one.name, one.attention) for one in found if one.attention is not None]
    if attentions:
        parts.append(f"{report_attention(attentions)}\n{_ATTENTION}")
    mechanisms = [(one.name, one.mechanism) for one in found if one.mechanism is not None]
    if mechanisms:
        parts.append(f"{report_mechanism(mechanisms)}\n{_MECHANISM}")
    counts = [(one.name, one.evaluated.counts) for one in found if one.evaluated is not None]
    if counts:
        scores = [(name, score_small_objects(one.pixels, one.objects)) for name, one in counts]
        parts.append(f"{report_small_objects(scores)}\n{_SMALL_OBJECTS}")
    parts += _missing(found)
    if by_class and attentions:
        parts += [f"{name}\n{report_classes(one)}" for name, one in attentions]
        parts[-1] += f"\n{_CLASSES}"
    return "\n\n".join(parts)


def _missing(found: Sequence[RunFigures]) -> list[str]:
    """What is not in the tables and why, a paragraph for each reason."""
    names: dict[tuple[str, str], list[str]] = {}
    for one in found:
        held = {"the attention": one.attention, "the mechanism": one.mechanism}
        lacking = " and ".join(table for table, held_one in held.items() if held_one is None)
        if lacking:
            names.setdefault((lacking, one.reason), []).append(one.name)
        if one.evaluated is None:
            names.setdefault(("small objects", "they are not evaluated yet"), []).append(one.name)
    texts = [f"No figures of {table}, since {why}: {', '.join(runs)}." for (table, why), runs in names.items()]
    return [textwrap.fill(text, 116, break_long_words=False, break_on_hyphens=False) for text in texts]


def _reason(settings: Any, attention: object, mechanism: object) -> str:
    """Why a run is not in the tables of attention and mechanism."""
    reader = READERS.get(str(settings.get("name", "")).removesuffix("_afma"))
    if not settings.get("afma"):
        return "they were trained without AFMA"
    if reader is not None and reader.read_volume is not None:
        return "they are of volumes"
    if mechanism is not None and attention is None:
        return "their attention is not one between patches"
    return "their files are older than these figures (name the run's folder to measure them)"
