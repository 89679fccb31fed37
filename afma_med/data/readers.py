"""The readers of the datasets in the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from afma_med.data import camvid, cityscapes, cub, isic, lesion_slices, lits, nuclei
from afma_med.data.class_table import ClassInfo, class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.folds import check_fold
from afma_med.data.label_pixels import MaskReader, find_pictures, inspect_pictures
from afma_med.data.mask_values import MaskValues, check_mask_values
from afma_med.data.object_sizes import SizeGroups
from afma_med.data.voxel_grid import write_geometry

__all__ = [
    "CAMVID",
    "CITYSCAPES",
    "CUB",
    "ISIC",
    "LESION_SLICES",
    "LITS",
    "NUCLEI",
    "READERS",
    "build_lesion_slices",
    "build_lits",
    "with_mask_values",
]


def build_lesion_slices(fold: int = 0) -> DatasetReader:
    """Return the reader of lesion slices whose test section is one of five folds.

    Args:
        fold: 0 to 4.

    Raises:
        ValueError: if there is no such fold.

    Example:
        >>> build_lesion_slices(4).name
        'lesion_slices'
    """
    check_fold(fold)
    datalist = partial(lesion_slices.lesion_slices_datalist, fold=fold)
    return _of_pictures("lesion_slices", "Lesion slices", lesion_slices.CLASSES, datalist)


def build_lits(missing_spacing: Sequence[float] | None = None, missing_orientation: str | None = None) -> DatasetReader:
    """Return the reader of LiTS, with a geometry for the volumes whose files have none.

    Args:
        missing_spacing: millimetres between voxels along the file's three axes, for files without geometry; None for
            what the header says.
        missing_orientation: directions in which the indices of such files grow, such as "LPS"; None for what the
            header says.

    Raises:
        ValueError: if one of them is malformed.

    Example:
        >>> build_lits(missing_spacing=[0.7, 0.7, 2.5], missing_orientation="LPS").title
        'LiTS'
    """
    geometry = write_geometry(missing_spacing, missing_orientation)
    return DatasetReader(
        name="lits",
        title="LiTS",
        classes=lits.CLASSES,
        datalist=partial(lits.lits_datalist, geometry=geometry),
        inspect=lits.inspect_volume,
        read_label=lits.read_label_slice,
        find_inputs=partial(lits.find_volumes, geometry=geometry),
        # Spheres of 10 and 20 mm in diameter.
        size_groups=SizeGroups((524, 4189), "mm³"),
        read_volume=lits.read_label_volume,
    )


def with_mask_values(reader: DatasetReader, mask_values: MaskValues = "auto") -> DatasetReader:
    """Return a reader that reads the values of its masks in one way.

    Args:
        reader: of a dataset of masks, whose ``read_label`` is a :class:`~afma_med.data.label_pixels.MaskReader`;
            with ``"auto"``, also any other reader, which is returned unchanged.
        mask_values: ``"auto"``, ``"instances"`` or ``"votes"``, see :func:`~afma_med.data.label_pixels.read_mask`.

    Raises:
        ValueError: if there is no such reading, or the reader has no masks.

    Example:
        >>> with_mask_values(NUCLEI, "instances").read_label
        MaskReader(mask_values='instances')
    """
    check_mask_values(mask_values)
    if isinstance(reader.read_label, MaskReader) and isinstance(reader.inspect, partial):
        read_label = MaskReader(mask_values)
        return reader._replace(read_label=read_label, inspect=partial(reader.inspect, read_label=read_label))
    if mask_values != "auto":
        raise ValueError(
            f"`mask_values` must be 'auto' for labels that are no masks, as those of {reader.title}; got "
            f"{mask_values!r}. Leave it out, or give the reader a MaskReader."
        )
    return reader


def _of_pictures(
    name: str,
    title: str,
    classes: Sequence[ClassInfo],
    datalist: Callable[..., list[dict[str, str]]],
    read_label: Callable[..., Any] | None = None,
) -> DatasetReader:
    read_label = read_label or MaskReader()
    inspect = partial(inspect_pictures, read_label=read_label, classes=len(class_names(classes)))
    return DatasetReader(name, title, classes, datalist, inspect, read_label, find_pictures)


CAMVID = _of_pictures("camvid", "CamVid", camvid.CLASSES, camvid.camvid_datalist, camvid.read_label)._replace(
    unscored=("unlabelled",),
    # The label of a bicycle without a rider is car (Sec. 4.8).
    combined_classes=MappingProxyType({"bicyclist": ("pedestrian", "car")}),
)
CITYSCAPES = _of_pictures(
    "cityscapes", "Cityscapes", cityscapes.CLASSES, cityscapes.cityscapes_datalist, cityscapes.read_label
)._replace(combined_classes=MappingProxyType({"rider": ("person", "bicycle", "motorcycle")}))
LITS = build_lits()
ISIC = _of_pictures("isic", "ISIC", isic.CLASSES, isic.isic_datalist)
CUB = _of_pictures("cub", "CUB", cub.CLASSES, cub.cub_datalist)
NUCLEI = _of_pictures("nuclei", "Nuclei", nuclei.CLASSES, nuclei.nuclei_datalist)
LESION_SLICES = build_lesion_slices()

#: Every reader by its name.
READERS: dict[str, DatasetReader] = {
    reader.name: reader for reader in (CAMVID, CITYSCAPES, LITS, ISIC, CUB, NUCLEI, LESION_SLICES)
}
