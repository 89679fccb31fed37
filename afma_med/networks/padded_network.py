"""A network alone, on images of any size: what AFMANet is without AFMA."""

from __future__ import annotations

from torch import Tensor, nn

from afma_med._ops.patches import crop_to, pad_to
from afma_med._ops.tensors import with_metadata_of, without_metadata
from afma_med.checks import check_image, check_module, explain_mismatch
from afma_med.networks.feature_tap import encoder_strides, list_features
from afma_med.networks.probing import blank_image, find_input_sizes, find_probe_size, probing

__all__ = ["PaddedNetwork"]


class PaddedNetwork(nn.Module):
    """Let a segmentation network take images of any size, padded and cropped as :class:`~afma_med.AFMANet` does.

    The baseline of a comparison: the same network, on the same pixels, without attention.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W).
        in_channels: C, channels of the image.

    Raises:
        TypeError: if the backbone is not a network.
        ValueError: if it does not run on blank images.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> import torch
        >>> net = PaddedNetwork(smp.FPN("resnet18", encoder_weights=None, classes=12)).eval()
        >>> net(torch.rand(1, 3, 90, 120)).shape
        torch.Size([1, 12, 90, 120])
    """

    def __init__(self, backbone: nn.Module, *, in_channels: int = 3) -> None:
        super().__init__()
        check_module("backbone", backbone)
        self.backbone = backbone
        known = find_probe_size(backbone, in_channels)
        strides = encoder_strides(backbone, list_features(backbone, in_channels=in_channels, size=known))

        def run(side: int) -> Tensor:
            with probing(backbone):
                logits: Tensor = backbone(blank_image(backbone, in_channels, side))
            return logits

        self.input_sizes = find_input_sizes(run, known=known, strides=strides, stride=1)

    def forward(self, image: Tensor) -> Tensor:
        """Segment a batch of images, (B,C,H,W) of any size, as logits (B,K,H,W)."""
        check_image(image)
        height, width = image.shape[2:]
        padded = pad_to(without_metadata(image), (self.input_sizes.side_for(height), self.input_sizes.side_for(width)))
        try:
            logits = self.backbone(padded)
        except RuntimeError as error:
            explain_mismatch(padded, self.backbone, error)
            raise
        return with_metadata_of(crop_to(logits, (height, width)), image)
