"""The result of an evaluation as a table on screen, CSV and JSON."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ignite.engine import Engine, Events

__all__ = ["IoUReport"]

logger = logging.getLogger(__name__)


class IoUReport:
    """Write what :class:`~afma_med.metrics.ClassIoU` found: a table on screen, ``iou.csv`` and ``iou.json``.

    Args:
        output_dir: folder for the two files.
        images: how many images or volumes there are; of several processes, each sees some of them only.
        metric: name under which the metric is attached.
        prefix: the metric's prefix of per-class names.
        details: what else the JSON shall hold, such as checkpoint and dataset.

    Example:
        >>> report = IoUReport("runs/example/evaluation", 233)  # a handler of the evaluator
    """

    def __init__(
        self,
        output_dir: str | os.PathLike[str],
        images: int,
        *,
        metric: str = "val/mIoU",
        prefix: str = "val",
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.images = images
        self.metric = metric
        self.prefix = prefix
        self.details = dict(details or {})

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        rows = self._rows(engine.state.metrics)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        width = max(len(name) for name, _ in rows)
        table = "\n".join(f"  {name:<{width}}  {value:6.4f}" for name, value in rows)
        logger.info("IoU over %d images or volumes\n%s", self.images, table)
        with (self.output_dir / "iou.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("name", "iou"), *rows])
        # NaN is no JSON: a class that does not occur has no value.
        iou = {name: None if math.isnan(value) else value for name, value in rows}
        report = {**self.details, "images": self.images, "iou": iou}
        (self.output_dir / "iou.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        logger.info("Results are in %s (iou.csv, iou.json)", self.output_dir)

    def _rows(self, metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
        """Classes first, then the means."""
        start = f"{self.prefix}_IoU/"
        rows = [(name.removeprefix(start), value) for name, value in metrics.items() if name.startswith(start)]
        means = [name for name in metrics if name.startswith(self.metric)]
        return rows + [(f"mIoU{name.removeprefix(self.metric)}", metrics[name]) for name in sorted(means)]
