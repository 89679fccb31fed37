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
from typing import Any, NamedTuple

from afma_med.attention_report import attention_as_json
from afma_med.benchmark import describe_machine
from afma_med.bundle_package import bundles_folder
from afma_med.comparison.curves import read_curve
from afma_med.comparison.result_file import write_result
from afma_med.comparison.runs import EVALUATION, read_run
from afma_med.experiments.mechanism import measure_run
from afma_med.experiments.mechanism_report import mechanism_as_json
from afma_med.experiments.studies import study_options
from afma_med.finished_run import load_run
from afma_med.handlers.checkpoints import BEST, LAST
from afma_med.handlers.score_report import SCORES

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
_KEYS = {"bundle", "overlays", "options", "seeds", "variants", "evaluate", "evaluations", "weights"}
# Which weights the scores of a result belong to: (checkpoint, which of the weights in it).
_WEIGHTS = {"best": (BEST, "model"), "ema": (LAST, "ema")}


class Training(NamedTuple):
    """Describe one training of a list.

    Args:
        name: ``VARIANT_SEED``, that of its folder and of its result.
        bundle: name of the bundle, such as ``"camvid_afma"``.
        overlays: names of overlays, in order.
        options: ids and their values.
        evaluate: ids of the evaluation and their values.
        evaluations: by another protocol, the overlays of each by its name.
        weights: which weights the scores belong to: ``"best"``, those of the best epoch on the validation section, or
            ``"ema"``, the moving average at the end of the training, which nothing is chosen by.
    """

    name: str
    bundle: str
    overlays: tuple[str, ...]
    options: dict[str, Any]
    evaluate: dict[str, Any]
    evaluations: dict[str, list[str]] = {}  # noqa: RUF012
    weights: str = "best"


def list_trainings(
    path: str | os.PathLike[str], *, only: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[Training]:
    """Read a list of trainings: all variants with the first seed, then all with the next one.

    Args:
        path: JSON file of ``bundle``, ``overlays``, ``options``, ``evaluate``, ``evaluations``, ``weights`` (for all),
            ``seeds`` and ``variants``, each with ``overlays``, ``options`` and ``seeds`` of its own, if it differs, and
            the name of its ``study``.
        only: names of variants; default: all.
        seeds: of the trainings; default: those of the list.

    Returns:
        The trainings, in the order in which they are run, so that what is there can be compared at any time.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is malformed, or a variant, overlay or study unknown.

    Example:
        >>> list_trainings("no/such/list.json")
        Traceback (most recent call last):
        FileNotFoundError: `path` must be a list of trainings; there is no file `no/such/list.json`. Check the path.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a list of trainings; there is no file `{path}`. Check the path.")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` must be JSON; got: {error}. Mend the file.") from error
    variants = given.get("variants", {}) if isinstance(given, dict) else {}
    if not variants or "bundle" not in given or given.keys() - _KEYS:
        raise ValueError(
            f"`{path}` must have `bundle` and `variants`, and nothing but {', '.join(sorted(_KEYS))}; got "
            f"{', '.join(given) if isinstance(given, dict) else type(given).__name__}. Mend the file."
        )
    if given.get("weights", "best") not in _WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(_WEIGHTS)}; got {given['weights']!r}. Mend the file.")
    unknown = [name for name in only or () if name not in variants]
    if unknown:
        raise ValueError(f"`only` must name variants of {list(variants)}; got {unknown}. Choose out of them.")
    chosen = {name: variant for name, variant in variants.items() if only is None or name in only}
    every = {name: list(variant.get("seeds", given.get("seeds", [0]))) for name, variant in chosen.items()}
    order = sorted({seed for each in every.values() for seed in each})
    return [
        _training(given, name, chosen[name], seed)
        for seed in order
        if seeds is None or seed in seeds
        for name in chosen
        if seed in every[name]
    ]


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
        results_dir: folder for the results, ``NAME.json`` each.
        options: further ids and their values for all, such as the dataset's folder on this machine.

    Returns:
        The names of trainings that failed; what went wrong is in their logs.

    Raises:
        ValueError: if another process runs trainings into the same folder.
    """
    failed: list[str] = []
    minutes: list[float] = []
    with _alone(Path(runs_dir)):
        to_do = [one for one in trainings if not _is_done(one, Path(results_dir))]
        done = len(trainings) - len(to_do)
        for number, training in enumerate(to_do):
            count = f"{done + number - len(failed)} of {len(trainings)} done, {len(failed)} failed"
            logger.info("%s%s; running %s", count, _expected_end(minutes, len(to_do) - number), training.name)
            logger.info("  its log: %s/%s.log", runs_dir, training.name)
            started = time.monotonic()
            result = Path(results_dir, f"{training.name}.json")
            try:
                run_training(training, Path(runs_dir, training.name), result, options=options)
                minutes.append((time.monotonic() - started) / 60)
            except (OSError, RuntimeError, ValueError) as error:
                logger.error("%s failed: %s", training.name, error)
                failed.append(training.name)
        logger.info("%d of %d done, %d failed", len(trainings) - len(failed), len(trainings), len(failed))
    return failed


def run_training(training: Training, folder: Path, result: Path, *, options: Mapping[str, Any] | None = None) -> None:
    """Train, evaluate the weights of the best and of the last epoch on the test section, and write the result.

    The result has what :func:`afma_med.experiments.mechanism.measure_run` finds on the validation section, too, of the
    weights that the scores belong to.

    Args:
        training: what to run.
        folder: of the run.
        result: the JSON file; those of evaluations by another protocol go to a folder of its name beside it.
        options: further ids and their values.

    Raises:
        RuntimeError: if training or evaluation ends with an error.
    """
    own = {**training.options, **(options or {})}
    # Names may hold dots, such as those of learning rates.
    log, commits = (folder.with_name(f"{folder.name}.{kind}") for kind in ("log", "commits"))
    if _epochs_done(folder) < own.get("max_epochs", 1):
        commits.parent.mkdir(parents=True, exist_ok=True)
        with commits.open("a", encoding="utf-8") as file:
            file.write(f"{_commit()}\n")
        resume = {"resume": True} if (folder / LAST).is_file() else {}
        _run(training.bundle, training.overlays, {**own, "output_dir": str(folder), **resume}, log)
    # Settings of the machine, such as workers, hold for the evaluation too; those of the training are in the run.
    kept: dict[str, Any] = {name: own[name] for name in ("num_workers", "device") if name in own}
    scored = _WEIGHTS[training.weights]
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


def _training(given: Mapping[str, Any], name: str, variant: Mapping[str, Any], seed: int) -> Training:
    overlays = (*given.get("overlays", ()), *variant.get("overlays", ()))
    evaluations = dict(given.get("evaluations", {}))
    used = (*overlays, *(overlay for each in evaluations.values() for overlay in each))
    missing = [overlay for overlay in used if not (bundles_folder() / f"{overlay}.json").is_file()]
    if missing:
        raise ValueError(f"`overlays` must be files of {bundles_folder()}; there is no {missing[0]}.json. Check names.")
    of_training, of_network = study_options(variant["study"]) if "study" in variant else ({}, {})
    options = {**given.get("options", {}), **variant.get("options", {}), **of_training, "seed": seed}
    evaluate = {**given.get("evaluate", {}), **of_network}
    weights = given.get("weights", "best")
    return Training(f"{name}_{seed}", given["bundle"], overlays, options, evaluate, evaluations, weights)


def _is_done(training: Training, results_dir: Path) -> bool:
    result = results_dir / f"{training.name}.json"
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
    checkpoint, chosen = _WEIGHTS[weights]
    attention, mechanism = measure_run(load_run(folder, checkpoint=folder / checkpoint, weights=chosen))
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
        code = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code:
        raise RuntimeError(f"`{' '.join(command[1:5])} ...` ended with code {code}; its output is in {log}.")


def _epochs_done(folder: Path) -> int:
    """How many epochs a run has behind it, by its log; a run that has none is begun anew."""
    return max(read_curve(folder), default=0) if (folder / LAST).is_file() else 0


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from running trainings into the same folder; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(f"`runs_dir` {folder} is in use by another process. Wait for it, or stop it.") from error
        yield


def _commit() -> str:
    """Of the code that is run, with a mark if it was changed since; empty outside a repository."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip()
