"""The bundles as package data of an installed afma_med: ``importlib.resources.files("afma_med.bundles")``."""
