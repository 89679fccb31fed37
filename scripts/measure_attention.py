#!/usr/bin/env python
"""Tell whether trained networks' attention is learnt, whether its correction helps, and whether it helps as claimed.

A line for each run on its attention, a table for each run with the attention left out, swapped with another image's or
made from the label, and a line for each evaluated run, baselines too, on small objects with and without a large one.
What scripts/run_experiments.py has measured already is read from its results.
"""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.bundle.command_line import positive_int
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
from afma_med.runs.evaluated_run import Run, read_run
from afma_med.runs.finished_run import load_run
from afma_med.runs.result_file import read_result

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


class _Found(NamedTuple):
    """What there is on one run."""

    name: str
    attention: AttentionReport | None
    mechanism: MechanismReport | None
    evaluated: Run | None
    reason: str


def main() -> None:
    """Measure the runs that the command line names and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder, such as runs/camvid_afma, or result file")
    parser.add_argument("--section", default="val", help="of the dataset (default: %(default)s)")
    parser.add_argument("--by_class", action="store_true", help="print a table of the classes of each run too")
    parser.add_argument("--limit", type=positive_int, help="look at so many images only")
    parser.add_argument("--device", default="cpu", help="for the networks, such as cuda (default: %(default)s)")
    parser.add_argument(
        "--weights",
        choices=("model", "ema"),
        default="model",
        help="of run folders: model.pt, or the moving average in last.pt (default: %(default)s)",
    )
    args = parser.parse_args()
    try:
        found = [_read(Path(run), args) if run.endswith(".json") else _measure(Path(run), args) for run in args.runs]
    except (OSError, TypeError, ValueError) as error:
        parser.exit(1, f"error: {error}\n")
    print("\n\n".join(_parts(found, by_class=args.by_class)))


def _parts(found: list[_Found], *, by_class: bool) -> list[str]:
    """The tables, each with its explanation, and what they lack."""
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
    return parts


def _missing(found: list[_Found]) -> list[str]:
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


def _measure(path: Path, args: argparse.Namespace) -> _Found:
    """What is measured of a run's folder."""
    run = load_run(path, weights=args.weights, device=args.device)
    attention, mechanism = measure_run(run, section=args.section, limit=args.limit)
    # Of a baseline there is nothing else.
    evaluated = read_run(path) if mechanism is None or (path / "evaluation").is_dir() else None
    return _Found(path.name, attention, mechanism, evaluated, _reason(run.settings, attention, mechanism))


def _read(path: Path, args: argparse.Namespace) -> _Found:
    """What a result file holds, which has the same name in several lists: with that of the list."""
    run = read_result(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    if args.section != "val" or args.limit:
        raise ValueError(f"`{path}` has figures of all validation images only. Name a run's folder instead.")
    attention, mechanism = content.get("attention"), content.get("mechanism")
    return _Found(
        f"{path.parent.name}/{path.stem}",
        None if attention is None else attention_from_json(attention),
        None if mechanism is None else mechanism_from_json(mechanism),
        run,
        _reason(run.settings, attention, mechanism),
    )


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


if __name__ == "__main__":
    main()
