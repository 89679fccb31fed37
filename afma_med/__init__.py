"""Across Feature Map Attention (AFMA) for any segmentation network, as a MONAI extension."""

import importlib
from typing import TYPE_CHECKING, Any

from afma_med.version import __version__

if TYPE_CHECKING:
    from afma_med.functional import PatchAttention, PatchGrid, gold_attention, modulate_logits
    from afma_med.grouped_attention import GroupedAttention
    from afma_med.inferers import AutocastInferer, MultiScaleInferer
    from afma_med.losses import (
        AFMALoss,
        InstanceBalancedLoss,
        SigmoidCrossEntropyLoss,
        SoftmaxCrossEntropyLoss,
        median_frequency_weights,
    )
    from afma_med.metrics import (
        ClassIoU,
        ComponentDiceMetric,
        ComponentPanopticQualityMetric,
        ObjectDetectionMetric,
        ObjectSizeMetric,
        SizeGroups,
    )
    from afma_med.networks import AFMABlock, AFMANet, FeatureTap, HypercolumnNet, SliceWise, list_features
    from afma_med.transforms import (
        AddClassOffsets,
        AddClassOffsetsd,
        RandCropBySmallObjects,
        RandCropBySmallObjectsd,
    )

__all__ = [
    "AFMABlock",
    "AFMALoss",
    "AFMANet",
    "AddClassOffsets",
    "AddClassOffsetsd",
    "AutocastInferer",
    "ClassIoU",
    "ComponentDiceMetric",
    "ComponentPanopticQualityMetric",
    "FeatureTap",
    "GroupedAttention",
    "HypercolumnNet",
    "InstanceBalancedLoss",
    "MultiScaleInferer",
    "ObjectDetectionMetric",
    "ObjectSizeMetric",
    "PatchAttention",
    "PatchGrid",
    "RandCropBySmallObjects",
    "RandCropBySmallObjectsd",
    "SigmoidCrossEntropyLoss",
    "SizeGroups",
    "SliceWise",
    "SoftmaxCrossEntropyLoss",
    "__version__",
    "gold_attention",
    "list_features",
    "median_frequency_weights",
    "modulate_logits",
]

# Loaded when first used: the command `afma` needs no torch for its help.
_HOMES = {
    "grouped_attention": ("GroupedAttention",),
    "functional": ("PatchAttention", "PatchGrid", "gold_attention", "modulate_logits"),
    "inferers": ("AutocastInferer", "MultiScaleInferer"),
    "losses": (
        "AFMALoss",
        "InstanceBalancedLoss",
        "SigmoidCrossEntropyLoss",
        "SoftmaxCrossEntropyLoss",
        "median_frequency_weights",
    ),
    "metrics": (
        "ClassIoU",
        "ComponentDiceMetric",
        "ComponentPanopticQualityMetric",
        "ObjectDetectionMetric",
        "ObjectSizeMetric",
        "SizeGroups",
    ),
    "transforms": ("AddClassOffsets", "AddClassOffsetsd", "RandCropBySmallObjects", "RandCropBySmallObjectsd"),
    "networks": ("AFMABlock", "AFMANet", "FeatureTap", "HypercolumnNet", "SliceWise", "list_features"),
}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Import a public name, or one of the rooms that hold them, when it is first used."""
        if name in _HOMES:
            return importlib.import_module(f"{__name__}.{name}")
        for home, names in _HOMES.items():
            if name in names:
                value = globals()[name] = getattr(importlib.import_module(f"{__name__}.{home}"), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """List the public names, loaded or not."""
        return sorted({*globals(), *__all__})
