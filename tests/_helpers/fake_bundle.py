"""A replacement of ``monai.bundle run`` for tests of lists of trainings."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from _helpers.synthetic_runs import random_rows, write_curve, write_run


class Call(NamedTuple):
    """Arguments of a bundle's run."""

    kind: str
    overlays: tuple[str, ...]
    options: dict[str, Any]


def _write_any(folder: Path, bundle: str, trained: Mapping[str, Any]) -> Path:
    return write_run(folder, random_rows(0, quality=0.5), seed=0)


class FakeBundle:
    """A training, epoch by epoch, and its evaluations. A training can be cut off after some of its epochs.

    ``evaluate(folder, bundle, options of the training)`` writes an evaluated run.
    """

    def __init__(self, evaluate: Callable[[Path, str, Mapping[str, Any]], Path] = _write_any) -> None:
        self.evaluate = evaluate
        self.calls: list[Call] = []
        #: Options by name of the training.
        self.trained: dict[str, dict[str, Any]] = {}
        #: The next training is cut off after so many epochs.
        self.cut_after: int | None = None
        #: Epochs of a training whose list does not say how many.
        self.default_epochs = 3
        #: Seconds that each epoch is said to take.
        self.seconds = 12.0
        #: The training of this name fails before its first epoch.
        self.fails_at = ""

    def names(self, kind: str) -> list[str]:
        """Name the folders of all calls of a kind."""
        return [Path(call.options["output_dir"]).name for call in self.calls if call.kind == kind]

    def __call__(self, bundle: str, overlays: tuple[str, ...], options: dict[str, Any], log: Path) -> None:
        kind, folder = "evaluate" if "evaluate" in overlays else "train", Path(options["output_dir"])
        self.calls.append(Call(kind, overlays, options))
        if kind == "train":
            self._train(folder, options)
            return
        assert "fold" not in options, "the evaluation finds it in the run's settings"
        written = self.evaluate(folder.with_name("written"), bundle, self.trained[folder.name])
        shutil.copy(written / "settings.json", folder)
        shutil.copytree(written / "evaluation", options["prediction_dir"], dirs_exist_ok=True)
        shutil.rmtree(written)

    def _train(self, folder: Path, options: dict[str, Any]) -> None:
        if folder.name == self.fails_at:
            raise RuntimeError("cut off")
        self.trained[folder.name] = options
        folder.mkdir(parents=True, exist_ok=True)
        wanted = options.get("max_epochs", self.default_epochs)
        epochs = wanted if self.cut_after is None else self.cut_after
        offset = 0.01 * options.get("fold", 0)
        write_curve(folder, {epoch: 0.1 * epoch + (offset if epoch == 1 else 0) for epoch in range(1, epochs + 1)})
        write_curve(folder, dict.fromkeys(range(1, epochs + 1), self.seconds), tag="training/seconds")
        (folder / "last.pt").touch()
        (folder / "settings.json").write_text(json.dumps({"training": {"max_epochs": wanted}}), encoding="utf-8")
        if self.cut_after is not None:
            self.cut_after = None
            raise RuntimeError("cut off")
