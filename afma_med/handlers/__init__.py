"""Ignite handlers for MONAI engines."""

from afma_med.handlers.attention_pictures import AttentionPictures
from afma_med.handlers.checkpoints import BestCheckpoint, LastCheckpoint, is_better, next_epoch
from afma_med.handlers.epoch_seed import EpochSeed
from afma_med.handlers.finite_loss import FiniteLoss
from afma_med.handlers.pr_curves import PRCurves
from afma_med.handlers.progress_log import ProgressLog
from afma_med.handlers.run_record import RunRecord
from afma_med.handlers.score_report import ScoreReport
from afma_med.handlers.segmentation_pictures import SegmentationPictures
from afma_med.handlers.split_output import SplitAFMAOutput
from afma_med.handlers.stop_signals import StopSignals

__all__ = [
    "AttentionPictures",
    "BestCheckpoint",
    "EpochSeed",
    "FiniteLoss",
    "LastCheckpoint",
    "PRCurves",
    "ProgressLog",
    "RunRecord",
    "ScoreReport",
    "SegmentationPictures",
    "SplitAFMAOutput",
    "StopSignals",
    "is_better",
    "next_epoch",
]
