"""Rules for the values of a bundle's ids, checked before anything is built or written."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple, get_args

import torch

from afma_med.bundle.recipe import OPTIMIZERS, SCHEDULES
from afma_med.checks import is_positive_int
from afma_med.data.mask_values import MaskValues
from afma_med.handlers.finite_loss import Action
from afma_med.metrics import SizeGroups
from afma_med.networks.afma_block import Variant
from afma_med.networks.afma_blocks import Source, check_choices, list_depths
from afma_med.networks.hypercolumn_net import HYPERCOLUMN

__all__ = ["check_ids", "checked_ids"]

Stage = Literal["train", "evaluate", "inference"]


def check_ids(values: Mapping[str, Any]) -> None:
    """Refuse values that break a rule.

    Args:
        values: Values of a bundle's ids, by name. Ids without a rule pass.

    Raises:
        ValueError: If a value breaks its rule; the message names the id, its value, and an example of a good one.

    Example:
        >>> check_ids({"max_epochs": 0})
        Traceback (most recent call last):
        ValueError: `max_epochs` must be a whole number from 1 on; got 0. For example: --max_epochs 100
    """
    for name, value in values.items():
        rule = _RULES.get(name)
        if rule is not None and not _holds(rule.holds, value):
            raise ValueError(
                f"`{name}` must be {rule.text}; got {value!r}. For example: --{rule.typed or name} {rule.example}"
            )


def checked_ids(stage: Stage) -> dict[str, str]:
    """Return the expressions of the ids that have a rule, by name.

    ``scripts/build_bundles.py`` writes them into the bundles and overlays as ``checked_ids``.

    Args:
        stage: Purpose of the configuration. An evaluation does not depend on the ids of the training.

    Example:
        >>> checked_ids("inference")["prediction_dir"], "max_epochs" in checked_ids("inference")
        ('@paths#prediction_dir', False)
    """
    return {name: rule.value or f"@{rule.typed or name}" for name, rule in _RULES.items() if stage in rule.stages}


class _Rule(NamedTuple):
    """A check, its text, and an example that passes.

    ``typed`` is the id that a user types if it differs from the name, ``value`` the expression of the value if it
    differs from the id, and ``stages`` are the configurations that depend on the id.
    """

    holds: Callable[[Any], bool]
    text: str
    example: str
    typed: str = ""
    value: str = ""
    stages: tuple[Stage, ...] = ("train",)


def _holds(rule: Callable[[Any], bool], value: Any) -> bool:
    try:
        return bool(rule(value))
    except (KeyError, TypeError, ValueError, RuntimeError):  # a value of another type cannot be compared with a number
        return False


def _is_natural(value: Any) -> bool:
    return is_positive_int(value) or (value == 0 and not isinstance(value, (bool, float)))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_weight(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_list(value: Any, holds: Callable[[Any], bool], length: int | None = None) -> bool:
    listed = isinstance(value, Sequence) and not isinstance(value, str)
    return listed and (length is None or len(value) == length) and all(holds(one) for one in value)


def _is_mapping(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) and holds(one) for name, one in value.items())


def _is_feature(value: Any) -> bool:
    return all(isinstance(one, str) or is_positive_int(one) for one in list_depths(value))


def _is_patch_size(value: Any) -> bool:
    check_choices(1, value, "feature")
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_normalization(value: Any) -> bool:
    mean, deviation = value["mean"], value["std"]
    return (
        len(mean) == len(deviation)
        and _is_list(mean, _is_number)
        and _is_list(deviation, lambda one: _is_number(one) and one > 0)
    )


def _is_device(value: Any) -> bool:
    device = torch.device(value)
    return device.type != "cuda" or (device.index or 0) < torch.cuda.device_count()


def _is_folder_to_write(value: Any) -> bool:
    path = Path(str(value)).absolute()
    if path.exists() and not path.is_dir():
        return False
    existing = next(parent for parent in (path, *path.parents) if parent.exists())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _one_of(choices: Sequence[str], example: str) -> _Rule:
    return _Rule(lambda value: value in choices, f"one of {', '.join(choices)}", example)


_EVERYWHERE: tuple[Stage, ...] = ("train", "evaluate", "inference")
_SCORES: tuple[Stage, ...] = ("train", "evaluate")

_POSITIVE = _Rule(is_positive_int, "a whole number from 1 on", "1")
_NATURAL = _Rule(_is_natural, "a whole number from 0 on", "0")
_TRUTH = _Rule(lambda value: isinstance(value, bool), "True or False", "True")
_WEIGHT = _Rule(_is_weight, "a finite number from 0 on", "1.0")
_RATE = _Rule(lambda value: _is_number(value) and value > 0, "a finite number above 0", "0.01")
_FOLDER = _Rule(_is_folder_to_write, "a folder that can be written to, or can be made", "runs/mine")

_RULES: Mapping[str, _Rule] = MappingProxyType(
    {
        # It becomes part of the commands that are printed.
        "name": _Rule(
            lambda value: bool(re.fullmatch(r"\w[\w.-]*", value)),
            "a name of letters, digits, _, - and .",
            "camvid_afma",
        ),
        "network_name": _Rule(_is_text, "the name of a network", "Unet"),
        "encoder": _Rule(_is_text, "the name of an encoder", "resnet34"),
        "max_epochs": _POSITIVE._replace(example="100"),
        "batch_size": _POSITIVE._replace(example="8"),
        "val_interval": _POSITIVE,
        "detail_interval": _POSITIVE._replace(stages=_SCORES),
        "in_channels": _POSITIVE._replace(example="3"),
        "num_classes": _Rule(
            lambda value: value[0] == value[1],
            "the dataset's own number of classes (given, own)",
            '"$len(@classes)"',
            value="$(@num_classes, len(data.class_names(@classes)))",
        ),
        "num_workers": _NATURAL._replace(stages=_EVERYWHERE),
        "seed": _NATURAL._replace(stages=_EVERYWHERE),
        "pictures": _NATURAL._replace(example="4"),
        "afma": _TRUTH,
        "amp": _TRUTH,
        "bfloat16": _TRUTH,
        "count_unscored_pixels": _TRUTH._replace(example="False", stages=_SCORES),
        "segmentation_weight": _WEIGHT._replace(typed="loss#segmentation_weight"),
        "attention_weight": _WEIGHT._replace(typed="loss#attention_weight"),
        "learning_rate": _RATE,
        "encoder_factor": _WEIGHT._replace(example="0.25"),
        "class_weight_power": _WEIGHT._replace(example="0.5"),
        "train_unscored": _TRUTH._replace(example="False"),
        "ema_momentum": _Rule(
            lambda value: value is None or (_is_number(value) and 0 < value < 1),
            "none or a number between 0 and 1",
            "0.005",
        ),
        "optimizer_name": _one_of(tuple(OPTIMIZERS), "AdamW"),
        "schedule": _one_of(SCHEDULES, "one_cycle"),
        "process_timeout_minutes": _RATE._replace(example="30"),
        "crop_size": _Rule(
            lambda value: _is_list(value, is_positive_int, 2),
            "two whole numbers of pixels, height and width",
            '"[96,128]"',
        ),
        "milestones": _Rule(
            lambda value: _is_list(value, is_positive_int), "a list of epochs, whole numbers from 1 on", '"[20,30]"'
        ),
        "zoom_range": _Rule(
            lambda value: _is_list(value, _is_number, 2) and 0 < value[0] <= value[1],
            "two numbers above 0, the smaller one first",
            '"[0.5,2.0]"',
        ),
        "longest_side": _Rule(
            lambda value: value is None or is_positive_int(value), "none or a whole number of pixels from 1 on", "240"
        ),
        "small_object_sampling": _TRUTH,
        "inference_scales": _Rule(
            lambda value: len(value) > 0 and _is_list(value, lambda one: _is_number(one) and one > 0),
            "a list of factors of the image's size, numbers above 0",
            '"[1,2]"',
            stages=("evaluate", "inference"),
        ),
        "inference_flip": _TRUTH._replace(stages=("evaluate", "inference")),
        "class_offsets": _Rule(
            lambda value: value is None or _is_mapping(value, _is_number),
            "none, or numbers by the names of classes or groups of classes",
            "\"{'nucleus': 0.5}\"",
            stages=("evaluate", "inference"),
        ),
        "feature": _Rule(
            _is_feature,
            "an encoder depth from 1 on or the name of a module, a list of them, or groups or names of classes with "
            "these",
            "2",
        ),
        "patch_size": _Rule(
            _is_patch_size,
            "a whole number of pixels from 1 on, height and width, or groups or names of classes with these",
            "10",
        ),
        "source": _one_of(get_args(Source), "feature"),
        "variant": _one_of((*get_args(Variant), HYPERCOLUMN), "released"),
        # A run's settings hold these; their own functions check what a user types.
        "dataset_dir": _Rule(_is_text, "the path of a folder", "~/CamVid", stages=()),
        "normalization": _Rule(
            _is_normalization,
            "as many finite means as deviations above 0",
            "\"{'mean': [0.5], 'std': [0.25]}\"",
            stages=(),
        ),
        "image_range": _Rule(
            lambda value: value is None or (_is_number(value) and value > 0),
            "none or a finite number above 0",
            "4095",
            stages=(),
        ),
        "fold": _NATURAL._replace(stages=()),
        "missing_spacing": _Rule(
            lambda value: value is None or _is_list(value, lambda one: _is_number(one) and one > 0, 3),
            "none or three numbers of millimetres above 0",
            '"[0.7,0.7,2.5]"',
            stages=(),
        ),
        "missing_orientation": _Rule(
            lambda value: value is None or _is_text(value), "none or three letters", "LPS", stages=()
        ),
        "nonfinite_loss": _one_of(get_args(Action), "stop"),
        "size_groups": _Rule(
            lambda value: isinstance(value, SizeGroups),
            "bounds of object sizes",
            "\"$afma_med.metrics.SizeGroups((1024, 9216), 'pixels')\"",
            stages=_SCORES,
        ),
        "mask_values": _one_of(get_args(MaskValues), "instances")._replace(stages=_EVERYWHERE),
        "device": _Rule(_is_device, "a device that this machine has", "cpu", stages=_EVERYWHERE),
        "output_dir": _FOLDER._replace(value="@paths#output_dir"),
        "prediction_dir": _FOLDER._replace(value="@paths#prediction_dir", stages=("evaluate", "inference")),
    }
)
