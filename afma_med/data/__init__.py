"""Datasets: class tables, readers that pair image and label files, and the embedded sample."""

from afma_med.data.camvid import camvid_datalist
from afma_med.data.class_table import VOID, ClassInfo, class_colors, class_groups, class_names
from afma_med.data.label_pixels import count_label_pixels, map_raw_labels
from afma_med.data.street_scenes import draw_street_scene, is_street_scenes, write_street_scenes

__all__ = [
    "VOID",
    "ClassInfo",
    "camvid_datalist",
    "class_colors",
    "class_groups",
    "class_names",
    "count_label_pixels",
    "draw_street_scene",
    "is_street_scenes",
    "map_raw_labels",
    "write_street_scenes",
]
