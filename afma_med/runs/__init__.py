"""Finished runs: their files, settings, weights, counts and curves."""
