"""Objects of labels of every number type, and labels with values that are no classes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from afma_med._ops.labels import index_array
from afma_med.data.objects.shapes import measure_objects
from afma_med.data.objects.sizes import count_objects, tally_objects
from afma_med.data.objects.table import find_objects
from afma_med.transforms import RandCropBySmallObjects, RandCropBySmallObjectsd

TYPES = ["uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


def plane(*values: float, dtype: str = "float64") -> np.ndarray:
    """A label with one pixel of each value, far apart."""
    label = np.zeros((1, 3, 3 * len(values)), dtype=dtype)
    label[0, 1, 1::3] = values
    return label


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_every_number_type_has_the_same_objects(dtype: str, order: str) -> None:
    label = plane(1, 2, 100).astype(np.dtype(dtype).newbyteorder(order))
    for one in (label, label[:, ::-1]):
        table = find_objects(one)
        assert table.owner.tolist() == [1, 2, 100]
        assert table.pixels.tolist() == [[1, 1], [1, 4], [1, 7]]
    assert find_objects(label, ignore_index=100).owner.tolist() == [1, 2]
    assert find_objects(plane(1, 0).astype(bool)).owner.tolist() == [1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.half, torch.uint16, torch.uint32, torch.int64, torch.bool])
@pytest.mark.parametrize("wrap", [torch.Tensor.clone, MetaTensor])
def test_crops_take_labels_of_every_number_type(dtype: torch.dtype, wrap: type) -> None:
    label = wrap(torch.zeros(1, 12, 12).index_fill(1, torch.tensor([7]), 1).to(dtype))
    image = torch.arange(144.0).view(1, 12, 12)
    parts = RandCropBySmallObjects((1, 1), 20, free_share=0).set_random_state(0)(image, label)
    assert {int(part) // 12 for part in parts} == {7}
    twin = RandCropBySmallObjectsd("image", "label", (1, 1), 20, free_share=0).set_random_state(0)
    assert {int(part["image"]) // 12 for part in twin({"image": image, "label": label})} == {7}


def test_large_ids_neither_wrap_around_nor_take_memory() -> None:
    ids = [1, 2**28, 2**31, 2**31 + 1, 2**32 + 1, 2**62]
    for dtype in ("int64", "uint64", "float64"):
        table = find_objects(plane(*ids, dtype=dtype), ignore_index=2**31)
        assert table.owner.tolist() == [1, 2**28, 2**31 + 1, 2**32 + 1, 2**62]
        assert table.pixels[:, 1].tolist() == [1, 4, 10, 13, 16]
    assert find_objects(plane(-(2**40), 3, dtype="int64")).owner.tolist() == [3]


@pytest.mark.parametrize(
    ("label", "value"),
    [
        (plane(0.9999, 2, dtype="float32"), "0.9999"),
        (plane(0.9999, 2), "0.9999"),
        (plane(1.5, dtype="float16"), "1.5"),
        (plane(np.nan), "nan"),
        (plane(np.inf), "inf"),
        (plane(-np.inf, dtype="float16"), "-inf"),
        (plane(1e30), r"1e\+30"),
        (plane(2**63, dtype="uint64"), "9223372036854775808"),
    ],
)
def test_values_that_are_no_whole_numbers_are_refused(label: np.ndarray, value: str) -> None:
    with pytest.raises(ValueError, match=rf"`label` must hold whole numbers; got \[{value}\].*nearest neighbour"):
        find_objects(label)
    with pytest.raises(ValueError, match=rf"got \[{value}\]"):
        RandCropBySmallObjects((2, 2))(torch.zeros(label.shape), label)
    for function in (lambda x: tally_objects(x, 3), lambda x: count_objects(x, 3), lambda x: measure_objects(x, 3)):
        with pytest.raises(ValueError, match=rf"got \[{value}\]"):
            function(label[0])


def test_bfloat16_between_classes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"whole numbers; got \[0\.5\]"):
        RandCropBySmallObjects((2, 2))(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 0.5, dtype=torch.bfloat16))


@pytest.mark.parametrize("value", [0.5, 2, -1, np.nan])
def test_soft_one_hot_labels_are_refused(value: float) -> None:
    label = np.zeros((3, 4, 4))
    label[0], label[1, 2, 2] = 1, value
    with pytest.raises(ValueError, match=rf"`label` must hold 0 and 1; got \[{float(value)}\]"):
        find_objects(label)
    label[1, 2, 2] = 255
    assert not len(find_objects(label, ignore_index=255).owner)


def test_void_of_one_hot_labels_is_that_of_the_loss() -> None:
    label = np.zeros((3, 1, 5), dtype=np.int16)
    label[1, 0, :2], label[2, 0, 3:] = 1, 1
    assert find_objects(label).sizes.tolist() == [2, 2]
    assert find_objects(label, ignore_index=2).owner.tolist() == [1]
    label[0, 0, 4] = 255  # in one channel
    assert find_objects(label, ignore_index=255).sizes.tolist() == [2, 1]


def test_sizes_of_float_labels_are_those_of_integers() -> None:
    label = plane(1, 2, 2, dtype="float32")[0]
    assert tally_objects(label, 3).tolist() == tally_objects(label.astype(int), 3).tolist()
    assert measure_objects(label, 3).owner.tolist() == [0, 1, 2, 2]


def test_integers_are_not_copied() -> None:
    label = np.zeros((2, 2), dtype=np.uint8)
    assert index_array("label", label) is label
