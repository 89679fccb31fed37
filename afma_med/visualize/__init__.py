"""Pictures: segmentations in class colours."""

from afma_med.visualize.class_colors import color_legend, colorize, compare_segmentations

__all__ = ["color_legend", "colorize", "compare_segmentations"]
