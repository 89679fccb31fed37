"""Changed forms of the method for ablations: what each part adds, and what might add more.

They are written for small images. The lists in ``experiments`` use them and report the results; a form that
clearly helps becomes an option of the package itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from afma_med.functional import (
    PatchAttention,
    PatchGrid,
    compress_prediction,
    join_patches,
    modulate_logits,
    split_patches,
)
from afma_med.losses import AFMALoss
from afma_med.networks import AFMABlock, AFMANet
from experiments.lab.controls import AuxiliaryAFMALoss, PlainHead, PresenceAFMALoss, Prototypes, PrototypesAndHead

__all__ = ["STUDIES", "AddedCorrection", "FeatureQueryBlock", "LearntGain", "NonlinearBlock", "RelativeAFMALoss"]
__all__ += ["RowSum", "SoftValues", "SupervisionOnly", "build_studied_network", "complete_arm"]
__all__ += ["network_of"]

# Small next to the row sums of a gold attention, which are near 1.
_SUM_EPSILON = 1e-3


class SupervisionOnly(AFMANet):
    """Learn the attention but correct nothing with it, so that it is only an auxiliary loss."""

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        return logits


class SoftValues(AFMANet):
    """Spread class probabilities, as in the paper's text, with everything else as released."""

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        return modulate_logits(logits, attention, soft=True, values=values)

    def split_prediction(self, logits: Tensor, attention: PatchAttention) -> Tensor:
        grid = attention.grid
        return split_patches(compress_prediction(logits, grid, soft=True), grid.patch_size)


class AddedCorrection(AFMANet):
    """Add X to the logits ("added to the output of the decoder"), where the released form adds logits · X."""

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        return logits + _spread(logits, attention, attention.apply, values)


class RowSum(AFMANet):
    """Divide a row of the attention by its sum, with gradient, where the released form counts its non-zeros."""

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        query, key = attention.query, attention.key

        def apply(v: Tensor) -> Tensor:
            with torch.autocast(query.device.type, enabled=False):
                sums = query @ key.sum(dim=2, keepdim=True).mT / query.shape[-1]
                return attention.query @ (key.mT @ v) / query.shape[-1] / (sums + _SUM_EPSILON)

        return logits + logits * _spread(logits, attention, apply, values)


class LearntGain(AFMANet):
    """Correct by gain · X, with a learnt gain for each class that starts at zero."""

    def __init__(self, backbone: nn.Module, out_channels: int, **options: Any) -> None:
        super().__init__(backbone, out_channels, **options)
        self.gain = nn.Parameter(torch.zeros(out_channels, 1, 1))

    def correct(self, logits: Tensor, attention: PatchAttention, values: Tensor | None = None) -> Tensor:
        return logits + self.gain * (modulate_logits(logits, attention, values=values) - logits)


class NonlinearBlock(AFMABlock):
    """Embed the image with batch normalisation and a ReLU between the two convolutions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.normalization = nn.BatchNorm2d(self.image_conv1.out_channels)

    def embed_image(self, image: Tensor) -> Tensor:
        embedded: Tensor = self.image_conv2(self.normalization(self.image_conv1(image)).relu())
        return embedded


class FeatureQueryBlock(AFMABlock):
    """Make the query of the image and the feature map, enlarged to the image's size."""

    def __init__(self, feature_channels: int, out_channels: int, **options: Any) -> None:
        super().__init__(feature_channels, out_channels, **options)
        self.query_conv = nn.Conv2d(feature_channels, out_channels, kernel_size=1)

    def forward(self, image: Tensor, feature: Tensor, query: Tensor | None = None) -> PatchAttention:
        image, feature = image.as_subclass(Tensor), feature.as_subclass(Tensor)
        size = (image.shape[2], image.shape[3])
        grid = PatchGrid(size, image.shape[2] // feature.shape[2], self.patch_size)
        with torch.autocast(image.device.type, enabled=False):
            own = interpolate(self.query_conv(feature.float()), size=size, mode="bilinear")
            query = self._project(self.embed_image(image) + own) if query is None else query
            return PatchAttention(query, self._project(self.embed_feature(feature, grid.stride)), grid)


class RelativeAFMALoss(AFMALoss):
    """Divide each class's squared distance to its gold attention by the squared norm of the latter.

    It is averaged over the classes that occur in the batch, and 1 for an attention of zeros, however rare the class is.
    A mean over all entries is 1e-2 for the same attention, and consists of the large classes.
    """

    def attention_distance(self, attention: PatchAttention, gold: PatchAttention) -> Tensor:
        target = gold.dense()
        size = target.square().sum(dim=(0, 2, 3))
        distance = (attention.dense() - target).square().sum(dim=(0, 2, 3))
        present = size > 0
        return (distance[present] / size[present]).mean()


class _Study(NamedTuple):
    """The parts that a study replaces."""

    network: type[AFMANet] = AFMANet
    block: type[AFMABlock] | None = None
    loss: type[AFMALoss] | None = None
    options: Mapping[str, Any] = MappingProxyType({})


# 0.4 of the weight of the segmentation term.
_AUXILIARY: Mapping[str, Any] = MappingProxyType({"loss#attention_weight": 2.0})

#: The studies by name.
STUDIES: Mapping[str, _Study] = MappingProxyType(
    {
        "supervision_only": _Study(SupervisionOnly),
        "soft": _Study(SoftValues),
        "added": _Study(AddedCorrection),
        "row_sum": _Study(RowSum),
        "gain": _Study(LearntGain),
        "nonlinear": _Study(block=NonlinearBlock),
        "feature_query": _Study(block=FeatureQueryBlock),
        "relative": _Study(loss=RelativeAFMALoss),
        "relative_feature_query": _Study(block=FeatureQueryBlock, loss=RelativeAFMALoss),
        "relative_row_sum": _Study(RowSum, loss=RelativeAFMALoss),
        "presence": _Study(SupervisionOnly, loss=PresenceAFMALoss),
        "prototypes": _Study(Prototypes, loss=AuxiliaryAFMALoss, options=_AUXILIARY),
        "plain_head": _Study(PlainHead, loss=AuxiliaryAFMALoss, options=_AUXILIARY),
        "prototypes_and_head": _Study(PrototypesAndHead, loss=AuxiliaryAFMALoss, options=_AUXILIARY),
    }
)


def build_studied_network(backbone: nn.Module, out_channels: int, *, study: str, **options: Any) -> AFMANet:
    """Build a network as :func:`afma_med.bundle.run.build_network` does, with the parts that a study replaces.

    Args:
        backbone, out_channels, **options: as for :class:`afma_med.AFMANet`; ``afma`` is true in all studies.
        study: a name from :data:`STUDIES`.

    Raises:
        ValueError: if there are several depths or groups of classes, or the key comes from the resized image.
    """
    options.pop("afma", None)
    if not isinstance(options.get("feature", 2), int | str) or isinstance(options.get("patch_size"), Mapping):
        raise ValueError(
            f"`feature` and `patch_size` must be those of all classes, and one, in the study {study}; got "
            f"{options.get('feature')!r} and {options.get('patch_size')!r}. Give one of each, or leave the study out."
        )
    if options.get("source", "feature") != "feature":
        raise ValueError(f'`source` must be "feature" in the study {study}; got {options["source"]!r}. Leave it out.')
    chosen = STUDIES[study]
    network = chosen.network(backbone, out_channels, **options)
    if chosen.block is not None:
        plain: Any = network.afma_block
        network.afma_block = chosen.block(
            plain.feature_conv.in_channels,
            out_channels,
            in_channels=network.in_channels,
            patch_size=plain.patch_size,
            variant=network.variant,
        )
    return network


def complete_arm(arm: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the ``study`` of an arm by the ids and values that it sets, for the training and for the evaluation.

    Raises:
        ValueError: if there is no such study.
    """
    if "study" not in arm:
        return dict(arm)
    given = dict(arm)
    study = given.pop("study")
    network = {f"network_def#{name}": value for name, value in network_of(study).items()}
    chosen = STUDIES[study]
    loss = {} if chosen.loss is None else {"loss#_target_": f"{chosen.loss.__module__}.{chosen.loss.__name__}"}
    options = {**given.get("options", {}), **network, **loss, **chosen.options, "settings#study": study}
    return {**given, "options": options, "evaluate": {**given.get("evaluate", {}), **network}}


def network_of(study: object) -> dict[str, str]:
    """Return the entries of a bundle's ``network_def`` that a study replaces.

    Raises:
        ValueError: if there is no such study.
    """
    if not isinstance(study, str) or study not in STUDIES:
        raise ValueError(f"`study` must be one of {', '.join(STUDIES)}; got {study!r}. Choose one of them.")
    chosen = STUDIES[study]
    if chosen.network is AFMANet and chosen.block is None:
        return {}
    return {"_target_": f"{__name__}.build_studied_network", "study": study}


def _spread(
    logits: Tensor, attention: PatchAttention, apply: Callable[[Tensor], Tensor], values: Tensor | None
) -> Tensor:
    """X (B,K,H,W): the values, by default those of the prediction, spread by ``apply`` and joined."""
    grid = attention.grid
    if values is None:
        values = split_patches(compress_prediction(logits, grid), grid.patch_size)
    joined = join_patches(apply(values.to(attention.key.dtype)), grid.image_size, grid.patch_size)
    return joined[..., : logits.shape[2], : logits.shape[3]]
