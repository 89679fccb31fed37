"""Lists of trainings, and the trial that finds out within an hour what helps on a dataset."""
