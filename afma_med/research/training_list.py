"""Lists of trainings: JSON files of variants, seeds and folds, read into one description a training."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from afma_med.bundle.installed import bundles_folder
from afma_med.data.folds import FOLDS
from afma_med.handlers.checkpoints import BEST, LAST
from afma_med.research.studies import study_options

__all__ = ["WEIGHTS", "Training", "list_trainings"]

_KEYS = {"bundle", "overlays", "options", "seeds", "variants", "evaluate", "evaluations", "weights", "folds"}
#: Which weights the scores of a result belong to: (checkpoint, which of the weights in it).
WEIGHTS = {"best": (BEST, "model"), "ema": (LAST, "ema")}


class Training(NamedTuple):
    """Describe one training of a list.

    Args:
        name: ``VARIANT_SEED``, or ``VARIANT_SEED_foldK``: that of its folder and of its result.
        bundle: name of the bundle, such as ``"camvid_afma"``.
        overlays: names of overlays, in order.
        options: ids and their values.
        evaluate: ids of the evaluation and their values.
        evaluations: by another protocol, the overlays of each by its name.
        weights: which weights the scores belong to: ``"best"``, those of the best epoch on the validation section, or
            ``"ema"``, the moving average at the end of the training, which nothing is chosen by.
        pooled: ``VARIANT_SEED``, the result into which the results of all folds are pooled; None without folds.
    """

    name: str
    bundle: str
    overlays: tuple[str, ...]
    options: dict[str, Any]
    evaluate: dict[str, Any]
    evaluations: dict[str, list[str]] = {}  # noqa: RUF012
    weights: str = "best"
    pooled: str | None = None


def list_trainings(
    path: str | os.PathLike[str], *, only: Sequence[str] | None = None, seeds: Sequence[int] | None = None
) -> list[Training]:
    """Read a list of trainings: all variants with the first seed, then all with the next one.

    With folds, a seed goes fold by fold, all variants of a fold, so that variants can be compared fairly at any time.

    Args:
        path: JSON file of ``bundle``, ``overlays``, ``options``, ``evaluate``, ``evaluations``, ``weights`` (for all),
            ``seeds`` and ``variants``, each with ``overlays``, ``options`` and ``seeds`` of its own, if it differs, and
            the name of its ``study``; ``folds``, 5, for a cross-validation with a bundle that has the id ``fold``.
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
    given = _read_list(Path(path))
    variants = given["variants"]
    unknown = [name for name in only or () if name not in variants]
    if unknown:
        raise ValueError(f"`only` must name variants of {list(variants)}; got {unknown}. Choose out of them.")
    chosen = {name: variant for name, variant in variants.items() if only is None or name in only}
    every = {name: list(variant.get("seeds", given.get("seeds", [0]))) for name, variant in chosen.items()}
    order = sorted({seed for each in every.values() for seed in each})
    return [
        _training(given, name, seed, fold)
        for seed in order
        if seeds is None or seed in seeds
        for fold in _folds(given)
        for name in chosen
        if seed in every[name]
    ]


def _read_list(path: Path) -> dict[str, Any]:
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
    if given.get("weights", "best") not in WEIGHTS:
        raise ValueError(f"`weights` must be one of {', '.join(WEIGHTS)}; got {given['weights']!r}. Mend the file.")
    if "folds" in given:
        _check_folds(given)
    return dict(given)


def _check_folds(given: Mapping[str, Any]) -> None:
    """Refuse folds that would not test every image once."""
    if given["folds"] != FOLDS or isinstance(given["folds"], float):
        raise ValueError(
            f"`folds` must be {FOLDS}, as many as bundles with folds have; got {given['folds']!r}. Mend it."
        )
    bundle = bundles_folder() / f"{given['bundle']}.json"
    if not bundle.is_file() or "fold" not in json.loads(bundle.read_text(encoding="utf-8")):
        raise ValueError(
            f"`folds` must go with a bundle that has the id `fold`; got {given['bundle']}. "
            "Name another bundle, such as lesion_slices_afma, or leave `folds` out."
        )
    if any("fold" in one.get("options", {}) for one in (given, *given["variants"].values())):
        raise ValueError("`options` must not set `fold` where `folds` does; got both. Leave one of them out.")


def _folds(given: Mapping[str, Any]) -> Sequence[int | None]:
    return range(given["folds"]) if "folds" in given else [None]


def _training(given: Mapping[str, Any], name: str, seed: int, fold: int | None) -> Training:
    variant = given["variants"][name]
    overlays = (*given.get("overlays", ()), *variant.get("overlays", ()))
    evaluations = dict(given.get("evaluations", {}))
    used = (*overlays, *(overlay for each in evaluations.values() for overlay in each))
    missing = [overlay for overlay in used if not (bundles_folder() / f"{overlay}.json").is_file()]
    if missing:
        raise ValueError(f"`overlays` must be files of {bundles_folder()}; there is no {missing[0]}.json. Check names.")
    of_training, of_network = study_options(variant["study"]) if "study" in variant else ({}, {})
    options = {**given.get("options", {}), **variant.get("options", {}), **of_training, "seed": seed}
    evaluate = {**given.get("evaluate", {}), **of_network}
    weights, whole = given.get("weights", "best"), f"{name}_{seed}"
    if fold is None:
        return Training(whole, given["bundle"], overlays, options, evaluate, evaluations, weights)
    options["fold"] = fold
    return Training(f"{whole}_fold{fold}", given["bundle"], overlays, options, evaluate, evaluations, weights, whole)
