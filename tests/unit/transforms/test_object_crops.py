"""Crops around objects: which objects are drawn, where the crops lie, and MONAI's datasets, metadata and inverse."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, MetaTensor, PersistentDataset
from monai.data.utils import set_rnd
from monai.transforms import Compose, EnsureTyped, Flipd, RandCropByPosNegLabeld

import afma_med.transforms.object_crops as object_crops
from afma_med.data.objects.table import find_objects
from afma_med.transforms import RandCropBySmallObjects, RandCropBySmallObjectsd


def scene() -> torch.Tensor:
    """Two classes: objects of 1, 4 and 100 pixels, far apart; void next to one of them."""
    label = torch.zeros(1, 60, 80)
    label[0, 5, 5] = 1
    label[0, 40:42, 8:10] = 2
    label[0, 20:30, 50:60] = 1
    label[0, 5, 6] = 255
    return label


def item(label: torch.Tensor) -> dict[str, Any]:
    image = torch.arange(label[0].numel(), dtype=torch.float32).reshape(label.shape)
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    return {"image": MetaTensor(image, affine=affine), "label": MetaTensor(label, affine=affine), "name": ["a"]}


def drawn(crop: RandCropBySmallObjects, label: torch.Tensor) -> np.ndarray:
    """The number of crops around each of the three objects."""
    crop.set_random_state(0)
    crop.randomize(label)
    corners = np.array([[5, 5], [41, 9], [25, 55]])
    nearest = [np.abs(corners - center).sum(axis=1).argmin() for center in crop.centers]
    return np.bincount(nearest, minlength=3)


@pytest.mark.parametrize(
    ("size_power", "expected"),
    [(0.0, [1 / 3, 1 / 3, 1 / 3]), (1.0, [1 / 105, 4 / 105, 100 / 105]), (-1.0, [100 / 126, 25 / 126, 1 / 126])],
)
def test_objects_are_drawn_by_a_power_of_their_size(size_power: float, expected: list[float]) -> None:
    crop = RandCropBySmallObjects((6, 6), 3000, size_power=size_power, free_share=0, ignore_index=255)
    parts = drawn(crop, scene()) / 3000
    np.testing.assert_allclose(parts, expected, atol=0.03)


def test_every_crop_lies_inside_and_holds_its_object() -> None:
    crop = RandCropBySmallObjects((7, 6), 200, free_share=0, ignore_index=255).set_random_state(1)
    image = torch.arange(60 * 80.0).reshape(1, 60, 80)
    for part, label in zip(crop(image, scene()), crop(scene(), randomize=False), strict=True):
        assert part.shape == (1, 7, 6) and ((label > 0) & (label < 255)).any()
        assert (part[0].diff(dim=1) == 1).all() and (part[0].diff(dim=0) == 80).all()


def test_every_pixel_of_an_object_may_be_the_centre() -> None:
    crop = RandCropBySmallObjects((6, 6), 3000, free_share=0, class_indices=[1], size_power=9).set_random_state(0)
    crop.randomize(scene())
    assert {*crop.centers} >= {(row, column) for row in range(20, 30) for column in range(50, 60)}


def test_the_free_share_is_drawn_anywhere() -> None:
    label = torch.zeros(1, 60, 80)
    label[0, 30, 40] = 1
    crop = RandCropBySmallObjects((4, 4), 4000, free_share=0.25).set_random_state(0)
    crop.randomize(label)
    on_object = np.mean([center == (30, 40) for center in crop.centers])
    assert on_object == pytest.approx(0.75, abs=0.03)
    free = np.array([center for center in crop.centers if center != (30, 40)])
    assert free.min(axis=0).tolist() == [2, 2] and free.max(axis=0).tolist() == [58, 78]


@pytest.mark.parametrize("label", [torch.zeros(1, 20, 30), torch.full((1, 20, 30), 255.0), torch.zeros(3, 20, 30)])
def test_labels_without_objects_are_cropped_anywhere(label: torch.Tensor) -> None:
    crop = RandCropBySmallObjects((5, 5), 50, free_share=0, ignore_index=255).set_random_state(0)
    assert {part.shape[1:] for part in crop(label, label)} == {(5, 5)}
    assert len({*crop.centers}) > 30


def test_void_and_other_classes_are_not_drawn() -> None:
    label = scene()
    assert find_objects(label.numpy(), ignore_index=255).owner.tolist() == [1, 1, 2]
    assert find_objects(label.numpy(), class_indices=[2]).sizes.tolist() == [4]
    assert find_objects(label.numpy(), class_indices=[0, 2], ignore_index=255).owner.tolist() == [0, 2]
    assert 255 in find_objects(label.numpy()).owner
    signed = torch.where(label == 255, torch.tensor(-1.0), label)
    assert find_objects(signed.numpy(), ignore_index=-1).owner.tolist() == [1, 1, 2]


def test_one_hot_labels_have_the_same_objects() -> None:
    index = torch.where(scene() == 255, 0, scene()).long()
    one_hot = torch.nn.functional.one_hot(index[0], 3).movedim(-1, 0)
    for ours, theirs in zip(find_objects(one_hot.numpy()), find_objects(index.numpy()), strict=True):
        assert (ours == theirs).all()


def test_volumes_are_cropped_too() -> None:
    label = torch.zeros(1, 20, 22, 24, dtype=torch.uint8)
    label[0, 3, 4, 5] = label[0, 19, 21, 23] = label[0, 10:18, 10:18, 10:18] = 1
    crop = RandCropBySmallObjects((4, 5, 6), 300, free_share=0).set_random_state(0)
    parts = crop(label, label)
    assert all(part.shape == (1, 4, 5, 6) and part.any() for part in parts)
    assert np.mean([int(part.sum()) == 1 for part in parts]) == pytest.approx(2 / 3, abs=0.1)


def test_thousands_of_objects_and_one_huge_one() -> None:
    label = torch.zeros(1, 128, 128)
    label[:, ::2, ::2] = 1
    table = find_objects(label.numpy())
    assert len(table.sizes) == 64 * 64 and len(table.pixels) == 64 * 64
    whole = find_objects(np.ones((1, 128, 128)))
    assert whole.sizes.tolist() == [128 * 128] and len(whole.pixels) == 256
    assert whole.pixels.min() == 0 and whole.pixels.max() == 127


def test_results_are_those_of_monais_twin_in_form() -> None:
    ours = RandCropBySmallObjectsd(["image", "label"], "label", (6, 8), num_samples=2)(item(scene()))
    theirs = RandCropByPosNegLabeld(["image", "label"], "label", (6, 8), num_samples=2)(item(scene()))
    assert len(ours) == len(theirs) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.keys() == other.keys()
        assert one["image"].shape == other["image"].shape and {*one["image"].meta} == {*other["image"].meta}
        assert one["image"].meta["patch_index"] == other["image"].meta["patch_index"]
    ours[0]["name"].append("b")
    assert ours[1]["name"] == ["a"]


def test_image_and_label_are_cropped_alike_and_keep_their_place_in_space() -> None:
    source = item(scene())
    for part in RandCropBySmallObjectsd(["image", "label"], "label", (6, 8), 4, ignore_index=255)(source):
        row, column = divmod(int(part["image"][0, 0, 0]), 80)
        assert part["label"].equal(source["label"][:, row : row + 6, column : column + 8])
        assert part["image"].affine[:2, 3].tolist() == [2 * row, 3 * column]


def plane(image: MetaTensor) -> torch.Tensor:
    """The part of an affine that an image has; lazy execution leaves the third axis out."""
    return torch.cat([image.affine[:2, :2], image.affine[:2, -1:]], dim=1)


@pytest.mark.parametrize("lazy", [False, True])
def test_crops_invert_inside_of_a_chain(lazy: bool) -> None:
    both = ["image", "label"]
    chain = Compose(
        [Flipd(both, 1), RandCropBySmallObjectsd(both, "label", (6, 8), 2, free_share=0)], lazy=lazy
    ).set_random_state(3)
    source = item(scene())
    for part in chain(source):
        inverted = chain.inverse(part)["image"]
        assert inverted.shape == source["image"].shape
        inside = inverted > 0
        assert inside.sum() == 48 and inverted[inside].equal(source["image"][inside])
        torch.testing.assert_close(plane(inverted), plane(source["image"]))


def test_lazy_crops_equal_eager_ones() -> None:
    both = ["image", "label"]
    crops = []
    for lazy in (False, True):
        steps = [Flipd(both, 0), RandCropBySmallObjectsd(both, "label", (6, 8), 3)]
        crops.append(Compose(steps, lazy=lazy).set_random_state(5)(item(scene())))
    for eager, lazy_one in zip(*crops, strict=True):
        torch.testing.assert_close(lazy_one["image"], eager["image"])
        torch.testing.assert_close(plane(lazy_one["image"]), plane(eager["image"]))


def test_objects_of_a_label_are_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def counting(label: np.ndarray, **options: Any) -> Any:
        calls.append(label.sum())
        return find_objects(label, **options)

    monkeypatch.setattr(object_crops, "find_objects", counting)
    crop = RandCropBySmallObjects((6, 6), 2)
    for label in (scene(), scene(), scene().flip(1), scene()):
        crop(label, label)
    assert len(calls) == 2
    assert pickle.loads(pickle.dumps(crop)).spatial_size == (6, 6)  # as worker processes get it


@pytest.mark.parametrize("build", [Dataset, CacheDataset, PersistentDataset])
def test_monais_datasets_give_the_same_crops(build: Any, tmp_path: Path) -> None:
    both = ["image", "label"]
    chain = Compose([EnsureTyped(both), RandCropBySmallObjectsd(both, "label", (6, 8), 2)])
    options: dict[Any, Any] = {CacheDataset: {"progress": False}, PersistentDataset: {"cache_dir": tmp_path}}
    dataset = build([item(scene()), item(scene().flip(1))], chain, **options.get(build, {}))
    loader, seen = DataLoader(dataset, batch_size=2), []
    for _ in range(2):
        set_rnd(dataset, seed=1)  # after the loader, which seeds its dataset
        (batch,) = loader
        assert batch["image"].shape == (4, 1, 6, 8)
        seen.append(batch["image"][:, 0, 0, 0].tolist())
    assert seen[0] == seen[1]
    (expected,) = DataLoader([part for one in expected_items(chain) for part in one], batch_size=4)
    assert seen[0] == expected["image"][:, 0, 0, 0].tolist()


def expected_items(chain: Compose) -> list[Any]:
    set_rnd(chain, seed=1)
    return [chain(item(scene())), chain(item(scene().flip(1)))]


def test_smaller_labels_are_kept_whole_if_allowed() -> None:
    label = scene()[:, :5]
    assert RandCropBySmallObjects((6, 6), allow_smaller=True)(label, label)[0].shape == (1, 5, 6)
    assert RandCropBySmallObjects((-1, 6))(label, label)[0].shape == (1, 5, 6)
    assert RandCropBySmallObjects(5)(label, label)[0].shape == (1, 5, 5)


SMALL = torch.zeros(1, 9, 9)


@pytest.mark.parametrize(
    ("options", "data", "message"),
    [
        ({"num_samples": 0}, {}, "`num_samples` must be a positive int; got 0"),
        ({"size_power": float("nan")}, {}, "`size_power` must be a finite number; got nan"),
        ({"free_share": 1.5}, {}, "`free_share` must be from 0 to 1; got 1.5"),
        ({}, {"image": SMALL, "label": scene()}, r"`img` must have the size of the label \(60, 80\); got \(9, 9\)"),
        ({}, {"image": SMALL}, "`label_key` must be a key of the data; got 'label'"),
        ({}, {"image": SMALL, "label": SMALL[0]}, r"`label` must have the axes .*; got shape \(9, 9\)"),
        ({}, {"image": SMALL[:, :3], "label": SMALL[:, :3]}, r"`spatial_size` must fit .*\(3, 9\); got \(4, 4\)\. Pad"),
    ],
)
def test_bad_options_and_items_are_refused(options: dict[str, Any], data: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, KeyError), match=message):
        RandCropBySmallObjectsd("image", "label", 4, **options)(data)


def test_a_call_without_a_label_is_refused() -> None:
    with pytest.raises(ValueError, match="`label` must be the label of the image; got None"):
        RandCropBySmallObjects(4)(SMALL)
