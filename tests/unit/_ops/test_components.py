"""Components and their regions equal a search over all pairs of pixels; the cache compares content."""

from __future__ import annotations

import copy
import itertools
import pickle

import numpy as np
import pytest

from afma_med._ops.components import ArrayCache, component_regions, find_object_runs, number_components


def flood(mask: np.ndarray) -> list[set[tuple[int, ...]]]:
    """Components as sets of pixels, by a flood fill in plain Python."""
    left, found = {tuple(pixel) for pixel in np.argwhere(mask).tolist()}, []
    while left:
        queue, component = [left.pop()], set()
        while queue:
            pixel = queue.pop()
            component.add(pixel)
            near = {tuple(np.add(pixel, step)) for step in itertools.product((-1, 0, 1), repeat=mask.ndim)} & left
            left -= near
            queue += near
        found.append(component)
    return found


@pytest.mark.parametrize("shape", [(9, 11), (5, 4, 6)])
@pytest.mark.parametrize("seed", range(3))
def test_components_equal_a_flood_fill(shape: tuple[int, ...], seed: int) -> None:
    mask = np.random.default_rng(seed).random(shape) < 0.12
    numbers, count = number_components(mask)
    own = [{tuple(pixel) for pixel in np.argwhere(numbers == j).tolist()} for j in range(1, count + 1)]
    assert sorted(map(sorted, own)) == sorted(map(sorted, flood(mask)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (7, 12), (30, 31)])
@pytest.mark.parametrize("values", [1, 2, 4])
def test_runs_join_to_the_components_of_each_value(shape: tuple[int, int], values: int) -> None:
    for seed in range(5):
        label = np.random.default_rng(seed).integers(0, values, shape)
        runs = find_object_runs(label)
        assert np.repeat(runs.value, runs.length).reshape(shape).tolist() == label.tolist()
        numbers = np.repeat(runs.number, runs.length).reshape(shape)
        own = [set(map(tuple, np.argwhere(numbers == j).tolist())) for j in range(runs.number.max() + 1)]
        assert sorted(map(sorted, own)) == sorted(sorted(part) for k in range(values) for part in flood(label == k))


@pytest.mark.parametrize("spacing", [None, (1.0, 3.0, 0.5)])
@pytest.mark.parametrize("shape", [(9, 11), (5, 4, 6)])
def test_each_pixel_belongs_to_its_nearest_component(shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> None:
    mask = np.random.default_rng(7).random(shape) < 0.1
    scale = np.array((1.0, 1.0, 1.0) if spacing is None else spacing)[: len(shape)]
    regions, count = component_regions(mask, spacing=spacing and spacing[: len(shape)])
    numbers, _ = number_components(mask)
    assert count > 2
    for pixel in np.ndindex(shape):
        apart = [(((np.argwhere(numbers == j) - pixel) * scale) ** 2).sum(axis=1).min() for j in range(1, count + 1)]
        assert apart[regions[pixel] - 1] == pytest.approx(min(apart))


def test_an_empty_mask_has_no_region_and_one_component_has_all_pixels() -> None:
    empty, count = component_regions(np.zeros((3, 4), dtype=bool))
    assert count == 0 and not empty.any()
    whole, count = component_regions(np.eye(4, dtype=bool))
    assert count == 1 and (whole == 1).all()


def test_the_cache_computes_once_for_one_content() -> None:
    cache, calls = ArrayCache(1000), []

    def compute(array: np.ndarray) -> tuple[np.ndarray]:
        calls.append(array)
        return (array * 2,)

    first = np.arange(6)
    for array in (first, first.copy(), first.reshape(2, 3), first.astype(np.int32), np.arange(12)[::2] // 2):
        assert (cache.get(array, compute)[0] == array * 2).all()
    assert len(calls) == 3  # once for the content, once for another shape and for another type
    cache.get(first, compute, "option")
    assert len(calls) == 4


def test_the_cache_drops_what_was_not_used_for_the_longest_time() -> None:
    cache, calls = ArrayCache(80), []

    def compute(array: np.ndarray) -> tuple[np.ndarray]:
        calls.append(int(array[0]))
        return (np.zeros(5, dtype=np.int64),)

    for value in (1, 2, 1, 3, 1, 2):
        cache.get(np.array([value]), compute)
    assert calls == [1, 2, 3, 2] and len(cache) == 2
    assert ArrayCache(1).get(np.array([1]), compute)[0].size == 5  # larger than the cache


def test_copies_of_the_cache_start_empty() -> None:
    cache = ArrayCache(80)
    cache.get(np.zeros(2), lambda array: (array,))
    for copied in (pickle.loads(pickle.dumps(cache)), copy.deepcopy(cache)):
        assert len(copied) == 0 and copied.max_bytes == 80
