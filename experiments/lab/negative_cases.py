"""Sort the pixels that AFMA harms by the paper's kinds of negative cases (Sec. 4.8)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from afma_med.comparison.arms import Pairing, group_runs
from afma_med.comparison.comparable import check_comparable
from afma_med.comparison.examples import Example
from afma_med.comparison.gallery import load_examples, most_changed, rank_images
from afma_med.comparison.tables import find_reader
from afma_med.data import VOID, DatasetReader, class_names
from afma_med.data.objects.sizes import label_objects
from afma_med.runs.run import Run

__all__ = ["KINDS", "OTHER", "count_harm", "describe_cases", "has_kinds", "main_kind", "summarise_cases"]

#: The paper's kinds, in the order in which a pixel is assigned to one of them.
KINDS = ("combined classes", "texture inside objects", "unlabelled objects")
#: Harm of another kind.
OTHER = "none of these"
_LEAST_SHARE = 0.1


def has_kinds(reader: DatasetReader) -> bool:
    """Return whether the harm of a dataset is sorted: images do, slices of volumes do not show whole objects."""
    return reader.read_volume is None and reader.size_groups.unit == "pixels"


def count_harm(example: Example, reader: DatasetReader) -> dict[str, int]:
    """Count the pixels that AFMA harms, by the paper's kinds.

    A pixel is harmed if the baseline is right there and AFMA is wrong. Where the label is void, it is harmed if the
    baseline predicts an unscored class, such as "unlabelled", and AFMA predicts a scored one. An object of a
    prediction is a connected component of a class; pixels that touch at a corner are connected. The first kind that
    applies counts:

    - combined classes: the label is a combined class, and AFMA predicts one of its parts.
    - texture inside objects: the pixel lies in a predicted object that one label object encloses: no pixel of the
      predicted object touches another class.
    - unlabelled objects: the pixel lies in a small predicted object without a pixel of its class in the label.

    Args:
        example: image with label and both predictions.
        reader: of the dataset, for which :func:`has_kinds` holds.

    Returns:
        Pixels by kind: those of :data:`KINDS`, then :data:`OTHER`.
    """
    label, arm, baseline = example.label, example.arm, example.baseline
    names = class_names(reader.classes)
    unscored = [names.index(name) for name in reader.unscored]
    on_void = np.isin(baseline, unscored) & ~np.isin(arm, unscored)
    harmed = np.where(label == VOID, on_void, (baseline == label) & (arm != label))
    combined = np.zeros(label.shape, dtype=bool)
    for whole, parts in reader.combined_classes.items():
        combined |= (label == names.index(whole)) & np.isin(arm, [names.index(part) for part in parts])
    objects = label_objects(arm)
    texture = _enclosed(objects, label) & (label != VOID)
    small = reader.size_groups.group_of(np.bincount(objects.ravel())) == 0
    found = np.bincount(objects[arm == label], minlength=len(small)) > 0
    counts = {}
    for kind, mask in zip(KINDS, (combined, texture, (small & ~found)[objects]), strict=True):
        counts[kind] = int((harmed & mask).sum())
        harmed &= ~mask
    return {**counts, OTHER: int(harmed.sum())}


def describe_cases(arm: Run, baseline: Run, *, images: int = 8) -> str:
    """Write a line for each of the images that a run hurts most, and a summary.

    Raises:
        ValueError: if the runs cannot be compared, or the harm of their dataset is not sorted.
        OSError: if a file of the dataset or a prediction is missing.
    """
    check_comparable([arm, baseline])
    reader = find_reader(arm)
    if reader is None or not has_kinds(reader):
        raise ValueError(f"`arm` must be a run of images; got one of {arm.settings['name']}. Name another run.")
    pairing = Pairing(*(group_runs([run])[0] for run in (arm, baseline)))
    hurt = most_changed(rank_images(pairing), images)[1]
    cases = [count_harm(example, reader) for example in load_examples(pairing, reader, hurt)]
    lines = [f"{one.image}: {main_kind(counts)}" for one, counts in zip(hurt, cases, strict=True)]
    return "\n".join([*lines, summarise_cases(cases)])


def main_kind(counts: Mapping[str, int]) -> str:
    """Return the kind of an image: the paper's kind with the most pixels, if it has a tenth of the harmed pixels.

    Most harmed pixels lie at borders that moved, so that :data:`OTHER` has the majority in almost every image.

    Example:
        >>> main_kind({"combined classes": 3, "texture inside objects": 0, "unlabelled objects": 1, "none of these": 2})
        'combined classes'
    """
    most = max(KINDS, key=lambda kind: counts[kind])
    return most if counts[most] > 0 and counts[most] >= _LEAST_SHARE * sum(counts.values()) else OTHER


def summarise_cases(cases: Sequence[Mapping[str, int]]) -> str:
    """Count images by :func:`main_kind`, and give the share of each kind in all harmed pixels.

    Example:
        >>> counts = {"combined classes": 3, "texture inside objects": 0, "unlabelled objects": 1, "none of these": 0}
        >>> summarise_cases([counts]).split("; ")[0]
        'combined classes: 1 of 1 image, 75 % of the harmed pixels'
    """
    images = Counter(main_kind(counts) for counts in cases)
    pixels = {kind: sum(counts[kind] for counts in cases) for kind in (*KINDS, OTHER)}
    total = max(1, sum(pixels.values()))
    of = f"of {len(cases)} image{'s' * (len(cases) != 1)}"
    shares = (
        f"{kind}: {images[kind]} {of}, {100 * count / total:.0f} % of the harmed pixels"
        for kind, count in pixels.items()
    )
    return "; ".join(shares)


def _enclosed(objects: NDArray[np.integer], label: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return the pixels of objects whose pixels all have neighbours of one label value only."""
    border = ndimage.minimum_filter(label, size=3) != ndimage.maximum_filter(label, size=3)
    touching = np.bincount(objects[border], minlength=int(objects.max()) + 1)
    inside: NDArray[np.bool_] = (touching == 0)[objects]
    return inside
