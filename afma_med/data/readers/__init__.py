"""The readers of the benchmarks: each is a class table, a layout and a list of files on top of the general reader."""

from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.readers.camvid import CAMVID
from afma_med.data.readers.cityscapes import CITYSCAPES
from afma_med.data.readers.cub import CUB
from afma_med.data.readers.isic import ISIC
from afma_med.data.readers.lesion_slices import LESION_SLICES, build_lesion_slices
from afma_med.data.readers.lits import LITS, build_lits
from afma_med.data.readers.nuclei import NUCLEI

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
]

#: Every reader by its name.
READERS: dict[str, DatasetReader] = {
    reader.name: reader for reader in (CAMVID, CITYSCAPES, LITS, ISIC, CUB, NUCLEI, LESION_SLICES)
}
