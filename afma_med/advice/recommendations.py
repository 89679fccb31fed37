"""Rules that choose settings for a dataset by its objects, each with the reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from afma_med.data.class_table import background_classes, class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.objects.shapes import ObjectShapes
from afma_med.visualize.text_table import format_share

__all__ = [
    "LEAST_PIXELS",
    "PATCH",
    "SIDE_MULTIPLE",
    "MeasuredObjects",
    "Recommendation",
    "recommend",
    "share_of_classes",
]

# Shares of a class's objects: resizing may lose so many; so many may be smaller than a cell of the tapped map.
_LOST, _HIDDEN = 0.02, 0.5
SIDE_MULTIPLE = 32
# The paper's patch, and bounds of the recommended one.
PATCH, _PATCH_SIDES = 10, (4, 10)
# Side of a small object in pixels; above this share of them, images are also predicted enlarged.
_SMALL_SIDE, _OFTEN_SMALL = 32, 0.25
# Smaller objects are mostly fragments, such as what an occlusion leaves of a tree. They count for the settings only if
# less than this share of a class's objects is larger.
LEAST_PIXELS, _LEAST_SHARE = 16, 0.1


class Recommendation(NamedTuple):
    """Hold one setting that fits a dataset, and the reason.

    Args:
        setting: its subject, such as "patch size".
        choice: the choice in words.
        reason: why.
        ids: ids of a bundle with their values; empty where no id exists.
    """

    setting: str
    choice: str
    reason: str
    ids: Mapping[str, Any]


class MeasuredObjects(NamedTuple):
    """Objects of a section, with the network and the resizing that they are measured for."""

    reader: DatasetReader
    objects: ObjectShapes
    lost: dict[int, NDArray[np.float64]]  # by longest side, the share of each class that resizing loses
    strides: dict[int, int]
    counts: NDArray[np.int64]  # (items,K) pixels
    longest_side: int | None
    image_side: int

    def rare_classes(self) -> list[int]:
        """Classes with objects and scores: not the background or, without such a name, not the class of most pixels."""
        names = class_names(self.reader.classes)
        left_out = background_classes(names) or [int(self.counts.sum(axis=0).argmax())]
        present = np.unique(self.objects.owner).tolist()
        return [k for k in present if k not in left_out and names[k] not in self.reader.unscored]

    def whole(self) -> NDArray[np.bool_]:
        """Which objects are no fragments."""
        large = self.objects.pixels >= LEAST_PIXELS
        tiny = share_of_classes(self.objects.owner, large, self.counts.shape[1]) < _LEAST_SHARE
        return large | tiny[self.objects.owner]

    def shares(self, flags: NDArray[np.bool_]) -> NDArray[np.float64]:
        """(K,) share of each class's whole objects with a flag."""
        kept = self.whole()
        return share_of_classes(self.objects.owner[kept], flags[kept], self.counts.shape[1])

    def rare(self) -> NDArray[np.bool_]:
        """Which objects count for the recommendations: whole ones of the rare classes."""
        return np.isin(self.objects.owner, self.rare_classes()) & self.whole()


def share_of_classes(owner: NDArray[np.int64], flags: NDArray[np.bool_], classes: int) -> NDArray[np.float64]:
    total, flagged = np.bincount(owner, minlength=classes), np.bincount(owner[flags], minlength=classes)
    share: NDArray[np.float64] = flagged / np.maximum(total, 1)
    return share


def recommend(found: MeasuredObjects) -> list[Recommendation]:
    """Choose resolution, crop, feature, patch size, sampling, loss and prediction."""
    return [rule(found) for rule in (_resolution, _crop, _depth, _patch_size, _sampling, _loss, _prediction)]


def _resolution(found: MeasuredObjects) -> Recommendation:
    if found.longest_side is None:
        return Recommendation("resolution", "keep the images' own size", "Resizing loses nothing then.", {})
    classes = found.rare_classes()
    worst = {side: float(shares[classes].max()) for side, shares in found.lost.items()}
    kept = next((side for side, share in worst.items() if share <= _LOST), None)
    first = (
        f"With a longest side of {found.longest_side} pixels, resizing loses {_worst(found, found.objects.area == 0)}."
    )
    if kept is None:
        return Recommendation("resolution", "keep the images' own size", first, {"longest_side": None})
    if kept <= found.longest_side:
        return Recommendation("resolution", f"longest side {found.longest_side} pixels", first, {})
    reason = f"{first} With {kept}, it loses at most {worst[kept]:.1%} of a class."
    return Recommendation("resolution", f"longest side {kept} pixels", reason, {"longest_side": kept})


def _crop(found: MeasuredObjects) -> Recommendation:
    scale = 1.0 if found.longest_side is None else min(1.0, found.longest_side / max(found.image_side, 1))
    needed = float(np.percentile(found.objects.side[found.rare()], 95)) * scale * 1.5
    limit = max(SIDE_MULTIPLE, int(found.image_side * scale) // SIDE_MULTIPLE * SIDE_MULTIPLE)
    side = min(limit, max(4 * SIDE_MULTIPLE, math.ceil(needed / SIDE_MULTIPLE) * SIDE_MULTIPLE))
    reason = (
        f"19 of 20 objects, the background aside, are at most {needed / 1.5:.0f} pixels long; a crop of one and a half "
        f"times that shows their surroundings. The shorter side of the images is {found.image_side * scale:.0f} pixels."
    )
    return Recommendation("crop", f"{side}×{side} pixels", reason, {"crop_size": [side, side]})


def _depth(found: MeasuredObjects) -> Recommendation:
    classes = found.rare_classes()
    hidden = {d: float(found.shares(found.objects.area < s**2)[classes].max()) for d, s in found.strides.items()}
    fitting = [depth for depth, share in hidden.items() if share <= _HIDDEN]
    depth = max(fitting, default=min(found.strides))
    stride = found.strides[depth]
    flags = found.objects.area < stride**2
    reason = f"One cell of its map covers {stride}×{stride} pixels; smaller than that are {_worst(found, flags)}."
    if depth + 1 in found.strides:
        deeper = found.strides[depth + 1]
        below = _worst(found, found.objects.area < deeper**2)
        reason += f" At depth {depth + 1}, with {deeper}×{deeper} pixels, it would be {below}."
    return Recommendation("feature", f"depth {depth}", reason, {"feature": depth})


def _patch_size(found: MeasuredObjects) -> Recommendation:
    low = float(np.percentile(found.objects.area[found.rare()], 25))
    side = int(np.clip(round(math.sqrt(low)), *_PATCH_SIDES))
    reason = (
        f"A quarter of the objects are smaller than {low:.0f} pixels, {math.sqrt(low):.0f} on a side. Image patches of "
        f"{side} pixels hold little else; finer patches cost more. The paper uses {PATCH}."
    )
    return Recommendation("patch size", f"{side} pixels", reason, {"patch_size": side})


def _sampling(found: MeasuredObjects) -> Recommendation:
    names, classes = class_names(found.reader.classes), found.rare_classes()
    pixels = found.counts.sum(axis=0) / max(1, found.counts.sum())
    images = (found.counts > 0).mean(axis=0)
    rarest = min(classes, key=lambda k: pixels[k])
    seldom = pixels[rarest] < 0.01 or images[rarest] < 0.25
    reason = (
        f"{names[rarest]} has {format_share(pixels[rarest], 2)} of the pixels and is in "
        f"{format_share(images[rarest])} of the images."
    )
    if not seldom:
        return Recommendation("sampling", "random crops", reason, {})
    return Recommendation("sampling", "crops around objects", reason, {"small_object_sampling": True})


def _loss(found: MeasuredObjects) -> Recommendation:
    classes = found.rare_classes()
    pixels = found.counts.sum(axis=0)
    ratio = pixels.max() / max(1, pixels[classes].min())
    pixels_of = [found.objects.pixels[found.rare() & (found.objects.owner == k)] for k in classes]
    spread = max(float(np.divide(*np.percentile(own, (95, 5)))) for own in pixels_of)
    power = 0.5 if ratio > 10 else 0
    weights = "the square root of the class weights" if power else "equal class weights"
    instances = ", and objects that count equally (InstanceBalancedLoss)" if spread > 100 else ""
    reason = (
        f"The largest class has {ratio:.0f} times the pixels of the smallest. Within a class, large objects are up to "
        f"{spread:.0f} times as large as small ones (95th and 5th percentile)."
    )
    return Recommendation("loss", weights + instances, reason, {"class_weight_power": power})


def _prediction(found: MeasuredObjects) -> Recommendation:
    share = float((found.objects.area[found.rare()] < _SMALL_SIDE**2).mean())
    reason = f"{format_share(share)} of the objects are smaller than {_SMALL_SIDE}×{_SMALL_SIDE} pixels."
    if share <= _OFTEN_SMALL:
        return Recommendation("prediction", "at the images' own size", reason, {})
    reason += (
        " More of them are found in enlarged images, in five times the time: pass "
        '--inference_scales "[1,2]" to evaluate.json and inference.json.'
    )
    # No id: it belongs to evaluation and prediction, not to the training that the overlay is for.
    return Recommendation("prediction", "at the images' own and at twice their size", reason, {})


def _worst(found: MeasuredObjects, flags: NDArray[np.bool_]) -> str:
    """Name the class that a flag strikes most."""
    shares, names = found.shares(flags), class_names(found.reader.classes)
    worst = max(found.rare_classes(), key=lambda k: shares[k])
    return f"{format_share(shares[worst])} of {names[worst]}"
