"""Write figures to files and arrays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from afma_med.atomic_write import replacing

__all__ = ["SUFFIXES", "figure_pixels", "save_figure"]

#: Suffixes of the supported formats.
SUFFIXES = (".png", ".svg")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG or SVG, by the suffix, and return the path. The same figure gives the same file.

    Raises:
        ValueError: If the suffix is not supported.

    Example:
        >>> import tempfile
        >>> save_figure(Figure(), tempfile.mkdtemp() + "/empty.svg").name
        'empty.svg'
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`path` must end in {' or '.join(SUFFIXES)}; got `{target}`. Choose one of them.")
    # By default, SVG files contain the date and random names.
    metadata = {"Date": None} if target.suffix.lower() == ".svg" else None
    with replacing(target) as temporary, matplotlib.rc_context({"svg.hashsalt": "afma_med"}):
        figure.savefig(temporary, metadata=metadata)
    return target


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure into an array (height,width,3) uint8, for TensorBoard.

    Example:
        >>> figure_pixels(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
