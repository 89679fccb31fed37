"""Functions that the bundles call: the dataset, the network, the folder and the settings of a run."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from afma_med.atomic_write import move_aside, remove_leftovers
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.problems import collect_warnings
from afma_med.handlers.run_files import BEST, LAST, SETTINGS
from afma_med.networks import AFMANet, HypercolumnNet, PaddedNetwork
from afma_med.networks.afma_blocks import list_depths
from afma_med.networks.hypercolumn_net import HYPERCOLUMN
from afma_med.samples import SAMPLES

__all__ = [
    "build_network",
    "checkpoint_objects",
    "dataset_or_sample",
    "default_dataset_dir",
    "find_weights",
    "folder_of",
    "list_inputs",
    "open_run_folder",
    "read_settings",
    "say_where",
    "shown_loss",
    "write_settings",
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
        features=list_depths(features),
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


def open_run_folder(output_dir: str | os.PathLike[str], *, resume: bool | str = False, rank: int = 0) -> str | None:
    """Prepare the folder of a run: find the checkpoint to resume from, or move an earlier run aside.

    Args:
        output_dir: Folder of the run.
        resume: True for the last checkpoint of the run, the path of a checkpoint, or False to start anew. The strings
            "true" and "false" are accepted, because MONAI's command line passes such words on as text.
        rank: Rank of this process. Only the first process changes the folder.

    Returns:
        Path of the checkpoint to resume from, or None.

    Raises:
        FileNotFoundError: If the checkpoint does not exist.

    Example:
        >>> import tempfile
        >>> open_run_folder(tempfile.mkdtemp() + "/run") is None
        True
    """
    folder = Path(output_dir)
    last = folder / LAST
    if str(resume).lower() != "false":
        checkpoint = last if str(resume).lower() == "true" else Path(str(resume))
        if not checkpoint.is_file():
            raise FileNotFoundError(
                f"`resume` must find a checkpoint; got {resume!r} and there is no file `{checkpoint}`. "
                "Name the run's --output_dir, or leave --resume out to start anew."
            )
        logger.info("Resuming from %s.", checkpoint)
        if rank == 0:
            remove_leftovers(folder)
        return str(checkpoint)
    if rank > 0:
        return None
    if last.exists():
        aside = move_aside(folder, since=last)
        logger.warning("Moved the earlier run to %s; continue it with --output_dir %s --resume True.", aside, aside)
    folder.mkdir(parents=True, exist_ok=True)
    return None


def find_weights(output_dir: str | os.PathLike[str]) -> str:
    """Return the path of the best weights of a run.

    Raises:
        FileNotFoundError: If the run has no weights.
    """
    weights = Path(output_dir) / BEST
    if not weights.is_file():
        raise FileNotFoundError(
            f"`output_dir` must hold trained weights; there is no file `{weights}`. "
            "Train first, or name another run. evaluate.json, inference.json and `afma show` take --checkpoint FILE."
        )
    return str(weights)


def write_settings(
    output_dir: str | os.PathLike[str], settings: Mapping[str, Any], *, checkpoint: str | os.PathLike[str] | None = None
) -> None:
    """Write the settings of a run, from which its network can be built again.

    Args:
        output_dir: Folder of the run.
        settings: Values that JSON can hold.
        checkpoint: Checkpoint from which the run resumes. Its settings must be the same, except for the folder of the
            dataset and the settings of the training.

    Raises:
        ValueError: If the checkpoint belongs to another network. Nothing is written then.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_settings(folder, {"encoder": "resnet18"})
        >>> read_settings(folder + "/model.pt")
        {'encoder': 'resnet18'}
    """
    if checkpoint is not None and Path(checkpoint).with_name(SETTINGS).is_file():
        earlier, own = read_settings(checkpoint), json.loads(json.dumps(dict(settings)))
        free = ("dataset_dir", "training")  # a run may resume with other data, and for longer
        differing = [key for key in own if key not in free and earlier.get(key, own[key]) != own[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"`resume` must continue with the network of its run; got {key}={own[key]!r}, the run has "
                f"{earlier[key]!r}. Repeat the run's overlays and ids, such as --{key} {earlier[key]}."
            )
    Path(output_dir, SETTINGS).write_text(json.dumps(dict(settings), indent=4) + "\n", encoding="utf-8")


def read_settings(checkpoint: str | os.PathLike[str], *, name: str | None = None) -> dict[str, Any]:
    """Read the settings next to a checkpoint.

    Args:
        checkpoint: Weights of a run.
        name: Name of the bundle that must have trained the weights; None for any bundle.

    Raises:
        FileNotFoundError: If there is no file of settings.
        ValueError: If another bundle trained the weights.
    """
    path = Path(checkpoint).with_name(SETTINGS)
    if not path.is_file():
        raise FileNotFoundError(
            f"`checkpoint` must lie next to the {SETTINGS} of its run; there is no file `{path}`. "
            "Keep the two together, as training wrote them."
        )
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if name is not None and settings.get("name", name) != name:
        raise ValueError(
            f"`checkpoint` must be weights of {name}; {checkpoint} was trained by {settings['name']}. "
            "Use that bundle, or name another run's --output_dir."
        )
    return settings
