"""Encoder weights from a file or an installed package: pretrained encoders without internet."""

from __future__ import annotations

import contextlib
import difflib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from torch import Tensor, nn

from afma_med.networks.weight_files import find_weights_file, first_line, is_local, read_groups
from afma_med.networks.weight_matching import list_choices, match_encoder, match_tensors

__all__ = ["Normalization", "create_backbone", "input_normalization", "load_encoder_weights"]

logger = logging.getLogger(__name__)

# Before the names of all tensors of segmentation_models_pytorch's "tu-" encoders.
_TIMM_PREFIX = "model."


class Normalization(NamedTuple):
    """Say how an image with values from 0 to 1 becomes a network's input: (x - mean) / std, channel by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


_IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
# (x - 127) / 128 of pixels from 0 to 255, as the EfficientNet-lite weights of TensorFlow expect.
_LITE = Normalization((127 / 255,) * 3, (128 / 255,) * 3)


def create_backbone(
    arch: str, encoder_name: str, *, encoder_weights: str | None = None, in_channels: int = 3, classes: int = 1
) -> nn.Module:
    """Build a network of segmentation_models_pytorch, its encoder with weights from anywhere.

    Args:
        arch: such as ``"Unet"``.
        encoder_name: such as ``"resnet34"``.
        encoder_weights: None; a name of segmentation_models_pytorch's, such as ``"imagenet"``, which downloads; a file
            of torch or safetensors, whose name has a suffix or a folder; or ``"package:NAME"`` for an installed Python
            package that holds such a file.
        in_channels: C, channels of the image. Weights for C channels are taken as they are; the first convolution of
            weights for 3 channels is adapted.
        classes: K.

    Raises:
        FileNotFoundError: if there is no such file or package, or a download fails.
        TypeError: if ``encoder_weights`` is neither text nor None.
        ValueError: if the name is unknown, or the file holds no weights of this encoder, those of several, or weights
            for another number of channels.
    """
    local = is_local(encoder_weights)
    if encoder_weights is not None and not local:
        _check_name(encoder_name, encoder_weights)
    with _downloading(encoder_weights):
        backbone: nn.Module = smp.create_model(
            arch,
            encoder_name=encoder_name,
            encoder_weights=None if local else encoder_weights,
            in_channels=in_channels,
            classes=classes,
        )
    if encoder_weights is not None and local:
        encoder: Any = backbone.encoder
        file = find_weights_file(encoder_weights)
        groups = read_groups(file)
        channels = _input_channels(encoder, groups)
        if channels not in (None, 3, in_channels):
            raise ValueError(
                f"`encoder_weights` must be for images of {in_channels} channels, or of 3, which are adapted; "
                f"`{encoder_weights}` is for {channels}. Use other weights, or images of {channels} channels."
            )
        if channels == in_channels or in_channels == 3:
            _load_groups(encoder, groups, file)
        else:
            of_colors = smp.encoders.get_encoder(encoder_name, in_channels=3, depth=encoder._depth, weights=None)
            _load_groups(of_colors, groups, file)
            of_colors.set_in_channels(in_channels, pretrained=True)
            encoder.load_state_dict(of_colors.state_dict())
    return backbone


def load_encoder_weights(encoder: nn.Module, source: str) -> None:
    """Load weights from a file or a package into an encoder; the file's classifier is left out.

    Tensors are matched by name, whatever stands before the names of all of them (``module.``, ``backbone.encoder.``);
    else by order, if all shapes and kinds (weight, bias, mean, variance) agree, as between efficientnet_pytorch's
    names and timm's. A file may hold several networks, such as a classifier and its training state, but only one such
    encoder: of ``student`` and ``teacher``, or of ``model`` and ``model_ema``, save one. No code of the file is run.

    Args:
        encoder: whose tensors are replaced.
        source: a file, or ``"package:NAME"``.

    Raises:
        FileNotFoundError: if there is no such file or package.
        ValueError: if the file is damaged, holds something else than weights, or those of another encoder; the
            message lists what does not match. The encoder is not changed then.

    Example:
        >>> import tempfile
        >>> path = tempfile.mkdtemp() + "/weights.pth"
        >>> source, target = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        >>> torch.save({f"module.{name}": tensor for name, tensor in source.state_dict().items()}, path)
        >>> load_encoder_weights(target, path)
        >>> torch.equal(source.weight, target.weight)
        True
    """
    file = find_weights_file(source)
    _load_groups(encoder, read_groups(file), file)


def input_normalization(encoder_name: str, encoder_weights: str | None, *, in_channels: int = 3) -> Normalization:
    """Return the normalization of images that an encoder's weights expect.

    Files in efficientnet_pytorch's names for a "lite" encoder: (x - 127) / 128 of pixels from 0 to 255. Other files:
    what timm states for the encoder, else ImageNet's mean and deviation, as without weights. Weights named by
    segmentation_models_pytorch: what it states.

    Args:
        encoder_name: such as ``"resnet34"``.
        encoder_weights: as of :func:`create_backbone`.
        in_channels: C; other numbers than 3 get the mean over the colours, repeated. Files do not say what images of
            other channels their weights expect.

    Returns:
        Mean and deviation of each channel, for images from 0 to 1.

    Raises:
        FileNotFoundError: if there is no such file or package.
        ValueError: if the file holds no weights.

    Example:
        >>> input_normalization("resnet18", None).mean
        (0.485, 0.456, 0.406)
    """
    found = _IMAGENET
    if is_local(encoder_weights):
        file = find_weights_file(str(encoder_weights))
        own = timm.get_pretrained_cfg(encoder_name.removeprefix("timm-").removeprefix("tu-"))
        if "lite" in encoder_name and any(
            "_conv_stem." in name for group in read_groups(file).values() for name in group
        ):
            found = _LITE
        elif own is not None:
            found = Normalization(tuple(own.mean), tuple(own.std))
    elif encoder_weights is not None:
        with _downloading(encoder_weights):
            stated = smp.encoders.get_preprocessing_params(encoder_name, pretrained=encoder_weights)
        scale = 255 if stated.get("input_range", [0, 1])[1] == 255 else 1
        found = Normalization(*(tuple(float(one) / scale for one in stated[key]) for key in ("mean", "std")))
    return found if in_channels == 3 else Normalization(*((sum(x) / len(x),) * in_channels for x in found))


def _check_name(encoder_name: str, encoder_weights: str) -> None:
    """Refuse a name that segmentation_models_pytorch does not know for the encoder."""
    known = smp.encoders.encoders.get(encoder_name, {}).get("pretrained_settings", {})
    if known and encoder_weights not in known:
        nearest = difflib.get_close_matches(encoder_weights, list(known), n=1)
        raise ValueError(
            f"`encoder_weights` must be one of {', '.join(known)} for {encoder_name}, a file, or package:NAME; got "
            f"{encoder_weights!r}. {f'Did you mean {nearest[0]}?' if nearest else 'Write a file as ./NAME.'}"
        )


def _own_tensors(encoder: nn.Module) -> tuple[str, dict[str, Tensor]]:
    """Return what stands before the names of all tensors of an encoder, and its tensors without it."""
    whole = encoder.state_dict()
    prefix = _TIMM_PREFIX if all(name.startswith(_TIMM_PREFIX) for name in whole) else ""
    return prefix, {name.removeprefix(prefix): x for name, x in whole.items()}


def _load_groups(encoder: nn.Module, groups: Mapping[str, Mapping[str, Tensor]], file: Path) -> None:
    prefix, own = _own_tensors(encoder)
    found = match_encoder(own, groups, file)
    encoder.load_state_dict({prefix + name: x for name, x in {**own, **found.tensors}.items()})
    taken, rest = len(found.tensors), found.given - len(found.tensors)
    unused = f"; the other {rest} are not needed (classifier, batch counters, other networks)" if rest else ""
    logger.info("Encoder weights: the encoder takes %d tensors of %s, by %s%s", taken, file.name, found.manner, unused)


def _input_channels(encoder: nn.Module, groups: Mapping[str, Mapping[str, Tensor]]) -> int | None:
    """Return the number of channels of the images that a file's encoder is for; None if it is of another kind."""
    _, own = _own_tensors(encoder)
    first = next(name for name, x in own.items() if x.ndim == 4)
    for given in list_choices(own, groups).values():
        convolution = given.get(first, next((x for x in given.values() if x.ndim == 4), None))
        if convolution is not None and convolution.ndim == 4:
            shape = (len(own[first]), convolution.shape[1], *own[first].shape[2:])
            if match_tensors({**own, first: torch.empty(shape, device="meta")}, given):
                return int(convolution.shape[1])
    return None


@contextlib.contextmanager
def _downloading(encoder_weights: str | None) -> Iterator[None]:
    """Say what to do where weights that have to be downloaded cannot be."""
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(
            f"`encoder_weights` must be on this machine or at hand for download; {encoder_weights!r} cannot be loaded: "
            f"{first_line(error)} Without internet, name a file, or package:NAME of an installed package."
        ) from error
