"""Wrap any segmentation network with AFMA: backbone, feature tap, block and modulation."""

from __future__ import annotations

from torch import Tensor, nn

from afma_med._ops.patches import crop_to, pad_to, split_patches
from afma_med._ops.tensors import with_metadata_of, without_metadata
from afma_med.checks import as_patch_size, check_channels, check_image, check_module, explain_mismatch
from afma_med.functional import PatchAttention, compress_prediction, modulate_logits
from afma_med.networks.afma_block import AFMABlock, Variant, check_variant
from afma_med.networks.feature_tap import (
    FeatureError,
    FeatureInfo,
    FeatureTap,
    encoder_strides,
    list_features,
    whole_stride,
)
from afma_med.networks.probing import blank_image, find_input_sizes, find_probe_size, probing
from afma_med.networks.scripting import ScriptableAFMANet

__all__ = ["AFMANet"]


class AFMANet(nn.Module):
    """Correct a segmentation network's logits with the attention between its image and one of its feature maps.

    Any image size goes in and comes out: the image is zero-padded at the bottom and right to what the backbone and the
    stride need (``input_sizes``, found at construction with blank images), the logits are cropped back. The backbone's
    own state_dict stays whole under ``backbone.``.

    The probe runs the backbone about six times on one blank image of 32 to 160 pixels a side, without gradients: one to
    two seconds for a Unet with ResNet-18 to ResNet-101 on one CPU core. Backbones of one fixed size, such as vision
    transformers, are tried on a few sizes more.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W), for example of segmentation_models_pytorch or MONAI.
        out_channels: K, the classes of the backbone's output; 1 is binary (sigmoid). Default: as many as the backbone
            has; another number than that is an error.
        feature: encoder depth (the map of stride 2^depth in an undilated encoder: 1, 2, ...) or dotted module name.
        in_channels: C, channels of the image.
        patch_size: p, or (ph, pw), in pixels.
        attention_supervision: in train mode, return the attention next to the logits, for :class:`~afma_med.AFMALoss`.
        variant: ``"released"`` or ``"paper"``, see :class:`~afma_med.AFMABlock`; the paper variant also spreads
            class probabilities instead of the one-hot arg max.

    Raises:
        TypeError: if the backbone is not a network, or the feature neither a depth nor a name.
        ValueError: if the backbone does not run on blank images, the feature does not exist or is not a map, or the
            backbone's output has not K channels.

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
        out_channels: int | None = None,
        *,
        feature: int | str = 2,
        in_channels: int = 3,
        patch_size: int | tuple[int, int] = 10,
        attention_supervision: bool = False,
        variant: Variant = "released",
    ) -> None:
        super().__init__()
        check_module("backbone", backbone)
        check_variant(variant)
        given = {} if out_channels is None else {"out_channels": out_channels}
        check_channels(**given, in_channels=in_channels)
        as_patch_size(patch_size)
        self.backbone = backbone
        self.in_channels = in_channels
        self.attention_supervision = attention_supervision
        self.variant = variant
        probe_size = find_probe_size(backbone, in_channels)
        features = list_features(backbone, in_channels=in_channels, size=probe_size)
        try:
            self.feature_tap = FeatureTap(backbone, feature)
            self.out_channels, feature_channels = self._probe_host(
                probe_size, out_channels, strides=encoder_strides(backbone, features)
            )
        except FeatureError as error:
            raise FeatureError(f"{error}\n{_feature_table(features)}") from error
        self.afma_block = AFMABlock(
            feature_channels, self.out_channels, in_channels=in_channels, patch_size=patch_size, variant=variant
        )

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, PatchAttention]:
        """Segment a batch of images.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            Logits (B,K,H,W); in train mode with ``attention_supervision``, (logits, attention).

        Raises:
            TypeError: if ``image`` is not a tensor of floating point numbers of the network's kind.
            ValueError: if it is not 4-D, has not C channels, is larger than the only size of the backbone, or lies on
                another device.
        """
        logits, attention = self.attend(image)
        corrected = self.correct(logits, attention)
        if self.training and self.attention_supervision:
            return corrected, attention
        return corrected

    def attend(self, image: Tensor) -> tuple[Tensor, PatchAttention]:
        """Segment a batch of images without correcting, for whoever wants to see what the attention does.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            The backbone's own logits (B,K,H,W), and the attention that :meth:`forward` corrects them with.

        Raises:
            TypeError: if ``image`` is not a tensor of floating point numbers of the network's kind.
            ValueError: if it is not 4-D, has not C channels, is larger than the only size of the backbone, or lies on
                another device.
        """
        check_image(image)
        if image.shape[1] != self.in_channels:
            raise ValueError(
                f"`image` must have {self.in_channels} channels; got {image.shape[1]}. "
                f"Build backbone and AFMANet with in_channels={image.shape[1]}, or change the input."
            )
        height, width = image.shape[2:]
        # MONAI's metadata slow the host's backward pass by half.
        padded = pad_to(without_metadata(image), (self.input_sizes.side_for(height), self.input_sizes.side_for(width)))
        try:
            logits, feature = self.feature_tap.run(self.backbone, padded)
        except RuntimeError as error:
            explain_mismatch(padded, self.backbone, error)
            raise
        attention = self.afma_block(padded, feature)
        return with_metadata_of(crop_to(logits, (height, width)), image), attention

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        """Correct logits by what the attention says of them: what :meth:`forward` does with those of :meth:`attend`.

        A subclass may correct otherwise.

        Args:
            logits: (B,K,H,W).
            attention: of the same images.
            values: (B,K,M,D), spread in place of the prediction's own, for whoever wants to see whether they matter.

        Returns:
            (B,K,H,W).

        Raises:
            ValueError: if ``logits`` and ``attention`` disagree, or ``values`` has not the key's shape.
        """
        return modulate_logits(logits, attention, soft=self.variant == "paper", values=values)

    def split_prediction(self, logits: Tensor, attention: PatchAttention) -> Tensor:
        """Compress a prediction and split it into patches: the values that :meth:`correct` spreads.

        Args:
            logits: (B,K,H,W).
            attention: of the same images.

        Returns:
            V, (B,K,M,D).
        """
        grid = attention.grid
        return split_patches(compress_prediction(logits, grid, soft=self.variant == "paper"), grid.patch_size)

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in place of this module."""
        return ScriptableAFMANet(
            self.backbone, self.feature_tap, self.afma_block, sizes=self.input_sizes, soft=self.variant == "paper"
        )

    def _probe_host(self, size: int, out_channels: int | None, *, strides: list[int]) -> tuple[int, int]:
        """Check backbone and feature on blank images, find the image sizes, and return K and the feature's channels."""
        try:
            logits, feature = self._run_on_blank(size)
            out_channels = _check_logits(logits, size, out_channels)
            stride = whole_stride(feature, blank_image(self.backbone, self.in_channels, size))
            self.input_sizes = find_input_sizes(
                lambda side: self._run_on_blank(side)[0], known=size, strides=strides, stride=stride
            )
        except Exception:
            self.feature_tap.remove()
            raise
        return out_channels, feature.shape[1]

    def _run_on_blank(self, size: int) -> tuple[Tensor, Tensor]:
        with probing(self.backbone):
            return self.feature_tap.run(self.backbone, blank_image(self.backbone, self.in_channels, size))


def _check_logits(logits: object, size: int, out_channels: int | None) -> int:
    """Return K of a backbone's logits for a blank image; refuse other shapes than the caller expects."""
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if isinstance(logits, Tensor) and shape == (1, out_channels or logits.shape[1:2].numel(), size, size):
        return logits.shape[1]
    expected = "K" if out_channels is None else out_channels
    stated = "" if out_channels is None else f" for `out_channels`={out_channels}"
    raise ValueError(
        f"`backbone` must give logits of shape (B, {expected}, H, W){stated}; a 1×{size}×{size} image gave {shape}. "
        "Give the backbone and AFMANet the same number of classes, and no auxiliary head."
    )


def _feature_table(features: list[FeatureInfo]) -> str:
    rows = [f"  {info.feature!s:<40} {info.channels:>5} channels  stride {info.stride}" for info in features]
    return "\n".join(["The maps of this network (afma_med.list_features):", *rows])
