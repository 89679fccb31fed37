"""LiTS: abdominal CT volumes with liver and tumours.

Reference:
    Bilic et al.: The Liver Tumor Segmentation Benchmark (LiTS), Medical Image Analysis 84, 2023.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from afma_med.data.class_table import ClassInfo
from afma_med.data.ct.volume_reader import VOLUMES, build_volume_reader, pair_volumes
from afma_med.data.ct.voxel_grid import write_geometry
from afma_med.data.datalist import FilesByName, check_section
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.files import files_below, files_by_name
from afma_med.data.objects.sizes import SizeGroups
from afma_med.data.problems import DatasetError, missing_layout, warn_skipped
from afma_med.data.splits import read_split_files, section_names

__all__ = ["LITS", "build_lits"]

# Blue and orange are distinct in every kind of colour vision.
_CLASSES = (
    ClassInfo("background", 0, 0, (0, 0, 0)),
    ClassInfo("liver", 1, 1, (0, 114, 178), "large"),
    ClassInfo("tumour", 2, 2, (230, 159, 0), "small"),
)

LAYOUT = """\
these files, in one folder or in folders of any names (such as "Training Batch 1"), .nii or .nii.gz:
    volume-N.nii  segmentation-N.nii   values 0 background, 1 liver, 2 tumour
    test-volume-N.nii                  optional, without labels: the section test
    train.txt val.txt test.txt         optional, directly in the folder, one volume's name a line
Without train.txt, val.txt and test.txt, 10 % of the volumes are split off for val and 20 % for test, always the same
ones. If there are test-volume-N.nii, those 20 % stay in train."""

_TEXTS = (".txt", ".csv", ".tsv", ".json", ".md")


def build_lits(missing_spacing: Sequence[float] | None = None, missing_orientation: str | None = None) -> DatasetReader:
    """Return the reader of LiTS, with a geometry for the volumes whose files have none.

    Args:
        missing_spacing: millimetres between voxels along the file's three axes, for files without geometry; None for
            that of the header.
        missing_orientation: directions in which the indices of such files grow, such as "LPS"; None for that of the
            header.

    Raises:
        ValueError: if one of them is malformed.

    Example:
        >>> build_lits(missing_spacing=[0.7, 0.7, 2.5], missing_orientation="LPS").title
        'LiTS'
    """
    geometry = write_geometry(missing_spacing, missing_orientation)
    return build_volume_reader(
        "lits",
        "LiTS",
        _CLASSES,
        partial(_datalist, geometry=geometry),
        geometry=geometry,
        # Spheres of 10 and 20 mm in diameter.
        size_groups=SizeGroups((524, 4189), "mm³"),
        layout=LAYOUT,
    )


def _datalist(root: str | os.PathLike[str], section: str, *, geometry: str) -> list[dict[str, str]]:
    check_section(section)
    folder = Path(root)
    images, labels, withheld = _find_files(folder)
    known = {f"volume-{name}" for name in images} | {f"test-volume-{name}" for name in withheld}
    split = read_split_files(folder, known)
    tests: FilesByName = {}
    names: set[str] = set()
    if listed := split.names.get(section):
        if problem := split.missing(section, known):
            raise DatasetError([problem])
        tests = {name: files for name, files in withheld.items() if f"test-volume-{name}" in listed}
        names = {name for name in images if f"volume-{name}" in listed}
    elif section == "test" and withheld:
        tests = withheld
    else:
        taken = {key: {name.removeprefix("volume-") for name in own} for key, own in split.names.items()}
        if withheld:
            taken.setdefault("test", set())
        names = section_names(images.keys() | labels.keys(), section, taken)
    items = []
    if names or not tests:
        items += pair_volumes(images, labels, names=names, root=folder, geometry=geometry)
    if tests:
        items += pair_volumes(tests, None, root=folder, geometry=geometry)
    return items


def _find_files(folder: Path) -> list[FilesByName]:
    """Return the volumes, labels and volumes without labels below a folder."""
    paths = files_below(folder)
    kinds: list[FilesByName] = [
        files_by_name(paths, VOLUMES, name_prefix=f"{kind}-") for kind in ("volume", "segmentation", "test-volume")
    ]
    warn_skipped([path for path in paths if path.suffix.lower() not in _TEXTS], *kinds)
    if not kinds[0] and not kinds[2]:
        raise missing_layout("LiTS", folder, folder / "volume-0.nii", LAYOUT)
    return kinds


LITS = build_lits()
