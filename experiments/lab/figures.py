"""Figures of runs' attention and of their small objects: measured or read from result files, written as tables."""

from __future__ import annotations

import json
import math
import os
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from afma_med.bundle.settings import read_settings
from afma_med.data import READERS
from afma_med.handlers.run_files import BEST, EVALUATION, SETTINGS
from afma_med.networks.hypercolumn_net import has_attention
from afma_med.runs.result_file import read_result
from afma_med.runs.run import Run, read_run
from afma_med.runs.trained_network import TrainedNetwork, load_network
from afma_med.trial.training_list import WEIGHTS
from afma_med.visualize.text_table import format_table
from experiments.lab.correction_forms import FORMS
from experiments.lab.mechanism import AttentionReport, ClassAttention, FormScores, MechanismReport, measure_run
from experiments.lab.small_objects import SmallObjects, score_small_objects
from experiments.lab.studies import network_of

__all__ = [
    "RunFigures",
    "measure_folder",
    "measure_result",
    "read_figures",
    "report_attention",
    "report_classes",
    "report_figures",
]
__all__ += ["report_mechanism", "report_small_objects", "reports_as_json", "reports_from_json"]

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
_TITLES = ("IoU with large", "without", "recall with large", "without")


class RunFigures(NamedTuple):
    """Hold the figures of one run, and the reason why ``attention`` or ``mechanism`` is None."""

    name: str
    attention: AttentionReport | None
    mechanism: MechanismReport | None
    evaluated: Run | None
    reason: str


def reports_as_json(attention: AttentionReport | None, mechanism: MechanismReport | None) -> dict[str, Any]:
    """Return the reports as entries of a result file, with None for NaN."""
    return {"attention": _plain(attention), "mechanism": _plain(mechanism)}


def reports_from_json(content: Mapping[str, Any]) -> tuple[AttentionReport | None, MechanismReport | None]:
    """Read the entries of :func:`reports_as_json`; a report is None if its entry is None or missing.

    Raises:
        ValueError: if an entry is malformed.
    """
    attention, mechanism = content.get("attention"), content.get("mechanism")
    reports: list[Any] = [None, None]
    try:
        if attention is not None:
            classes = tuple(ClassAttention(**_with_nan(one)) for one in attention["classes"])
            reports[0] = AttentionReport(
                **_with_nan({**attention, "miou": tuple(attention["miou"]), "classes": classes})
            )
        if mechanism is not None:
            forms = (FormScores(**_with_nan(mechanism[form])) for form in FORMS)
            reports[1] = MechanismReport(int(mechanism["images"]), *forms)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`content` must hold reports about the attention and the mechanism; got: {type(error).__name__}: {error}. "
            "Measure the run again."
        ) from error
    return reports[0], reports[1]


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
        section: section of the dataset.
        limit: use only the first ``limit`` images.
        device: device of the network.
        weights: ``"model"`` for the best weights, ``"ema"`` for the moving average in ``last.pt``.

    Raises:
        FileNotFoundError: if there is no such run.
        ValueError: if the run, the section or the device cannot be used.
    """
    path = Path(path)
    run = _load(path, weights=weights, device=device)
    attention, mechanism = measure_run(run, section=section, limit=limit)
    # A baseline has no other figures.
    evaluated = read_run(path) if mechanism is None or (path / EVALUATION).is_dir() else None
    return RunFigures(path.name, attention, mechanism, evaluated, _reason(run.settings, attention, mechanism))


def measure_result(folder: Path, weights: str) -> dict[str, Any]:
    """Measure a run of a list, as entries of its result file.

    Args:
        folder: folder of the run.
        weights: the scored weights, a key of :data:`~afma_med.trial.training_list.WEIGHTS`.
    """
    checkpoint, chosen = WEIGHTS[weights]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return reports_as_json(*measure_run(_load(folder, checkpoint=folder / checkpoint, weights=chosen, device=device)))


def _load(folder: Path, **options: Any) -> TrainedNetwork:
    """Load a run of the bundle's network, or of a study."""
    study = read_settings(folder / BEST).get("study") if (folder / SETTINGS).is_file() else None
    return load_network(folder, network_def=None if study is None else network_of(study), **options)


def read_figures(path: str | os.PathLike[str]) -> RunFigures:
    """Read the figures in the result file of a run, and name the run ``FOLDER/NAME`` after the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not a result of a run.
    """
    path = Path(path)
    run = read_result(path)
    attention, mechanism = reports_from_json(json.loads(path.read_text(encoding="utf-8")))
    name = f"{path.parent.name}/{path.stem}"
    return RunFigures(name, attention, mechanism, run, _reason(run.settings, attention, mechanism))


def report_figures(found: Sequence[RunFigures], *, by_class: bool = False) -> str:
    """Write the tables, each with its explanation, and name the runs without figures."""
    parts = []
    attentions = [(one.name, one.attention) for one in found if one.attention is not None]
    if attentions:
        parts.append(f"{report_attention(attentions)}\n{_ATTENTION}")
    mechanisms = [report_mechanism(one.name, one.mechanism) for one in found if one.mechanism is not None]
    if mechanisms:
        parts.append("\n\n".join(mechanisms) + f"\n{_MECHANISM}")
    counts = [(one.name, one.evaluated.counts) for one in found if one.evaluated is not None]
    if counts:
        small = [(name, score_small_objects(one.pixels, one.objects, one.classes)) for name, one in counts]
        parts.append(f"{report_small_objects(small)}\n{_SMALL_OBJECTS}")
    parts += _missing(found)
    if by_class and attentions:
        parts += [f"{name}\n{report_classes(one)}" for name, one in attentions]
        parts[-1] += f"\n{_CLASSES}"
    return "\n\n".join(parts)


def report_attention(reports: Iterable[tuple[str, AttentionReport]]) -> str:
    """Write reports of several runs as a table.

    Example:
        >>> report = AttentionReport(9, 0.5, 0.8, 0.9, 0.01, 0.6, 0.3, (0.5, 0.52, 0.6))
        >>> same = report._replace(changed=0, mended=math.nan, harmed=math.nan)
        >>> print(report_attention([("a", report), ("b", same)]))
        run      error    cosine      peak    changed    mended    harmed    mIoU before    after    by gold    images
        a        0.500     0.800  0.900000     1.000%     60.0%     30.0%         0.5000   0.5200     0.6000         9
        b        0.500     0.800  0.900000     0.000%         -         -         0.5000   0.5200     0.6000         9
    """
    columns = [("error", ".3f"), ("cosine", ".3f"), ("peak", ".6f"), ("changed", ".3%"), ("mended", ".1%")]
    columns += [("harmed", ".1%"), ("mIoU before", ".4f"), ("after", ".4f"), ("by gold", ".4f"), ("images", "d")]
    return _table("run", columns, [(name, (*one[1:7], *one.miou, one.images)) for name, one in reports])


def report_classes(report: AttentionReport) -> str:
    """Write the classes of a report as a table."""
    columns = [("share of gold", ".2%"), ("error", ".3f"), ("cosine", ".3f"), ("AUC", ".2f")]
    return _table("class", columns, [(one.name, one[1:]) for one in report.classes])


def report_mechanism(name: str, report: MechanismReport) -> str:
    """Write the report of a run as a table, with a row for each form."""
    columns = [(title, ".4f") for title in ("mIoU", "small classes", *_TITLES)]
    table = _table("", columns, [(form, getattr(report, form)[:6]) for form in FORMS])
    return f"{name} ({report.images} images, small objects of {report.before.classes} classes)\n{table}"


def report_small_objects(scores: Iterable[tuple[str, SmallObjects]]) -> str:
    """Write the scores of small objects of several runs as a table."""
    return _table("run", [*((title, ".4f") for title in _TITLES), ("classes", "d")], scores)


def _table(first: str, columns: Sequence[tuple[str, str]], rows: Iterable[tuple[str, Sequence[float]]]) -> str:
    """Columns of a title and a format, below a first one of names; a dash for NaN."""
    cells = [
        (name, *("-" if math.isnan(x) else format(x, spec) for x, (_, spec) in zip(values, columns, strict=True)))
        for name, values in rows
    ]
    return format_table((first, *(title for title, _ in columns)), cells)


def _missing(found: Sequence[RunFigures]) -> list[str]:
    """A paragraph for each table and reason, with the runs that are not in the table."""
    names: dict[tuple[str, str], list[str]] = {}
    for one in found:
        held = {"the attention": one.attention, "the mechanism": one.mechanism}
        missing = " and ".join(table for table, report in held.items() if report is None)
        if missing:
            names.setdefault((missing, one.reason), []).append(one.name)
        if one.evaluated is None:
            names.setdefault(("small objects", "they are not evaluated yet"), []).append(one.name)
    texts = [f"No figures of {table}, since {why}: {', '.join(runs)}." for (table, why), runs in names.items()]
    return [textwrap.fill(text, 116, break_long_words=False, break_on_hyphens=False) for text in texts]


def _reason(settings: Mapping[str, Any], attention: object, mechanism: object) -> str:
    """Why a run is not in the tables of attention and mechanism."""
    reader = READERS.get(str(settings.get("name", "")).removesuffix("_afma"))
    if not settings.get("afma"):
        return "they were trained without AFMA"
    if not has_attention(settings):
        return "their head has no attention"
    if reader is not None and reader.read_volume is not None:
        return "they are of volumes"
    if mechanism is not None and attention is None:
        return "their attention is not one between patches"
    return "their files are older than these figures (name the run's folder to measure them)"


def _plain(value: Any) -> Any:
    """A value as JSON holds it: named tuples as dictionaries, None for NaN."""
    if hasattr(value, "_asdict"):
        return {name: _plain(one) for name, one in value._asdict().items()}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _with_nan(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if one is None else one for name, one in content.items()}
