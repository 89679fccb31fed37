"""Wrap any segmentation network with AFMA: backbone, feature tap, block and modulation."""

from __future__ import annotations

import math

from torch import Tensor, nn

from afma_med.checks import check_channels, check_four_axes
from afma_med.functional import PatchAttention, modulate_logits
from afma_med.networks.afma_block import AFMABlock, Variant, check_variant
from afma_med.networks.feature_tap import FeatureError, FeatureTap, blank_image, list_features, probing, whole_stride
from afma_med.patches import pad_to

__all__ = ["AFMANet"]

# Side of the blank image that shows, at construction, which channels a backbone's feature map and output have.
_PROBE_SIZE = 128


class AFMANet(nn.Module):
    """Correct a segmentation network's logits with the attention between its image and one of its feature maps.

    Any image size goes in and comes out: the image is zero-padded at the bottom and right to what the backbone and the
    stride need (a multiple of ``size_divisor``, at least ``min_size``), the logits are cropped back. The backbone's own
    state_dict stays whole under ``backbone.``.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W), for example of segmentation_models_pytorch or MONAI.
        out_channels: K, the classes of the backbone's output; 1 is binary (sigmoid).
        feature: encoder depth (the map of stride 2^depth in an undilated encoder: 1, 2, ...) or dotted module name.
        in_channels: C, channels of the image.
        patch_size: p, or (ph, pw), in pixels.
        attention_supervision: in train mode, return the attention beside the logits, for :class:`~afma_med.AFMALoss`.
        variant: ``"released"`` or ``"paper"``, see :class:`~afma_med.AFMABlock`; the paper variant also spreads
            class probabilities instead of the one-hot arg max.

    Raises:
        ValueError: if the feature does not exist or is no map, or the backbone's output has not K channels.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> import torch
        >>> net = AFMANet(smp.Unet("resnet18", encoder_weights=None, classes=12), out_channels=12)
        >>> net.eval()(torch.rand(1, 3, 90, 120)).shape
        torch.Size([1, 12, 90, 120])

    Reference:
        Sang, Zhou, Islam, Xing: Small-Object Sensitive Segmentation Using Across Feature Map Attention, TPAMI 2023.
    """

    def __init__(
        self,
        backbone: nn.Module,
        out_channels: int,
        *,
        feature: int | str = 2,
        in_channels: int = 3,
        patch_size: int | tuple[int, int] = 10,
        attention_supervision: bool = False,
        variant: Variant = "released",
    ) -> None:
        super().__init__()
        check_variant(variant)
        check_channels(out_channels=out_channels, in_channels=in_channels)
        self.backbone = backbone
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.attention_supervision = attention_supervision
        self.variant = variant
        try:
            self.feature_tap = FeatureTap(backbone, feature)
            logits, feature_map = self._probe(_PROBE_SIZE)
            stride = whole_stride(feature_map, blank_image(backbone, in_channels, _PROBE_SIZE))
        except FeatureError as error:
            raise FeatureError(f"{error}\n{self._feature_table()}") from error
        self._check_logits(logits)
        self.size_divisor = self._find_size_divisor(stride)
        self.min_size = self._find_min_size()
        self.afma_block = AFMABlock(
            feature_map.shape[1], out_channels, in_channels=in_channels, patch_size=patch_size, variant=variant
        )

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, PatchAttention]:
        """Segment a batch of images.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            Logits (B,K,H,W); in train mode with ``attention_supervision``, (logits, attention).

        Raises:
            ValueError: if ``image`` is not 4-D or has not C channels.
        """
        check_four_axes("image", image, "(B,C,H,W)")
        if image.shape[1] != self.in_channels:
            raise ValueError(
                f"`image` must have {self.in_channels} channels; got {image.shape[1]}. "
                f"Build backbone and AFMANet with in_channels={image.shape[1]}, or change the input."
            )
        height, width = image.shape[2:]
        padded = pad_to(image, (self._host_side(height), self._host_side(width)))
        logits, feature = self.feature_tap.run(self.backbone, padded)
        attention = self.afma_block(padded, feature)
        logits = modulate_logits(logits[:, :, :height, :width], attention, soft=self.variant == "paper")
        if self.training and self.attention_supervision:
            return logits, attention
        return logits

    def _host_side(self, side: int) -> int:
        """The image side that the backbone gets: a multiple of the divisor, and not too small for it."""
        return max(side + -side % self.size_divisor, self.min_size)

    def _find_size_divisor(self, stride: int) -> int:
        """The multiple that image sides must have: what the encoder says, or else the smallest that works."""
        known = getattr(getattr(self.backbone, "encoder", None), "output_stride", None)
        if known is not None:
            return math.lcm(int(known), stride)
        # An odd multiple, so that a host that needs more than the divisor fails on it.
        works = (stride << doublings for doublings in range(7) if self._works_on(3 * (stride << doublings)))
        return next(works, math.lcm(_PROBE_SIZE, stride))

    def _find_min_size(self) -> int:
        """The smallest image side that the backbone works on, as far as doubling the divisor finds it."""
        size = self.size_divisor
        while size < _PROBE_SIZE and not self._works_on(size):
            size *= 2
        return size

    def _works_on(self, size: int) -> bool:
        try:
            logits, _ = self._probe(size)
        except ValueError:
            return False
        return tuple(logits.shape[2:]) == (size, size)

    def _probe(self, size: int) -> tuple[Tensor, Tensor]:
        """Run the backbone once, in eval mode, on a blank square image."""
        try:
            with probing(self.backbone):
                return self.feature_tap.run(self.backbone, blank_image(self.backbone, self.in_channels, size))
        except RuntimeError as error:
            raise ValueError(
                f"`backbone` must run on images of `in_channels`={self.in_channels} channels; on one of "
                f"{size}×{size} pixels it failed: {error}. Give backbone and AFMANet the same number of image channels."
            ) from error

    def _feature_table(self) -> str:
        try:
            features = list_features(self.backbone, in_channels=self.in_channels, size=_PROBE_SIZE)
        except RuntimeError as error:
            return f"Its maps cannot be listed, since it does not run on a blank image: {error}"
        rows = [f"  {info.feature!s:<40} {info.channels:>5} channels  stride {info.stride}" for info in features]
        return "\n".join(["The maps of this network (afma_med.networks.list_features):", *rows])

    def _check_logits(self, logits: object) -> None:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if shape != (1, self.out_channels, _PROBE_SIZE, _PROBE_SIZE):
            raise ValueError(
                f"`backbone` must give logits of shape (B, {self.out_channels}, H, W) for `out_channels`="
                f"{self.out_channels}; a 1×{_PROBE_SIZE}×{_PROBE_SIZE} image gave {shape}. "
                "Give the backbone and AFMANet the same number of classes, and no auxiliary head."
            )
