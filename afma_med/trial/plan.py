"""How much a trial trains and evaluates, so that it ends within the given time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from afma_med.data.class_table import class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.label_pixels import MaskReader
from afma_med.data.survey import Survey

__all__ = ["BATCH", "Extent", "Material", "Speed"]
__all__ += ["choose_extent", "scoring_seconds", "trial_options", "whole_extent"]

#: Images of a step, and pixels of their crops, by the list of the trial and the fast recipe.
BATCH, _CROP = 4, 256 * 320
# Time to score a pixel of a whole image, divided by that to train a pixel of a crop: 0.42 on a CPU.
_SCORING = 0.5
# Shares of the time for test and validation; the latter is done twice, for the weights with and without averaging.
_TEST_SHARE, _VAL_SHARE, _VALIDATIONS = 0.25, 0.05, 4
_LEAST_IMAGES, _LEAST_STEPS, _MOST_EPOCHS, _EPOCHS = 8, 100, 60, 4
# Photographs are reduced to this side. Small objects of larger ones would need more time than a trial has.
_LONGEST_SIDE = 1024
# The fast recipe averages with a momentum of 0.005 over 2730 steps: 14 / steps.
_MOMENTUM, _MOST_MOMENTUM = 14, 0.5


class Material(NamedTuple):
    """Describe a dataset as a trial uses it.

    Args:
        train, val, test: Numbers of images or slices to train with and to validate with, of images or volumes to score.
        slices: Images in each of the latter, on average.
        size: (H, W) of most images.
        section: Section that is scored.
    """

    train: int
    val: int
    test: int
    slices: float
    size: tuple[int, int]
    section: str

    @classmethod
    def of(cls, surveys: Mapping[str, Survey], section: str) -> Material:
        """Describe a surveyed dataset."""
        scored = surveys[section]
        return cls(
            train=len(surveys["train"].items),
            val=len(surveys["val"].items),
            test=len(scored.files),
            slices=len(scored.items) / max(1, len(scored.files)),
            size=surveys["train"].sizes.most_common(1)[0][0],
            section=section,
        )

    @property
    def is_reduced(self) -> bool:
        """Return whether the images are reduced, for time."""
        return self.slices == 1 and max(self.size) > _LONGEST_SIDE


class Speed(NamedTuple):
    """Hold the seconds of a training step, and of all that a training does before and after its steps."""

    step: float
    start: float


class Extent(NamedTuple):
    """Say how much one training of a trial does.

    Args:
        epochs: Number of epochs.
        images: Images or slices of each epoch.
        val, test: Images or slices to validate with, images or volumes to score, at most.
        minutes: Expected duration; None if unknown.
    """

    epochs: int
    images: int
    val: int
    test: int
    minutes: float | None = None


def whole_extent(material: Material, epochs: int) -> Extent:
    """Return the extent of a training on all images."""
    return Extent(epochs, material.train, material.val, material.test)


def scoring_seconds(material: Material, step: float) -> float:
    """Estimate the time to score one image or slice, from that of a training step."""
    reduced = _LONGEST_SIDE / max(material.size) if material.is_reduced else 1.0
    return _SCORING * step * math.prod(material.size) * reduced**2 / (BATCH * _CROP)


def choose_extent(material: Material, speed: Speed, *, minutes: float) -> Extent:
    """Choose how much a training does within a time: the test, a short validation, and steps for the rest.

    A training has at least 100 steps, so that it may take longer than wanted.

    Args:
        material: Dataset.
        speed: Speed of this machine.
        minutes: Time for one training and its evaluation.

    Example:
        >>> camvid = Material(train=367, val=101, test=233, slices=1, size=(360, 480), section="test")
        >>> choose_extent(camvid, Speed(step=1.0, start=20.0), minutes=10)
        Extent(epochs=5, images=367, val=28, test=233, minutes=9.5...)
    """
    score = scoring_seconds(material, speed.step)
    of_test, of_val = score * material.slices, score * _VALIDATIONS
    least = math.ceil(_LEAST_IMAGES / material.slices)
    test = min(material.test, max(least, int(60 * minutes * _TEST_SHARE / of_test)))
    val = min(material.val, max(_LEAST_IMAGES, int(60 * minutes * _VAL_SHARE / of_val)))
    fixed = speed.start + test * of_test + val * of_val
    steps = max(_LEAST_STEPS, int((60 * minutes - fixed) / speed.step))
    # Large datasets have epochs of fewer images, drawn anew for each.
    images = material.train if steps * BATCH >= _EPOCHS * material.train else steps * BATCH // _EPOCHS
    epochs = min(_MOST_EPOCHS, max(1, steps * BATCH // images))
    seconds = fixed + epochs * math.ceil(images / BATCH) * speed.step
    return Extent(epochs, images, val, test, seconds / 60)


def trial_options(material: Material, extent: Extent, reader: DatasetReader) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the ids of a bundle and their values, for the trainings and for the evaluations of a trial."""
    epochs, momentum = extent.epochs, _MOMENTUM / (extent.epochs * math.ceil(extent.images / BATCH))
    options: dict[str, Any] = {
        "max_epochs": epochs,
        # The last epoch is validated in any case.
        "val_interval": epochs // 2 if epochs % 2 == 0 else epochs,
        "ema_momentum": round(min(_MOST_MOMENTUM, momentum), 6),
    }
    if len(class_names(reader.classes)) == 2:
        options["class_weight_power"] = 0.0
    if isinstance(reader.read_label, MaskReader) and reader.read_label.mask_values != "auto":
        options["mask_values"] = reader.read_label.mask_values
    if material.is_reduced:
        options["longest_side"] = _LONGEST_SIDE
    if extent.images < material.train:
        options["train#sampler"] = (
            f"$torch.utils.data.RandomSampler(@train#dataset, num_samples={extent.images}) if @sample_weights is None "
            f"else torch.utils.data.WeightedRandomSampler(@sample_weights, {extent.images})"
        )
    options |= _every("items", material.val, extent.val)
    return options, {"val_section": material.section, **_every("files", material.test, extent.test)}


def _every(kind: str, count: int, wanted: int) -> dict[str, str]:
    """Return the id that takes every n-th file or item of a section, if not all of them are wanted."""
    step = math.ceil(count / wanted)
    return {"validate#dataset#data": f"$@survey[@val_section].{kind}[::{step}]"} if step > 1 else {}
