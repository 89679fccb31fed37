"""Harmed pixels are sorted by the paper's kinds of negative cases, as a flood fill in plain Python sorts them."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from _helpers.commands import run_lab
from _helpers.synthetic_runs import write_street_run
from afma_med.comparison.examples import Example
from afma_med.data import CAMVID, CITYSCAPES, LITS, READERS, VOID, class_names
from afma_med.data.dataset_reader import DatasetReader
from afma_med.data.objects.sizes import SizeGroups
from afma_med.samples import write_street_scenes
from experiments.lab.negative_cases import (
    KINDS,
    OTHER,
    count_harm,
    has_kinds,
    main_kind,
    summarise_cases,
)

COMBINED, TEXTURE, UNLABELLED = KINDS
#: Letters of classes in the pictures below; a dot is road, x is void.
LETTERS = {"s": "sky", "t": "tree", "b": "bicyclist", "p": "pedestrian", "c": "car", "l": "pole", "u": "unlabelled"}
IDS = {letter: class_names(CAMVID.classes).index(name) for letter, name in LETTERS.items()}
IDS |= {".": class_names(CAMVID.classes).index("road"), "x": VOID}
READER = CAMVID._replace(size_groups=SizeGroups((4, 9)))  # small: up to three pixels


def grid(text: str) -> np.ndarray:
    return np.array([[IDS[letter] for letter in line] for line in text.split()], dtype=np.uint8)


def harm(label: str, baseline: str, arm: str, reader: DatasetReader = READER) -> dict[str, int]:
    arrays = [grid(text) for text in (label, arm, baseline)]
    found = count_harm(Example(np.zeros((*arrays[0].shape, 3), dtype=np.uint8), *arrays, ""), reader)
    assert list(found) == [*KINDS, OTHER]
    return {kind: count for kind, count in found.items() if count}


@pytest.mark.parametrize(
    ("label", "baseline", "arm", "expected"),
    [
        # A bicyclist becomes pedestrian and car; where the baseline was wrong already, nothing is harmed.
        ("..... .bb.. .bb..", "..... .bb.. .b...", "..... .pp.. .cp..", {COMBINED: 3}),
        # A pedestrian that becomes a bicyclist is no part of a combined class.
        ("..... .ppp. .ppp.", "..... .ppp. .ppp.", "..... .bbb. .bbb.", {OTHER: 6}),
        # Sky between the branches of a tree.
        ("tttttt tttttt tttttt", "tttttt tttttt tttttt", "tttttt tts.tt tttttt", {TEXTURE: 2}),
        # The same where the sky touches the tree's border: a small object that the label does not have.
        ("tttttt tttttt ......", "tttttt tttttt ......", "tttttt ttstt. ......", {UNLABELLED: 1, OTHER: 1}),
        # A pole that the label does not have, between sky and road.
        ("ssss ssss ....", "ssss ssss ....", "ssss slss .l..", {UNLABELLED: 2}),
        # It has a part of it, or it is no small object.
        ("ssss slss ....", "ssss slss ....", "ssss slss .l..", {OTHER: 1}),
        ("ssss ssss ....", "ssss ssss ....", "llss llss ....", {OTHER: 4}),
        # Void: harmed where the baseline says unlabelled, and AFMA sees an object.
        ("xxxx xxxx ....", "uuuu uuuu ....", "uluu suuu ....", {UNLABELLED: 2}),
        ("xxxx xxxx ....", "uuuu uuuu ....", "uuuu .... ....", {OTHER: 4}),
        ("xxxx xxxx ....", "ssss ssss ....", "lsss uuuu ....", {}),
        # Nothing changed, or for the better.
        ("ssss ....", "ssss ....", "ssss ....", {}),
        ("ssss ....", "..ss ....", "ssss ....", {}),
    ],
)
def test_kinds_of_hand_made_cases(label: str, baseline: str, arm: str, expected: dict[str, int]) -> None:
    assert harm(label, baseline, arm) == expected


def around(pixel: tuple[int, ...], shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The pixel and its neighbours in the picture."""
    near = [(pixel[0] + a, pixel[1] + b) for a, b in itertools.product((-1, 0, 1), repeat=2)]
    return [(i, j) for i, j in near if 0 <= i < shape[0] and 0 <= j < shape[1]]


def flood_fill(picture: np.ndarray, start: tuple[int, ...]) -> set[tuple[int, ...]]:
    found, front = {start}, [start]
    while front:
        pixels = around(front.pop(), picture.shape)
        new = [pixel for pixel in pixels if picture[pixel] == picture[start] and pixel not in found]
        found.update(new)
        front += new
    return found


def kind_of(label: np.ndarray, arm: np.ndarray, start: tuple[int, ...]) -> str:
    found = flood_fill(arm, start)
    values = {int(label[near]) for pixel in found for near in around(pixel, label.shape)}
    if label[start] == IDS["b"] and arm[start] in (IDS["p"], IDS["c"]):
        return COMBINED
    if len(values) == 1 and label[start] != VOID:
        return TEXTURE
    if len(found) < 4 and not any(label[pixel] == arm[start] for pixel in found):
        return UNLABELLED
    return OTHER


def by_hand(label: np.ndarray, baseline: np.ndarray, arm: np.ndarray) -> dict[str, int]:
    """Sort every pixel with a flood fill over AFMA's prediction."""
    counts = dict.fromkeys((*KINDS, OTHER), 0)
    truth = np.where(label == VOID, IDS["u"], label)
    for start in np.ndindex(*label.shape):
        if baseline[start] == truth[start] != arm[start]:
            counts[kind_of(label, arm, start)] += 1
    return counts


@given(st.integers(0, 2**32 - 1))
def test_kinds_equal_a_flood_fill_on_random_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 9, size=2)
    label = np.repeat(rng.choice([IDS[x] for x in "sbpx"], (height, 3)), 3, axis=1)[:, :width]
    clean = np.where(label == VOID, IDS["u"], label)
    baseline, arm = (
        np.where(rng.random(label.shape) < share, rng.choice([IDS[x] for x in "sbpcu"], label.shape), clean)
        for share in (0.2, 0.5)
    )
    arrays = [array.astype(np.uint8) for array in (label, arm, baseline)]
    found = count_harm(Example(np.zeros((*label.shape, 3), dtype=np.uint8), *arrays, ""), READER)
    assert found == by_hand(label, baseline, arm)


def test_combined_classes_are_classes_of_their_dataset() -> None:
    assert {name for name, reader in READERS.items() if reader.combined_classes} == {"camvid", "cityscapes"}
    for reader in (CAMVID, CITYSCAPES):
        for whole, parts in reader.combined_classes.items():
            assert {whole, *parts} <= set(class_names(reader.classes))


def test_slices_of_volumes_are_not_sorted() -> None:
    assert has_kinds(CAMVID)
    assert not has_kinds(LITS)


def test_cases_are_counted_by_their_main_kind() -> None:
    one = {COMBINED: 6, TEXTURE: 1, UNLABELLED: 0, OTHER: 2}
    other = {COMBINED: 0, TEXTURE: 0, UNLABELLED: 0, OTHER: 0}
    assert (main_kind(one), main_kind(other)) == (COMBINED, OTHER)
    assert main_kind({COMBINED: 0, TEXTURE: 3, UNLABELLED: 5, OTHER: 42}) == UNLABELLED, "a tenth is enough"
    assert main_kind({COMBINED: 0, TEXTURE: 3, UNLABELLED: 5, OTHER: 43}) == OTHER
    assert summarise_cases([one, other]) == (
        "combined classes: 1 of 2 images, 67 % of the harmed pixels; "
        "texture inside objects: 0 of 2 images, 11 % of the harmed pixels; "
        "unlabelled objects: 0 of 2 images, 0 % of the harmed pixels; "
        "none of these: 1 of 2 images, 22 % of the harmed pixels"
    )


def test_command_describes_the_images_that_are_hurt_most(tmp_path: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 1, "val": 1, "test": 5}, size=(64, 96))
    runs = [write_street_run(tmp_path / str(afma), scenes, step=2 + 3 * afma, afma=bool(afma)) for afma in (1, 0)]
    done = run_lab("negative_cases", *runs, "--images", 2)
    assert done.returncode == 0, done.stderr
    *images, summary = done.stdout.splitlines()
    assert len(images) == 2 and all(line.startswith("test/scene_") for line in images)
    assert summary.startswith("combined classes: ") and "of 2 images" in summary
