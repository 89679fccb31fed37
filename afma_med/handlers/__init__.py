"""Ignite handlers for MONAI engines."""

from afma_med.handlers.checkpoints import (
    BestCheckpointHandler,
    LastCheckpointHandler,
    ResumeHandler,
    is_better,
    next_epoch,
)
from afma_med.handlers.epoch_seed import EpochSeedHandler
from afma_med.handlers.finite_loss import FiniteLossHandler
from afma_med.handlers.pictures import AttentionPicturesHandler, SegmentationPicturesHandler
from afma_med.handlers.pr_curves import PRCurvesHandler
from afma_med.handlers.progress_log import ProgressBarHandler, ProgressLogHandler
from afma_med.handlers.run_record import RunRecordHandler
from afma_med.handlers.score_report import ScoreReportHandler
from afma_med.handlers.split_afma_output import SplitAFMAOutputHandler
from afma_med.handlers.stop_signals import StopSignalsHandler

__all__ = [
    "AttentionPicturesHandler",
    "BestCheckpointHandler",
    "EpochSeedHandler",
    "FiniteLossHandler",
    "LastCheckpointHandler",
    "PRCurvesHandler",
    "ProgressBarHandler",
    "ProgressLogHandler",
    "ResumeHandler",
    "RunRecordHandler",
    "ScoreReportHandler",
    "SegmentationPicturesHandler",
    "SplitAFMAOutputHandler",
    "StopSignalsHandler",
    "is_better",
    "next_epoch",
]
