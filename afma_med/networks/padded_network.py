"""A network alone, on images of any size: what AFMANet is without AFMA."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from afma_med._ops.host_outputs import crop_output, find_logits, replace_logits, upsample_to
from afma_med._ops.patches import pad_to
from afma_med._ops.tensors import with_metadata_of, without_metadata
from afma_med.checks import check_image, check_module, explain_mismatch
from afma_med.networks.feature_maps import encoder_strides, list_features
from afma_med.networks.probing import blank_image, find_input_sizes, find_probe_size, probing

__all__ = ["PaddedNetwork"]


class PaddedNetwork(nn.Module):
    """Let a segmentation network take images of any size, padded and cropped as :class:`~afma_med.AFMANet` does.

    The baseline of a comparison: the same network, on the same pixels, without attention.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W).
        in_channels: C, channels of the image.
        upsample_logits: resize logits that are smaller than the image bilinearly, as :class:`~afma_med.AFMANet` does.

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

    def __init__(self, backbone: nn.Module, *, in_channels: int = 3, upsample_logits: bool = False) -> None:
        super().__init__()
        check_module("backbone", backbone)
        self.backbone = backbone
        self.upsample_logits = upsample_logits
        known = find_probe_size(backbone, in_channels)
        strides = encoder_strides(backbone, list_features(backbone, in_channels=in_channels, size=known))

        def run(side: int) -> Tensor:
            with probing(backbone):
                output = self._enlarge(backbone(blank_image(backbone, in_channels, side)), (side, side))
            logits = find_logits(output)
            if logits is None:
                raise ValueError(f"`backbone` must return logits; got {type(output).__name__}. Wrap it to return them.")
            return logits

        self.input_sizes = find_input_sizes(run, known=known, strides=strides, stride=1)

    def forward(self, image: Tensor) -> Any:
        """Segment a batch of images, (B,C,H,W) of any size: logits (B,K,H,W), or the backbone's own kind of output."""
        check_image(image)
        height, width = image.shape[2:]
        padded = pad_to(without_metadata(image), (self.input_sizes.side_for(height), self.input_sizes.side_for(width)))
        size = padded.shape[2], padded.shape[3]
        try:
            output = self._enlarge(self.backbone(padded), size)
        except RuntimeError as error:
            explain_mismatch(padded, self.backbone, error)
            raise
        output = crop_output(output, (height, width), size)
        return with_metadata_of(output, image) if isinstance(output, Tensor) else output

    def _enlarge(self, output: Any, size: tuple[int, int]) -> Any:
        logits = find_logits(output) if self.upsample_logits else None
        return output if logits is None else replace_logits(output, logits, upsample_to(logits, size))
