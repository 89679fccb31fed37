"""Arms: runs that differ in nothing but their seed, and the baseline of each."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from afma_med.networks.afma_blocks import spell_choice
from afma_med.networks.hypercolumn_net import HYPERCOLUMN, has_attention
from afma_med.runs.run import Run

__all__ = ["Arm", "Pairing", "group_by_name", "group_runs", "identify_arm", "pair_with", "pair_with_baselines"]
__all__ += ["spell_setting", "usual_settings"]

# Settings that may differ between the runs of an arm.
_IGNORED = ("dataset_dir", "training.seed")
# Settings of AFMA, which have no effect on a baseline.
_OF_AFMA = ("study", "feature", "patch_size", "variant", "source", "training.attention_weight")
_WEIGHT = "training.segmentation_weight"
_MODEL = ("network_name", "encoder", "afma")


class Arm(NamedTuple):
    """Hold the runs of one network and training, one for each seed.

    Args:
        label: a text that distinguishes the arm from the others.
        settings: the settings that all its runs share; those of the training as ``training.NAME``.
        runs: in the order of their seeds.
    """

    label: str
    settings: dict[str, Any]
    runs: tuple[Run, ...]

    @property
    def is_baseline(self) -> bool:
        """Return whether the network is without AFMA."""
        return not self.settings["afma"]

    @property
    def seeds(self) -> tuple[int, ...]:
        """Return the seeds of the runs."""
        return tuple(run.seed for run in self.runs)


class Pairing(NamedTuple):
    """Hold an arm and the baseline that it is compared with.

    Args:
        arm: usually with AFMA.
        baseline: usually the same network, encoder and training without AFMA.
    """

    arm: Arm
    baseline: Arm

    @property
    def label(self) -> str:
        """Return a name of the difference between the two."""
        return f"{self.arm.label} − {self.baseline.label}"

    @property
    def common_seeds(self) -> tuple[int, ...]:
        """Return the seeds with which both were trained."""
        return tuple(sorted({*self.arm.seeds} & {*self.baseline.seeds}))

    @property
    def runs(self) -> list[tuple[Run, Run]]:
        """Return (arm's run, baseline's run) of each common seed."""
        arm, baseline = ({run.seed: run for run in side.runs} for side in self)
        return [(arm[seed], baseline[seed]) for seed in self.common_seeds]

    @property
    def shown(self) -> tuple[Run, Run]:
        """Return (arm's run, baseline's run) for pictures: of the first common seed, or else the first of each."""
        return self.runs[0] if self.runs else (self.arm.runs[0], self.baseline.runs[0])


def group_runs(runs: Sequence[Run]) -> list[Arm]:
    """Group the runs that differ only in their seed (and the dataset's folder) into labelled arms.

    Args:
        runs: runs that pass :func:`~.comparable.check_comparable`.

    Returns:
        The arms, sorted by network and encoder, baselines first; otherwise in the order of the runs.

    Example:
        >>> settings = {"network_name": "Unet", "encoder": "resnet18", "afma": True, "feature": 2}
        >>> runs = [Run("run", {**settings, "training": {"seed": seed}}, {}, {}, None) for seed in (1, 0)]
        >>> [(arm.label, arm.seeds) for arm in group_runs(runs)]
        [('AFMA', (0, 1))]
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(identify_arm(run), []).append(run)
    members = sorted(groups.values(), key=lambda group: tuple(str(group[0].settings[name]) for name in _MODEL))
    settings = [_shared_settings(group[0]) for group in members]
    return [
        Arm(_label(own, settings), own, tuple(sorted(group, key=lambda run: run.seed)))
        for own, group in zip(settings, members, strict=True)
    ]


def group_by_name(runs: Sequence[Run]) -> list[Arm]:
    """Group the runs of a list of trainings by the names of their arms, in the order of the runs.

    Raises:
        ValueError: if a run has no arm, or two runs of an arm have the same seed.
    """
    members: dict[str, list[Run]] = {}
    for run in runs:
        if not run.arm:
            raise ValueError(
                f"`baseline` must go with results of a list of trainings, whose arms have names; {run.folder} is none. "
                "Leave `baseline` out."
            )
        members.setdefault(run.arm, []).append(run)
    arms = [
        Arm(name, _shared_settings(own[0]), tuple(sorted(own, key=lambda run: run.seed)))
        for name, own in members.items()
    ]
    for arm in arms:
        if len(set(arm.seeds)) < len(arm.seeds):
            raise ValueError(f"`folders` must hold one run of each arm and seed; got {arm.label} {arm.seeds}.")
    return arms


def pair_with(arms: Sequence[Arm], baseline: str) -> list[Pairing]:
    """Pair every other arm with the one of that name.

    Raises:
        ValueError: if there is no arm of that name.
    """
    named = {arm.label: arm for arm in arms}
    if baseline not in named:
        raise ValueError(
            f"`baseline` must be one of the arms {', '.join(named)}; got {baseline!r}. Choose one of them."
        )
    return [Pairing(arm, named[baseline]) for arm in arms if arm.label != baseline]


def pair_with_baselines(arms: Iterable[Arm]) -> tuple[list[Pairing], list[str]]:
    """Pair each arm with AFMA with the baseline of the same network, encoder and training.

    Args:
        arms: arms of :func:`group_runs`.

    Returns:
        The pairings, and the labels of the arms without a baseline.

    Example:
        >>> settings = {"network_name": "Unet", "encoder": "resnet18", "training.max_epochs": 9}
        >>> arms = [Arm(label, {**settings, "afma": label == "AFMA"}, ()) for label in ("baseline", "AFMA")]
        >>> [pairing.label for pairing in pair_with_baselines(arms)[0]]
        ['AFMA − baseline']
    """
    arms = list(arms)
    baselines = {_without_afma(arm.settings): arm for arm in arms if arm.is_baseline}
    # A baseline's loss has one term, whose weight only scales the learning rate; labels name the weight.
    weighted = {_without_afma(arm.settings, _WEIGHT): arm for arm in arms if arm.is_baseline}
    pairings, alone = [], []
    for arm in arms:
        baseline = baselines.get(_without_afma(arm.settings)) or weighted.get(_without_afma(arm.settings, _WEIGHT))
        if baseline is None:
            alone.append(arm.label)
        elif not arm.is_baseline:
            pairings.append(Pairing(arm, baseline))
    return pairings, alone


def identify_arm(run: Run) -> str:
    """Return the settings that a run shares with all runs of its arm, as text."""
    return _as_text(_shared_settings(run))


def usual_settings(settings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the settings that vary but have the same value in more than half of the arms; labels leave them out."""
    usual = {}
    for name, values in _varying(settings).items():
        value, count = values.most_common(1)[0]
        if name not in _MODEL and count > values.total() / 2:
            usual[name] = json.loads(value)
    return usual


def spell_setting(value: object) -> str:
    """Return the value of a setting as text."""
    return "none" if value is None else spell_choice(value)


def _shared_settings(run: Run) -> dict[str, Any]:
    """The settings that distinguish arms, including those of the training."""
    flat = {name: value for name, value in run.settings.items() if name != "training"}
    flat |= {f"training.{name}": value for name, value in run.settings["training"].items()}
    flat = {"source": "feature", "training.small_object_sampling": False} | flat  # older runs do not name them
    # Which run it was depends on the seed.
    flat["training.initial_weights"] = "another run" if flat.get("training.initial_weights") else None
    left_out = _IGNORED if run.settings["afma"] else (*_IGNORED, *_OF_AFMA)
    return {name: value for name, value in flat.items() if name not in left_out}


def _without_afma(settings: Mapping[str, Any], *others: str) -> str:
    return _as_text(settings, "afma", *_OF_AFMA, *others)


def _as_text(settings: Mapping[str, Any], *left_out: str) -> str:
    """Spell settings, leaving out some, and those that are None: older runs do not have them."""
    kept = {name: value for name, value in settings.items() if name not in left_out and value is not None}
    return json.dumps(kept, sort_keys=True)


def _varying(settings: Sequence[Mapping[str, Any]]) -> dict[str, Counter[str]]:
    """How many arms have each value, as JSON, of each setting that varies."""
    names = dict.fromkeys(name for one in settings for name in (*one, *_OF_AFMA))
    counted = {
        name: Counter(json.dumps(one.get(name)) for one in settings if one["afma"] or name not in _OF_AFMA)
        for name in names
    }
    return {name: values for name, values in counted.items() if len(values) > 1}


def _label(own: Mapping[str, Any], everyone: Sequence[Mapping[str, Any]]) -> str:
    """Network and encoder if they vary, AFMA or baseline, and the settings that differ from those of most arms."""
    usual, kind = usual_settings(everyone), _kind(own)
    # Networks of one kind differ in the settings of AFMA; the kind tells them from the others.
    of_kind = _varying([one for one in everyone if _kind(one) == kind])
    varying = {name for name in _varying(everyone) if name not in _OF_AFMA or name in of_kind}
    model = [str(own[name]) for name in ("network_name", "encoder") if name in varying]
    named = [name for name in own if name in varying and name not in _MODEL]
    named.sort(key=lambda name: _OF_AFMA.index(name) + 1 if name in _OF_AFMA else 0)
    others = [
        f"{name.removeprefix('training.')} {spell_setting(own[name])}"
        for name in named
        if name not in usual or own[name] != usual[name]
    ]
    return ", ".join([" ".join([*model, kind]), *others])


def _kind(settings: Mapping[str, Any]) -> str:
    return "baseline" if not settings["afma"] else "AFMA" if has_attention(settings) else HYPERCOLUMN
