"""Work on finished runs and on the method: comparisons, lists of trainings, studied forms, reports, benchmarks."""
