"""What the bundles' expressions call before a run: its dataset, its folder, and errors that a person can read."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from afma_med.atomic_write import move_aside, remove_leftovers
from afma_med.checks import RunError
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.problems import collect_warnings
from afma_med.handlers.run_files import BEST, LAST, SETTINGS
from afma_med.networks import AFMANet, PaddedNetwork
from afma_med.samples import SAMPLES

__all__ = [
    "RunError",
    "build_network",
    "checkpoint_objects",
    "dataset_or_sample",
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


def dataset_or_sample(reader: DatasetReader, data_dir: str | os.PathLike[str]) -> str:
    """Return a dataset's default folder, or draw the embedded sample if that folder does not exist.

    Args:
        reader: the dataset.
        data_dir: folder of datasets; the dataset's own would be ``data_dir/NAME``, the sample goes next to it.

    Returns:
        The folder to use.

    Raises:
        FileNotFoundError: if there is no such folder, and no sample to stand in for it.

    Example:
        >>> import tempfile
        >>> from afma_med.data import ISIC
        >>> folder = tempfile.mkdtemp()
        >>> Path(folder, "isic").mkdir()
        >>> dataset_or_sample(ISIC, folder) == folder + "/isic"
        True
    """
    dataset_dir, sample = Path(data_dir, reader.name), SAMPLES.get(reader.name)
    if dataset_dir.is_dir():
        return str(dataset_dir)
    if sample is None:
        raise FileNotFoundError(
            f"`dataset_dir` must hold {reader.title}; there is no {dataset_dir}. Pass --dataset_dir."
        )
    sample_dir = Path(data_dir, sample.folder)
    logger.warning(
        "No dataset at %s: using the embedded synthetic sample at %s with small settings. "
        "For real data pass --dataset_dir FOLDER.",
        dataset_dir,
        sample_dir,
    )
    sample.write(sample_dir)
    return str(sample_dir)


def list_inputs(
    reader: DatasetReader, source: str | os.PathLike[str] | None, dataset_dir: str | os.PathLike[str], section: str
) -> list[dict[str, str]]:
    """List what is to be predicted: a file, the files of a folder, or a section of the dataset.

    Args:
        reader: the dataset, which tells its kind of files.
        source: file or folder; None for a section of the dataset.
        dataset_dir: folder of the dataset.
        section: ``"train"``, ``"val"`` or ``"test"``.

    Returns:
        Items with the path of an image or volume, without labels.

    Raises:
        FileNotFoundError: if there is nothing to predict.
        DatasetError: naming every file that cannot be opened.

    Example:
        >>> from afma_med.data import ISIC
        >>> list_inputs(ISIC, "no/such/file.jpg", "data/isic", "test")
        Traceback (most recent call last):
        FileNotFoundError: ...
    """
    if source is None:
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
    """Return the folder whose subfolders predictions keep: the source itself; none for a file or without a source.

    Example:
        >>> folder_of(None), folder_of("photos/a.jpg")
        ('', '')
    """
    # Not resolved: the paths of the files are not either.
    return os.path.abspath(source) if source is not None and Path(source).is_dir() else ""


def build_network(backbone: nn.Module, *, afma: bool, **options: Any) -> nn.Module:
    """Wrap a backbone with AFMA, or only pad its images, for a baseline of the same recipe.

    Args:
        backbone: network (B,C,H,W) -> logits (B,K,H,W).
        afma: whether to wrap it.
        **options: of :class:`afma_med.AFMANet`.

    Example:
        >>> build_network(nn.Conv2d(3, 2, 1), afma=False)
        PaddedNetwork(
          (backbone): Conv2d(3, 2, kernel_size=(1, 1), stride=(1, 1))
        )
    """
    return AFMANet(backbone, **options) if afma else PaddedNetwork(backbone, in_channels=options.get("in_channels", 3))


def checkpoint_objects(*, ema: Any = None, **objects: Any) -> dict[str, Any]:
    """Gather the objects whose state a run's ``last.pt`` holds.

    Args:
        ema: ignite's EMAHandler, whose averaged network belongs to them; None without one.
        **objects: the others, by name: network, optimizer, schedule, trainer and so on.

    Example:
        >>> list(checkpoint_objects(model=nn.Linear(1, 1)))
        ['model']
    """
    return objects if ema is None else {**objects, "ema": ema.ema_model}


def shown_loss(output: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the loss of a step for the progress bar, out of the trainer's decollated output.

    Example:
        >>> shown_loss([{"loss": 0.5}, {"loss": 0.5}])
        {'loss': 0.5}
    """
    return {"loss": output[0]["loss"]}


def say_where(prediction_dir: str | os.PathLike[str], count: int) -> None:
    """Log where the predictions are."""
    logger.info("Predictions of %d inputs are in %s", count, prediction_dir)


def open_run_folder(output_dir: str | os.PathLike[str], *, resume: bool | str = False, rank: int = 0) -> str | None:
    """Make a run's folder ready: find the checkpoint to resume from, or move an earlier run aside.

    Args:
        output_dir: folder of the run.
        resume: True for the run's own last checkpoint, or the path of one, or False to start anew; also spelled
            "true" and "false", since the command line passes on what it does not know as text.
        rank: of this process; only the first one of several touches the folder.

    Returns:
        Path of the checkpoint to resume from, or None.

    Raises:
        FileNotFoundError: if there is no checkpoint to resume from.

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
    """Return the path of a run's best weights.

    Args:
        output_dir: folder of the run.

    Raises:
        FileNotFoundError: if the run has none.

    Example:
        >>> find_weights("runs/none")
        Traceback (most recent call last):
        FileNotFoundError: ...
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
    """Write what a run's network is built from to its folder, for whoever loads the weights later.

    Args:
        output_dir: folder of the run.
        settings: values that JSON can hold.
        checkpoint: what the run goes on with, if it does; its own settings must be the same, but for the dataset's
            folder and those of the training.

    Raises:
        ValueError: if the checkpoint's network is another one; nothing is written then.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> write_settings(folder, {"encoder": "resnet18"})
        >>> read_settings(folder + "/model.pt")
        {'encoder': 'resnet18'}
    """
    if checkpoint is not None and Path(checkpoint).with_name(SETTINGS).is_file():
        earlier, own = read_settings(checkpoint), json.loads(json.dumps(dict(settings)))
        free = ("dataset_dir", "training")  # a run may go on elsewhere, and for longer
        differing = [key for key in own if key not in free and earlier.get(key, own[key]) != own[key]]
        if differing:
            key = differing[0]
            raise ValueError(
                f"`resume` must go on with the network of its run; got {key}={own[key]!r}, the run has "
                f"{earlier[key]!r}. Repeat the run's overlays and ids, such as --{key} {earlier[key]}."
            )
    Path(output_dir, SETTINGS).write_text(json.dumps(dict(settings), indent=4) + "\n", encoding="utf-8")


def read_settings(checkpoint: str | os.PathLike[str], *, name: str | None = None) -> dict[str, Any]:
    """Read what the network of a checkpoint was built from, out of the file next to it.

    Args:
        checkpoint: weights of a run.
        name: of the bundle that must have trained them; None for any.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if another bundle trained them.
    """
    path = Path(checkpoint).with_name(SETTINGS)
    if not path.is_file():
        raise FileNotFoundError(
            f"`checkpoint` must lie beside the {SETTINGS} of its run; there is no file `{path}`. "
            "Keep the two together, as training wrote them."
        )
    settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if name is not None and settings.get("name", name) != name:
        raise ValueError(
            f"`checkpoint` must be weights of {name}; {checkpoint} was trained by {settings['name']}. "
            "Use that bundle, or name another run's --output_dir."
        )
    return settings
