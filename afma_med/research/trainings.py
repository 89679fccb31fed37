"""Run the trainings of a list one after the other, each with its evaluations, and keep one JSON file for each run."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.settings import read_settings
from afma_med.handlers.run_files import EVALUATION, LAST, SCORES, SETTINGS
from afma_med.research.machine import describe_machine, find_commit
from afma_med.research.mechanism import measure_run
from afma_med.research.pooled_folds import pool_if_complete, result_path
from afma_med.research.run_figures import reports_as_json
from afma_med.research.training_data import check_data, data_file, digest_data
from afma_med.research.training_list import WEIGHTS, Training, list_trainings
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_curve, read_run
from afma_med.runs.trained_network import load_network

__all__ = ["Training", "count_done", "expected_end", "list_trainings", "run_training", "run_trainings"]

logger = logging.getLogger(__name__)

# Seconds between two looks at the trainings of other processes.
_PAUSE = 5.0

_CURVES = (
    *("val/mIoU_small", "val/mIoU_large", "val_raw/mIoU"),
    *("train/loss", "train/segmentation_loss", "train/attention_loss"),
    *("training/seconds", "training/data_share"),
)


def run_trainings(
    trainings: Sequence[Training],
    *,
    runs_dir: str | os.PathLike[str],
    results_dir: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
) -> list[str]:
    """Run trainings one after the other, skipping those with a result and resuming those that were interrupted.

    It may be stopped at any moment and started again. Several processes may share the same folders: each takes
    trainings that no other has, and returns when all are done.

    Args:
        trainings: trainings of :func:`list_trainings`.
        runs_dir: folder for the runs.
        results_dir: folder for the results, ``NAME.json``; those of single folds go to ``folds/`` in it, and are pooled
            into one result when all of them are there.
        options: further ids and their values for all, such as the dataset's folder on this machine.

    Returns:
        The names of trainings that failed; the errors are in their logs.

    Raises:
        ValueError: if the dataset has changed since a training of the list began.
    """
    runs_dir, results_dir = Path(runs_dir), Path(results_dir)
    data = digest_data(trainings, options or {})
    check_data(trainings, data, runs_dir, results_dir)
    runs_dir.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    minutes: list[float] = []
    others = 0

    def run_if_free(training: Training) -> bool:
        with _claim(training, runs_dir) as free:
            if not free or _is_done(training, results_dir):
                return False
            end = expected_end(minutes, len(left))
            logger.info("%s%s", _progress(trainings, results_dir, failed), end)
            logger.info("  running %s, log %s/%s.log", training.name, runs_dir, training.name)
            started, result = time.monotonic(), result_path(training, results_dir)
            try:
                run_training(training, runs_dir / training.name, result, options=options, data=data[training.name])
                minutes.append((time.monotonic() - started) / 60)
            except (OSError, RuntimeError, ValueError) as error:
                logger.error("%s failed: %s", training.name, error)
                failed.append(training.name)
        _pool(training, results_dir, failed)
        return True

    for training in trainings:
        _pool(training, results_dir, failed)
    while left := [one for one in trainings if one.name not in failed and not _is_done(one, results_dir)]:
        if not any(map(run_if_free, left)):
            if others != len(left):
                others = len(left)
                logger.info("waiting for the last %d, which other processes run", others)
            time.sleep(_PAUSE)
    logger.info("%s", _progress(trainings, results_dir, failed))
    return failed


def _progress(trainings: Sequence[Training], results_dir: Path, failed: Sequence[str]) -> str:
    return f"{count_done(trainings, results_dir)} of {len(trainings)} done, {len(failed)} failed"


def count_done(trainings: Sequence[Training], results_dir: str | os.PathLike[str]) -> int:
    """Count the trainings that have all their results."""
    return sum(_is_done(one, Path(results_dir)) for one in trainings)


def expected_end(minutes: Sequence[float], left: int) -> str:
    """Describe when the trainings that are left will end, by the mean duration of others; empty without others.

    Args:
        minutes: Durations of other trainings.
        left: Number of trainings.

    Example:
        >>> expected_end([9.8, 10.2], 3)
        ', 10 min each, expected end ...:...'
        >>> expected_end([], 3)
        ''
    """
    if not minutes:
        return ""
    end = datetime.now() + timedelta(minutes=fmean(minutes) * left)
    return f", {fmean(minutes):.0f} min each, expected end {end:%a %H:%M}"


def run_training(
    training: Training, folder: Path, result: Path, *, options: Mapping[str, Any] | None = None, data: Any = None
) -> None:
    """Train, evaluate the scored weights and those of the last epoch on the test section, and write the result.

    The result holds the figures of :func:`afma_med.research.mechanism.measure_run` on the validation section too.
    Results by other protocols go to folders next to it. A training with ``only_scores`` leaves out both the last epoch
    and the figures. ``data`` is that of :func:`afma_med.data.dataset_digest.digest_dataset`, and is kept.

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
        details |= {"scores_of_last_epoch": last["scores"], **_measure(folder, training.weights)}
    for name, path in _other_results(training, result).items():
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


def _pool(training: Training, results_dir: Path, failed: list[str]) -> None:
    """Pool the folds of a training if all are there; note its name if they do not belong together."""
    try:
        for path in pool_if_complete(training, results_dir):
            logger.info("%s: all folds are done and pooled into %s", training.pooled, path)
    except ValueError as error:
        logger.error("%s cannot be pooled: %s", training.pooled, error)
        if training.pooled not in failed:
            failed.append(str(training.pooled))


def _is_done(training: Training, results_dir: Path) -> bool:
    result = result_path(training, results_dir)
    return all(path.is_file() for path in (result, *_other_results(training, result).values()))


def _other_results(training: Training, result: Path) -> dict[str, Path]:
    return {name: result.parent / name / result.name for name in training.evaluations}


def _measure(folder: Path, weights: str) -> dict[str, Any]:
    checkpoint, chosen = WEIGHTS[weights]
    network = load_network(folder, checkpoint=folder / checkpoint, weights=chosen, device=_device())
    return reports_as_json(*measure_run(network))


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


@contextmanager
def _claim(training: Training, runs_dir: Path) -> Iterator[bool]:
    """Keep a training, and the one that it starts with, from other processes; tell whether both were free.

    The locks end with the process and with the training that it started, which outlives a list that was killed. Others
    may start with the same weights at the same time.
    """
    with ExitStack() as files:
        try:
            for name, kind in ((training.name, fcntl.LOCK_EX), (training.start_from, fcntl.LOCK_SH)):
                if name is not None:
                    file = files.enter_context((runs_dir / f".{name}.lock").open("a", encoding="utf-8"))
                    fcntl.flock(file, kind | fcntl.LOCK_NB)
                    os.set_inheritable(file.fileno(), True)
            free = True
        except BlockingIOError:
            free = False
        yield free
