"""Datasets: class tables, and readers that pair image and label files."""

from afma_med.data.camvid import camvid_datalist
from afma_med.data.cityscapes import cityscapes_datalist
from afma_med.data.class_table import VOID, ClassInfo, class_colors, class_groups, class_names, named_classes
from afma_med.data.cub import cub_datalist
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.isic import isic_datalist
from afma_med.data.label_pixels import map_raw_labels
from afma_med.data.lesion_slices import lesion_slices_datalist
from afma_med.data.lits import balanced_slice_weights, lits_datalist
from afma_med.data.nuclei import nuclei_datalist
from afma_med.data.object_shapes import warn_of_lost_objects
from afma_med.data.problems import DatasetError, DatasetWarning
from afma_med.data.readers import (
    CAMVID,
    CITYSCAPES,
    CUB,
    ISIC,
    LESION_SLICES,
    LITS,
    NUCLEI,
    READERS,
    build_lesion_slices,
    build_lits,
    with_mask_values,
)
from afma_med.data.survey import find_image_range, survey_dataset, survey_section

__all__ = [
    "CAMVID",
    "CITYSCAPES",
    "CUB",
    "ISIC",
    "LESION_SLICES",
    "LITS",
    "NUCLEI",
    "READERS",
    "VOID",
    "ClassInfo",
    "DatasetError",
    "DatasetReader",
    "DatasetWarning",
    "balanced_slice_weights",
    "build_lesion_slices",
    "build_lits",
    "camvid_datalist",
    "cityscapes_datalist",
    "class_colors",
    "class_groups",
    "class_names",
    "cub_datalist",
    "find_image_range",
    "isic_datalist",
    "lesion_slices_datalist",
    "lits_datalist",
    "map_raw_labels",
    "named_classes",
    "nuclei_datalist",
    "survey_dataset",
    "survey_section",
    "warn_of_lost_objects",
    "with_mask_values",
]
