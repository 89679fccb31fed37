"""Synthetic samples in the layouts of the datasets, drawn with fixed seeds, for runs without any data."""
