"""Record configuration, hyperparameters, speed and memory of a training in TensorBoard."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from ignite.handlers import Timer
from monai.utils.enums import CommonKeys
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from afma_med.data.class_table import ClassInfo, class_names
from afma_med.data.objects.sizes import SIZES
from afma_med.handlers.run_files import EXPLORER
from afma_med.metrics.pixel_counts import COMPANY
from afma_med.networks.hypercolumn_net import has_attention

__all__ = ["RunRecordHandler"]

_METRIC = "val/mIoU"
_CHARTS = {"IoU by size of objects": SIZES, "IoU of lone and accompanied objects": COMPANY}


class RunRecordHandler:
    """Record a training in TensorBoard.

    Settings, command and configuration appear under Text, with the command that writes the attention explorer of a
    network with AFMA; the hyperparameters with the final scores under HParams. The scalars of each epoch are learning
    rate, images per second, the share of time that the trainer waits for data and, on a GPU, peak memory. Custom
    Scalars has two charts for each class: its IoU on small, medium and large objects, and on lone and accompanied ones.

    Args:
        summary_writer: Writer of the record.
        settings: Values that JSON can hold. Nested ones are named ``outer.inner``.
        optimizer: Optimizer whose learning rate is recorded.
        evaluator: Evaluator that validates the trainer.
        class_table: Table of the classes.
        unscored: Names of classes without scores.
        configuration: Configuration of the bundle; empty to record none.
    """

    def __init__(
        self,
        summary_writer: SummaryWriter,
        settings: Mapping[str, Any],
        *,
        optimizer: torch.optim.Optimizer,
        evaluator: Engine,
        class_table: Sequence[ClassInfo],
        unscored: Sequence[str] = (),
        configuration: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        self.summary_writer = summary_writer
        self.settings = dict(settings)
        self.configuration = dict(configuration)
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.names = [name for name in class_names(class_table) if name not in unscored]
        self._total, self._waiting = Timer(), Timer()
        self._images = 0

    def attach(self, engine: Engine) -> None:
        """Attach to a trainer, after its validation."""
        engine.add_event_handler(Events.STARTED, self._describe)
        engine.add_event_handler(Events.EPOCH_STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        events = {"start": Events.EPOCH_STARTED, "resume": Events.GET_BATCH_STARTED}
        self._total.attach(engine, pause=Events.ITERATION_COMPLETED, **events)
        self._waiting.attach(engine, pause=Events.GET_BATCH_COMPLETED, **events)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def __call__(self, engine: Engine) -> None:
        """Write the scalars of an epoch."""
        images = self._images * idist.get_world_size()
        seconds = max(self._total.value(), 1e-9)
        figures = {"learning_rate": self._learning_rate, "images_per_second": images / seconds, "seconds": seconds}
        figures["data_share"] = self._waiting.value() / seconds
        if torch.cuda.is_available():
            figures["gpu_memory_MiB"] = torch.cuda.max_memory_allocated() / 2**20
        for name, value in figures.items():
            self.summary_writer.add_scalar(f"training/{name}", value, engine.state.epoch)

    def _describe(self, engine: Engine) -> None:
        texts = {"settings": _as_code(self.settings), "command": f"    {' '.join(sys.argv)}"}
        if self.configuration:
            texts["configuration"] = _as_code(self.configuration)
        if has_attention(self.settings):
            texts["attention explorer"] = self._describe_explorer()
        for name, text in texts.items():
            # A resumed training may have other settings, which count from its first epoch on.
            self.summary_writer.add_text(name, text, engine.state.epoch + 1)
        charts = {
            title: {name: ["Multiline", [f"val_IoU_{one}_objects/{name}" for one in objects]] for name in self.names}
            for title, objects in _CHARTS.items()
        }  # the legend shows the tags
        self.summary_writer.add_custom_scalars(charts)
        # SummaryWriter.add_hparams would write them to another run.
        scores = [_METRIC, f"{_METRIC}_small", f"{_METRIC}_large", *(f"val_IoU_by_size/{s}" for s in SIZES)]
        parts = hparams(_flat(self.settings), dict.fromkeys([*scores, "best/mIoU"], 0.0))
        self._session_end = parts[2]
        self._add_summaries(*parts[:2])

    def _describe_explorer(self) -> str:
        # TensorBoard removes links to files.
        folder = str(self.summary_writer.log_dir)
        command = shlex.join(["afma", "show", folder, "--explore", str(Path(folder, EXPLORER))])
        return f"Once the run has weights, this command writes a page to explore its attention.\n\n    {command}"

    def _start(self, engine: Engine) -> None:
        self._images = 0
        self._learning_rate = float(self.optimizer.param_groups[0]["lr"])
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def _count(self, engine: Engine) -> None:
        batch: Any = engine.state.batch
        # MONAI's trainers decollate a batch into its items by default.
        self._images += len(batch) if isinstance(batch, list) else len(batch[CommonKeys.IMAGE])

    def _finish(self, engine: Engine) -> None:
        state: Any = self.evaluator.state
        if state.best_metric_epoch > 0:
            self.summary_writer.add_scalar("best/mIoU", state.best_metric, state.best_metric_epoch)
        self._add_summaries(self._session_end)

    def _add_summaries(self, *summaries: Any) -> None:
        for summary in summaries:
            self.summary_writer._get_file_writer().add_summary(summary)
        self.summary_writer.flush()


def _as_code(value: Any) -> str:
    """Format a value as JSON in a Markdown code block."""
    return "\n".join(f"    {line}" for line in json.dumps(value, indent=2, default=str).splitlines())


def _flat(settings: Mapping[str, Any], start: str = "") -> dict[str, int | float | str]:
    """Flatten nested settings to values that HParams can show, with dots in their names."""
    flat: dict[str, int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{start}{name}.")
        else:
            # HParams shows True as 1.0.
            flat[start + name] = value if type(value) in (int, float) else str(value)
    return flat
