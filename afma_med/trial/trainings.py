"""Run the trainings of a list one after the other, each with its evaluations, and keep one JSON file for each run."""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any, TypeAlias

from afma_med.trial.train_and_score import Measure, other_results, run_training
from afma_med.trial.training_data import check_data, digest_data
from afma_med.trial.training_list import Training, list_trainings, result_path

__all__ = ["Pool", "Training", "count_done", "expected_end", "list_trainings", "run_trainings"]

logger = logging.getLogger(__name__)

#: Pools the folds of a training in the folder of the results, and returns the files that it wrote.
Pool: TypeAlias = Callable[[Training, Path], list[Path]]

# Seconds between two looks at the trainings of other processes.
_PAUSE = 5.0


def run_trainings(
    trainings: Sequence[Training],
    *,
    runs_dir: str | os.PathLike[str],
    results_dir: str | os.PathLike[str],
    options: Mapping[str, Any] | None = None,
    measure: Measure | None = None,
    pool: Pool | None = None,
) -> list[str]:
    """Run trainings one after the other, skipping those with a result and resuming those that were interrupted.

    It may be stopped at any moment and started again. Several processes may share the same folders: each takes
    trainings that no other has, and returns when all are done.

    Args:
        trainings: trainings of :func:`list_trainings`.
        runs_dir: folder for the runs.
        results_dir: folder for the results, ``NAME.json``; those of single folds go to ``folds/`` in it.
        options: further ids and their values for all, such as the dataset's folder on this machine.
        measure: returns further entries of a result, from the run's folder and the scored weights (a key of
            :data:`~afma_med.trial.training_list.WEIGHTS`). It is not called for trainings with ``only_scores``.
        pool: pools the folds of a training in the folder of the results when all are there, and returns the files that
            it wrote.

    Returns:
        The names of trainings that failed; the errors are in their logs.

    Raises:
        ValueError: if the dataset has changed since a training of the list began.
    """
    data = digest_data(trainings, options or {})
    check_data(trainings, data, Path(runs_dir), Path(results_dir))
    Path(runs_dir).mkdir(parents=True, exist_ok=True)
    runner = _Runner(trainings, Path(runs_dir), Path(results_dir), dict(options or {}), data, measure, pool)
    runner.run_all()
    return runner.failed


@dataclass
class _Runner:
    """One process that runs a list, and what it has seen so far."""

    trainings: Sequence[Training]
    runs_dir: Path
    results_dir: Path
    options: Mapping[str, Any]
    data: Mapping[str, Mapping[str, str]]
    measure: Measure | None
    pool: Pool | None
    failed: list[str] = field(default_factory=list)
    minutes: list[float] = field(default_factory=list)

    def run_all(self) -> None:
        for training in self.trainings:
            self._pool(training)
        others = 0
        while left := [one for one in self.trainings if one.name not in self.failed and not self._is_done(one)]:
            if not any(self._run_if_free(one, len(left)) for one in left):
                if others != len(left):
                    others = len(left)
                    logger.info("waiting for the last %d, which other processes run", others)
                time.sleep(_PAUSE)
        logger.info("%s", self._progress())

    def _run_if_free(self, training: Training, left: int) -> bool:
        with _claim(training, self.runs_dir) as free:
            if not free or self._is_done(training):
                return False
            logger.info("%s%s", self._progress(), expected_end(self.minutes, left))
            logger.info("  running %s, log %s/%s.log", training.name, self.runs_dir, training.name)
            started = time.monotonic()
            try:
                run_training(
                    training,
                    self.runs_dir / training.name,
                    result_path(training, self.results_dir),
                    options=self.options,
                    data=self.data[training.name],
                    measure=self.measure,
                )
                self.minutes.append((time.monotonic() - started) / 60)
            except (OSError, RuntimeError, ValueError) as error:
                logger.error("%s failed: %s", training.name, error)
                self.failed.append(training.name)
        self._pool(training)
        return True

    def _pool(self, training: Training) -> None:
        """Pool the folds of a training if all are there; note its name if they do not belong together."""
        if self.pool is None or training.pooled is None:
            return
        try:
            for path in self.pool(training, self.results_dir):
                logger.info("%s: all folds are done and pooled into %s", training.pooled, path)
        except ValueError as error:
            logger.error("%s cannot be pooled: %s", training.pooled, error)
            if training.pooled not in self.failed:
                self.failed.append(training.pooled)

    def _is_done(self, training: Training) -> bool:
        return _is_done(training, self.results_dir)

    def _progress(self) -> str:
        done = count_done(self.trainings, self.results_dir)
        return f"{done} of {len(self.trainings)} done, {len(self.failed)} failed"


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


def _is_done(training: Training, results_dir: Path) -> bool:
    result = result_path(training, results_dir)
    return all(path.is_file() for path in (result, *other_results(training, result).values()))


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
