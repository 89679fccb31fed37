"""Pictures of segmentations in class colours, and of attention."""

from afma_med.visualize.attention import AttendedImage, AttendedPart, attend_image
from afma_med.visualize.attention_figure import compare_attention, draw_attention
from afma_med.visualize.class_colors import color_legend, colorize, compare_segmentations, stretch_image
from afma_med.visualize.explorer import ExplorerSlice, format_explorer
from afma_med.visualize.figure_file import figure_pixels, save_figure
from afma_med.visualize.object_points import corrected_object, object_classes, object_points, smallest_object
from afma_med.visualize.point_attention import PointAttention, Rectangle, Region, attend_point
from afma_med.visualize.volume_slices import draw_montage, fullest_slice, predict_slices, take_slice

__all__ = [
    "AttendedImage",
    "AttendedPart",
    "ExplorerSlice",
    "PointAttention",
    "Rectangle",
    "Region",
    "attend_image",
    "attend_point",
    "color_legend",
    "colorize",
    "compare_attention",
    "compare_segmentations",
    "corrected_object",
    "draw_attention",
    "draw_montage",
    "figure_pixels",
    "format_explorer",
    "fullest_slice",
    "object_classes",
    "object_points",
    "predict_slices",
    "save_figure",
    "smallest_object",
    "stretch_image",
    "take_slice",
]
