"""Report an evaluation as a table on screen and as CSV and JSON files."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.utils.dist import evenly_divisible_all_gather, string_list_all_gather
from monai.utils.enums import CommonKeys
from torch import Tensor

from afma_med.atomic_write import move_aside, replacing
from afma_med.data.class_table import classes_with_objects
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

    If the folder holds results of another checkpoint, section or dataset, it is renamed first.

    With several processes, attach it in each of them, because it gathers their counts. The first process writes.

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
        self.per_image = {name: one for name, one in (metrics or {}).items() if isinstance(one, PerClassMetric)}
        self.of_objects = {name: one for name, one in (metrics or {}).items() if isinstance(one, ObjectDetection)}
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
        prefix = f"{self.metric.prefix}_"
        values = {name.removeprefix(prefix): one.per_image() for name, one in self.per_image.items()}
        matches = {name.removeprefix(prefix): one.matches() for name, one in self.of_objects.items()}
        if self.rank > 0:
            return
        scores = _plain_names(engine.state.metrics, self.metric.prefix)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self._write_scores(scores, len(images), matches)
        self._write_csv(IMAGES, ("image", "class", "objects", *COUNTS), self._image_rows(images, counts))
        self._write_csv(CONFUSION, ("label", *self.metric.names), self._confusion_rows())
        if values:
            self._write_csv("per_image.csv", ("image", *_columns(values, self.metric)), _value_rows(images, values))
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
            "classes": self.metric.names,
            "count_unscored_pixels": self.metric.count_unscored_pixels,
            "unscored": [self.metric.names[k] for k in self.metric.unscored],
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
        for image, of_image in zip(images, counts.tolist(), strict=True):
            for k in self.metric.scored:
                for which, row in zip(names, of_image[k], strict=False):
                    if any(row):
                        yield [image, self.metric.names[k], which, *row]

    def _confusion_rows(self) -> Iterable[list[Any]]:
        classes, sizes = len(self.metric.names), len(SIZES)
        matrix = self.metric.total.cpu().view(classes, sizes, classes, sizes).sum((1, 3))
        return ([name, *row] for name, row in zip(self.metric.names, matrix.tolist(), strict=True))


def _plain_names(metrics: Mapping[str, Any], prefix: str) -> dict[str, float]:
    """Remove the prefix of names such as ``val/mIoU`` and ``val_IoU/car``, and sort the means to the front."""
    starts = (f"{prefix}/", f"{prefix}_")
    plain = {name[len(prefix) + 1 :]: float(value) for name, value in metrics.items() if name.startswith(starts)}
    return dict(sorted(plain.items(), key=lambda item: not item[0].startswith("mIoU")))


def _columns(values: Mapping[str, Tensor], metric: ClassIoU) -> list[str]:
    return [
        f"{name}/{class_name}"
        for name in values
        for class_name in [metric.names[k] for k in classes_with_objects(metric.names)]
    ]


def _value_rows(images: Sequence[str], values: Mapping[str, Tensor]) -> Iterable[list[Any]]:
    table = torch.cat(list(values.values()), dim=1)
    return ([image, *row] for image, row in zip(images, table.tolist(), strict=True))


def _score_table(scores: Mapping[str, float], metric: ClassIoU) -> str:
    """Format IoU and object sizes by class, the means, all other scores, and then lone and accompanied objects."""
    classes = [metric.names[k] for k in metric.scored]
    by_size, by_company = _columns_of("size", SIZES), _columns_of("company", COMPANY)
    columns = {"IoU": ("IoU", "mIoU"), **(by_size if metric.size_groups else {})}
    rows = _class_rows(scores, classes, columns)
    rows += [[name, _figure(scores[name])] for name in ("mIoU_small", "mIoU_large") if name in scores]
    kinds = {**columns, **by_company}.values()
    shown = {f"{kind}/{name}" for kind, _ in kinds for name in classes} | {mean for _, mean in kinds}
    shown |= {"mIoU_small", "mIoU_large"}
    rows += [[name, _figure(value)] for name, value in scores.items() if name not in shown]
    table = format_table(["", *columns], [row + [""] * (len(columns) + 1 - len(row)) for row in rows])
    if not metric.size_groups:
        return table
    return f"{table}\n\n{format_table(['', *by_company], _class_rows(scores, classes, by_company))}"


def _columns_of(by: str, names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the score of classes and its mean for each heading, such as "IoU small"."""
    return {
        f"{kind} {name}": (f"{kind}_{name}_objects", f"{kind}_by_{by}/{name}")
        for kind in ("IoU", "recall")
        for name in names
    }


def _class_rows(
    scores: Mapping[str, float], classes: Iterable[str], columns: Mapping[str, tuple[str, str]]
) -> list[list[str]]:
    rows = [[name, *(_figure(scores.get(f"{kind}/{name}")) for kind, _ in columns.values())] for name in classes]
    return [*rows, ["mean", *(_figure(scores.get(mean)) for _, mean in columns.values())]]


def _figure(value: float | None) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"
