"""Folders of embedded samples: complete or absent, drawn once, and never in the place of other files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from afma_med.atomic_write import replacing_folder
from afma_med.checks import check_int

__all__ = ["MARKER", "SampleFolder", "is_sample", "number_sections", "picture_settings", "save_pictures"]

#: The file that marks a folder as a sample; it holds the settings that the sample was drawn with.
MARKER = "sample.json"
# The street scenes in CamVid's layout have a marker of their own.
_MARKERS = (MARKER, "street_scenes.json")
_JPEG_QUALITY = 95


def is_sample(root: str | os.PathLike[str]) -> bool:
    """Return whether ``root`` holds any embedded sample, by its marker file."""
    return any(Path(root, marker).is_file() for marker in _MARKERS)


@dataclass(frozen=True)
class SampleFolder:
    """Describe the folder of a sample.

    Args:
        settings: of JSON types; samples with other settings, such as the version of the pixels, are other samples.
        files: (number, paths) of the files that are drawn together, the paths relative to the folder.
        own: patterns of names that belong to the sample whatever its settings, and may be replaced.
        folders: relative paths of folders that exist even if empty.
        texts: contents of text files by name.
        marker: name of the marker file.
    """

    settings: Mapping[str, Any]
    files: Sequence[tuple[int, tuple[str, ...]]]
    own: tuple[str, ...]
    folders: tuple[str, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    marker: str = MARKER

    def write(self, root: str | os.PathLike[str], draw: Callable[[int, Sequence[Path]], None], *, title: str) -> Path:
        """Draw the sample next to ``root`` and move it there when complete, unless it is there already.

        Args:
            root: absent, empty, or written by this method.
            draw: (number, paths) -> None, writes the files of one number.
            title: of the progress bar.

        Raises:
            FileExistsError: if ``root`` holds anything else, which is left alone.
        """
        root = Path(root).absolute()
        if self._is_complete(root):
            return root
        self._check_replaceable(root)
        try:
            with replacing_folder(root) as new:
                self._draw_files(new, draw, title)
        except OSError:
            # Another process may have written the same sample meanwhile.
            if not self._is_complete(root):
                raise
        return root

    def _is_complete(self, root: Path) -> bool:
        try:
            found = json.loads(Path(root, self.marker).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        paths = [*self.texts, *(path for _, paths in self.files for path in paths)]
        return bool(found == self.settings) and all(Path(root, path).is_file() for path in paths)

    def _check_replaceable(self, root: Path) -> None:
        if not root.exists():
            return
        found = {path.name for path in root.iterdir()} if root.is_dir() else {"a file of that name"}
        own = (self.marker, *self.texts, *self.own) if Path(root, self.marker).is_file() else ()
        foreign = sorted(name for name in found if not any(fnmatch(name, pattern) for pattern in own))
        if foreign:
            raise FileExistsError(
                f"`root` must be a new or empty folder, or hold nothing but the sample; got {root} with "
                f"{foreign[0]!r} in it. Choose another folder, or move that away."
            )

    def _draw_files(self, root: Path, draw: Callable[[int, Sequence[Path]], None], title: str) -> None:
        """Draw all files below a new folder, and the marker last."""
        parents = {str(Path(path).parent) for _, paths in self.files for path in paths}
        for name in {*self.folders, *parents}:
            Path(root, name).mkdir(parents=True, exist_ok=True)
        # None: no bar where stderr is no terminal.
        for number, paths in tqdm(self.files, unit="image", desc=title, disable=None):
            draw(number, [Path(root, path) for path in paths])
        for name, text in self.texts.items():
            Path(root, name).write_text(text, encoding="utf-8")
        Path(root, self.marker).write_text(json.dumps(self.settings, indent=2) + "\n", encoding="utf-8")


def save_pictures(draw: Callable[[int], Sequence[NDArray[np.uint8]]]) -> Callable[[int, Sequence[Path]], None]:
    """Return a function that saves the image and, where it has a path, the label that ``draw`` returns of a number."""

    def save(number: int, paths: Sequence[Path]) -> None:
        for path, array in zip(paths, draw(number), strict=False):
            Image.fromarray(array).save(path, quality=_JPEG_QUALITY)  # PNG ignores it

    return save


def picture_settings(
    version: int, seed: int, counts: Mapping[str, int] | None, *, default: Mapping[str, int]
) -> dict[str, Any]:
    """Return the checked settings that all samples of pictures have; 0 images for sections that are left out."""
    counts = default if counts is None else counts
    if unknown := sorted(set(counts) - set(default)):
        raise ValueError(f"`counts` must name sections of {list(default)}; got {unknown[0]!r}. Rename or drop it.")
    checked = {section: check_int(f"counts[{section!r}]", counts.get(section, 0)) for section in default}
    return {"version": version, "seed": check_int("seed", seed), "counts": checked}


def number_sections(counts: Mapping[str, int]) -> list[tuple[int, str]]:
    """Number the images of all sections; the sections take the numbers in turn, so that they never share one.

    Example:
        >>> number_sections({"train": 2, "test": 1})
        [(0, 'train'), (2, 'train'), (1, 'test')]
    """
    return [(k + len(counts) * i, section) for k, section in enumerate(counts) for i in range(counts[section])]
