"""Files of datasets: written by tests, and read as readers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from afma_med.data import MaskReader


def save(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """Save pixels as a picture, with the options of its format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return path


def read_mask(path: Path, mask_values: Any = "auto") -> NDArray[np.uint8]:
    """Read a mask in one of the three ways."""
    return MaskReader(mask_values).read(path)[0]


def stems(items: Sequence[Mapping[str, str]]) -> list[str]:
    """Name the images of items."""
    return [Path(item["image"]).stem for item in items]
