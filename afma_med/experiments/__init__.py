"""Trainings for evidence: lists of them, and the changed forms of the method that an ablation compares."""
