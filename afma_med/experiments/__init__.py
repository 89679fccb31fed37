"""Trainings for evidence: lists of them, and the changed forms of the method that an ablation compares."""

from afma_med.experiments.studies import STUDIES, study_options
from afma_med.experiments.trainings import Training, list_trainings, run_training, run_trainings

__all__ = ["STUDIES", "Training", "list_trainings", "run_training", "run_trainings", "study_options"]
