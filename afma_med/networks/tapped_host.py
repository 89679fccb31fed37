"""Any segmentation network as a host: images of any size, and feature maps taken out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from afma_med._ops.host_outputs import crop_output, find_logits, replace_logits, upsample_to
from afma_med._ops.patches import crop_to, pad_to
from afma_med._ops.tensors import with_metadata_of, without_metadata
from afma_med.checks import check_channels, check_image, check_module, explain_mismatch
from afma_med.networks.feature_maps import FeatureError, FeatureInfo, encoder_strides, list_features, whole_stride
from afma_med.networks.feature_tap import tap_features
from afma_med.networks.probing import (
    blank_image,
    check_host_output,
    check_uncompiled,
    find_input_sizes,
    find_probe_size,
    probing,
    watch_activations,
)

__all__ = ["HostRun", "TappedHost"]


class HostRun(NamedTuple):
    """Hold what a host made of a batch of images.

    Args:
        output: of the padded images, as the host returned it.
        logits: those in it, cropped to (B,K,H,W).
        image: (B,C,H',W'), the padded images.
        features: (B,F,h,w), the tapped maps in order.
    """

    output: Any
    logits: Tensor
    image: Tensor
    features: list[Tensor]


class TappedHost(nn.Module):
    """Hold a segmentation network whose logits a subclass corrects with the network's own feature maps.

    The image is padded to what the backbone takes (``input_sizes``, found at construction with blank images), the
    logits are cropped back, and outputs of other kinds are passed through, as :class:`~afma_med.AFMANet` describes.

    Args:
        backbone, out_channels, in_channels, upsample_logits: as for :class:`~afma_med.AFMANet`.
        features: encoder depths and module names of the maps.
        whole_strides: pad the image so that the maps' strides divide it.

    Attributes:
        feature_channels: F by feature.

    Raises:
        TypeError, ValueError: as :class:`~afma_med.AFMANet` does.
    """

    def __init__(
        self,
        backbone: nn.Module,
        features: Sequence[int | str],
        out_channels: int | None,
        *,
        in_channels: int,
        upsample_logits: bool,
        whole_strides: bool,
    ) -> None:
        super().__init__()
        check_module("backbone", backbone)
        check_uncompiled(backbone)
        given = {} if out_channels is None else {"out_channels": out_channels}
        check_channels(**given, in_channels=in_channels)
        self.backbone = backbone
        self.in_channels = in_channels
        self.upsample_logits = upsample_logits
        probe_size = find_probe_size(backbone, in_channels)
        known = list_features(backbone, in_channels=in_channels, size=probe_size)
        try:
            self.feature_tap = tap_features(backbone, features)
            strides = encoder_strides(backbone, known)
            self.out_channels, self.feature_channels = self._probe_host(
                probe_size, out_channels, strides=strides, whole_strides=whole_strides
            )
        except FeatureError as error:
            raise FeatureError(f"{error}\n{_feature_table(known)}") from error

    def run_host(self, image: Tensor) -> HostRun:
        """Run the host on a batch of images.

        Args:
            image: (B,C,H,W), any size.

        Raises:
            TypeError: if ``image`` is not a tensor of floating point numbers of the network's kind.
            ValueError: if it is not 4-D, has not C channels, is larger than the only size of the backbone, or lies on
                another device.
        """
        check_image(image)
        if image.shape[1] != self.in_channels:
            raise ValueError(
                f"`image` must have {self.in_channels} channels; got {image.shape[1]}. "
                f"Build backbone and {type(self).__name__} with in_channels={image.shape[1]}, or change the input."
            )
        height, width = image.shape[2:]
        # MONAI's metadata slow the host's backward pass by half.
        padded = pad_to(without_metadata(image), (self.input_sizes.side_for(height), self.input_sizes.side_for(width)))
        try:
            output, *features = self.feature_tap.run(self.backbone, padded)
        except RuntimeError as error:
            explain_mismatch(padded, self.backbone, error)
            raise
        logits = with_metadata_of(crop_to(self._full_size_logits(output, padded), (height, width)), image)
        return HostRun(output, logits, padded, features)

    def replace_host_logits(self, run: HostRun, corrected: Tensor) -> Any:
        """Return corrected logits (B,K,H,W) in the host's own kind of output."""
        output = run.output
        if isinstance(output, Tensor) and output.ndim != 5:
            return corrected
        height, width = corrected.shape[2:]
        output = crop_output(output, (height, width), (run.image.shape[2], run.image.shape[3]))
        found = find_logits(output)
        assert found is not None  # as the probe has seen
        return replace_logits(output, found, corrected)

    def _full_size_logits(self, output: Any, image: Tensor) -> Tensor:
        logits = find_logits(output)
        if logits is None:
            raise ValueError(
                f"`backbone` must return logits, or a list, tuple, dictionary or object with them; got "
                f"{type(output).__name__}. Wrap it in a module that returns its logits."
            )
        return upsample_to(logits, (image.shape[2], image.shape[3])) if self.upsample_logits else logits

    def _probe_host(
        self, size: int, out_channels: int | None, *, strides: list[int], whole_strides: bool
    ) -> tuple[int, dict[int | str, int]]:
        """Check backbone and features on blank images, find the image sizes; return K and F by feature."""
        image = blank_image(self.backbone, self.in_channels, size)
        try:
            with probing(self.backbone), watch_activations() as activations:
                output, *features = self.feature_tap.run(self.backbone, image)
            logits = check_host_output(
                output, image, out_channels, upsample=self.upsample_logits, activations=activations
            )
            self._probe_training(image, logits.shape[1])
            self.input_sizes = find_input_sizes(
                self._logits_on_blank,
                known=size,
                strides=strides,
                stride=math.lcm(*(whole_stride(feature, image) for feature in features)) if whole_strides else 1,
            )
        except Exception:
            self.feature_tap.remove()
            raise
        names = self.feature_tap.features
        return logits.shape[1], {name: feature.shape[1] for name, feature in zip(names, features, strict=True)}

    def _probe_training(self, image: Tensor, out_channels: int) -> None:
        """Check the backbone's output in train mode, where it may differ: deep supervision, activations."""
        pair = image.expand(2, -1, -1, -1)  # batch norm needs more than one value
        try:
            with probing(self.backbone, train=True), watch_activations() as activations:
                output = self.backbone(pair)
        except (RuntimeError, ValueError, AssertionError):
            return  # some train on other devices or larger batches only, and say so when they train
        check_host_output(output, pair, out_channels, upsample=self.upsample_logits, activations=activations)

    def _logits_on_blank(self, size: int) -> Tensor:
        image = blank_image(self.backbone, self.in_channels, size)
        with probing(self.backbone):
            output, *_ = self.feature_tap.run(self.backbone, image)
        return self._full_size_logits(output, image)


def _feature_table(features: list[FeatureInfo]) -> str:
    rows = [f"  {info.feature!s:<40} {info.channels:>5} channels  stride {info.stride}" for info in features]
    return "\n".join(["The maps of this network (afma_med.list_features):", *rows])
