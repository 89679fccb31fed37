"""The bundles that come with the package: their folder, their commands, copies of them."""

from __future__ import annotations

import importlib.resources
import json
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = [
    "bundle_files",
    "bundle_names",
    "bundles_folder",
    "copy_bundle",
    "find_bundle_file",
    "has_sample",
    "run_command",
]

_SUFFIX = "_afma.json"
_LOGGING = "logging.conf"
_ONNX = "onnx_export.json"
_METADATA = "metadata.json"


def bundles_folder() -> Path:
    """Return the folder of the bundles, in the repository or in the installed package.

    Example:
        >>> (bundles_folder() / "camvid_afma.json").is_file()
        True
    """
    return Path(str(importlib.resources.files("afma_med.bundles")))


def bundle_names() -> list[str]:
    """Return the names of the bundles; each has the name of its dataset."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in bundles_folder().glob(f"*{_SUFFIX}"))


def bundle_files(name: str) -> list[str]:
    """Return the file names of a bundle: its own file, the overlays, and the other files that MONAI reads.

    Args:
        name: Name of the bundle, such as ``"camvid"``.

    Raises:
        ValueError: If the name is unknown.
    """
    names = bundle_names()
    if name not in names:
        raise ValueError(f"`name` must be one of {', '.join(names)}; got {name!r}. Name one of these bundles.")
    shared = sorted(path.name for path in bundles_folder().glob("*.json") if not path.name.endswith(_SUFFIX))
    return [f"{name}{_SUFFIX}", *shared, _LOGGING]


def has_sample(name: str) -> bool:
    """Return whether a bundle draws a synthetic sample if its dataset does not exist."""
    return bool(_read_bundle(name)["recipes"]["sample"])


def find_bundle_file(name: str, *, folder: str | os.PathLike[str] | None = None) -> str:
    """Return the path of a bundle's file for a command line.

    It is the file in ``folder``, or else in ``bundles`` below the current directory, or else in the package.

    Args:
        name: Name of the file, such as ``"evaluate.json"``.
        folder: Folder with a copy of the bundles.
    """
    for here in ([] if folder is None else [Path(folder)]) + [Path("bundles")]:
        if (here / name).is_file():
            return (here / name).as_posix()
    return (bundles_folder() / name).as_posix()


def run_command(*files: str, options: Mapping[str, object] | None = None, folder: str | None = None) -> str:
    """Return the command that runs a bundle with overlays from the current directory.

    Args:
        *files: Names of the bundle's file and of overlays.
        options: Ids to set, with their values.
        folder: Folder with a copy of the bundles, see :func:`find_bundle_file`.

    Example:
        >>> run_command("camvid_afma.json", options={"max_epochs": 3})
        'python -m monai.bundle run --config_file ...camvid_afma.json --max_epochs 3'
    """
    paths = [find_bundle_file(name, folder=folder) for name in files]
    quoted = ",".join(f"'{path}'" for path in paths)
    config = shlex.quote(paths[0]) if len(paths) == 1 else f'"[{quoted}]"'
    given = [f"--{name} {shlex.quote(str(value))}" for name, value in (options or {}).items()]
    return " ".join(["python -m monai.bundle run --config_file", config, *given])


def copy_bundle(name: str, folder: str | os.PathLike[str], *, overwrite: bool = False) -> list[Path]:
    """Copy the files of a bundle into a folder. If one file cannot be written, the folder stays as it was.

    Paths, channels and classes in the copies are those of this bundle.

    Args:
        name: Name of the bundle, such as ``"camvid"``.
        folder: Folder for the copies. It is made if it does not exist.
        overwrite: Replace files that differ.

    Returns:
        Paths of the copies.

    Raises:
        ValueError: If the name is unknown.
        NotADirectoryError: If ``folder`` is a file.
        FileExistsError: If the folder has one of the files with different content.

    Example:
        >>> import tempfile
        >>> [path.name for path in copy_bundle("camvid", tempfile.mkdtemp())][0]
        'camvid_afma.json'
    """
    target = Path(folder)
    contents = {target / file: _content(name, file) for file in bundle_files(name)}
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"`folder` must be a folder; got the file `{target}`. Name a folder.")
    earlier = {path: path.read_bytes() for path in contents if path.is_file()}
    differing = [path.name for path, content in earlier.items() if content != contents[path]]
    if differing and not overwrite:
        raise FileExistsError(
            f"`folder` must not hold other files of these names; `{target}` has a different {', '.join(differing)}. "
            "Name another folder, or replace the files with --overwrite."
        )
    target.mkdir(parents=True, exist_ok=True)
    try:
        for path, content in contents.items():
            path.write_bytes(content)
    except OSError:
        _restore(contents, earlier)
        raise
    return list(contents)


def _read_bundle(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((bundles_folder() / f"{name}{_SUFFIX}").read_bytes())
    return content


def _content(name: str, file: str) -> bytes:
    """Return the content of a copy, with the paths, channels and classes of its bundle."""
    content = (bundles_folder() / file).read_bytes()
    if file not in (_ONNX, _METADATA):
        return content
    adapt = _adapt_export if file == _ONNX else _adapt_metadata
    return (json.dumps(adapt(name, json.loads(content)), indent=4, ensure_ascii=False) + "\n").encode()


def _adapt_export(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    batch, _, *size = arguments["input_shape"]
    return {
        **arguments,
        "config_file": [f"{name}{_SUFFIX}", "evaluate.json"],
        "meta_file": _METADATA,
        "input_shape": [batch, _read_bundle(name)["in_channels"], *size],
    }


def _adapt_metadata(name: str, metadata: dict[str, Any]) -> dict[str, Any]:
    # Imported here, because `afma --help` loads this module and must not wait for torch.
    from afma_med.data import READERS, class_names

    bundle = _read_bundle(name)
    about, names = bundle["about"], class_names(READERS[name].classes)
    form = metadata["network_data_format"]
    image = {key: about[key] for key in ("format", "modality", "channel_def")} | {"num_channels": bundle["in_channels"]}
    classes = {"num_channels": len(names), "channel_def": {str(k): label for k, label in enumerate(names)}}
    return {
        **metadata,
        "name": f"{about['title']}, AFMA",
        "task": about["task"],
        "network_data_format": {
            "inputs": {"image": {**form["inputs"]["image"], **image}},
            "outputs": {"pred": {**form["outputs"]["pred"], **classes}},
        },
    }


def _restore(contents: Mapping[Path, bytes], earlier: Mapping[Path, bytes]) -> None:
    """Undo a copy that failed, as far as the disk allows."""
    for path in contents:
        with suppress(OSError):
            if path not in earlier:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != earlier[path]:
                path.write_bytes(earlier[path])
