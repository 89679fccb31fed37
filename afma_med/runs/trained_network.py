"""Load the network of a run, with the preprocessing of its bundle."""

from __future__ import annotations

import os
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
from afma_med.bundle.run import list_inputs
from afma_med.bundle.run_folder import find_weights
from afma_med.bundle.settings import read_settings
from afma_med.data import READERS
from afma_med.data.dataset_reader import DatasetReader, Item
from afma_med.data.files import shown_name
from afma_med.handlers.checkpoints import load_weights
from afma_med.handlers.run_files import BEST, LAST
from afma_med.networks.afma_blocks import spell_choice

__all__ = ["TrainedNetwork", "load_network"]

# Settings of a network that is not the bundle's.
_OF_LABORATORY = ("study", "network_target")


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, ready to segment.

    Args:
        folder: Folder of the run.
        settings: Settings that the network is built from.
        reader: Reader of its dataset.
        network: Network with trained weights, in eval mode.
        preprocessing: The bundle's transforms of whole images, item of paths -> item of tensors.
        device: Device of the network.
    """

    folder: Path
    settings: Mapping[str, Any]
    reader: DatasetReader
    network: nn.Module
    preprocessing: Callable[[dict[str, str]], Mapping[str, Any]]
    device: torch.device

    @property
    def title(self) -> str:
        """Name and network of the run, such as ``small: Unet resnet18, AFMA depth 2``."""
        feature = self.settings["feature"]
        spelled = spell_choice(feature)
        where = (
            f"at {spelled}" if isinstance(feature, str) else f"depth{'' if isinstance(feature, int) else 's'} {spelled}"
        )
        network = f"{self.settings['network_name']} {self.settings['encoder']}"
        return f"{shown_name(self.folder.name)}: {network}, " + (
            f"AFMA {where}" if self.settings["afma"] else "no AFMA"
        )

    def find_image(self, source: str | os.PathLike[str] | None = None, *, section: str = "test") -> str:
        """Return the path of an image or volume.

        Args:
            source: A file, or a folder to take the first image from; None for the dataset of the run.
            section: Section of the dataset, if ``source`` is None.

        Raises:
            FileNotFoundError: If the file does not exist, or the folder has no image.
            DatasetError: If files cannot be opened; the message names them.
        """
        return list_inputs(self.reader, source, self.settings["dataset_dir"], section)[0]["image"]

    def prepare(self, path: str | os.PathLike[str]) -> Tensor:
        """Load and preprocess an image (C,H,W), or a volume (C,H,W,D) with axial slices along D.

        Raises:
            ValueError: If the file cannot be read, or has values that are not finite; the message names it.
        """
        try:
            image: Tensor = self.preprocessing({"image": str(path)})["image"]
        except RuntimeError as error:  # MONAI wraps the errors of transforms
            raise ValueError(
                f"`path` must be an image that the run's bundle can read; got `{path}`: {error.__cause__ or error} "
                "Name another file."
            ) from error
        if not bool(image.isfinite().all()):
            raise ValueError(
                f"`path` must be an image of finite values; `{path}` has NaN or infinite ones. Replace the file, or "
                "name another."
            )
        return without_metadata(image)

    def read_label(self, item: Item, size: Sequence[int]) -> Tensor:
        """Read the label of an image at the size of the prepared image.

        Args:
            item: Item of the reader's datalist, with a label.
            size: (H, W) of the prepared image, in pixels.

        Returns:
            (H,W) int64 train ids; void pixels have values of K or more.
        """
        label = torch.from_numpy(self.reader.read_label(item).astype(np.float32))
        return interpolate(label[None, None], size=tuple(size), mode="nearest")[0, 0].long()


def load_network(
    run_dir: str | os.PathLike[str],
    *,
    checkpoint: str | os.PathLike[str] | None = None,
    weights: str = "model",
    device: str | torch.device = "cpu",
    network_def: Mapping[str, Any] | None = None,
) -> TrainedNetwork:
    """Load the trained network of a run, as its bundle builds it for inference.

    Args:
        run_dir: Folder of the run.
        checkpoint: File with settings next to it; default: ``model.pt``, the weights of the best epoch, or ``last.pt``
            if ``weights`` is not ``"model"``.
        weights: ``"model"``, or ``"ema"`` for the moving average of the weights.
        device: Device for the network.
        network_def: Entries of the bundle's ``network_def`` to replace, for a run that was trained with other code.

    Raises:
        FileNotFoundError: If the run, its weights or its settings do not exist.
        ValueError: If its bundle is unknown, it was trained with other code than the bundle's and ``network_def`` does
            not name it, the weights do not fit their settings, or torch does not have the device.
    """
    folder = Path(run_dir)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"`run_dir` must be the folder of a run; there is no folder `{folder}`. Train first, or check the path."
        )
    default = folder / LAST if weights != "model" else None
    path = Path(checkpoint or default or find_weights(folder))
    if not path.is_file():
        kind = BEST if weights == "model" else LAST
        raise FileNotFoundError(f"`checkpoint` must be a run's {kind}; there is no file `{path}`. Check the path.")
    settings = read_settings(path)
    device = _as_device(device)
    parser = _read_bundle(settings)
    if network_def is None and (other := {name: settings[name] for name in _OF_LABORATORY if name in settings}):
        raise ValueError(
            f"`run_dir` must be a run of the bundle's own network; its settings name another one: got {other}. "
            "Open it with the commands of `python -m experiments.lab`, in a checkout of the repository."
        )
    parser.update({f"network_def#{name}": value for name, value in (network_def or {}).items()})
    # Absolute, because MONAI would run a path that begins with $.
    parser.update({"checkpoint": str(path.absolute()), "output_dir": str(folder.absolute()), "device": device})
    network = parser.get_parsed_content("network_def")
    load_weights(network, path, weights=weights)
    return TrainedNetwork(
        folder=folder,
        settings=settings,
        reader=parser.get_parsed_content("reader"),
        network=network.to(device).eval(),
        preprocessing=parser.get_parsed_content("preprocessing"),
        device=device,
    )


def _read_bundle(settings: Mapping[str, Any]) -> ConfigParser:
    """Return the parser of a run's bundle with the overlay for inference."""
    name = settings.get("name")
    if name not in [f"{reader}_afma" for reader in READERS]:
        known = ", ".join(f"{reader}_afma" for reader in READERS)
        raise ValueError(
            f"`run_dir` must be a run of one of the bundles {known}; its settings say {name!r}. Name another run."
        )
    files = [str(bundles_folder() / file) for file in (f"{name}.json", "inference.json")]
    parser = ConfigParser()
    parser.read_config(files)
    return parser


def _as_device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"`device` must be one that torch has here; got {str(device)!r}: {str(error).splitlines()[0]} Use cpu."
        ) from error
