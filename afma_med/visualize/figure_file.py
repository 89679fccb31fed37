"""Figures as files and as pixels."""

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

#: What figures can be written as.
SUFFIXES = (".png", ".svg")


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> Path:
    """Write a figure as PNG or SVG, as the suffix says, without the date.

    The file appears when it is complete, in place of an earlier one.

    Args:
        figure: to write.
        path: of the file; its folder is made if there is none.

    Returns:
        The path.

    Raises:
        ValueError: if the suffix is another one.

    Example:
        >>> import tempfile
        >>> save_figure(Figure(), tempfile.mkdtemp() + "/empty.svg").name
        'empty.svg'
    """
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        raise ValueError(f"`path` must end in {' or '.join(SUFFIXES)}; got `{target}`. Choose one of them.")
    # SVG files hold the date and random names by default.
    with replacing(target) as temporary, matplotlib.rc_context({"svg.hashsalt": "afma_med"}):
        metadata = {"Date": None} if target.suffix.lower() == ".svg" else None
        figure.savefig(temporary, metadata=metadata)
    return target


def figure_pixels(figure: Figure) -> NDArray[np.uint8]:
    """Draw a figure into an array, for TensorBoard.

    Args:
        figure: to draw.

    Returns:
        (height,width,3) uint8.

    Example:
        >>> figure_pixels(Figure(figsize=(2, 1), dpi=100)).shape
        (100, 200, 3)
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())[..., :3]
