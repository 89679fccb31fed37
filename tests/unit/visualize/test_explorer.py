"""The numbers in the pages of the attention explorer, against whole matrices; their size."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from _helpers.explorer_page import read_arrays, read_description, read_maps
from afma_med import AFMANet
from afma_med.data import CAMVID, ISIC, LITS
from afma_med.data.class_table import ClassInfo
from afma_med.functional import PatchAttention, PatchGrid
from afma_med.visualize import (
    AttendedImage,
    AttendedPart,
    ExplorerSlice,
    attend_image,
    attend_point,
    format_explorer,
    stretch_image,
)
from afma_med.visualize.packed_attention import PackedMap, pack_components, split_attention


def attention_of(
    rank: int, *, classes: int = 3, size: tuple[int, int] = (60, 90), signed: bool = False
) -> PatchAttention:
    """An attention whose maps have a number of components that become smaller."""
    generator = torch.Generator().manual_seed(rank)
    grid = PatchGrid(size, 2, (5, 5))
    counts = [(-(-size[0] // (5 * s))) * (-(-size[1] // (5 * s))) for s in (1, 2)]
    draw = functools.partial(torch.randn if signed else torch.rand, generator=generator)
    axes = draw(classes, rank, 25) * (0.5 ** torch.arange(rank))[:, None]
    return PatchAttention(draw(1, classes, counts[0], rank) @ axes, draw(1, classes, counts[1], rank) @ axes, grid)


def exact(attention: PatchAttention) -> NDArray[np.float64]:
    dense: NDArray[np.float64] = PatchAttention(*(x.double() for x in attention[:2]), attention.grid).dense()[0].numpy()
    return dense


@functools.cache
def network(classes: int = 12, variant: str = "released", channels: int = 3) -> AFMANet:
    torch.manual_seed(0)
    host = nn.Sequential(nn.Conv2d(channels, 4, 2, 2), nn.ConvTranspose2d(4, classes, 2, 2))
    net = AFMANet(host, classes, feature="0", in_channels=channels, patch_size=(4, 5), variant=variant)
    with torch.no_grad():
        net.afma_block.feature_conv.weight.mul_(60)
        net.afma_block.image_conv2.weight.mul_(20)
    return net.eval()


def slice_of(
    net: AFMANet, *, number: int | None = None, seed: int = 1, size: tuple[int, int] = (41, 62)
) -> ExplorerSlice:
    channels = net.in_channels
    image = torch.rand(channels, *size, generator=torch.Generator().manual_seed(seed))
    label = torch.randint(4, size, generator=torch.Generator().manual_seed(seed)).numpy()
    label[label == 3] = 255
    return ExplorerSlice(attend_image(net, image), stretch_image(image.numpy()), label, number)


def table(count: int) -> list[ClassInfo]:
    return [ClassInfo(f"c{k}", k, k, (k, 9 * k, 250 - k)) for k in range(count)]


# --- packing


def pack(attention: PatchAttention, tolerance: float = 1e-3) -> list[PackedMap]:
    return pack_components(split_attention(attention), tolerance=tolerance)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("rank", [1, 3, 25])
def test_packed_maps_are_those_of_the_matrix(rank: int, signed: bool) -> None:
    attention = attention_of(rank, signed=signed)
    for one, expected in zip(pack(attention), exact(attention), strict=True):
        assert one.dense().shape == expected.shape
        assert np.abs(one.dense() - expected).max() <= 1e-2 * np.abs(expected).max()
        assert one.query.dtype == one.key.dtype == np.int16
        assert len(one.scale) == len(one.query) == len(one.key) <= rank


def test_error_is_the_largest_one() -> None:
    attention = attention_of(25)
    for one, fine, expected in zip(pack(attention, 0.05), pack(attention), exact(attention), strict=True):
        left, sizes, right = np.linalg.svd(expected, full_matrices=False)
        largest = (np.abs(left).max(axis=0) * sizes * np.abs(right).max(axis=1)).max()
        # It is measured at 512 patches; these attentions have fewer.
        assert one.error == pytest.approx(np.abs(one.dense() - expected).max() / largest, rel=1e-4)
        assert one.error > fine.error > 0


def test_attention_of_zeros_has_no_components() -> None:
    attention = attention_of(2)
    nothing = attention._replace(query=torch.zeros_like(attention.query))
    assert all(one.error == 0 and not one.dense().any() for one in pack(nothing))


# --- the page


@pytest.mark.parametrize(("classes", "variant"), [(12, "released"), (3, "paper"), (1, "released"), (1, "paper")])
def test_page_holds_the_numbers_of_attend_point(classes: int, variant: str) -> None:
    one = slice_of(network(classes, variant))
    names = {12: CAMVID.classes, 3: LITS.classes, 1: ISIC.classes}[classes]
    page, numbers = format_explorer([one], names, title="a", point=(3, 4))
    assert numbers == []
    described, arrays = read_description(page), read_arrays(page)
    check_numbers(page, one.seen)
    for name, values in (("before", one.seen.before), ("after", one.seen.after), ("label", one.label)):
        np.testing.assert_array_equal(arrays[name].reshape(41, 62), values)
    assert described["slices"][0]["parts"][0]["signed"] == bool(min(x.min() for x in one.seen.attention[:2]) < 0)
    assert [x["id"] for x in described["maps"]] == ([1] if classes == 1 else list(range(classes)))
    [part] = described["parts"]
    assert (part["patch"], part["stride"], part["maps"]) == ([4, 5], 2, list(range(classes)))
    assert described["point"] == [3, 4]


def check_numbers(page: str, seen: AttendedImage, part: int = 0) -> None:
    """Compare what a page says of one attention at three points with attend_point."""
    arrays, maps, classes = read_arrays(page, part=part), read_maps(page, part=part), len(seen.values)
    for point in ((0, 0), (25, 33), (40, 61)):
        expected = attend_point(seen, point)
        row = maps[:, expected.patch]
        for found, values in zip(row, expected.maps.reshape(classes, -1), strict=True):
            np.testing.assert_allclose(found, values, atol=1e-2 * max(np.abs(maps).max(), 1e-9))
        counts = arrays["counts"].reshape(classes, -1)[:, expected.patch, None] + 1e-5
        corrections = (row * arrays["values"].reshape(classes, -1) / counts).sum(axis=1)
        np.testing.assert_allclose(corrections, expected.corrections, atol=1e-2 * np.abs(expected.corrections).max())


GROUPS: dict[str, Any] = {
    "patch_size": {"a": 4, "b": (2, 5)},
    "feature": {"a": "0", "b": "1"},
    "class_groups": {"a": [0, 2], "b": [1]},
}
TWO_DEPTHS = {"feature": ["0", "1"], "patch_size": (4, 5)}


@pytest.mark.parametrize("options", [TWO_DEPTHS, GROUPS], ids=["depths", "groups"])
def test_page_holds_the_numbers_of_each_of_several_attentions(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    host = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 2, 2), nn.ConvTranspose2d(4, 4, 4, 4))
    net = AFMANet(host, 4, **options).eval()
    with torch.no_grad():
        for block in net.afma_block.blocks:
            block.feature_conv.weight.mul_(60)
        for block in {x.image_conv2 for x in net.afma_block.blocks}:
            block.weight.mul_(20)
    one = slice_of(net)
    page, _ = format_explorer([one], table(4), title="a", point=(3, 4))
    parts = read_description(page)["parts"]
    assert [part["stride"] for part in parts] == [2, 4]
    groups = options is GROUPS
    sizes = ["4×4", "2×5"] if groups else ["4×5", "4×5"]
    assert [part["name"] for part in parts] == [f"{k}, patches of {size} pixels" for k, size in enumerate(sizes)]
    assert [part["maps"] for part in parts] == ([[0, 2], [1]] if groups else [[0, 1, 2, 3]] * 2)
    assert [part["patch"] for part in parts] == ([[4, 4], [2, 5]] if groups else [[4, 5]] * 2)
    for part in range(2):
        seen = one.seen.for_part(part)
        assert seen.attention.dense().abs().max() > 0
        check_numbers(page, seen, part)
    np.testing.assert_array_equal(read_arrays(page, part=1)["after"].reshape(41, 62), one.seen.after)


def test_page_needs_nothing_else_and_quotes_its_title() -> None:
    page, again = (
        format_explorer([slice_of(network(3))], LITS.classes, title="</script><b>&", point=(0, 0))[0] for _ in range(2)
    )
    assert page == again
    assert "<b>&" not in page
    assert read_description(page)["title"] == "</script><b>&"
    assert "default-src 'none'" in page
    assert not any(text in page for text in ("http:", "https:", "eval"))
    without, _ = format_explorer([slice_of(network(3))._replace(label=None)], LITS.classes, title="a", point=(0, 0))
    assert "label" not in read_arrays(without)


def test_page_is_rounded_until_it_is_small_enough() -> None:
    one = slice_of(network(12), size=(120, 160))
    make = functools.partial(format_explorer, [one], CAMVID.classes, title="a", point=(0, 0))
    fine = make()[0]
    bound = len(fine.encode()) - 2_000
    coarse = make(max_bytes=bound)[0]
    assert len(coarse.encode()) <= bound
    errors = [read_description(page)["slices"][0]["parts"][0]["error"] for page in (coarse, fine)]
    assert errors[0] > errors[1]
    with pytest.raises(ValueError, match=r"a page of 0.02 MB; got an image of 120×160 pixels with 12 attention maps"):
        make(max_bytes=20_000)


def test_page_of_a_volume_leaves_slices_out_but_not_the_first() -> None:
    slices = [slice_of(network(3, channels=1), number=10 + i, seed=i) for i in range(5)]
    make = functools.partial(format_explorer, slices, LITS.classes, title="a", point=(0, 0), first=3, depth=40)
    page, numbers = make()
    assert numbers == [10, 11, 12, 13, 14]
    assert read_description(page)["first"] == 3
    single = len(format_explorer(slices[:1], LITS.classes, title="a", point=(0, 0))[0].encode())
    less, numbers = make(max_bytes=single + 2 * (len(page.encode()) - single) // 4)
    assert numbers == [11, 13]
    assert [one["number"] for one in read_description(less)["slices"]] == [11, 13]
    assert read_description(less)["first"] == 1
    np.testing.assert_array_equal(read_arrays(less, 1)["before"].reshape(41, 62), slices[3].seen.before)


def test_nothing_and_other_classes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"`slices` must hold at least one slice; got none"):
        format_explorer([], LITS.classes, title="a", point=(0, 0))
    with pytest.raises(ValueError, match=r"`class_table` must hold the 12 classes of the network; got 3"):
        format_explorer([slice_of(network(12))], LITS.classes, title="a", point=(0, 0))


@pytest.mark.slow
def test_large_image_with_twenty_classes_fits() -> None:
    """Forty components, each 0.6 times as large as the one before."""
    size, generator = (1024, 2048), torch.Generator().manual_seed(0)
    grid = PatchGrid(size, 4, (10, 10))
    axes = torch.randn(20, 40, 100, generator=generator) * (0.6 ** torch.arange(40))[:, None]
    query, key = ((torch.randn(20, count, 40, generator=generator) @ axes)[None] for count in (21115, 1352))
    ids = np.zeros(size, dtype=np.uint8)
    values = torch.rand(20, 1352, generator=generator)
    image = np.zeros((3, *size), dtype=np.float32)
    attention = PatchAttention(query, key, grid)
    seen = AttendedImage(image, ids, ids, attention, values)
    depths = (AttendedPart(attention, values, tuple(range(20)), depth) for depth in (2, 3, 4))
    for several in (seen, dataclasses.replace(seen, parts=tuple(depths))):
        one = ExplorerSlice(several, stretch_image(image), ids)
        page, _ = format_explorer([one], table(20), title="large", point=(0, 0))
        assert len(page.encode()) <= 15e6
        errors = [part["error"] for part in read_description(page)["slices"][0]["parts"]]
        assert max(errors) < 0.02
