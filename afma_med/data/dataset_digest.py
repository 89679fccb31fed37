"""The contents of a dataset in one line a section, to notice that its files have changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from afma_med.data.dataset_reader import SECTIONS, DatasetReader
from afma_med.data.files import file_identity, files_below, map_files

__all__ = ["describe_change", "digest_dataset"]


def digest_dataset(reader: DatasetReader, root: str | os.PathLike[str]) -> dict[str, str]:
    """Describe each section of a dataset by the number of its items and a digest of their names and contents.

    Copies of a dataset have the same digests, wherever they lie and whenever they were made. Sections that cannot be
    listed are left out.

    Example:
        >>> import tempfile
        >>> from afma_med.data import CAMVID
        >>> from afma_med.samples import write_street_scenes
        >>> digest_dataset(CAMVID, write_street_scenes(tempfile.mkdtemp() + "/scenes", counts={"train": 2}))
        {'train': '2 items, digest ...'}
    """
    digests = {}
    for section in SECTIONS:
        try:
            items = reader.datalist(root, section)
        except (FileNotFoundError, ValueError):  # whoever reads the dataset reports its problems
            continue
        files = sorted({(kind, file) for item in items for kind, path in item.items() for file in _files_of(path)})
        contents = map_files(_digest_file, [file_identity(file) for _, file in files], title=f"Comparing {section}")
        # The same masks may be read in another way.
        digest = hashlib.sha256(str(getattr(reader.read_label, "mask_values", "")).encode())
        for (kind, file), content in zip(files, contents, strict=True):
            digest.update(f"{kind} {Path(os.path.relpath(file, root)).as_posix()} {content}\n".encode(errors="replace"))
        digests[section] = f"{len(items)} items, digest {digest.hexdigest()[:16]}"
    return digests


def describe_change(earlier: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Describe the first section that differs between two digests of a dataset; empty text if none does.

    Example:
        >>> describe_change({"train": "14 items, digest 01"}, {"train": "11 items, digest 23"})
        'train had 14 items, digest 01, and now has 11 items, digest 23'
    """
    for section in SECTIONS:
        if earlier.get(section) != now.get(section):
            return f"{section} had {earlier.get(section, 'no items')}, and now has {now.get(section, 'no items')}"
    return ""


def _files_of(path: str) -> list[str]:
    """Return a file, or the files of a folder, such as a DICOM series; an empty list for other values."""
    if os.path.isdir(path):
        return [str(file) for file in files_below(Path(path))]
    return [path] if os.path.isfile(path) else []


@cache
def _digest_file(identity: str) -> str:
    with open(identity.rsplit("|", 2)[0], "rb") as file:
        digest = hashlib.sha256()
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
