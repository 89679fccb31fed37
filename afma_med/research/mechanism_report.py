"""What tests of the mechanism find: as named numbers, as JSON, as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from afma_med.metrics.small_objects import SmallObjects
from afma_med.visualize.text_table import format_table

__all__ = [
    "FORMS",
    "FormScores",
    "MechanismReport",
    "mechanism_as_json",
    "mechanism_from_json",
    "report_mechanism",
    "report_small_objects",
]

#: What the logits are corrected with: nothing, zeros, the network's attention, another image's, the label's.
FORMS = ("before", "zero", "after", "swap", "gold")

_TITLES = ("IoU with large", "without", "recall with large", "without")


class FormScores(NamedTuple):
    """Hold the scores of one of the :data:`FORMS`.

    Args:
        miou: mean IoU of the scored classes.
        miou_small: that of the small classes; NaN if the dataset has no such group.
        small_objects: by whether a large one is there.
    """

    miou: float
    miou_small: float
    small_objects: SmallObjects


class MechanismReport(NamedTuple):
    """Hold what :func:`afma_med.research.mechanism.measure_mechanism` finds.

    Args:
        images: how many were looked at.
        before: the network's own logits.
        zero: the correction by an attention of zeros.
        after: the correction as trained.
        swap: the correction by keys and values of the next image; all NaN if there is one image only.
        gold: the correction by the attention made from the label.
    """

    images: int
    before: FormScores
    zero: FormScores
    after: FormScores
    swap: FormScores
    gold: FormScores


def mechanism_as_json(report: MechanismReport) -> dict[str, Any]:
    """Return a report as a dictionary that JSON can hold: None for NaN.

    Example:
        >>> scores = FormScores(0.5, math.nan, SmallObjects(0.1, 0.2, 0.3, 0.4, 5))
        >>> content = mechanism_as_json(MechanismReport(9, *[scores] * 5))
        >>> content["zero"]["miou_small"] is None, mechanism_from_json(content).zero.small_objects.classes
        (True, 5)
    """
    forms = {form: _flat(getattr(report, form)) for form in FORMS}
    known = {form: {k: None if math.isnan(v) else v for k, v in flat.items()} for form, flat in forms.items()}
    return {"images": report.images, **known}


def mechanism_from_json(content: Mapping[str, Any]) -> MechanismReport:
    """Return the report that :func:`mechanism_as_json` was given.

    Raises:
        ValueError: if the content is not of that form.
    """
    try:
        return MechanismReport(int(content["images"]), *(_unflat(dict(content[form])) for form in FORMS))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"`content` must be a report about the mechanism; got: {type(error).__name__}: {error}. "
            "Measure the run again."
        ) from error


def report_mechanism(reports: Sequence[tuple[str, MechanismReport]]) -> str:
    """Write reports of several runs as tables for people, one a run.

    Example:
        >>> scores = FormScores(0.5, math.nan, SmallObjects(0.1, 0.2, 0.3, 0.4, 5))
        >>> print(report_mechanism([("a", MechanismReport(9, *[scores] * 5))]))
        a (9 images, small objects of 5 classes)
                  mIoU    small classes    IoU with large    without    recall with large    without
        before  0.5000                -            0.1000     0.2000               0.3000     0.4000
        zero    0.5000                -            0.1000     0.2000               0.3000     0.4000
        after   0.5000                -            0.1000     0.2000               0.3000     0.4000
        swap    0.5000                -            0.1000     0.2000               0.3000     0.4000
        gold    0.5000                -            0.1000     0.2000               0.3000     0.4000
    """
    blocks = []
    for name, report in reports:
        forms = [(form, getattr(report, form)) for form in FORMS]
        rows = [[form, *map(_figure, (one.miou, one.miou_small, *one.small_objects[:4]))] for form, one in forms]
        table = format_table(("", "mIoU", "small classes", *_TITLES), rows)
        classes = report.before.small_objects.classes
        blocks.append(f"{name} ({report.images} images, small objects of {classes} classes)\n{table}")
    return "\n\n".join(blocks)


def report_small_objects(scores: Sequence[tuple[str, SmallObjects]]) -> str:
    """Write the scores of small objects of several runs as a table for people.

    Example:
        >>> print(report_small_objects([("a", SmallObjects(0.1, 0.2, 0.3, math.nan, 5))]))
        run      IoU with large    without    recall with large    without    classes
        a                0.1000     0.2000               0.3000          -          5
    """
    rows = [(name, *map(_figure, one[:4]), str(one.classes)) for name, one in scores]
    return format_table(("run", *_TITLES, "classes"), rows)


def _flat(scores: FormScores) -> dict[str, float]:
    return {"miou": scores.miou, "miou_small": scores.miou_small, **scores.small_objects._asdict()}


def _unflat(content: dict[str, Any]) -> FormScores:
    known: dict[str, Any] = {name: math.nan if value is None else value for name, value in content.items()}
    return FormScores(known.pop("miou"), known.pop("miou_small"), SmallObjects(**known))


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
