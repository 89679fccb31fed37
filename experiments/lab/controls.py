"""Forms that read several encoder maps, and controls that show what helps: attention, head, or supervision.

A control has the same auxiliary supervision and nearly as many parameters as the form that it controls for:

==================  ===========================================================================================
form                what it has
==================  ===========================================================================================
Prototypes          class-prototype attention: a shallow query against one prototype a class of this image
PlainHead           its control: a 1×1 head on the same maps, of the same size, without attention
PrototypesAndHead   both
PresenceAFMALoss    the control of the supervised attention: the same patches predict which classes they hold, and
                    correct nothing
==================  ===========================================================================================
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, one_hot

from afma_med.functional import PatchAttention
from afma_med.losses import AFMALoss
from afma_med.losses.afma_loss import AFMALossTerms
from afma_med.networks import AFMANet
from afma_med.networks.feature_tap import FeatureTaps
from afma_med.networks.probing import blank_image, probing

__all__ = ["AuxiliaryAFMALoss", "ContextAttention", "ContextNet", "PlainHead", "PresenceAFMALoss", "Prototypes"]
__all__ += ["PrototypesAndHead"]

# Encoder depths. The query reads all of them at the size of the first, the key all but the first at that of the second.
_DEPTHS = (2, 3, 4)
_EMBED = 64
_FIRST_GAIN = 0.1


class ContextAttention(NamedTuple):
    """Hold a query, what makes the prototypes of the classes that it is compared with, and scores of the plain head.

    Args:
        query: (B,E,h,w), of a shallow map.
        key: (B,E,h',w'), of a deep map.
        mass: (B,K,h',w') the class's probability at each place of the deep map.
        scores: (B,K,h,w) of the plain head.
        size: (H, W) of the padded image.
    """

    query: Tensor
    key: Tensor
    mass: Tensor
    scores: Tensor
    size: tuple[int, int]

    def prototypes(self) -> Tensor:
        """Average the key over each class: (B,K,E). The added 1 makes prototypes of classes without mass zero."""
        total = self.mass.sum(dim=(2, 3))[..., None] + 1
        return torch.einsum("bkhw,behw->bke", self.mass, self.key) / total

    def zeroed(self) -> ContextAttention:
        """Return a copy without attention; the plain head stays."""
        return self._replace(mass=torch.zeros_like(self.mass))

    def swapped(self, other: ContextAttention) -> ContextAttention:
        """Return a copy with the prototypes of another image."""
        return self._replace(key=other.key, mass=other.mass)


class ContextNet(AFMANet):
    """Add class-prototype attention, a plain head, or both to the logits of a host.

    With q the embedded query, k the embedded key and p the host's class probabilities at the key's size, the prototype
    of class c is Σ p_c k / (Σ p_c + 1), its score at a place of the query q · prototype_c / √E, and the logits become
    logits + gain_c · score_c, enlarged to the image, with a learnt gain that starts at 0.1. The head's scores are a
    1×1 convolution of q, with a gain of their own.

    In AFMA's terms, it is a signed attention between a shallow and a deep map that all classes share. The values are
    probabilities, divided by the mass of their class instead of the row's count of non-zeros.

    In train mode the network returns (corrected logits, the host's own logits), for :class:`AuxiliaryAFMALoss`.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W) with an encoder of at least four depths.
        out_channels, **options: as for :class:`~afma_med.AFMANet`.
    """

    has_prototypes = False
    has_head = False
    #: Channels between the two convolutions of the query; more in a form without key, for as many parameters.
    query_channels = _EMBED

    def __init__(self, backbone: nn.Module, out_channels: int, **options: Any) -> None:
        super().__init__(backbone, out_channels, **options)
        del self.afma_block
        self._taps = FeatureTaps(backbone, _DEPTHS)
        channels = [map_.shape[1] for map_ in self._probe_maps()]
        self.embed_query = _embedding(sum(channels), self.query_channels)
        if self.has_prototypes:
            self.embed_key = _embedding(sum(channels[1:]), _EMBED)
            self.gain = nn.Parameter(torch.full((out_channels, 1, 1), _FIRST_GAIN))
        if self.has_head:
            self.head = nn.Conv2d(_EMBED, out_channels, kernel_size=1)
            self.head_gain = nn.Parameter(torch.full((out_channels, 1, 1), _FIRST_GAIN))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits, attention = self.attend(image)
        corrected = self.correct(logits, attention)
        return (corrected, logits) if self.training and self.attention_supervision else corrected

    def attend(self, image: Tensor) -> tuple[Tensor, ContextAttention]:  # type: ignore[override]
        """Return the host's own logits (B,K,H,W), and what :meth:`correct` corrects them with."""
        height, width = image.shape[2:]
        down, right = self.input_sizes.side_for(height) - height, self.input_sizes.side_for(width) - width
        padded = nn.functional.pad(image.as_subclass(Tensor), (0, right, 0, down))
        logits, *maps = self._taps.run(self.backbone, padded)
        with torch.autocast(padded.device.type, enabled=False):
            attention = self._attend(logits.float(), [map_.float() for map_ in maps])
        return logits[..., :height, :width], attention

    def correct(self, logits: Tensor, attention: ContextAttention, values: Tensor | None = None) -> Tensor:
        with torch.autocast(logits.device.type, enabled=False):
            added = torch.zeros_like(attention.mass[:, :, :1, :1])
            if self.has_prototypes:
                products = torch.einsum("behw,bke->bkhw", attention.query, attention.prototypes())
                added = added + self.gain * products / math.sqrt(_EMBED)
            if self.has_head:
                added = added + self.head_gain * attention.scores
            enlarged = interpolate(added, size=attention.size, mode="bilinear", align_corners=False)
            return logits.float() + enlarged[..., : logits.shape[2], : logits.shape[3]]

    def gold(self, logits: Tensor, attention: ContextAttention, index: Tensor) -> ContextAttention:
        """Return the attention with the label's prototypes; (B,H,W) index, negative where void."""
        padded = nn.functional.pad(
            index, (0, attention.size[1] - index.shape[2], 0, attention.size[0] - index.shape[1]), value=-1
        )
        label = one_hot(padded.clamp_min(-1) + 1, self.out_channels + 1)[..., 1:].movedim(-1, 1)
        return attention._replace(mass=_shrink(label.to(attention.mass.dtype), attention.mass))

    def _attend(self, logits: Tensor, maps: list[Tensor]) -> ContextAttention:
        query = self.embed_query(_join(maps))
        key = self.embed_key(_join(maps[1:])) if self.has_prototypes else query[:, :, :1, :1]
        scores = self.head(query) if self.has_head else query[:, :0]
        size = (logits.shape[2], logits.shape[3])
        return ContextAttention(query, key, _shrink(logits.softmax(dim=1), key), scores, size)

    def _probe_maps(self) -> list[Tensor]:
        image = blank_image(self.backbone, self.in_channels, self.input_sizes.smallest)
        with probing(self.backbone):
            return list(self._taps.run(self.backbone, image)[1:])


class Prototypes(ContextNet):
    """Class-prototype attention alone."""

    has_prototypes = True


class PlainHead(ContextNet):
    """The control of :class:`Prototypes`: a head on the same maps, of the same size, without attention."""

    has_head = True
    query_channels = 2 * _EMBED


class PrototypesAndHead(ContextNet):
    """Class-prototype attention and a plain head on the same query."""

    has_prototypes = True
    has_head = True


class AuxiliaryAFMALoss(AFMALoss):
    """Add the segmentation loss of the host's own logits; for logits alone, it is the segmentation loss.

    Args:
        attention_weight: weight of the host's own logits; ``segmentation_weight`` is that of the corrected ones.
    """

    def terms(self, output: Tensor | tuple[Tensor, Any], label: Tensor) -> AFMALossTerms:
        if isinstance(output, Tensor):
            return super().terms(output, label)
        corrected, own = output
        return AFMALossTerms(self.segmentation(corrected, label), self.segmentation(own, label))


class PresenceAFMALoss(AFMALoss):
    """Train each patch to predict the share of each class in it, instead of an attention between patches.

    The mean of an embedded patch is compared with the share of the class in the label's patch, for image patches and
    feature patches. Parameters and label are the same, but no pair of patches is compared.
    """

    def attention_distance(self, attention: PatchAttention, gold: PatchAttention) -> Tensor:
        pairs = ((attention.query, gold.query), (attention.key, gold.key))
        query, key = ((mine.mean(dim=-1) - target.float().mean(dim=-1)).square().mean() for mine, target in pairs)
        return query + key


def _embedding(in_channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, hidden, kernel_size=1, bias=False),
        nn.BatchNorm2d(hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, _EMBED, kernel_size=1),
    )


def _join(maps: list[Tensor]) -> Tensor:
    """The maps as channels of one, at the size of the first."""
    return torch.cat([maps[0], *(interpolate(x, size=maps[0].shape[2:], mode="bilinear") for x in maps[1:])], dim=1)


def _shrink(x: Tensor, like: Tensor) -> Tensor:
    return nn.functional.adaptive_avg_pool2d(x, (like.shape[2], like.shape[3]))
