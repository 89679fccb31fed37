"""Advice on a dataset before any training, and reports of its objects."""
