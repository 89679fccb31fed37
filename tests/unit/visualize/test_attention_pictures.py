"""Pictures of attention: the numbers in them against whole matrices, the files, the handler on real engines."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from monai.engines import SupervisedEvaluator
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from afma_med import AFMANet, SliceWise
from afma_med.data import CAMVID, ISIC, LITS
from afma_med.functional import PatchAttention, compress_prediction, modulate_logits, split_patches
from afma_med.handlers import AttentionPicturesHandler, pictures
from afma_med.visualize import (
    AttendedImage,
    attend_image,
    attend_point,
    compare_attention,
    corrected_object,
    draw_attention,
    draw_montage,
    figure_pixels,
    fullest_slice,
    object_classes,
    object_points,
    predict_slices,
    save_figure,
    smallest_object,
    take_slice,
)
from afma_med.visualize.attention_panels import map_names
from afma_med.visualize.volume_slices import spread_evenly


class Tiny(nn.Module):
    """Two convolutions that AFMA can tap: stride 2 down, then up again."""

    def __init__(self, classes: int = 3, channels: int = 3) -> None:
        super().__init__()
        self.down = nn.Conv2d(channels, 4, 3, stride=2, padding=1)
        self.up = nn.ConvTranspose2d(4, classes, 2, stride=2)

    def forward(self, image: Tensor) -> Tensor:
        return self.up(self.down(image).relu())


def make_network(classes: int = 3, *, channels: int = 3, patch: int = 4, variant: str = "released") -> AFMANet:
    """A network whose attention is large enough to change predictions."""
    torch.manual_seed(0)
    net = AFMANet(
        Tiny(classes, channels), classes, feature="down", in_channels=channels, patch_size=patch, variant=variant
    )
    with torch.no_grad():
        net.afma_block.feature_conv.weight.mul_(100)
        net.afma_block.image_conv2.weight.mul_(20)
    return net.eval()


def make_image(channels: int = 3, size: tuple[int, int] = (21, 30)) -> Tensor:
    return torch.rand(channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def network() -> AFMANet:
    return make_network()


@pytest.fixture(scope="module")
def seen(network: AFMANet) -> AttendedImage:
    return attend_image(network, make_image())


def naive_contributions(network: AFMANet, image: Tensor) -> tuple[Tensor, Tensor]:
    """A and, for all n and m, A[n,m] / count · mean of V[m]: (K,N,M) each, with loops of the text."""
    soft = network.variant == "paper"
    with torch.no_grad():
        logits, attention = network.attend(image[None])
        dense = attention.dense()[0]
        values = split_patches(compress_prediction(logits, attention.grid, soft=soft), attention.grid.patch_size)[0]
    contributions = torch.zeros_like(dense)
    for k, matrix in enumerate(dense):
        for n, row in enumerate(matrix):
            count = int((row != 0).sum())
            for m, weight in enumerate(row):
                contributions[k, n, m] = weight / (count + 1e-5) * values[k, m].mean()
    return dense, contributions


# --- AFMANet.attend


@pytest.mark.parametrize("variant", ["released", "paper"])
def test_forward_is_attend_and_modulate(variant: str) -> None:
    net, image = make_network(variant=variant), make_image()[None]
    with torch.no_grad():
        logits, attention = net.attend(image)
        assert torch.equal(net(image), modulate_logits(logits, attention, soft=variant == "paper"))
        assert torch.equal(logits, net.backbone(torch.nn.functional.pad(image, (0, 0, 0, 1)))[..., :21, :])
    with pytest.raises(ValueError, match=r"`image` must have the 4 axes"):
        net.attend(image[0])


# --- attend_image and attend_point


def test_predictions_and_changes_are_those_of_the_logits(network: AFMANet, seen: AttendedImage) -> None:
    with torch.no_grad():
        before, after = network.attend(make_image()[None])[0].argmax(1)[0], network(make_image()[None]).argmax(1)[0]
    np.testing.assert_array_equal(seen.before, before)
    np.testing.assert_array_equal(seen.after, after)
    np.testing.assert_array_equal(seen.changed, before != after)
    assert 0 < seen.changed.mean() < 1, "the example must change something"
    np.testing.assert_array_equal(seen.image, make_image())


def test_prediction_after_is_that_of_a_network_that_corrects_otherwise() -> None:
    class Negated(AFMANet):
        def correct(self, logits: Tensor, attention: Any, values: Any = None) -> Tensor:
            return -logits

    torch.manual_seed(0)
    net = Negated(Tiny(), 3, feature="down").eval()
    seen = attend_image(net, make_image())
    with torch.no_grad():
        np.testing.assert_array_equal(seen.after, net(make_image()[None]).argmax(1)[0])
    assert seen.changed.any()


def test_of_several_attentions_that_of_the_class_is_shown() -> None:
    torch.manual_seed(0)
    groups, patches = {"a": [0, 2], "b": [1]}, {"a": 4, "b": (2, 5)}
    net = AFMANet(Tiny(), 3, feature="down", patch_size=patches, class_groups=groups).eval()
    with torch.no_grad():
        for block in net.afma_block.blocks:
            block.feature_conv.weight.mul_(100)
            block.image_conv2.weight.mul_(20)
        parts = net.attend(make_image()[None])[1].parts
        after = net(make_image()[None]).argmax(1)[0]
    seen = attend_image(net, make_image())
    np.testing.assert_array_equal(seen.after, after)
    assert [(one.feature, one.class_indices) for one in seen.parts] == [("down", (0, 2)), ("down", (1,))]
    for k, part, place in ((0, parts[0], 0), (1, parts[1], 0), (2, parts[0], 1)):
        found = attend_point(seen, (9, 14), class_index=k)
        height, width = part.grid.patch_size
        columns = -(-30 // width)
        assert found.patch == 9 // height * columns + 14 // width
        assert found.rectangle[:2] == (9 // height * height, 14 // width * width)
        row = part.dense()[0, place, found.patch]
        np.testing.assert_allclose(found.maps[k].flatten(), row, rtol=1e-5, atol=1e-7)
        assert row.abs().max() > 0
        others = [x for x in range(3) if x != k and (x == 1) is not (k == 1)]
        assert not found.maps[others].any()
        figure = draw_attention(found, CLASSES)
        assert figure._suptitle.get_text().endswith(f"; attention of down, patches of {height}×{width} pixels")
        absent = [axes for axes in figure.axes if any("not in this" in text.get_text() for text in axes.texts)]
        names = [text.get_text() for axes in absent for text in axes.texts]
        assert names == [f"{CLASSES[x].name}\nnot in this attention" for x in others]
        assert not any(axes.images for axes in absent)


@pytest.mark.parametrize("variant", ["released", "paper"])
@pytest.mark.parametrize("point", [(0, 0), (9, 14), (20, 29)], ids=str)
def test_maps_and_corrections_are_rows_of_the_matrix(variant: str, point: tuple[int, int]) -> None:
    net, image = make_network(variant=variant), make_image()
    dense, contributions = naive_contributions(net, image)
    found = attend_point(attend_image(net, image), point)
    n = point[0] // 4 * 8 + point[1] // 4
    assert found.patch == n
    assert found.maps.shape == (3, 3, 4)
    np.testing.assert_allclose(found.maps.reshape(3, -1), dense[:, n], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.corrections, contributions[:, n].sum(-1), rtol=1e-4, atol=1e-6)
    asked = contributions[found.class_index, n]
    strongest = asked.abs().argsort(descending=True)[:5]
    assert [region.patch for region in found.regions] == [m for m in strongest.tolist() if asked[m] != 0]
    for region in found.regions:
        assert region.contribution == pytest.approx(asked[region.patch].item(), rel=1e-4)
        assert region.attention == pytest.approx(dense[found.class_index, n, region.patch].item(), rel=1e-5)


def test_correction_of_an_inner_patch_is_what_multiplies_its_logits(network: AFMANet) -> None:
    """X by its definition, from the logits: after = before + before · X."""
    image = make_image()
    with torch.no_grad():
        before, after = network.attend(image[None])[0][0].double(), network(image[None])[0].double()
    top, left, bottom, right = (found := attend_point(attend_image(network, image), (9, 14))).rectangle
    for index in range(3):
        x = (after / before - 1)[index, top:bottom, left:right].mean()
        assert found.corrections[index] == pytest.approx(x.item(), abs=1e-4)


def test_rectangles_cover_patch_and_stride_within_the_image(seen: AttendedImage) -> None:
    assert attend_point(seen, (9, 14)).rectangle == (8, 12, 12, 16)
    assert attend_point(seen, (20, 29)).rectangle == (20, 28, 21, 30), "clipped to the image"
    assert attend_point(seen, (9, 14)).class_index == seen.after[9, 14]
    assert len(attend_point(seen, (9, 14), regions=2).regions) <= 2
    for index in range(3):
        for region in attend_point(seen, (9, 14), class_index=index, regions=1000).regions:
            row, column = divmod(region.patch, 4)
            expected = (8 * row, 8 * column, min(8 * row + 8, 21), min(8 * column + 8, 30))
            assert region.rectangle == expected


def test_binary_network_has_one_map_and_a_large_image_no_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    net, image = make_network(1), make_image()
    attended = attend_image(net, image)
    with torch.no_grad():
        np.testing.assert_array_equal(attended.before, net.attend(image[None])[0][0, 0] > 0)
        np.testing.assert_array_equal(attended.after, net(image[None])[0, 0] > 0)
    dense, contributions = naive_contributions(net, image)
    found = attend_point(attended, (9, 14))
    np.testing.assert_allclose(found.maps.reshape(1, -1), dense[:, found.patch], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(found.corrections, contributions[:, found.patch].sum(-1), rtol=1e-4, atol=1e-7)
    assert draw_attention(found, ISIC.classes).axes
    large = attend_image(make_network(2, patch=10), make_image(size=(1024, 2048)))
    monkeypatch.delattr(PatchAttention, "dense")  # the matrix of a large image takes too much memory
    found = attend_point(large, (1000, 2000))
    assert found.maps.shape == (2, 52, 103) and found.patch == 100 * 205 + 200
    assert draw_attention(found, ISIC.classes).axes


@pytest.mark.parametrize("wrap", [nn.Sequential, SliceWise], ids=["module", "SliceWise"])
def test_network_may_be_wrapped(network: AFMANet, seen: AttendedImage, wrap: type[nn.Module]) -> None:
    np.testing.assert_array_equal(attend_image(wrap(network), make_image()).after, seen.after)


def test_modes_gradients_and_random_numbers_stay_as_they_were() -> None:
    net = make_network().train()
    net.backbone.down.eval()
    modes = [module.training for module in net.modules()]
    state, hooks = torch.get_rng_state(), len(net.backbone.down._forward_hooks)
    assert not attend_image(net, make_image()).attention.query.requires_grad
    assert [module.training for module in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert len(net.backbone.down._forward_hooks) == hooks
    assert all(parameter.grad is None for parameter in net.parameters())


def test_unusable_arguments_are_refused(network: AFMANet, seen: AttendedImage) -> None:
    with pytest.raises(TypeError, match=r"`network` must be or contain an AFMANet; got Tiny"):
        attend_image(Tiny(), make_image())
    with pytest.raises(ValueError, match=r"`image` must have the 3 axes \(C,H,W\); got shape \(1, 3, 21, 30\)"):
        attend_image(network, make_image()[None])
    for point in [(-1, 0), (21, 0), (0, 30)]:
        with pytest.raises(ValueError, match=r"`point` must lie in the image, rows 0 to 20, columns 0 to 29"):
            attend_point(seen, point)
    with pytest.raises(ValueError, match=r"`class_index` must be from 0 to 2; got 3"):
        attend_point(seen, (0, 0), class_index=3)
    with pytest.raises(ValueError, match=r"`label` must have the 2 axes \(H,W\); got shape \(1, 30, 40\)"):
        smallest_object(LABEL[None])


# --- points


LABEL = np.zeros((30, 40), dtype=np.uint8)
LABEL[2:7, 2:7] = 1
LABEL[12:15, 20:23] = 1
LABEL[20:23, 5:8] = 2
LABEL[25, 30] = LABEL[26, 31] = 2  # one object: corners touch


def test_corrected_object_is_the_small_one_that_gains_most() -> None:
    label = np.zeros((12, 16), dtype=np.uint8)
    label[1:4, 1:4], label[1:4, 8:11], label[6:12, 0:16] = 1, 1, 2
    before, after = np.zeros_like(label), np.zeros_like(label)
    after[1, 1:4] = 1  # three pixels of the first object
    after[1:3, 8:11], before[3, 8:11] = 1, 1  # six of the second one, which loses three
    after[6:12] = 2  # all of a large one
    assert corrected_object(before, after, label, class_indices=[1, 2], max_pixels=50) == (3, (1, 2))
    after[3, 8:11] = 1
    assert corrected_object(before, after, label, class_indices=[1, 2], max_pixels=50) == (6, (1, 9))
    assert corrected_object(before, after, label, class_indices=[2], max_pixels=50) is None
    assert corrected_object(after, before, label, class_indices=[1], max_pixels=50) is None, "both only lose"
    assert corrected_object(before[1:], after[1:], label[1:], class_indices=[1], max_pixels=50) is None, "both are cut"


def test_points_of_objects() -> None:
    assert object_points(LABEL, 1) == [(4, 4), (13, 21)], "the largest first"
    assert object_points(LABEL, 1, count=1) == [(4, 4)]
    assert object_points(LABEL, 2, min_pixels=3) == [(21, 6)]
    assert object_points(LABEL, 7) == []
    assert smallest_object(LABEL) == (25, 30)
    assert smallest_object(LABEL, min_pixels=3) == (13, 21), "of two equal ones the first in raster order"
    assert smallest_object(LABEL, class_indices=[2], min_pixels=3) == (21, 6)
    rows, columns = np.nonzero(LABEL == 0)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    assert smallest_object(LABEL, class_indices=[0]) == (rows[distance.argmin()], columns[distance.argmin()])
    assert smallest_object(LABEL, class_indices=[5]) is None
    assert smallest_object(LABEL, class_indices=[1], min_pixels=26) is None
    void = np.pad(np.full((7, 7), 3, dtype=np.uint8), 1, constant_values=255)
    assert smallest_object(void) == (4, 4)


def test_point_lies_inside_an_object_with_a_hole() -> None:
    ring = np.zeros((9, 9), dtype=np.uint8)
    ring[1:8, 1:8] = 1
    ring[2:7, 2:7] = 0
    point = smallest_object(ring, class_indices=[1])
    assert point is not None
    assert ring[point] == 1
    assert point == (1, 4), "the nearest to the centre, the first in raster order"


def test_background_and_unscored_classes_have_no_objects() -> None:
    assert object_classes(LITS.classes) == [1, 2]
    assert object_classes(CAMVID.classes, ["unlabelled"]) == list(range(11)), "sky is a class like others"
    prediction = np.zeros((4, 4, 3), np.uint8)
    prediction[0, :2, 1], prediction[:2, :, 2] = 2, 3
    assert [fullest_slice(prediction, indices) for indices in ([1, 2], [3], [9])] == [1, 2, 0]


# --- figures


CLASSES = LITS.classes


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 1), (".svg", 3)])
def test_figures_become_files(tmp_path: Path, suffix: str, channels: int) -> None:
    net = make_network(channels=channels)
    point = attend_point(attend_image(net, make_image(channels)), (9, 14))
    for name in ("first", "second"):
        save_figure(draw_attention(point, CLASSES, title="Unet, depth 2"), tmp_path / f"full_{name}{suffix}")
        save_figure(compare_attention([("a", point), ("b", point)], CLASSES), tmp_path / f"rows_{name}{suffix}")
    assert len(list(tmp_path.iterdir())) == 4, "nothing temporary is left"
    for kind in ("full", "rows"):
        first, second = ((tmp_path / f"{kind}_{name}{suffix}").read_bytes() for name in ("first", "second"))
        assert len(first) > 5000
        if suffix == ".png":
            assert first == second
        else:  # older versions of matplotlib use memory addresses as names in an SVG
            assert b"<dc:date>" not in first


def test_figure_says_what_is_seen(seen: AttendedImage) -> None:
    row, column = np.argwhere(seen.changed)[0].tolist()
    point = attend_point(seen, (row, column))
    figure = draw_attention(point, CLASSES, title="Unet, depth 2")
    names = [info.name for info in CLASSES]
    assert figure._suptitle.get_text() == (
        f"Unet, depth 2\nrow {row}, column {column}, predicted as {names[seen.after[row, column]]}, "
        f"before the correction as {names[seen.before[row, column]]}"
    )
    titles = [axes.get_title() for axes in figure.axes]
    assert all(any(title.startswith(name) for title in titles) for name in names), "a map for each class"
    assert f"strongest attention: {names[point.strongest]}" in titles
    below = [axes.get_xlabel() for axes in figure.axes]
    assert f"{seen.changed.sum()} of 630 pixels, {seen.changed.mean():.2%}" in below
    legends = [axes.get_legend() for axes in figure.axes if axes.get_legend()]
    occurring = {names[k] for k in np.unique([seen.before, seen.after])}
    assert {text.get_text() for text in legends[0].get_texts()} == occurring


def test_maps_share_one_scale_and_reach_no_further_than_the_image(seen: AttendedImage) -> None:
    point = attend_point(seen, (9, 14))
    figure = draw_attention(point, CLASSES)
    shown = [axes for axes in figure.axes if axes.get_title().split(" ")[0] in {info.name for info in CLASSES}]
    assert len(shown) == 3
    assert {axes.images[0].get_clim() for axes in shown} == {(0.0, float(point.maps.max()))}
    assert {axes.get_xlim() for axes in shown} == {(-0.5, 29.5)}
    assert {axes.get_ylim() for axes in shown} == {(20.5, -0.5)}
    # Three rows and four columns of patches that cover 8 × 8 pixels each, beyond the image's border too.
    assert tuple(shown[1].images[0].get_extent()) == (-0.5, 31.5, 23.5, -0.5)


def test_single_changed_pixel_of_a_large_image_is_seen(seen: AttendedImage) -> None:
    before = np.zeros((1024, 2048), np.uint8)
    after = before.copy()
    after[700, 1500] = 1
    grid = seen.attention.grid._replace(image_size=(1024, 2048))
    attention = PatchAttention(torch.rand(1, 3, 256 * 512, 16), torch.rand(1, 3, 128 * 256, 16), grid)
    large = AttendedImage(np.zeros((1, 1024, 2048), np.float32), before, after, attention, torch.rand(3, 128 * 256))
    figure = compare_attention([("large", attend_point(large, (700, 1500)))], CLASSES)
    pixels = figure_pixels(figure).astype(int)
    right = pixels[:, pixels.shape[1] * 5 // 6 :]
    orange = (right[..., 0] - right[..., 2] > 25) & (right[..., 1] < right[..., 0])
    assert orange.any()


def test_wrong_tables_rows_and_suffixes_are_refused(tmp_path: Path, seen: AttendedImage) -> None:
    point = attend_point(seen, (9, 14))
    with pytest.raises(ValueError, match=r"`class_table` must hold the 3 classes of the network; got 12"):
        draw_attention(point, CAMVID.classes)
    with pytest.raises(ValueError, match=r"`rows` must hold at least one point"):
        compare_attention([], CLASSES)
    with pytest.raises(ValueError, match=r"`path` must end in \.png or \.svg; got `.*a\.pdf`"):
        save_figure(Figure(), tmp_path / "a.pdf")
    assert map_names(CLASSES, 3) == ["background", "liver", "tumour"]


def test_failed_save_leaves_the_earlier_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_figure(Figure(), tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()

    def fail(self: Figure, path: Path, **_: object) -> None:
        path.write_text("half", encoding="utf-8")
        raise OSError("disk full")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), tmp_path / "a.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
    assert (tmp_path / "a.png").read_bytes() == before


def test_figure_pixels_are_those_of_the_file(tmp_path: Path, seen: AttendedImage) -> None:
    figure = compare_attention([("a", attend_point(seen, (9, 14)))], CLASSES)
    pixels = figure_pixels(figure)
    saved = np.asarray(Image.open(save_figure(figure, tmp_path / "a.png")).convert("RGB"))
    assert pixels.shape == saved.shape
    np.testing.assert_array_equal(pixels, saved)


# --- volumes


def test_slices_of_a_volume(network: AFMANet) -> None:
    volume = torch.rand(3, 21, 30, 5, generator=torch.Generator().manual_seed(2))
    prediction = predict_slices(network, volume)
    for number in range(5):
        np.testing.assert_array_equal(prediction[..., number], attend_image(network, take_slice(volume, number)).after)
    with pytest.raises(ValueError, match=r"`number` must be a slice of the volume, 0 to 4; got 5"):
        take_slice(volume, 5)
    with pytest.raises(ValueError, match=r"`volume` must have the 4 axes"):
        take_slice(volume[..., 0], 0)


@pytest.mark.parametrize("depth", [1, 3, 40])
def test_montage_shows_slices_with_outlines(depth: int) -> None:
    volume, prediction = torch.rand(1, 20, 24, depth), np.zeros((20, 24, depth), np.uint8)
    prediction[5:10, 5:10], prediction[7, 7], prediction[0, 0, 0] = 1, 2, 2
    prediction[..., -1] = 1  # a slice of one class alone
    figure = draw_montage(volume, prediction, CLASSES, count=6)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == [f"slice {number}" for number in spread_evenly(depth, min(depth, 6))]
    assert figure_pixels(figure).std() > 0
    with pytest.raises(ValueError, match=r"`prediction` must have the size of the volume, \(20, 24, \d+\)"):
        draw_montage(volume, prediction[1:], CLASSES)


# --- TensorBoard


def batches(images: int = 4, *, with_objects: bool = True) -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    label = torch.zeros(1, 1, 16, 16, dtype=torch.uint8)
    if with_objects:
        label[..., 2:6, 8:12] = 2
        label[..., 8:16, :8] = 1
        label[..., 0, 0] = 2
    return [{"image": torch.rand(1, 3, 16, 16, generator=generator), "label": label} for _ in range(images)]


def validate(
    folder: Path, network: nn.Module, *, epochs: int = 1, data: list[dict[str, Tensor]] | None = None, **options: object
) -> dict[str, list[int]]:
    """Validate epochs with the handler, and return the steps at which each tag has a picture."""
    writer = SummaryWriter(str(folder))
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=data or batches(),
        network=network,
        val_handlers=[AttentionPicturesHandler(writer, network, CLASSES, **options)],
    )
    for epoch in range(1, epochs + 1):
        evaluator.run(global_epoch=epoch)
    writer.close()
    events = EventAccumulator(str(folder)).Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_pictures_come_every_so_many_epochs(tmp_path: Path, network: AFMANet) -> None:
    steps = validate(tmp_path, network, epochs=5, every=3, count=2)
    assert steps == {"attention/1": [1, 4], "attention/2": [1, 4]}


def test_handler_looks_at_the_smallest_object_of_the_label(
    tmp_path: Path, network: AFMANet, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_points = []

    def look(seen: AttendedImage, point: tuple[int, int], **options: object) -> object:
        seen_points.append((point, options["class_index"]))
        return attend_point(seen, point, **options)

    monkeypatch.setattr(pictures, "attend_point", look)
    validate(tmp_path / "a", network, epochs=2, every=1, count=1)
    assert seen_points == [((3, 9), 2)] * 2, "the same one each time; a single pixel is none"
    seen_points.clear()
    validate(tmp_path / "b", network, count=1, unscored=["tumour"])
    assert [index for _, index in seen_points] == [1]


def test_handler_leaves_the_network_as_it_is(tmp_path: Path) -> None:
    net = make_network()
    before, state = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    validate(tmp_path, net)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_hosts_volumes_and_images_without_objects_give_no_picture(tmp_path: Path, network: AFMANet) -> None:
    assert validate(tmp_path / "a", Tiny()) == {}
    assert validate(tmp_path / "b", network, data=batches(with_objects=False)) == {}
    volumes = [{name: F.pad(one[..., None], (0, 1)) for name, one in x.items()} for x in batches(1)]
    assert validate(tmp_path / "c", SliceWise(network), data=volumes) == {}


def test_network_may_be_data_parallel(tmp_path: Path, network: AFMANet) -> None:
    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:  # without a process group
            nn.Module.__init__(self)
            self.module = module

        def forward(self, image: Tensor) -> Tensor:
            return self.module(image)

    assert validate(tmp_path, Wrapped(network), count=1) == {"attention/1": [1]}
