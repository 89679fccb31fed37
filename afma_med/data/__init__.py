"""Datasets: readers that pair image and label files, class tables, checks, objects and their sizes."""

from afma_med.data.class_table import VOID, ClassInfo, class_colors, class_groups, class_names, named_classes
from afma_med.data.ct.slice_weights import balanced_slice_weights
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.label_pixels import MaskReader, map_raw_labels, read_coded_label
from afma_med.data.picture_reader import build_picture_reader, with_mask_values
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
)
from afma_med.data.survey import find_image_range, survey_dataset, survey_section, warn_of_lost_objects

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
    "MaskReader",
    "balanced_slice_weights",
    "build_lesion_slices",
    "build_lits",
    "build_picture_reader",
    "class_colors",
    "class_groups",
    "class_names",
    "find_image_range",
    "map_raw_labels",
    "named_classes",
    "read_coded_label",
    "survey_dataset",
    "survey_section",
    "warn_of_lost_objects",
    "with_mask_values",
]
