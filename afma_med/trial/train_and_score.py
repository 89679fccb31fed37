"""Run one training of a list with its evaluations, and keep one JSON file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.settings import read_settings
from afma_med.handlers.run_files import EVALUATION, LAST, SCORES, SETTINGS
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_curve, read_run
from afma_med.trial.machine import describe_machine, find_commit
from afma_med.trial.training_data import data_file
from afma_med.trial.training_list import WEIGHTS, Training

__all__ = ["Measure", "other_results", "run_training"]

#: Further entries of a result, from the folder of a run and its scored weights.
Measure: TypeAlias = Callable[[Path, str], dict[str, Any]]

_CURVES = (
    *("val/mIoU_small", "val/mIoU_large", "val_raw/mIoU"),
    *("train/loss", "train/segmentation_loss", "train/attention_loss"),
    *("training/seconds", "training/data_share"),
)


def run_training(
    training: Training,
    folder: Path,
    result: Path,
    *,
    options: Mapping[str, Any] | None = None,
    data: Mapping[str, str] | None = None,
    measure: Measure | None = None,
) -> None:
    """Train, evaluate the scored weights and those of the last epoch on the test section, and write the result.

    Results by other protocols go to folders next to it. A training with ``only_scores`` leaves out the last epoch and
    ``measure``. ``data`` is that of :func:`afma_med.data.dataset_digest.digest_dataset`, and is kept.

    Raises:
        RuntimeError: if training or evaluation ends with an error.
    """
    own = {**training.options, **(options or {})}
    if training.start_from:
        first = folder.with_name(training.start_from)
        if not (first / EVALUATION / SCORES).is_file():
            raise RuntimeError(
                f"it starts with the weights of {training.start_from}, which is not finished in {first}."
            )
        own["initial_weights"] = str(first)
    # Not with_suffix: names may hold dots, such as those of learning rates.
    log, commits = (folder.with_name(f"{folder.name}.{kind}") for kind in ("log", "commits"))
    if not _is_trained(folder, own.get("max_epochs")):
        commits.parent.mkdir(parents=True, exist_ok=True)
        with commits.open("a", encoding="utf-8") as file:
            file.write(f"{find_commit()}\n")
        data_file(folder).write_text(json.dumps(data or {}), encoding="utf-8")
        resume = {"resume": True} if (folder / LAST).is_file() else {}
        _run(training.bundle, training.overlays, {**own, "output_dir": str(folder), **resume}, log)
    _evaluate(training, folder, own, log)
    details = {
        "training": training._asdict(),
        "data": data or {},
        # One for each start: the code may have changed between two starts.
        "commits": commits.read_text(encoding="utf-8").split() if commits.is_file() else [],
        "machine": describe_machine(_device()),
        "curves": {tag: read_curve(folder, tag) for tag in _CURVES},
    }
    if not training.only_scores:
        last = json.loads((folder / "evaluation_last" / SCORES).read_text(encoding="utf-8"))
        details |= {"scores_of_last_epoch": last["scores"]}
        details |= measure(folder, training.weights) if measure else {}
    for name, path in other_results(training, result).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        evaluated = read_run(folder, evaluation=f"evaluation_{name}")
        write_result(path, evaluated, details={"training": training._asdict(), "protocol": name})
    write_result(result, read_run(folder), details=details)


def _evaluate(training: Training, folder: Path, own: Mapping[str, Any], log: Path) -> None:
    # Settings of the machine, such as workers, hold for the evaluation too; those of the training are in the run.
    kept = {name: own[name] for name in ("num_workers", "device") if name in own}
    scored, last = WEIGHTS[training.weights], (LAST, "model")
    wanted: list[tuple[str, tuple[str, str], Sequence[str] | Mapping[str, Any]]] = [(EVALUATION, scored, ())]
    wanted += [] if training.only_scores else [("evaluation_last", last, ())]
    wanted += [(f"evaluation_{name}", scored, changes) for name, changes in training.evaluations.items()]
    for name, (checkpoint, weights), changes in wanted:
        if not _is_newer(folder / name / SCORES, folder / LAST):
            given = {
                "output_dir": str(folder),
                "checkpoint": str(folder / checkpoint),
                "weights": weights,
                "prediction_dir": str(folder / name),
            }
            overlays, ids = ((), changes) if isinstance(changes, Mapping) else (changes, {})
            _run(training.bundle, ("evaluate", *overlays), {**kept, **training.evaluate, **ids, **given}, log)


def _is_newer(scores: Path, checkpoint: Path) -> bool:
    """Tell whether scores are those of a checkpoint. They are older where a training was resumed after them."""
    return scores.is_file() and scores.stat().st_mtime_ns >= checkpoint.stat().st_mtime_ns


def other_results(training: Training, result: Path) -> dict[str, Path]:
    """Return the files of a training's results by other protocols, by the names of the protocols."""
    return {name: result.parent / name / result.name for name in training.evaluations}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _run(bundle: str, overlays: Sequence[str], options: Mapping[str, Any], log: Path) -> None:
    """Run ``monai.bundle run``, and append its output to a log."""
    files = [str(bundles_folder() / f"{name}.json") for name in (bundle, *overlays)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        # One thread: otherwise several lists on one machine slow each other down many times over.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        # A session of its own: Ctrl-C would reach it twice, from the terminal and from here, and the second signal
        # ends a training at once. The locks stay open in it.
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            close_fds=False,
        )
        try:
            code = process.wait()
        except BaseException:  # the list is stopped: its training saves and ends too
            process.terminate()
            process.wait()
            raise
    if code:
        raise RuntimeError(f"`{' '.join(command[1:5])} ...` ended with code {code}; its output is in {log}.")


def _is_trained(folder: Path, max_epochs: int | None) -> bool:
    """Whether a run has all epochs that the list, or else the run's settings, ask for.

    An overlay may set the number too, which only the settings show.
    """
    if not ((folder / LAST).is_file() and (folder / SETTINGS).is_file()):
        return False
    wanted = max_epochs or read_settings(folder / LAST)["training"]["max_epochs"]
    return max(read_curve(folder), default=0) >= int(wanted)
