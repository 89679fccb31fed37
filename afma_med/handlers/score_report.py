"""Report an evaluation as a table on screen and as CSV and JSON files."""

from __future__ import annotations

import csv
import itertools
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.utils.dist import evenly_divisible_all_gather, string_list_all_gather
from monai.utils.enums import CommonKeys
from torch import Tensor

from afma_med.atomic_write import move_aside, replacing
from afma_med.data.objects.sizes import SIZES
from afma_med.handlers.run_files import CONFUSION, IMAGES, SCORE_TABLE, SCORES
from afma_med.metrics import ClassIoU, ObjectDetection, PerClassMetric
from afma_med.metrics.pixel_counts import COMPANY, COUNTS, OBJECTS
from afma_med.visualize.text_table import format_table

__all__ = ["ScoreReportHandler"]

logger = logging.getLogger(__name__)


class ScoreReportHandler:
    """Log a table of the scores, and write the results of an evaluation to a folder.

    The files are ``scores.json`` and ``scores.csv`` (all scores), ``images.csv`` (pixels of each image by class and
    object size, and of lone and accompanied objects: label, prediction, intersection, covered), ``confusion.csv``
    (confusion matrix of the classes) and, if there are metrics of single images, ``per_image.csv``.

    If the folder holds results of another checkpoint, section or dataset, it is renamed first. With several processes,
    attach the handler in each of them, because it gathers their counts. The first process writes.

    Args:
        output_dir: Folder for the files.
        metric: Metric that counts the pixels.
        dataset_dir: Folder to which the names of images are relative.
        metrics: Other metrics of the evaluator, by name. Each :class:`PerClassMetric` is written to ``per_image.csv``,
            and the counts of each :class:`ObjectDetection` to ``scores.json``, from which scores can be pooled.
        details: More entries of ``scores.json``, such as checkpoint and section.
        rank: Rank of this process.

    Example:
        >>> from afma_med.data import ISIC
        >>> report = ScoreReportHandler("runs/example/evaluation", ClassIoU(ISIC.classes), dataset_dir="data/isic")
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        metric: ClassIoU,
        *,
        dataset_dir: str | os.PathLike[str] = "",
        metrics: Mapping[str, Metric] | None = None,
        details: Mapping[str, Any] | None = None,
        rank: int = 0,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.metric = metric
        self.dataset_dir = dataset_dir
        self.metrics = {name: one for name, one in (metrics or {}).items() if isinstance(one, PerClassMetric)}
        self.details = dict(details or {})
        self.rank = rank
        self._images: list[str] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator whose output is decollated, after its metrics."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._note_images)
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        images = string_list_all_gather(self._images)
        own = torch.stack(self.metric.images)
        counts = evenly_divisible_all_gather(own.to(self.metric.confusion.device), concat=True).cpu()
        values: dict[str, Tensor] = {}
        matches: dict[str, Any] = {}
        for name, one in self.metrics.items():
            plain = name.removeprefix(f"{self.metric.prefix}_")
            if isinstance(one, ObjectDetection):
                matches[plain] = one.matches()
            else:
                values |= {f"{plain}/{k}": of_class for k, of_class in one.per_image().items()}
        if self.rank > 0:
            return
        scores = _plain_names(engine.state.metrics, self.metric.prefix)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._write_scores(scores, len(images), matches)
        self._write_csv(IMAGES, ("image", "class", "objects", *COUNTS), self._image_rows(images, counts))
        self._write_csv(CONFUSION, ("label", *self.metric.class_names), self._confusion_rows())
        if values:
            rows = zip(images, *(of_class.tolist() for of_class in values.values()), strict=True)
            self._write_csv("per_image.csv", ("image", *values), rows)
        logger.info("Scores over %d images or volumes\n%s", len(images), _score_table(scores, self.metric))
        logger.info("Results are in %s (%s)", self.output_dir, ", ".join((SCORE_TABLE, SCORES, IMAGES, CONFUSION)))

    def _start(self, engine: Engine) -> None:
        self._images = []
        if self.rank == 0 and self.output_dir.is_dir() and any(self.output_dir.iterdir()) and not self._is_same():
            aside = move_aside(self.output_dir, since=self.output_dir)
            logger.warning("Moved the results of another evaluation to %s.", aside)
        idist.barrier()  # no process may write predictions before the folder is renamed

    def _is_same(self) -> bool:
        """Return whether the folder holds results of the same evaluation, which may be replaced."""
        try:
            earlier = json.loads((self.output_dir / SCORES).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return all(earlier.get(key) == value for key, value in self._head().items())

    def _head(self) -> dict[str, Any]:
        return {**self.details, "dataset": os.path.abspath(self.dataset_dir) if self.dataset_dir else ""}

    def _note_images(self, engine: Engine) -> None:
        for item in engine.state.output:  # type: ignore[union-attr]
            path = item[CommonKeys.IMAGE].meta["filename_or_obj"]
            self._images.append(os.path.relpath(path, self.dataset_dir) if self.dataset_dir else str(path))

    def _write_scores(self, scores: Mapping[str, float], images: int, matches: Mapping[str, Any]) -> None:
        groups = self.metric.size_groups
        report = {
            **self._head(),
            "images": images,
            "classes": self.metric.class_names,
            "count_unscored_pixels": self.metric.count_unscored_pixels,
            "unscored": [self.metric.class_names[k] for k in self.metric.unscored],
            "size_groups": groups and {"names": list(SIZES), "bounds": list(groups.bounds), "unit": groups.unit},
            "company": list(COMPANY) if groups else [],
            # For each class and size: label objects, matched ones, predicted objects, matched ones.
            **({"matches": matches} if matches else {}),
            # JSON has no NaN, the score of a class that does not occur.
            "scores": {name: None if math.isnan(value) else value for name, value in scores.items()},
        }
        with replacing(self.output_dir / SCORES) as temporary:
            temporary.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        self._write_csv(SCORE_TABLE, ("name", "value"), scores.items())

    def _write_csv(self, name: str, head: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
        with (
            replacing(self.output_dir / name) as temporary,
            # Names of files keep bytes that are not UTF-8.
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            csv.writer(file).writerows([head, *rows])

    def _image_rows(self, images: Sequence[str], counts: Tensor) -> Iterable[list[Any]]:
        """Yield a row for each image, scored class, and object size or company that occurs."""
        names = OBJECTS if self.metric.size_groups else OBJECTS[:1]
        for i, k, which in itertools.product(range(len(images)), self.metric.scored, range(len(names))):
            row = counts[i, k, which].tolist()
            if any(row):
                yield [images[i], self.metric.class_names[k], names[which], *row]

    def _confusion_rows(self) -> Iterable[list[Any]]:
        classes, sizes = len(self.metric.class_names), len(SIZES)
        matrix = self.metric.total.cpu().view(classes, sizes, classes, sizes).sum((1, 3))
        return ([name, *row] for name, row in zip(self.metric.class_names, matrix.tolist(), strict=True))


def _plain_names(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Remove the prefix of names such as ``val/mIoU`` and ``val_IoU/car``, and sort the means to the front."""
    starts = (f"{prefix}/", f"{prefix}_")
    plain = {name[len(prefix) + 1 :]: float(value) for name, value in metrics.items() if name.startswith(starts)}
    return dict(sorted(plain.items(), key=lambda item: not item[0].startswith("mIoU")))


class _Column(NamedTuple):
    """A column of the table on screen: names of its score of a class, and of the mean over classes."""

    title: str
    score: str
    mean: str


def _columns(by: str, names: Iterable[str]) -> list[_Column]:
    return [
        _Column(f"{kind} {name}", f"{kind}_{name}_objects", f"{kind}_by_{by}/{name}")
        for kind in ("IoU", "recall")
        for name in names
    ]


def _score_table(scores: Mapping[str, float], metric: ClassIoU) -> str:
    """Format IoU and object sizes by class, the means, all other scores, and then lone and accompanied objects."""
    names = [metric.class_names[k] for k in metric.scored]
    columns = [_Column("IoU", "IoU", "mIoU"), *(_columns("size", SIZES) if metric.size_groups else [])]
    company = _columns("company", COMPANY)
    shown = {f"{column.score}/{name}" for column in (*columns, *company) for name in names}
    shown |= {column.mean for column in (*columns, *company)}
    rest = [[name, _figure(value), *[""] * (len(columns) - 1)] for name, value in scores.items() if name not in shown]
    table = _format_columns(scores, names, columns, rest)
    return f"{table}\n\n{_format_columns(scores, names, company)}" if metric.size_groups else table


def _format_columns(
    scores: Mapping[str, float], names: Iterable[str], columns: Sequence[_Column], rest: Sequence[Sequence[str]] = ()
) -> str:
    rows = [[name, *(_figure(scores.get(f"{column.score}/{name}")) for column in columns)] for name in names]
    rows.append(["mean", *(_figure(scores.get(column.mean)) for column in columns)])
    return format_table(["", *(column.title for column in columns)], [*rows, *rest])


def _figure(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
