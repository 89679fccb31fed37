"""Networks: the AFMA block, the feature tap, the wrapper around any segmentation network, slices of volumes."""

from afma_med.networks.afma_block import AFMABlock
from afma_med.networks.afma_blocks import AFMABlocks
from afma_med.networks.afma_net import AFMANet
from afma_med.networks.encoder_weights import create_backbone, input_normalization, load_encoder_weights
from afma_med.networks.feature_maps import FeatureInfo, list_features
from afma_med.networks.feature_tap import FeatureTap
from afma_med.networks.hypercolumn_net import HypercolumnNet
from afma_med.networks.padded_network import PaddedNetwork
from afma_med.networks.slice_wise import SliceWise

__all__ = [
    "AFMABlock",
    "AFMABlocks",
    "AFMANet",
    "FeatureInfo",
    "FeatureTap",
    "HypercolumnNet",
    "PaddedNetwork",
    "SliceWise",
    "create_backbone",
    "input_normalization",
    "list_features",
    "load_encoder_weights",
]
