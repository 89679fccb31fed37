"""Lists of trainings that are run one after the other, each with its evaluation, and kept as one JSON file a run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.run import read_settings
from afma_med.handlers.run_files import EVALUATION, LAST, SCORES, SETTINGS
from afma_med.research.attention_report import attention_as_json
from afma_med.research.benchmark import describe_machine
from afma_med.research.mechanism import measure_run
from afma_med.research.mechanism_report import mechanism_as_json
from afma_med.research.pooled_folds import pool_if_complete, result_path
from afma_med.research.training_list import WEIGHTS, Training, list_trainings
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_curve, read_run
from afma_med.runs.trained_network import load_network

__all__ = ["Training", "list_trainings", "run_training", "run_trainings"]

logger = logging.getLogger(__name__)

_CURVES = (
    "val/mIoU_small",
    "val/mIoU_large",
    "val_raw/mIoU",
    "train/loss",
    "train/segmentation_loss",
    "train/attention_loss",
    "training/seconds",
    "training/data_share",
)


def run_trainings(
    trainings: Sequence[Training],
    *,
    runs_dir: str | os.PathLike[str],
    results_dir: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Run trainings one after the other; what has a result is skipped, what was cut off is resumed.

    It may be stopped at any moment and started again.

    Args:
        trainings: what to run.
        runs_dir: folder for the runs.
        results_dir: folder for the results, ``NAME.json`` each; those of single folds go to ``folds/`` in it, and
            become one result when all of them are there.
        options: further ids and their values for all, such as the dataset's folder on this machine.

    Returns:
        The names of trainings that failed; what went wrong is in their logs.

    Raises:
        ValueError: if another process runs trainings into the same folder.
    """
    failed: list[str] = []
    minutes: list[float] = []
    with _alone(Path(runs_dir)):
        done = sum(_is_done(one, Path(results_dir)) for one in trainings)
        for training in trainings:
            result = result_path(training, Path(results_dir))
            try:
                if not _is_done(training, Path(results_dir)):
                    left = len(trainings) - done - len(failed)
                    end = _expected_end(minutes, left)
                    logger.info("%d of %d done, %d failed%s", done, len(trainings), len(failed), end)
                    logger.info("  running %s, log %s/%s.log", training.name, runs_dir, training.name)
                    started = time.monotonic()
                    run_training(training, Path(runs_dir, training.name), result, options=options)
                    minutes.append((time.monotonic() - started) / 60)
                    done += 1
            except (OSError, RuntimeError, ValueError) as error:
                logger.error("%s failed: %s", training.name, error)
                failed.append(training.name)
            failed += [name for name in _pool(training, Path(results_dir)) if name not in failed]
        logger.info("%d of %d done, %d failed", done, len(trainings), len(failed))
    return failed


def run_training(training: Training, folder: Path, result: Path, *, options: Mapping[str, Any] | None = None) -> None:
    """Train, evaluate the weights of the best and of the last epoch on the test section, and write the result.

    The result has what :func:`afma_med.research.mechanism.measure_run` finds on the validation section, too, of the
    weights that the scores belong to.

    Args:
        training: what to run.
        folder: of the run.
        result: the JSON file; those of evaluations by another protocol go to a folder of its name next to it.
        options: further ids and their values.

    Raises:
        RuntimeError: if training or evaluation ends with an error.
    """
    own = {**training.options, **(options or {})}
    # Names may hold dots, such as those of learning rates.
    log, commits = (folder.with_name(f"{folder.name}.{kind}") for kind in ("log", "commits"))
    if not _is_trained(folder, own.get("max_epochs")):
        commits.parent.mkdir(parents=True, exist_ok=True)
        with commits.open("a", encoding="utf-8") as file:
            file.write(f"{_commit()}\n")
        resume = {"resume": True} if (folder / LAST).is_file() else {}
        _run(training.bundle, training.overlays, {**own, "output_dir": str(folder), **resume}, log)
    # Settings of the machine, such as workers, hold for the evaluation too; those of the training are in the run.
    kept: dict[str, Any] = {name: own[name] for name in ("num_workers", "device") if name in own}
    scored = WEIGHTS[training.weights]
    more = [(f"evaluation_{name}", scored, overlays) for name, overlays in training.evaluations.items()]
    for name, (checkpoint, weights), overlays in (
        (EVALUATION, scored, []),
        ("evaluation_last", (LAST, "model"), []),
        *more,
    ):
        if not (folder / name / SCORES).is_file():
            given = {
                "output_dir": str(folder),
                "checkpoint": str(folder / checkpoint),
                "weights": weights,
                "prediction_dir": str(folder / name),
            }
            _run(training.bundle, ("evaluate", *overlays), {**kept, **training.evaluate, **given}, log)
    details = {
        "training": training._asdict(),
        # Of each start: code may have changed between a start and the next one.
        "commits": commits.read_text(encoding="utf-8").split() if commits.is_file() else [],
        "machine": describe_machine("cpu"),
        "scores_of_last_epoch": _read_scores(folder / "evaluation_last"),
        "curves": {tag: read_curve(folder, tag) for tag in _CURVES},
        **_measure(folder, training.weights),
    }
    for name, path in _other_results(training, result).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_result(path, read_run(folder, evaluation=f"evaluation_{name}"))
    write_result(result, read_run(folder), details=details)


def _pool(training: Training, results_dir: Path) -> list[str]:
    """Pool the folds of a training if all are there; its name if they do not belong together."""
    try:
        for path in pool_if_complete(training, results_dir):
            logger.info("%s: all folds are there, pooled into %s", training.pooled, path)
    except ValueError as error:
        logger.error("%s cannot be pooled: %s", training.pooled, error)
        return [str(training.pooled)]
    return []


def _is_done(training: Training, results_dir: Path) -> bool:
    result = result_path(training, results_dir)
    return all(path.is_file() for path in (result, *_other_results(training, result).values()))


def _expected_end(minutes: Sequence[float], left: int) -> str:
    """When all that is left will be done, if it takes as long as what was run here so far; empty before the first."""
    if not minutes:
        return ""
    each = sum(minutes) / len(minutes)
    end = datetime.now() + timedelta(minutes=each * left)
    return f", {each:.0f} min each, expected end {end:%a %H:%M}"


def _other_results(training: Training, result: Path) -> dict[str, Path]:
    return {name: result.parent / name / result.name for name in training.evaluations}


def _measure(folder: Path, weights: str) -> dict[str, Any]:
    """What the attention is like on the validation section, and whether it matters; None for runs that have none."""
    checkpoint, chosen = WEIGHTS[weights]
    attention, mechanism = measure_run(load_network(folder, checkpoint=folder / checkpoint, weights=chosen))
    return {
        "attention": None if attention is None else attention_as_json(attention),
        "mechanism": None if mechanism is None else mechanism_as_json(mechanism),
    }


def _read_scores(folder: Path) -> dict[str, float | None]:
    scores: dict[str, float | None] = json.loads((folder / SCORES).read_text(encoding="utf-8"))["scores"]
    return scores


def _run(bundle: str, overlays: Sequence[str], options: Mapping[str, Any], log: Path) -> None:
    """One command of ``monai.bundle run``, its output appended to a log."""
    files = [str(bundles_folder() / f"{name}.json") for name in (bundle, *overlays)]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(files)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as output:
        # One thread: several of these beside each other slow one another many times over otherwise.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
        try:
            code = process.wait()
        except BaseException:  # the list is stopped: its training saves and ends too
            process.terminate()
            process.wait()
            raise
    if code:
        raise RuntimeError(f"`{' '.join(command[1:5])} ...` ended with code {code}; its output is in {log}.")


def _is_trained(folder: Path, max_epochs: int | None) -> bool:
    """Whether a run has had all its epochs: as many as the list says, or else as the run's settings do.

    An overlay may set the number, too, and only the settings have that one.
    """
    if not ((folder / LAST).is_file() and (folder / SETTINGS).is_file()):
        return False
    wanted = max_epochs or read_settings(folder / LAST)["training"]["max_epochs"]
    return max(read_curve(folder), default=0) >= int(wanted)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from running trainings into the same folder; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"`runs_dir` {folder} is in use by another process. Wait for it, or stop it.") from error
        yield


def _commit() -> str:
    """Of the code that is run, with a mark if it was changed since; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    return found.stdout.strip()
