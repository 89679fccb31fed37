"""Lists of trainings: JSON files of arms, seeds and folds, read into one description for each training."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.bundle.installed import bundles_folder
from afma_med.data.splits import FOLDS
from afma_med.handlers.run_files import BEST, LAST

__all__ = ["FOLDS_FOLDER", "WEIGHTS", "Training", "list_trainings", "result_path"]

_KEYS = {"bundle", "overlays", "options", "seeds", "arms", "evaluate", "evaluations", "weights", "folds", "only_scores"}
_OF_ARM = {"overlays", "options", "evaluate", "only_scores", "seeds", "start_from"}
#: Folder of the results of single folds, below that of the results.
FOLDS_FOLDER = "folds"
#: Checkpoint and name of the weights in it that a result's scores belong to.
WEIGHTS = {"best": (BEST, "model"), "ema": (LAST, "ema")}


class Training(NamedTuple):
    """Describe one training of a list.

    Args:
        name: ``ARM_SEED``, or ``ARM_SEED_foldK``: name of its folder and of its result.
        bundle: name of the bundle, such as ``"camvid_afma"``.
        overlays: names of overlays, in order.
        options: ids and their values.
        evaluate: ids of the evaluation and their values.
        evaluations: further evaluations by the name of each protocol: overlays, or ids and their values.
        weights: the weights that are scored: ``"best"``, of the best epoch on the validation section, or ``"ema"``, the
            moving average at the end of the training, which involves no selection.
        pooled: ``ARM_SEED``, the result into which the results of all folds are pooled; None without folds.
        only_scores: evaluate the scored weights alone, and measure nothing else.
        start_from: name of the training whose weights this one starts with; None for first weights of its own.
    """

    name: str
    bundle: str
    overlays: tuple[str, ...]
    options: dict[str, Any]
    evaluate: dict[str, Any]
    evaluations: dict[str, list[str] | dict[str, Any]] = {}  # noqa: RUF012
    weights: str = "best"
    pooled: str | None = None
    only_scores: bool = False
    start_from: str | None = None


def list_trainings(
    path: str | os.PathLike[str],
    *,
    only: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> list[Training]:
    """Read a list of trainings.

    Args:
        path: JSON file with, for all trainings, ``bundle``, ``overlays``, ``options``, ``evaluate``, ``evaluations``,
            ``weights``, ``only_scores`` and ``seeds``; with ``arms``, each of which may have ``overlays``, ``options``,
            ``evaluate``, ``only_scores``, ``seeds``, and ``start_from``, the name of an arm before it whose trained
            weights of the same seed and fold it starts with; and with ``folds``, 5, for a cross-validation with a
            bundle that has the id ``fold``.
        only: names of arms; default: all.
        seeds: seeds of the trainings; default: those of the list.
        complete: replaces entries of an arm that are not listed above.

    Returns:
        The trainings in the order in which they are run: all arms with the first seed (fold by fold), then with the
        next, so that the finished ones can be compared at any time.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is malformed, or an arm or overlay unknown.
    """
    given = _read_list(Path(path))
    arms = given["arms"] = {name: complete(arm) if complete else arm for name, arm in given["arms"].items()}
    if unknown := sorted({name for arm in arms.values() for name in arm.keys() - _OF_ARM}):
        raise ValueError(
            f"an arm of `{path}` must have nothing but {', '.join(sorted(_OF_ARM))}; got {', '.join(unknown)}. "
            "Correct the file."
        )
    unknown = [name for name in only or () if name not in arms]
    if unknown:
        raise ValueError(f"`only` must name arms of {list(arms)}; got {unknown}. Choose from them.")
    of_arm = {name: arms[name].get("seeds", given.get("seeds", [0])) for name in arms if only is None or name in only}
    order = sorted({seed for each in of_arm.values() for seed in each if seeds is None or seed in seeds})
    folds = range(given["folds"]) if "folds" in given else [None]
    return [
        _training(given, name, seed, fold)
        for seed in order
        for fold in folds
        for name in of_arm
        if seed in of_arm[name]
    ]


def result_path(training: Training, results_dir: Path) -> Path:
    """Return the file of a training's result; those of folds have a folder of their own."""
    return results_dir / (FOLDS_FOLDER if training.pooled else "") / f"{training.name}.json"


def _read_list(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"`path` must be a list of trainings; there is no file `{path}`. Check the path.")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"`{path}` must be JSON; got: {error}. Correct the file.") from error
    if not isinstance(given, dict) or not given.get("arms") or "bundle" not in given or given.keys() - _KEYS:
        found = ", ".join(given) if isinstance(given, dict) else type(given).__name__
        raise ValueError(
            f"`{path}` must have `bundle` and `arms`, and nothing but {', '.join(sorted(_KEYS))}; got {found}. "
            "Correct the file."
        )
    if given.get("weights", "best") not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}; got {given['weights']!r}. Correct the file.")
    if "folds" in given:
        _check_folds(given)
    arms = list(given["arms"])
    for place, name in enumerate(arms):
        before = given["arms"][name].get("start_from")
        if before is not None and before not in arms[:place]:
            raise ValueError(
                f"`start_from` of the arm {name} must be an arm before it, one of {arms[:place]}; got {before!r}. "
                "Correct the name or the order."
            )
    return given


def _check_folds(given: Mapping[str, Any]) -> None:
    """Refuse folds with which not every image is tested once."""
    if given["folds"] != FOLDS or isinstance(given["folds"], float):
        raise ValueError(
            f"`folds` must be {FOLDS}, the number of folds of every bundle; got {given['folds']!r}. Correct the file."
        )
    bundle = bundles_folder() / f"{given['bundle']}.json"
    if not bundle.is_file() or "fold" not in json.loads(bundle.read_text(encoding="utf-8")):
        raise ValueError(
            f"`folds` must go with a bundle that has the id `fold`; got {given['bundle']}. "
            "Name another bundle, such as lesion_slices_afma, or leave `folds` out."
        )
    if any("fold" in one.get("options", {}) for one in (given, *given["arms"].values())):
        raise ValueError("`options` must not set `fold` where `folds` does; got both. Leave one of them out.")


def _training(given: Mapping[str, Any], name: str, seed: int, fold: int | None) -> Training:
    arm = given["arms"][name]
    overlays = (*given.get("overlays", ()), *arm.get("overlays", ()))
    evaluations = dict(given.get("evaluations", {}))
    further = (overlay for each in evaluations.values() if isinstance(each, list) for overlay in each)
    for overlay in (*overlays, *further):
        if not (bundles_folder() / f"{overlay}.json").is_file():
            raise ValueError(
                f"`overlays` must be files of {bundles_folder()}; there is no {overlay}.json. Check names."
            )
    options = {**given.get("options", {}), **arm.get("options", {}), "seed": seed}
    evaluate = {**given.get("evaluate", {}), **arm.get("evaluate", {})}
    whole = Training(
        name=_name(name, seed, None),
        bundle=given["bundle"],
        overlays=overlays,
        options=options,
        evaluate=evaluate,
        evaluations=evaluations,
        weights=given.get("weights", "best"),
        only_scores=arm.get("only_scores", given.get("only_scores", False)),
        start_from=_name(arm["start_from"], seed, fold) if "start_from" in arm else None,
    )
    if fold is None:
        return whole
    return whole._replace(name=_name(name, seed, fold), options={**options, "fold": fold}, pooled=whole.name)


def _name(arm: str, seed: int, fold: int | None) -> str:
    return f"{arm}_{seed}" if fold is None else f"{arm}_{seed}_fold{fold}"
