"""The datasets that the package knows: one reader each."""

from __future__ import annotations

from functools import partial

from afma_med.data import camvid, cityscapes, cub, isic, lesion_slices, lits, nuclei
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.folds import check_fold
from afma_med.data.label_pixels import find_pictures, inspect_pictures
from afma_med.data.object_sizes import SizeGroups

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
]

CAMVID = DatasetReader(
    name="camvid",
    title="CamVid",
    classes=camvid.CLASSES,
    datalist=camvid.camvid_datalist,
    inspect=partial(inspect_pictures, read_label=camvid.read_label, classes=12),
    read_label=camvid.read_label,
    find_inputs=find_pictures,
    unscored=("unlabelled",),
)
CITYSCAPES = DatasetReader(
    name="cityscapes",
    title="Cityscapes",
    classes=cityscapes.CLASSES,
    datalist=cityscapes.cityscapes_datalist,
    inspect=partial(inspect_pictures, read_label=cityscapes.read_label, classes=19),
    read_label=cityscapes.read_label,
    find_inputs=find_pictures,
)
LITS = DatasetReader(
    name="lits",
    title="LiTS",
    classes=lits.CLASSES,
    datalist=lits.lits_datalist,
    inspect=lits.inspect_volume,
    read_label=lits.read_label_slice,
    find_inputs=lits.find_volumes,
    # Spheres of 10 and 20 mm in diameter.
    size_groups=SizeGroups((524, 4189), "mm³"),
    read_volume=lits.read_label_volume,
)
ISIC = DatasetReader(
    name="isic",
    title="ISIC",
    classes=isic.CLASSES,
    datalist=isic.isic_datalist,
    inspect=partial(inspect_pictures, read_label=isic.read_label, classes=2),
    read_label=isic.read_label,
    find_inputs=find_pictures,
)
CUB = DatasetReader(
    name="cub",
    title="CUB",
    classes=cub.CLASSES,
    datalist=cub.cub_datalist,
    inspect=partial(inspect_pictures, read_label=cub.read_label, classes=2),
    read_label=cub.read_label,
    find_inputs=find_pictures,
)
NUCLEI = DatasetReader(
    name="nuclei",
    title="Nuclei",
    classes=nuclei.CLASSES,
    datalist=nuclei.nuclei_datalist,
    inspect=partial(inspect_pictures, read_label=nuclei.read_label, classes=2),
    read_label=nuclei.read_label,
    find_inputs=find_pictures,
)


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
    return DatasetReader(
        name="lesion_slices",
        title="Lesion slices",
        classes=lesion_slices.CLASSES,
        datalist=partial(lesion_slices.lesion_slices_datalist, fold=fold),
        inspect=partial(inspect_pictures, read_label=lesion_slices.read_label, classes=2),
        read_label=lesion_slices.read_label,
        find_inputs=find_pictures,
    )


LESION_SLICES = build_lesion_slices()

#: Every reader by its name.
READERS: dict[str, DatasetReader] = {
    reader.name: reader for reader in (CAMVID, CITYSCAPES, LITS, ISIC, CUB, NUCLEI, LESION_SLICES)
}
