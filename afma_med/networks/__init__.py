"""Networks: the AFMA block, the feature tap and the wrapper around any segmentation network."""

from afma_med.networks.afma_block import AFMABlock
from afma_med.networks.afma_net import AFMANet
from afma_med.networks.feature_tap import FeatureTap

__all__ = ["AFMABlock", "AFMANet", "FeatureTap"]
