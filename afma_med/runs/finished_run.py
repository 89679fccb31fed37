"""A finished run as Python objects: its network with trained weights, and images as that network sees them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn
from torch.nn.functional import interpolate

from afma_med._ops.tensors import without_metadata
from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.run import find_weights, list_inputs, read_settings
from afma_med.data import READERS
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.handlers.checkpoints import BEST, LAST, load_weights

__all__ = ["FinishedRun", "load_run"]


@dataclass(frozen=True)
class FinishedRun:
    """Hold what a training left, ready to segment.

    Args:
        folder: of the run.
        settings: what the network was built from.
        reader: of the dataset that it was trained on.
        network: with its weights, in eval mode.
        preprocessing: the bundle's transforms of whole images, item of paths -> item of tensors.
        device: where the network is.
    """

    folder: Path
    settings: Mapping[str, Any]
    reader: DatasetReader
    network: nn.Module
    preprocessing: Callable[[dict[str, str]], Mapping[str, Any]]
    device: torch.device

    @property
    def title(self) -> str:
        """Name and network in a line, such as ``small: Unet resnet18, AFMA depth 2``."""
        feature = self.settings["feature"]
        where = f"depth {feature}" if isinstance(feature, int) else f"at {feature}"
        network = f"{self.settings['network_name']} {self.settings['encoder']}"
        return f"{self.folder.name}: {network}, " + (f"AFMA {where}" if self.settings["afma"] else "no AFMA")

    def find_image(self, source: str | os.PathLike[str] | None = None, *, section: str = "test") -> str:
        """Return the path of an image or volume.

        Args:
            source: a file, or a folder, whose first image is taken; None for the first one of the run's dataset.
            section: of the dataset, if there is no source.

        Raises:
            FileNotFoundError: if there is no such file, or no image in the folder.
            DatasetError: naming every file that cannot be opened.
        """
        return list_inputs(self.reader, source, self.settings["dataset_dir"], section)[0]["image"]

    def prepare(self, path: str | os.PathLike[str]) -> Tensor:
        """Load an image or volume as the network sees it: (C,H,W), or (C,H,W,D) with axial slices along D.

        Raises:
            ValueError: if the file cannot be read; the message names it.
        """
        try:
            image: Tensor = self.preprocessing({"image": str(path)})["image"]
        except RuntimeError as error:  # MONAI wraps what a transform raises
            raise ValueError(
                f"`path` must be an image that the run's bundle can read; got `{path}`: {error.__cause__ or error} "
                "Name another file."
            ) from error
        return without_metadata(image)

    def read_label(self, item: Item, size: Sequence[int]) -> Tensor:
        """Read the label of an image at the size at which the network sees the image.

        Args:
            item: of the reader's datalist, with a label.
            size: (H, W) of the prepared image, in pixels.

        Returns:
            (H,W) int64 train ids; pixels without one have values from K on.
        """
        label = torch.from_numpy(self.reader.read_label(item).astype(np.float32))
        return interpolate(label[None, None], size=tuple(size), mode="nearest")[0, 0].long()


def load_run(
    run_dir: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str = "model",
    device: str | torch.device = "cpu",
) -> FinishedRun:
    """Load the network of a finished run as its bundle builds it for inference.

    Args:
        run_dir: folder of the run.
        checkpoint: file beside the settings of its run; default: ``model.pt``, the best epoch's weights, or, for others
            than ``"model"``, ``last.pt``.
        weights: which ones of the checkpoint: ``"model"``, or ``"ema"`` for their moving average.
        device: for the network.

    Raises:
        FileNotFoundError: if there is no such run, or it has no weights or settings.
        ValueError: if its bundle is unknown, the weights do not fit their settings, or there is no such device.

    Example:
        >>> load_run("runs/none")
        Traceback (most recent call last):
        FileNotFoundError: `run_dir` must be the folder of a run; there is no folder `runs/none`. ...
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`run_dir` must be the folder of a run; there is no folder `{folder}`. Train first, or check the path."
        )
    path = _find_checkpoint(folder, weights) if checkpoint is None else Path(checkpoint)
    if not path.is_file():
        kind = BEST if weights == "model" else LAST
        raise FileNotFoundError(f"`checkpoint` must be a run's {kind}; there is no file `{path}`. Check the path.")
    settings = read_settings(path)
    device = _as_device(device)
    parser = _read_bundle(settings)
    parser.update({"checkpoint": str(path), "output_dir": str(folder), "device": device})
    network = parser.get_parsed_content("network_def")
    load_weights(network, path, weights=weights)
    return FinishedRun(
        folder=folder,
        settings=settings,
        reader=parser.get_parsed_content("reader"),
        network=network.to(device).eval(),
        preprocessing=parser.get_parsed_content("preprocessing"),
        device=device,
    )


def _find_checkpoint(folder: Path, weights: str) -> Path:
    return Path(find_weights(folder)) if weights == "model" else folder / LAST


def _read_bundle(settings: Mapping[str, Any]) -> ConfigParser:
    """The bundle of a run with the overlay for inference, not yet parsed."""
    name = str(settings.get("name"))
    if name.removesuffix("_afma") not in READERS:
        known = ", ".join(f"{reader}_afma" for reader in READERS)
        raise ValueError(
            f"`run_dir` must be a run of one of the bundles {known}; its settings say {name!r}. Name another run."
        )
    files = [str(bundles_folder() / file) for file in (f"{name}.json", "inference.json")]
    parser = ConfigParser()
    parser.read_config(files)
    if "network_target" in settings:
        target = str(settings["network_target"])
        if not re.fullmatch(r"afma_med(\.\w+)+", target):
            raise ValueError(
                f"`network_target` of a run's settings must name a function of afma_med; got {target!r}. "
                "Restore the run's settings.json."
            )
        parser.update({"network_def#_target_": target, "network_def#study": settings["study"]})
    return parser


def _as_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` must be one that torch has here; got {str(device)!r}: {str(error).splitlines()[0]} Use cpu."
        ) from error
