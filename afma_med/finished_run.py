"""A finished run as Python objects: its network with trained weights, and images as that network sees them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser
from torch import Tensor, nn

from afma_med.bundle_package import bundles_folder
from afma_med.bundle_run import find_weights, list_inputs, read_settings
from afma_med.data import READERS
from afma_med.data.dataset_reader import DatasetReader
from afma_med.experiments.studies import study_options
from afma_med.handlers.checkpoints import load_weights
from afma_med.tensors import without_metadata

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


def load_run(
    run_dir: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    device: str | torch.device = "cpu",
) -> FinishedRun:
    """Load the network of a finished run as its bundle builds it for inference.

    Args:
        run_dir: folder of the run.
        checkpoint: weights beside the settings of their run; default: the run's best ones.
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
    weights = Path(find_weights(folder) if checkpoint is None else checkpoint)
    if not weights.is_file():
        raise FileNotFoundError(f"`checkpoint` must be a run's model.pt; there is no file `{weights}`. Check the path.")
    settings = read_settings(weights)
    device = _as_device(device)
    parser = _read_bundle(settings)
    parser.update({"checkpoint": str(weights), "output_dir": str(folder), "device": device})
    network = parser.get_parsed_content("network_def")
    load_weights(network, weights)
    return FinishedRun(
        folder=folder,
        settings=settings,
        reader=parser.get_parsed_content("reader"),
        network=network.to(device).eval(),
        preprocessing=parser.get_parsed_content("preprocessing"),
        device=device,
    )


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
    if "study" in settings:
        parser.update(study_options(str(settings["study"]))[1])
    return parser


def _as_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` must be one that torch has here; got {str(device)!r}: {str(error).splitlines()[0]} Use cpu."
        ) from error
