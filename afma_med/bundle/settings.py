"""The settings of a run: written by its training, read and checked wherever the run is opened."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from afma_med.bundle.ids import check_ids
from afma_med.handlers.run_files import SETTINGS

__all__ = ["check_plain", "read_settings", "write_settings"]

# Strings that begin with these are expressions, references and macros of MONAI's parser.
_CODE = ("$", "@", "%")


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
    """Read and check the settings next to a checkpoint. Nothing in them is run as code.

    The settings may come from somebody else, and MONAI runs text that begins with ``$``. So each value must be plain
    data and keep the rule of its id.

    Args:
        checkpoint: Weights of a run.
        name: Name of the bundle that must have trained the weights; None for any bundle.

    Raises:
        FileNotFoundError: If there is no file of settings.
        ValueError: If the file is damaged, a value is not plain data or breaks the rule of its id, or another bundle
            trained the weights. The message names the file and the value.
    """
    path = Path(checkpoint).with_name(SETTINGS)
    if not path.is_file():
        raise FileNotFoundError(
            f"`checkpoint` must lie next to the {SETTINGS} of its run; there is no file `{path}`. "
            "Keep the two together, as training wrote them."
        )
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"`{path}` must be whole JSON; got: {error}. Train again, or restore the file.") from error
    if not isinstance(settings, dict) or not isinstance(settings.get("training", {}), dict):
        raise ValueError(f"`{path}` must be settings by name; got another structure. Train again, or restore the file.")
    try:
        check_plain(settings)
        check_ids({**settings.get("training", {}), **settings})
    except ValueError as error:
        raise ValueError(f"`{path}` must be the settings that a training wrote; got another value: {error}") from error
    if name is not None and settings.get("name", name) != name:
        raise ValueError(
            f"`checkpoint` must be weights of {name}; {checkpoint} was trained by {settings['name']}. "
            "Use that bundle, or name another run's --output_dir."
        )
    return settings


def check_plain(values: Mapping[str, Any]) -> None:
    """Refuse values that MONAI's parser would run or replace: they were not written by a training.

    Args:
        values: Values of ids by name, as read from JSON.

    Raises:
        ValueError: If a string begins with ``$``, ``@`` or ``%``, or a key is one of MONAI's, such as ``_target_``.

    Example:
        >>> check_plain({"encoder": "$open('x', 'w')"})
        Traceback (most recent call last):
        ValueError: `encoder` must be plain data; got "$open('x', 'w')", which MONAI would run as code. ...
    """
    for name, text in _list_texts(values):
        if text.startswith(_CODE) or re.fullmatch(r"_\w+_", text):
            raise ValueError(
                f"`{name}` must be plain data; got {text!r}, which MONAI would run as code. "
                "Do not trust files that come with it."
            )


def _list_texts(values: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield each string and each key of nested values, with the names that lead to it."""
    if isinstance(values, str):
        yield name, values
    elif isinstance(values, Mapping):
        for key, value in values.items():
            inner = f"{name}.{key}".lstrip(".")
            yield inner, str(key)
            yield from _list_texts(value, inner)
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _list_texts(value, name)
