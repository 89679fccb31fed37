"""The bundles that come with the package: where they are, the commands that run them, copies of them."""

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


def bundles_folder() -> Path:
    """Return the folder of the bundles: the repository's, or that of the installed package.

    Example:
        >>> (bundles_folder() / "camvid_afma.json").is_file()
        True
    """
    return Path(str(importlib.resources.files("afma_med.bundles")))


def bundle_names() -> list[str]:
    """Return the names of the bundles, which are those of their datasets.

    Example:
        >>> bundle_names()[:3]
        ['camvid', 'cityscapes', 'cub']
    """
    return sorted(path.name.removesuffix(_SUFFIX) for path in bundles_folder().glob(f"*{_SUFFIX}"))


def bundle_files(name: str) -> list[str]:
    """Return the file names of a bundle: its own, then its overlays and what MONAI reads beside them.

    Args:
        name: of the bundle, such as ``"camvid"``.

    Raises:
        ValueError: if there is no such bundle.

    Example:
        >>> bundle_files("camvid")[:3]
        ['camvid_afma.json', 'baseline.json', 'bfloat16.json']
    """
    names = bundle_names()
    if name not in names:
        raise ValueError(f"`name` must be one of {', '.join(names)}; got {name!r}. Name one of these bundles.")
    shared = sorted(path.name for path in bundles_folder().glob("*.json") if not path.name.endswith(_SUFFIX))
    return [f"{name}{_SUFFIX}", *shared, _LOGGING]


def has_sample(name: str) -> bool:
    """Tell whether a bundle draws a synthetic sample where there is no dataset.

    Args:
        name: of the bundle.

    Example:
        >>> has_sample("camvid"), has_sample("nuclei")
        (True, False)
    """
    # A bundle whose dataset has no sample has nothing to say about its training.
    return bool(_read_bundle(name)["sample_recipe"])


def find_bundle_file(name: str, *, folder: str | os.PathLike[str] | None = None) -> str:
    """Return the path that a person types for a file of the bundles, and that exists.

    Args:
        name: of the file, such as ``"evaluate.json"``.
        folder: of a copy of the bundles, which comes first if it has the file.

    Returns:
        The file in ``folder``, or else in ``bundles`` below the current directory, or else in the installed package.

    Example:
        >>> Path(find_bundle_file("evaluate.json")).is_file()
        True
    """
    for here in ([] if folder is None else [Path(folder)]) + [Path("bundles")]:
        if (here / name).is_file():
            return (here / name).as_posix()
    return (bundles_folder() / name).as_posix()


def run_command(*files: str, options: Mapping[str, object] | None = None, folder: str | None = None) -> str:
    """Return the command that runs a bundle with overlays, with paths that exist where the command is typed.

    Args:
        *files: names of the bundle's file and of overlays.
        options: ids to set, with their values.
        folder: of a copy of the bundles, see :func:`find_bundle_file`.

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
    """Copy a bundle, its overlays and what MONAI reads beside them into a folder, all of them or none.

    Args:
        name: of the bundle, such as ``"camvid"``.
        folder: for the copies; it is made if there is none.
        overwrite: replace files that differ.

    Returns:
        The copies.

    Raises:
        ValueError: if there is no such bundle.
        NotADirectoryError: if the folder is a file.
        FileExistsError: if the folder has one of the files with another content.

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
    """What a copy of a file holds: in the arguments of the export, the paths are those of the copy."""
    content = (bundles_folder() / file).read_bytes()
    if file != _ONNX:
        return content
    arguments: dict[str, Any] = json.loads(content)
    channels = _read_bundle(name)["in_channels"]
    batch, _, *size = arguments["input_shape"]
    arguments["config_file"] = [f"{name}{_SUFFIX}", "evaluate.json"]
    arguments["meta_file"] = "metadata.json"
    arguments["input_shape"] = [batch, channels, *size]
    return (json.dumps(arguments, indent=4) + "\n").encode()


def _restore(contents: Mapping[Path, bytes], earlier: Mapping[Path, bytes]) -> None:
    """Put back what a copy that failed has changed, as far as the disk allows."""
    for path in contents:
        with suppress(OSError):
            if path not in earlier:
                path.unlink(missing_ok=True)
            elif path.read_bytes() != earlier[path]:
                path.write_bytes(earlier[path])
