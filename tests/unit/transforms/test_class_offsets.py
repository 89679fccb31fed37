"""Offsets of classes are added to logits by name, and move the threshold between two classes."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from afma_med.data import CAMVID, NUCLEI, class_names
from afma_med.transforms import AddClassOffsets, AddClassOffsetsd


def test_a_class_gets_its_own_number_before_that_of_its_group() -> None:
    names = class_names(CAMVID.classes)
    for offsets in ({"small": 0.25, "pole": 2.0}, {"pole": 2.0, "small": 0.25}):
        added = dict(zip(names, AddClassOffsets(offsets, CAMVID.classes)(torch.zeros(12, 1, 1)).flatten(), strict=True))
        assert added["pole"] == 2.0 and added["pedestrian"] == 0.25 and added["car"] == added["sky"] == 0


def test_the_threshold_of_two_classes_moves() -> None:
    probability = torch.tensor([0.3, 0.37, 0.38, 0.6])  # 1 / (1 + exp(0.5)) = 0.378
    logits = torch.stack([1 - probability, probability]).log()
    found = AddClassOffsets({"nucleus": 0.5}, NUCLEI.classes)(logits).argmax(0)
    assert found.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 3, 4, 5)])
def test_the_twin_keeps_metadata_and_other_items(shape: tuple[int, ...]) -> None:
    logits = MetaTensor(torch.randn(shape), meta={"filename_or_obj": "a.png"})
    before = logits.clone()
    item = AddClassOffsetsd("pred", {"nucleus": 1.0}, NUCLEI.classes)({"pred": logits, "label": 1})
    assert item["label"] == 1 and item["pred"].meta["filename_or_obj"] == "a.png"
    torch.testing.assert_close((item["pred"] - before).as_tensor().flatten(1).mean(1), torch.tensor([0.0, 1.0]))
    assert logits.equal(before)


def test_bad_offsets_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`offsets` must name classes or groups of \['background', 'nucleus'\]; got"):
        AddClassOffsets({"nuclei": 1.0}, NUCLEI.classes)
    with pytest.raises(ValueError, match=r"`offsets` must be finite numbers; got nan for nucleus"):
        AddClassOffsets({"nucleus": float("nan")}, NUCLEI.classes)
    with pytest.raises(ValueError, match=r"a channel for each of the 2 classes; got 12"):
        AddClassOffsets({"nucleus": 1.0}, NUCLEI.classes)(torch.zeros(12, 3, 3))
