"""Losses: segmentation terms, the distance to the gold attention, class weights."""

from afma_med.losses.afma_loss import AFMALoss, AFMALossTerms
from afma_med.losses.frequency_balance import median_frequency_weights
from afma_med.losses.instance_balance import InstanceBalancedLoss
from afma_med.losses.segmentation import SigmoidCrossEntropyLoss, SoftmaxCrossEntropyLoss

__all__ = [
    "AFMALoss",
    "AFMALossTerms",
    "InstanceBalancedLoss",
    "SigmoidCrossEntropyLoss",
    "SoftmaxCrossEntropyLoss",
    "median_frequency_weights",
]
