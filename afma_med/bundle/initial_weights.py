"""Start a training with the weights of a finished run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from afma_med.bundle.settings import read_settings
from afma_med.handlers.checkpoints import choose_weights
from afma_med.handlers.run_files import BEST, LAST

__all__ = ["start_from"]

logger = logging.getLogger(__name__)

_SHOWN = 200  # characters of torch's error messages


def start_from(
    network: nn.Module,
    source: str | os.PathLike[str] | None,
    normalization: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Load the weights of a finished run into a network, for example to add AFMA to a network that is trained.

    The backbone of the run must be that of the network. Other tensors, such as those of the attention, are loaded where
    names and shapes agree. The network keeps its first weights where the run has none.

    Args:
        network: Network of a bundle, with or without AFMA.
        source: Folder of the run, or a checkpoint in it. Of a folder, the moving average of the weights is loaded if
            the run has one, else the weights of the best epoch. None changes nothing.
        normalization: Mean and deviation that normalize the images. The run must have the same.
        device: Device that the network moves to, in channels-last memory.

    Returns:
        The network.

    Raises:
        FileNotFoundError: If there is no such checkpoint, or no settings next to it.
        ValueError: If the run has another backbone or normalization, or a weight is NaN or infinite. The network is not
            changed then.
    """
    if source is not None:
        _load(network, Path(source), normalization)
    return network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]


def _load(network: nn.Module, source: Path, normalization: Mapping[str, Any] | None) -> None:
    checkpoint = _find_checkpoint(source)
    own, theirs = json.loads(json.dumps(normalization)), read_settings(checkpoint).get("normalization")
    if own and theirs and own != theirs:
        raise ValueError(
            f"`initial_weights` must be of a run with the same normalization; `{checkpoint}` has {theirs}, this "
            f"training {own}. Repeat the run's encoder_weights."
        )
    fitting = _fitting_tensors(network.state_dict(), checkpoint)
    network.load_state_dict(fitting, strict=False)
    logger.info("Initial weights: %d tensors of %s", len(fitting), checkpoint)


def _find_checkpoint(source: Path) -> Path:
    found = [source] if not source.is_dir() else [source / LAST, source / BEST]
    for checkpoint in found:
        if checkpoint.is_file():
            return checkpoint
    raise FileNotFoundError(
        f"`initial_weights` must be the folder of a run, or a checkpoint in it; there is no file `{found[-1]}`. "
        "Train that run first, or check the path."
    )


def _fitting_tensors(own: Mapping[str, Tensor], checkpoint: Path) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint that have a name and a shape of one's own."""
    try:
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        given = choose_weights(state, "ema" if "ema" in state else "model")
        fitting = {name: x for name, x in given.items() if name in own and x.shape == own[name].shape}
    except Exception as error:  # torch.load raises many types of errors for other files
        raise ValueError(
            f"`initial_weights` must be weights of a run; `{checkpoint}` cannot be read: "
            f"{' '.join(str(error).split())[:_SHOWN]} Name another run."
        ) from error
    missing = [name for name in own if name.startswith("backbone.") and name not in fitting]
    if missing:
        raise ValueError(
            f"`initial_weights` must hold the backbone that this bundle builds; {len(missing)} tensors, such as "
            f"{missing[0]}, do not fit in `{checkpoint}`. Repeat the run's network_name and encoder."
        )
    return fitting
