"""Offsets of classes are added to logits by name, and move the threshold between two classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activations

from afma_med.data import CAMVID, NUCLEI, class_names
from afma_med.transforms import AddClassOffsets, AddClassOffsetsd


def offsets(channel_dim: int | None = None, value: float = 1.0) -> AddClassOffsets:
    return AddClassOffsets({"nucleus": value}, NUCLEI.classes, channel_dim=channel_dim)


def test_a_class_gets_its_own_number_before_that_of_its_group() -> None:
    names = class_names(CAMVID.classes)
    for given in ({"small": 0.25, "pole": 2.0}, {"pole": 2.0, "small": 0.25}):
        added = dict(zip(names, AddClassOffsets(given, CAMVID.classes)(torch.zeros(12, 1, 1)).flatten(), strict=True))
        assert added["pole"] == 2.0 and added["pedestrian"] == 0.25 and added["car"] == added["sky"] == 0


def test_the_threshold_of_two_classes_moves() -> None:
    probability = torch.tensor([0.3, 0.37, 0.38, 0.6])  # 1 / (1 + exp(0.5)) = 0.378
    logits = torch.stack([1 - probability, probability]).log()
    assert offsets(value=0.5)(logits).argmax(0).tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5)])
def test_the_twin_keeps_metadata_and_other_items(shape: tuple[int, ...]) -> None:
    logits = MetaTensor(torch.randn(shape), meta={"filename_or_obj": "a.png"})
    before = logits.clone()
    item = AddClassOffsetsd("pred", {"nucleus": 1.0}, NUCLEI.classes)({"pred": logits, "label": 1})
    assert item["label"] == 1 and item["pred"].meta["filename_or_obj"] == "a.png"
    torch.testing.assert_close((item["pred"] - before).as_tensor().flatten(1).mean(1), torch.tensor([0.0, 1.0]))
    assert logits.equal(before)


@pytest.mark.parametrize("shape", [(2, 2, 4, 5), (2, 2, 2, 2), (3, 2, 4, 5, 6), (2, 2, 4, 5, 6)])
def test_batches_are_refused_unless_the_axis_is_named(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`logits` must .*got .*"):
        offsets()(torch.zeros(shape))
    added = offsets(1)(torch.zeros(shape))
    assert not added[:, 0].any() and (added[:, 1] == 1).all()


def test_a_batch_that_metadata_name_is_refused_and_a_volume_of_two_rows_needs_the_axis() -> None:
    batch = MetaTensor(torch.zeros(2, 3, 4, 5))
    assert offsets()(batch)[1].eq(1).all()
    batch.is_batch = True
    with pytest.raises(ValueError, match="may be a batch"):
        offsets()(batch)
    added = offsets(0)(torch.zeros(2, 2, 4, 5))
    assert not added[0].any() and (added[1] == 1).all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_arrays_become_tensors_as_in_monai(dtype: str) -> None:
    array = np.zeros((2, 3, 4), dtype=dtype)
    added = offsets()(array)
    theirs = Activations(softmax=True)(array)
    assert type(added) is type(theirs) is MetaTensor and added.dtype == getattr(torch, dtype)
    assert added.flatten(1).tolist() == [[0.0] * 12, [1.0] * 12] and not array.any()


PROBABILITY = torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0)).softmax(0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (torch.zeros(2, 3, 3, dtype=torch.int64), r"`logits` must hold floating point numbers; got torch\.int64"),
        (np.zeros((2, 3, 3), dtype=np.uint8), r"`logits` must hold floating point numbers; got torch\.uint8"),
        (torch.zeros(12, 3, 3), "a channel for each of the 2 classes; got 12"),
        (PROBABILITY, "got probabilities, which sum to 1"),
        (PROBABILITY.bfloat16(), "got probabilities"),
    ],
)
def test_other_logits_are_refused(data: torch.Tensor | np.ndarray, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        offsets()(data)


def test_logarithms_and_logits_of_zeros_and_ones_are_taken() -> None:
    assert offsets()(PROBABILITY.log()).shape == (2, 5, 5)
    assert offsets()(torch.eye(2)[..., None])[1].flatten().tolist() == [1.0, 2.0], "these may be logits"


@pytest.mark.parametrize(
    ("given", "channel_dim", "message"),
    [
        ({"nuclei": 1.0}, None, r"`offsets` must name classes or groups of \['background', 'nucleus'\]; got"),
        ({"nucleus": float("nan")}, None, "`offsets` must be finite numbers; got nan for nucleus"),
        ({"nucleus": 1.0}, 2, "`channel_dim` must be None, 0 or 1; got 2"),
    ],
)
def test_bad_offsets_are_refused(given: dict[str, float], channel_dim: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AddClassOffsets(given, NUCLEI.classes, channel_dim=channel_dim)
