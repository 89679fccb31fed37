"""Functions that the bundles call: the dataset, the network, the inputs."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.problems import collect_warnings
from afma_med.networks import AFMANet, HypercolumnNet, PaddedNetwork
from afma_med.networks.afma_blocks import list_depths
from afma_med.networks.hypercolumn_net import HYPERCOLUMN
from afma_med.samples import SAMPLES

__all__ = [
    "build_network",
    "checkpoint_objects",
    "dataset_or_sample",
    "default_dataset_dir",
    "folder_of",
    "list_inputs",
    "say_where",
    "shown_loss",
]

logger = logging.getLogger(__name__)


def default_dataset_dir(reader: DatasetReader, data_dir: str | os.PathLike[str]) -> str:
    """Return the default folder of a dataset, or that of its embedded sample if the former does not exist.

    Args:
        reader: Reader of the dataset.
        data_dir: Folder of all datasets, with this one in ``data_dir/NAME`` and its sample next to it.

    Raises:
        FileNotFoundError: If the folder does not exist and the dataset has no sample.
    """
    dataset_dir, sample = Path(data_dir, reader.name), SAMPLES.get(reader.name)
    if dataset_dir.is_dir():
        return str(dataset_dir)
    if sample is None:
        raise FileNotFoundError(
            f"`dataset_dir` must hold {reader.title}; there is no {dataset_dir}. Pass --dataset_dir."
        )
    return str(Path(data_dir, sample.folder))


def dataset_or_sample(reader: DatasetReader, data_dir: str | os.PathLike[str]) -> str:
    """Return the folder of :func:`default_dataset_dir`. If it is that of the sample, draw the sample there.

    Example:
        >>> import tempfile
        >>> from afma_med.data import ISIC
        >>> folder = tempfile.mkdtemp()
        >>> Path(folder, "isic").mkdir()
        >>> dataset_or_sample(ISIC, folder) == folder + "/isic"
        True
    """
    own, found = Path(data_dir, reader.name), default_dataset_dir(reader, data_dir)
    if Path(found) != own:
        logger.warning(
            "No dataset at %s: using the embedded synthetic sample at %s with small settings. "
            "For real data pass --dataset_dir FOLDER.",
            own,
            found,
        )
        SAMPLES[reader.name].write(Path(found))
    return found


def list_inputs(
    reader: DatasetReader,
    source: str | os.PathLike[str] | None,
    dataset_dir: str | os.PathLike[str],
    section: str,
    *,
    data_dir: str | os.PathLike[str] | None = None,
) -> list[dict[str, str]]:
    """List the images or volumes to predict, as items without labels.

    Args:
        reader: Reader of the dataset.
        source: File or folder; None for a section of the dataset.
        dataset_dir: Folder of the dataset.
        section: ``"train"``, ``"val"`` or ``"test"``.
        data_dir: Folder of all datasets. If ``dataset_dir`` is the default folder in it, a missing sample is drawn.

    Raises:
        FileNotFoundError: If there is nothing to predict.
        DatasetError: If files cannot be opened; the message names them.
    """
    if source is None:
        if data_dir is not None and str(dataset_dir) == default_dataset_dir(reader, data_dir):
            dataset_or_sample(reader, data_dir)
        items = reader.datalist(dataset_dir, section)
        return [{key: value for key, value in item.items() if key != "label"} for item in items]
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"`input` must be a file or folder; there is no `{source}`. Check the path.")
    with collect_warnings() as texts:
        items = reader.find_inputs(path)
    for text in texts:
        logger.warning(text)
    return items


def folder_of(source: str | os.PathLike[str] | None) -> str:
    """Return the folder whose subfolders the predictions keep; an empty string for a file or None.

    Example:
        >>> folder_of(None), folder_of("photos/a.jpg")
        ('', '')
    """
    # Not resolved, because the paths of the files are not resolved either.
    return os.path.abspath(source) if source is not None and Path(source).is_dir() else ""


def build_network(backbone: nn.Module, *, afma: bool, **options: Any) -> nn.Module:
    """Wrap a backbone with AFMA or a hypercolumn head, or only pad its images for a baseline of the same recipe.

    Args:
        backbone: Network (B,C,H,W) -> logits (B,K,H,W).
        afma: Whether to correct the backbone's logits.
        **options: Options of :class:`afma_med.AFMANet`. With ``variant="hypercolumn"``, the network is an
            :class:`afma_med.HypercolumnNet`, which reads the maps of ``feature``.

    Raises:
        ValueError: If ``feature`` is a mapping and the variant reads the same maps for all classes.
    """
    in_channels = options.get("in_channels", 3)
    if not afma:
        return PaddedNetwork(backbone, in_channels=in_channels)
    if options.get("variant") != HYPERCOLUMN:
        return AFMANet(backbone, **options)
    features = options.get("feature", [2, 3, 4])
    if isinstance(features, Mapping):
        raise ValueError(
            f"`feature` must be a list of depths for the variant {HYPERCOLUMN}, whose head reads the same maps for all "
            f"classes; got {features}. Use [2, 3, 4]."
        )
    return HypercolumnNet(
        backbone,
        options.get("out_channels"),
        feature=list_depths(features),
        in_channels=in_channels,
    )


def checkpoint_objects(*, ema: Any = None, **objects: Any) -> dict[str, Any]:
    """Return the objects whose state ``last.pt`` holds, by name.

    Args:
        ema: Ignite's EMAHandler, whose averaged network is added; None without one.
        **objects: The other objects: network, optimizer, schedule, trainer and so on.
    """
    return objects if ema is None else {**objects, "ema": ema.ema_model}


def shown_loss(output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the loss for the progress bar, out of the decollated output of the trainer."""
    return {"loss": output[0]["loss"]}


def say_where(prediction_dir: str | os.PathLike[str], count: int) -> None:
    """Log where the predictions are."""
    logger.info("Predictions of %d inputs are in %s", count, prediction_dir)
