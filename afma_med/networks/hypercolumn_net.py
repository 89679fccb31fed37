"""A second head on several encoder maps, added to the logits of any segmentation network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from afma_med._ops.patches import crop_to
from afma_med._ops.tensors import at_least_float32, autocast_off, with_metadata_of, without_metadata
from afma_med.checks import check_channels
from afma_med.networks.embedding import input_dtype
from afma_med.networks.feature_tap import check_feature
from afma_med.networks.scripting import ScriptableHost
from afma_med.networks.tapped_host import TappedHost

__all__ = ["HYPERCOLUMN", "HypercolumnHead", "HypercolumnNet", "has_attention"]

#: Name of this network among the variants of a bundle.
HYPERCOLUMN = "hypercolumn"

# Of the scores at first, so that training starts near the host's own logits.
_FIRST_GAIN = 0.1


class HypercolumnHead(nn.Module):
    """Score the classes at each place of the largest of several feature maps.

    Each map goes through a 1×1 convolution, is enlarged to the size of the first, and they are summed: a 1×1
    convolution of the hypercolumn, at less cost, since it is done before the map is enlarged. Batch normalisation, a
    ReLU and two more 1×1 convolutions score the sum. Each class has a learnt gain, 0.1 at first.

    Args:
        feature_channels: channels of each map.
        out_channels: K.
        hidden_channels: of the sum; half of them lie between the last two convolutions.
    """

    def __init__(self, feature_channels: Sequence[int], out_channels: int, *, hidden_channels: int = 128) -> None:
        super().__init__()
        check_channels(out_channels=out_channels, hidden_channels=hidden_channels)
        between = max(1, hidden_channels // 2)
        # Its first weights are those of one convolution of the hypercolumn, in which each map counts by its channels.
        whole = nn.Conv2d(sum(feature_channels), hidden_channels, kernel_size=1, bias=False)
        self.embed = nn.ModuleList(nn.Conv2d(count, hidden_channels, 1, bias=False) for count in feature_channels)
        for layer, weight in zip(self.embed, torch.split(whole.weight, list(feature_channels), dim=1), strict=True):
            layer.weight = nn.Parameter(weight.detach().clone())
        self.score = nn.Sequential(
            nn.BatchNorm2d(hidden_channels),
            nn.ReLU(),
            nn.Conv2d(hidden_channels, between, kernel_size=1),
            nn.Conv2d(between, out_channels, kernel_size=1),
        )
        self.gain = nn.Parameter(torch.full((out_channels, 1, 1), _FIRST_GAIN))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Score maps (B,F,h,w), the first of them the largest: (B,K,h,w)."""
        first, *others = (layer(one) for layer, one in zip(self.embed, maps, strict=True))
        for other in others:
            first = first + interpolate(other, size=first.shape[2:], mode="bilinear")
        scores: Tensor = self.gain * self.score(first)
        return scores


class HypercolumnNet(TappedHost):
    """Add a head on several encoder maps to a segmentation network's logits.

    The decoder of a network has few chances to bring back an object of a few pixels that its deep maps have lost. The
    head scores the classes from the shallow and deep maps at once, at the stride of the shallowest. On CamVid it raised
    the IoU of small classes (docs/does_it_help.md). Any segmentation loss trains it.

    It takes hosts, images and outputs as :class:`~afma_med.AFMANet` does.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W), for example of segmentation_models_pytorch or MONAI.
        out_channels: K; by default, as many as the backbone has.
        feature: encoder depths or dotted module names of the maps, the largest map first; or one of them.
        in_channels: C, channels of the image.
        hidden_channels: channels of the head.
        upsample_logits: as for :class:`~afma_med.AFMANet`.

    Raises:
        TypeError: if the backbone is not a network, or a feature neither a depth nor a name.
        ValueError: if there is no feature, or for the reasons that :class:`~afma_med.AFMANet` names.

    Example:
        >>> import segmentation_models_pytorch as smp
        >>> net = HypercolumnNet(smp.Unet("resnet18", encoder_weights=None, classes=12))
        >>> net.eval()(torch.rand(1, 3, 90, 120)).shape
        torch.Size([1, 12, 90, 120])

    Reference:
        Hariharan, Arbeláez, Girshick, Malik: Hypercolumns for Object Segmentation and Fine-grained Localization, CVPR
        2015.
    """

    def __init__(
        self,
        backbone: nn.Module,
        out_channels: int | None = None,
        *,
        feature: int | str | Sequence[int | str] = (2, 3, 4),
        in_channels: int = 3,
        hidden_channels: int = 128,
        upsample_logits: bool = False,
    ) -> None:
        features = list(dict.fromkeys([feature] if isinstance(feature, int | str) else feature))
        if not features:
            raise ValueError(
                "`feature` must name at least one feature map; got none. Use [2, 3, 4] for an SMP network."
            )
        for one in features:
            check_feature(one)
        super().__init__(
            backbone,
            features,
            out_channels,
            in_channels=in_channels,
            upsample_logits=upsample_logits,
            whole_strides=False,
        )
        self.hypercolumn_head = HypercolumnHead(
            [self.feature_channels[one] for one in features], self.out_channels, hidden_channels=hidden_channels
        )

    def forward(self, image: Tensor) -> Any:
        """Segment a batch of images.

        Args:
            image: (B,C,H,W), any size.

        Returns:
            Logits (B,K,H,W), or the backbone's own kind of output with corrected logits.

        Raises:
            TypeError, ValueError: as :meth:`AFMANet.forward <afma_med.AFMANet.forward>` does.
        """
        run = self.run_host(image)
        corrected = _add_scores(self.hypercolumn_head, run.image, run.features, without_metadata(run.logits))
        return self.replace_host_logits(run, with_metadata_of(corrected, image))

    def __prepare_scriptable__(self) -> nn.Module:
        """What torch.jit.script compiles in place of this module."""
        return ScriptableHost(
            self.backbone,
            self.feature_tap,
            _Correction(self.hypercolumn_head),
            in_channels=self.in_channels,
            sizes=self.input_sizes,
        )


class _Correction(nn.Module):
    """The correction of HypercolumnNet as TorchScript has it."""

    def __init__(self, head: HypercolumnHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, image: Tensor, features: list[Tensor], logits: Tensor) -> Tensor:
        return _add_scores(self.head, image, features, logits)


def has_attention(settings: Mapping[str, Any]) -> bool:
    """Tell from the settings of a run whether its network has an attention: neither the baseline nor this one has."""
    return bool(settings.get("afma")) and settings.get("variant") != HYPERCOLUMN


def _add_scores(head: HypercolumnHead, image: Tensor, features: Sequence[Tensor], logits: Tensor) -> Tensor:
    """Add the head's scores, enlarged to the padded image, to logits; in the head's own type also under autocast."""
    with autocast_off(image):
        scores = head([feature.to(input_dtype(head.score[-1])) for feature in features])
        enlarged = interpolate(scores, size=image.shape[2:], mode="bilinear")
        return at_least_float32(logits) + crop_to(enlarged, (logits.shape[2], logits.shape[3]))
