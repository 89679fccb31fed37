"""Runs that differ in nothing but their seed, and which of them may be compared."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from afma_med.runs.run import Run

__all__ = [
    "Arm",
    "Pairing",
    "check_comparable",
    "group_runs",
    "pair_with_baselines",
    "spell_setting",
    "usual_settings",
]

# Settings that do not tell an arm from another.
_NO_MATTER = ("dataset_dir", "training.seed")
# Settings of AFMA, which mean nothing to a baseline.
_OF_AFMA = ("study", "feature", "patch_size", "variant", "training.attention_weight")
_WEIGHT = "training.segmentation_weight"
_MODEL = ("network_name", "encoder", "afma")


class Arm(NamedTuple):
    """Hold the runs of one network and training, a seed each.

    Args:
        label: for people: what tells the arm from the others.
        settings: that all its runs share; those of the training as ``training.NAME``.
        runs: in the order of their seeds.
    """

    label: str
    settings: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def is_baseline(self) -> bool:
        """Tell whether the network is without AFMA."""
        return not self.settings["afma"]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of the runs."""
        return tuple(run.seed for run in self.runs)

    def values(self, score: str) -> dict[int, float]:
        """Return the values of a score by seed, NaN where a run has none."""
        return {run.seed: run.scores.get(score, float("nan")) for run in self.runs}


class Pairing(NamedTuple):
    """Hold an arm with AFMA and the baseline that it is compared with.

    Args:
        arm: with AFMA.
        baseline: the same network, encoder and training without.
    """

    arm: Arm
    baseline: Arm

    @property
    def label(self) -> str:
        """Name the difference of the two, for people."""
        return f"{self.arm.label} − {self.baseline.label}"

    @property
    def common_seeds(self) -> tuple[int, ...]:
        """Return the seeds that both have a run of."""
        return tuple(sorted({*self.arm.seeds} & {*self.baseline.seeds}))

    @property
    def runs(self) -> list[tuple[Run, Run]]:
        """Return (arm's run, baseline's run) of each common seed."""
        both = [{run.seed: run for run in side.runs} for side in self]
        return [(both[0][seed], both[1][seed]) for seed in self.common_seeds]

    @property
    def shown(self) -> tuple[Run, Run]:
        """Return (arm's run, baseline's run) for pictures: of the first common seed, else the first of each."""
        return self.runs[0] if self.runs else (self.arm.runs[0], self.baseline.runs[0])


def check_comparable(runs: Sequence[Run]) -> None:
    """Refuse runs that were not trained for the same task and evaluated alike.

    Args:
        runs: at least one.

    Raises:
        ValueError: naming two runs and what they differ in: bundle, classes, section, sizes of objects, images, labels;
            or if a run is named twice, or two runs have the same settings and seed.

    Example:
        >>> check_comparable([])
        Traceback (most recent call last):
        ValueError: `folders` must name at least one run; got none. Name the folders of finished runs.
    """
    if not runs:
        raise ValueError("`folders` must name at least one run; got none. Name the folders of finished runs.")
    first = runs[0]
    for i, run in enumerate(runs):
        for other in runs[:i]:
            if run.folder.resolve() == other.folder.resolve():
                raise ValueError(
                    f"`folders` must name each run once; got {other.folder} and {run.folder}, which are one run. "
                    "Leave one out."
                )
            if _identity(run) == _identity(other) and run.seed == other.seed:
                raise ValueError(
                    f"`folders` must hold one run of each seed; {other.folder} and {run.folder} have the same settings "
                    f"and the same seed, {run.seed}. Leave one out, or train it with another --seed."
                )
        differing = _first_difference(first, run)
        if differing:
            raise ValueError(
                f"`folders` must hold runs that can be compared; {first.folder} and {run.folder} differ in "
                f"{differing}. Leave one out, or evaluate both alike."
            )


def group_runs(runs: Sequence[Run]) -> list[Arm]:
    """Gather the runs that differ in nothing but their seed (and the dataset's folder), and label the arms.

    Args:
        runs: that :func:`check_comparable` lets pass.

    Returns:
        The arms, by network and encoder, baselines first, else in the order of the runs.

    Example:
        >>> settings = {"network_name": "Unet", "encoder": "resnet18", "afma": True, "feature": 2}
        >>> runs = [Run("run", {**settings, "training": {"seed": seed}}, {}, {}, None) for seed in (1, 0)]
        >>> [(arm.label, arm.seeds) for arm in group_runs(runs)]
        [('AFMA', (0, 1))]
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(_identity(run), []).append(run)
    members = [sorted(group, key=lambda run: run.seed) for group in groups.values()]
    settings = [_shared_settings(group[0]) for group in members]
    # Sorting keeps the order of what is alike.
    order = sorted(range(len(members)), key=lambda i: tuple(str(settings[i][key]) for key in _MODEL))
    return [Arm(_label(settings[i], settings), settings[i], tuple(members[i])) for i in order]


def pair_with_baselines(arms: Iterable[Arm]) -> tuple[list[Pairing], list[str]]:
    """Give each arm with AFMA the baseline of the same network, encoder and training.

    Args:
        arms: of :func:`group_runs`.

    Returns:
        The pairings, and the labels of arms whose baseline is not among them.

    Example:
        >>> settings = {"network_name": "Unet", "encoder": "resnet18", "training.max_epochs": 9}
        >>> arms = [Arm(label, {**settings, "afma": label == "AFMA"}, ()) for label in ("baseline", "AFMA")]
        >>> [pairing.label for pairing in pair_with_baselines(arms)[0]]
        ['AFMA − baseline']
    """
    everything = list(arms)
    baselines = {_without_afma(arm.settings): arm for arm in everything if arm.is_baseline}
    # A baseline's loss has one term: its weight is at most another learning rate, which labels name.
    weighted = {_without_afma(arm.settings, _WEIGHT): arm for arm in everything if arm.is_baseline}
    pairings, alone = [], []
    for arm in everything:
        if arm.is_baseline:
            continue
        baseline = baselines.get(_without_afma(arm.settings)) or weighted.get(_without_afma(arm.settings, _WEIGHT))
        if baseline is None:
            alone.append(arm.label)
        else:
            pairings.append(Pairing(arm, baseline))
    return pairings, alone


def usual_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what varies between arms and has one value in more than half of them: labels do not name it.

    Args:
        settings: of the arms; those of AFMA are compared between arms with AFMA.

    Example:
        >>> usual_settings([{"afma": True, "feature": feature} for feature in (2, 2, 3)])
        {'feature': 2}
    """
    names = dict.fromkeys(name for one in settings for name in (*one, *_OF_AFMA) if name not in _MODEL)
    usual = {}
    for name in names:
        values = _values(name, settings)
        value, count = Counter(values).most_common(1)[0] if values else ("", 0)
        if len(values) / 2 < count < len(values):
            usual[name] = json.loads(value)
    return usual


def spell_setting(value: object) -> str:
    """Spell the value of a setting for people.

    Example:
        >>> spell_setting([160, 224]), spell_setting(None), spell_setting(0.01)
        ('160, 224', 'none', '0.01')
    """
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else str(value)


def _shared_settings(run: Run) -> dict[str, Any]:
    """The settings that tell an arm from another, including those of its training."""
    flat = {name: value for name, value in run.settings.items() if name != "training"}
    flat |= {f"training.{name}": value for name, value in run.settings["training"].items()}
    left_out = {*_NO_MATTER, *(() if run.settings["afma"] else _OF_AFMA)}
    return {name: value for name, value in flat.items() if name not in left_out}


def _identity(run: Run) -> str:
    return json.dumps(_shared_settings(run), sort_keys=True)


def _without_afma(settings: Mapping[str, Any], *others: str) -> str:
    kept = {name: value for name, value in settings.items() if name not in ("afma", *_OF_AFMA, *others)}
    return json.dumps(kept, sort_keys=True)


def _label(own: Mapping[str, Any], everyone: Sequence[Mapping[str, Any]]) -> str:
    """Network and encoder where they differ, whether it is a baseline, and what else is not as with most of them."""
    model = [str(own[name]) for name in ("network_name", "encoder") if _varies(name, everyone)]
    usual = usual_settings(everyone)
    names = [*(name for name in own if name not in (*_MODEL, *_OF_AFMA)), *(_OF_AFMA if own["afma"] else ())]
    kind = "AFMA" if own["afma"] else "baseline"
    others = [
        f"{name.removeprefix('training.')} {spell_setting(own[name])}"
        for name in names
        if name in own and _varies(name, everyone) and (name not in usual or own[name] != usual[name])
    ]
    return ", ".join([" ".join([*model, kind]), *others])


def _is_of(name: str, settings: Mapping[str, Any]) -> bool:
    return bool(settings["afma"]) or name not in _OF_AFMA


def _values(name: str, settings: Iterable[Mapping[str, Any]]) -> list[str]:
    return [json.dumps(one.get(name)) for one in settings if _is_of(name, one)]


def _varies(name: str, settings: Iterable[Mapping[str, Any]]) -> bool:
    return len({*_values(name, settings)}) > 1


def _first_difference(a: Run, b: Run) -> str:
    """What keeps two runs from being compared, with both values; empty if nothing does."""
    stated = {
        "bundle": [run.settings["name"] for run in (a, b)],
        "classes": [run.evaluation["classes"] for run in (a, b)],
        "unscored classes": [run.evaluation["unscored"] for run in (a, b)],
        "counting of unscored pixels": [run.evaluation.get("count_unscored_pixels", False) for run in (a, b)],
        "section": [run.evaluation["section"] for run in (a, b)],
        "sizes of objects": [run.evaluation["size_groups"] for run in (a, b)],
        "number of images": [run.evaluation["images"] for run in (a, b)],
    }
    for name, (one, other) in stated.items():
        if one != other:
            return f"{name}: {one} and {other}"
    only = sorted({*a.counts.images} ^ {*b.counts.images})
    if only:
        return f"images: only one was evaluated on {only[0]}"
    labels = a.counts.pixels[..., 0] != b.counts.pixels[..., 0]
    if labels.any():
        return f"labels: those of {a.counts.images[int(np.argwhere(labels)[0][0])]} have other pixels"
    return ""
