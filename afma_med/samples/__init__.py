"""Synthetic samples in the layouts of the datasets, drawn with fixed seeds, for runs without any data."""

from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from afma_med.samples.ct_phantom import write_ct_phantom
from afma_med.samples.sample_folder import is_sample
from afma_med.samples.single_objects import write_birds, write_lesions
from afma_med.samples.street_scenes import draw_street_scene, write_cityscapes_sample, write_street_scenes

__all__ = [
    "SAMPLES",
    "Sample",
    "draw_street_scene",
    "is_sample",
    "write_birds",
    "write_cityscapes_sample",
    "write_ct_phantom",
    "write_lesions",
    "write_street_scenes",
]


class Sample(NamedTuple):
    """Name the embedded sample of a dataset.

    Args:
        folder: name of its default folder below ``data/``.
        write: draws the sample into a folder; a folder that holds it already stays as it is.
    """

    folder: str
    write: Callable[[Path], object]


#: The embedded samples by the names of their datasets.
SAMPLES: Mapping[str, Sample] = MappingProxyType(
    {
        "camvid": Sample("street_scenes", write_street_scenes),
        "cityscapes": Sample("street_scenes_cityscapes", write_cityscapes_sample),
        "lits": Sample("ct_phantom", write_ct_phantom),
        "isic": Sample("lesions", write_lesions),
        "cub": Sample("birds", write_birds),
    }
)
