"""Objects that resizing loses, that are thin, or that a network's stride skips, against naive loops."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from afma_med.data import CAMVID
from afma_med.data.objects.shapes import measure_objects
from afma_med.data.survey import find_lost_classes, survey_section, warn_of_lost_objects
from afma_med.samples import write_street_scenes

LABELS = arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.integers(0, 2))


def objects_of(label: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """Class and mask of each object, in order of the first pixel."""
    found = []
    for k in np.unique(label):
        numbers, count = ndimage.label(label == k, structure=np.ones((3, 3)))
        found += [(int(k), numbers == i + 1) for i in range(count)]
    return sorted(found, key=lambda pair: int(np.flatnonzero(pair[1])[0]))


def is_thin(mask: np.ndarray) -> bool:
    height, width = mask.shape
    return not any(mask[i : i + 2, j : j + 2].all() for i in range(height - 1) for j in range(width - 1))


@given(LABELS, st.sampled_from([None, 3, 7, 20]))
def test_table_is_that_of_naive_loops(label: np.ndarray, longest_side: int | None) -> None:
    table = measure_objects(label, 2, longest_side=longest_side, strides=(2, 3))
    expected = [(k, mask) for k, mask in objects_of(label) if k < 2]
    assert sorted(zip(table.owner.tolist(), table.pixels.tolist(), table.side.tolist(), strict=True)) == sorted(
        (k, int(mask.sum()), max(np.ptp(axis) + 1 for axis in np.nonzero(mask))) for k, mask in expected
    )
    resized = [(k, resize(mask, longest_side)) for k, mask in expected]
    rows = zip(table.owner, table.area, table.is_thin, *table.is_skipped.T, strict=True)
    assert sorted(tuple(map(int, row)) for row in rows) == sorted(
        (k, int(mask.sum()), int(is_thin(mask)), *(int(not mask[::s, ::s].any()) for s in (2, 3)))
        for k, mask in resized
    )


def resize(mask: np.ndarray, longest_side: int | None) -> np.ndarray:
    """As MONAI's Resized does with ``size_mode="longest"`` and ``mode="nearest"``."""
    if longest_side is None:
        return mask
    size = [max(1, round(side * longest_side / max(mask.shape))) for side in mask.shape]
    image = torch.from_numpy(mask.astype(np.float32))[None, None]
    return torch.nn.functional.interpolate(image, size, mode="nearest")[0, 0].numpy() > 0


def test_sizes_in_millimetres() -> None:
    label = np.zeros((6, 6), dtype=np.uint8)
    label[:2, :3] = 1
    table = measure_objects(label, 2, spacing=(0.5, 2.0))
    assert sorted(table.size.tolist()) == [6.0, 30.0]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(write_street_scenes(tmp_path_factory.mktemp("scenes"), counts={"train": 3, "val": 1}, size=(96, 128)))


def test_training_warns_of_objects_that_resizing_loses(scenes: Path, caplog: pytest.LogCaptureFixture) -> None:
    items = survey_section(CAMVID, scenes, "train").items
    with caplog.at_level(logging.WARNING):
        warn_of_lost_objects(CAMVID, items, None)
        warn_of_lost_objects(CAMVID, items, 512)
    assert not caplog.records
    lost = find_lost_classes(CAMVID, items, 16)
    assert lost["pole"] > 0.1
    assert "unlabelled" not in lost
    with caplog.at_level(logging.WARNING):
        warn_of_lost_objects(CAMVID, items, 16)
    (message,) = caplog.messages
    assert f"{lost['pole']:.0%} of pole" in message
    assert "`longest_side` of 16 pixels" in message
    assert "afma advise" in message
