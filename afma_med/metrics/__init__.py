"""Metrics over a whole set, each a named scalar."""

from afma_med.metrics.class_iou import ClassIoU

__all__ = ["ClassIoU"]
