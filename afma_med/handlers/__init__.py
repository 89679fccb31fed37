"""Ignite handlers for MONAI engines."""

from afma_med.handlers.checkpoints import BestCheckpoint, LastCheckpoint, is_better
from afma_med.handlers.iou_report import IoUReport
from afma_med.handlers.progress_log import ProgressLog
from afma_med.handlers.segmentation_pictures import SegmentationPictures
from afma_med.handlers.split_output import SplitAFMAOutput

__all__ = [
    "BestCheckpoint",
    "IoUReport",
    "LastCheckpoint",
    "ProgressLog",
    "SegmentationPictures",
    "SplitAFMAOutput",
    "is_better",
]
