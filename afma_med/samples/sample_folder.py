"""Folders of embedded samples: complete or absent, drawn once, and never in the place of other files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from afma_med.atomic_write import replacing_folder
from afma_med.checks import check_int

__all__ = [
    "MARKER",
    "SampleFolder",
    "check_counts",
    "check_size",
    "is_sample",
    "number_sections",
    "sample_settings",
    "write_pictures",
    "write_sample",
]

#: The file that marks a folder as a sample; it holds the settings that the sample was drawn with.
MARKER = "sample.json"
# The street scenes in CamVid's layout have a marker of their own.
_MARKERS = (MARKER, "street_scenes.json")
_JPEG_QUALITY = 95


class SampleFolder(NamedTuple):
    """Describe the folder of a sample.

    Args:
        settings: of JSON types; samples with other settings, such as the version of the pixels, are other samples.
        files: (number, paths) of the files that are drawn together, the paths relative to the folder.
        folders: relative paths of folders that exist even if empty.
        texts: contents of text files by name.
        own: patterns of names that belong to the sample whatever its settings, and may be replaced.
        marker: name of the marker file.
    """

    settings: Mapping[str, Any]
    files: Sequence[tuple[int, tuple[str, ...]]]
    folders: tuple[str, ...] = ()
    texts: Mapping[str, str] = {}
    own: tuple[str, ...] = ()
    marker: str = MARKER


def is_sample(root: str | os.PathLike[str]) -> bool:
    """Return whether ``root`` holds any embedded sample, by its marker file."""
    return any(Path(root, marker).is_file() for marker in _MARKERS)


def write_pictures(
    root: str | os.PathLike[str],
    settings: Mapping[str, Any],
    *,
    place: Callable[[int, str], tuple[str, ...]],
    draw: Callable[[int], Sequence[NDArray[np.uint8]]],
    title: str,
    **content: Any,
) -> Path:
    """Write a sample of pictures and labels in sections, as :func:`write_sample` does.

    Args:
        root: folder of the sample.
        settings: see :class:`SampleFolder`, with ``counts`` of the sections.
        place: (number, section) -> relative paths of the image and, where there is one, its label.
        draw: number -> image and label.
        title: of the progress bar.
        **content: other arguments of :class:`SampleFolder`.
    """
    files = [(number, place(number, section)) for number, section in number_sections(settings["counts"])]

    def save(number: int, paths: Sequence[Path]) -> None:
        for path, array in zip(paths, draw(number), strict=False):
            Image.fromarray(array).save(path, quality=_JPEG_QUALITY)  # PNG ignores it

    return write_sample(root, SampleFolder(settings, files, **content), draw=save, title=title)


def write_sample(
    root: str | os.PathLike[str], sample: SampleFolder, *, draw: Callable[[int, Sequence[Path]], None], title: str
) -> Path:
    """Draw a sample next to ``root`` and move it there when complete, unless it is there already.

    Args:
        root: folder of the sample; absent, empty, or written by this function.
        sample: content of the folder.
        draw: (number, paths) -> None, writes the files of one number.
        title: of the progress bar.

    Raises:
        FileExistsError: if ``root`` holds anything else, which is left alone.
    """
    root = Path(root).absolute()
    if _is_complete(root, sample):
        return root
    _check_replaceable(root, sample)
    try:
        with replacing_folder(root) as new:
            _draw_files(new, sample, draw, title)
    except OSError:
        # Another process may have written the same sample meanwhile.
        if not _is_complete(root, sample):
            raise
    return root


def check_size(size: Sequence[int], *, least: int) -> tuple[int, int]:
    """Return a pair (height, width) of integers."""
    if not isinstance(size, Sequence) or isinstance(size, str) or len(size) != 2:
        raise TypeError(f"`size` must be a pair (height, width); got {size!r}. Pass two integers ≥ {least}.")
    return check_int("size[0]", size[0], least=least), check_int("size[1]", size[1], least=least)


def sample_settings(
    version: int, seed: int, counts: Mapping[str, int] | None, *, default: Mapping[str, int]
) -> dict[str, Any]:
    """Return the checked settings that all samples of pictures have; see :func:`check_counts`."""
    return {"version": version, "seed": check_int("seed", seed), "counts": check_counts(counts, default=default)}


def check_counts(counts: Mapping[str, int] | None, *, default: Mapping[str, int]) -> dict[str, int]:
    """Return the number of images of each section; 0 for sections that ``counts`` leaves out."""
    if counts is None:
        return dict(default)
    unknown = sorted(set(counts) - set(default))
    if unknown:
        raise ValueError(f"`counts` must name sections of {list(default)}; got {unknown[0]!r}. Rename or drop it.")
    return {section: check_int(f"counts[{section!r}]", counts.get(section, 0)) for section in default}


def number_sections(counts: Mapping[str, int]) -> list[tuple[int, str]]:
    """Number the images of all sections; the sections take the numbers in turn, so that they never share one.

    Example:
        >>> number_sections({"train": 2, "test": 1})
        [(0, 'train'), (2, 'train'), (1, 'test')]
    """
    return [(k + len(counts) * i, section) for k, section in enumerate(counts) for i in range(counts[section])]


def _draw_files(root: Path, sample: SampleFolder, draw: Callable[[int, Sequence[Path]], None], title: str) -> None:
    """Draw all files below a new folder, and the marker last."""
    parents = {str(Path(path).parent) for _, paths in sample.files for path in paths}
    for name in sorted({*sample.folders, *parents}):
        Path(root, name).mkdir(parents=True, exist_ok=True)
    # None: no bar where stderr is no terminal.
    for number, paths in tqdm(sample.files, unit="image", desc=title, disable=None):
        draw(number, [Path(root, path) for path in paths])
    for name, text in sample.texts.items():
        Path(root, name).write_text(text, encoding="utf-8")
    Path(root, sample.marker).write_text(json.dumps(sample.settings, indent=2) + "\n", encoding="utf-8")


def _is_complete(root: Path, sample: SampleFolder) -> bool:
    try:
        found = json.loads(Path(root, sample.marker).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    paths = [*sample.texts, *(path for _, paths in sample.files for path in paths)]
    return bool(found == sample.settings) and all(Path(root, path).is_file() for path in paths)


def _check_replaceable(root: Path, sample: SampleFolder) -> None:
    if not root.exists():
        return
    found = {path.name for path in root.iterdir()} if root.is_dir() else {"a file of that name"}
    own = (sample.marker, *sample.texts, *sample.own) if Path(root, sample.marker).is_file() else ()
    foreign = sorted(name for name in found if not any(fnmatch(name, pattern) for pattern in own))
    if foreign:
        raise FileExistsError(
            f"`root` must be a new or empty folder, or hold nothing but the sample; got {root} with "
            f"{foreign[0]!r} in it. Choose another folder, or move that away."
        )
