"""Across Feature Map Attention (AFMA) for any segmentation network, as a MONAI extension."""

from afma_med.functional import PatchAttention, PatchGrid, gold_attention, modulate_logits
from afma_med.losses import AFMALoss, SigmoidCrossEntropyLoss, SoftmaxCrossEntropyLoss, median_frequency_weights
from afma_med.networks import AFMABlock, AFMANet, FeatureTap, SliceWise, list_features

__version__ = "0.1.0"

__all__ = [
    "AFMABlock",
    "AFMALoss",
    "AFMANet",
    "FeatureTap",
    "PatchAttention",
    "PatchGrid",
    "SigmoidCrossEntropyLoss",
    "SliceWise",
    "SoftmaxCrossEntropyLoss",
    "__version__",
    "gold_attention",
    "list_features",
    "median_frequency_weights",
    "modulate_logits",
]
