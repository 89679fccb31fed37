"""What the values of a label file mean: read rightly, or refused with the file's name and the remedy."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from _helpers.dataset_files import read_mask, save
from _helpers.tiff_file import write_tiff
from afma_med.bundle.ids import check_ids
from afma_med.cli import main
from afma_med.data import CAMVID, ISIC, NUCLEI, map_raw_labels, survey_dataset, survey_section, with_mask_values
from afma_med.data.label_pixels import MaskReader, read_coded_label
from afma_med.data.readers import READERS
from afma_med.data.readers.camvid import CLASSES, ORIGINAL_CLASSES
from afma_med.trial.plan import Extent, Material, trial_options

RANDOM = np.random.default_rng(0)
Array = NDArray[Any]


def numbered(rows: int, columns: int, side: int = 4, gap: int = 4) -> Array:
    """Squares numbered from 1 on, in rows."""
    step = side + gap
    ids = np.zeros((rows * step, columns * step), dtype=np.int64)
    for number in range(rows * columns):
        row, column = step * (number // columns), step * (number % columns)
        ids[row + 2 : row + 2 + side, column + 2 : column + 2 + side] = number + 1
    return ids


def renumbered(ids: Array, numbers: Array | list[int]) -> Array:
    return np.concatenate([[0], numbers])[ids]


def disc(radius: float = 10, size: int = 40) -> Array:
    y, x = np.mgrid[:size, :size] - size / 2
    return np.asarray(y**2 + x**2 < radius**2)


TOUCHING = np.kron(np.array([[0, 0, 0, 0], [0, 1, 2, 0], [0, 0, 0, 0]]), np.ones((5, 5), dtype=np.int64))
INSTANCES: dict[str, Array] = {
    "1 to 200": numbered(10, 20).astype(np.uint8),
    "1 to 200 in 16 bits": numbered(10, 20).astype(np.uint16),
    "1 to 255": numbered(15, 17).astype(np.uint8),
    "1 to 300": numbered(15, 20).astype(np.uint16),
    "255 objects of four pixels": numbered(15, 17, side=2, gap=1).astype(np.uint8),
    "around 32768": renumbered(numbered(5, 8), np.arange(32748, 32788)).astype(np.uint16),
    "1 to 65535": renumbered(numbered(2, 2), [1, 900, 40000, 65535]).astype(np.uint16),
    "one and two": numbered(1, 2).astype(np.uint8),
    "one and two that touch": TOUCHING.astype(np.uint8),
    "gaps after cropping": renumbered(numbered(1, 4), [3, 90, 91, 255]).astype(np.uint8),
    "one after cropping": renumbered(numbered(1, 1), [7]).astype(np.uint8),
    "a crop that cuts one in two": np.where(np.arange(12) % 6 < 3, 0, np.arange(12) // 6 + 3)[None].repeat(5, 0),
    "above 65535": renumbered(numbered(1, 3), [1, 70000, 80000]).astype(np.int32),
    "a colour each": RANDOM.integers(10, 256, (41, 3))[numbered(5, 8)] * (numbered(5, 8)[..., None] > 0),
    "a dark colour each": RANDOM.integers(10, 100, (41, 3))[numbered(5, 8)] * (numbered(5, 8)[..., None] > 0),
    "red and green counts": np.stack([numbered(15, 20) % 256, numbered(15, 20) // 256, 0 * numbered(15, 20)], -1),
}


@pytest.mark.parametrize("kind", INSTANCES)
def test_any_number_of_an_object_is_an_object(tmp_path: Path, kind: str) -> None:
    ids = INSTANCES[kind]
    ids = ids.astype(np.uint8) if ids.ndim == 3 or ids.dtype == np.int64 else ids
    expected = ids.any(axis=2) if ids.ndim == 3 else ids > 0
    path = save(tmp_path / ("m.tif" if ids.dtype == np.int32 else "m.png"), ids)
    assert np.array_equal(read_mask(path), expected)
    assert np.array_equal(read_mask(path, "instances"), expected)


@pytest.mark.parametrize("suffix", ["bmp", "tif", "webp", "gif", "png"])
def test_numbers_in_every_format_without_loss(tmp_path: Path, suffix: str) -> None:
    ids = numbered(10, 20).astype(np.uint8)
    path = save(tmp_path / f"m.{suffix}", ids, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read_mask(path), ids > 0)


def test_numbers_in_a_palette(tmp_path: Path) -> None:
    picture = Image.fromarray(numbered(5, 8).astype(np.uint8))
    picture.putpalette([0, 0, 0, *RANDOM.integers(10, 100, 3 * 255).tolist()])
    picture.save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png"), numbered(5, 8) > 0)


@pytest.mark.parametrize(
    ("palette", "expected"),
    [
        ([0, 0, 0, 128, 0, 0], [0, 1]),  # the dark red of VOC, whose brightness is below half
        ([200, 30, 0, 0, 0, 0], [1, 0]),  # programs reorder palettes
        ([0, 0, 0, 255, 255, 255], [0, 1]),
        ([255, 255, 255, 0, 0, 0], [1, 0]),
        ([0, 0, 0, 51, 51, 51], "a mask must reach white.*51"),
        ([0] * 6, r"the palette of a mask .*\[0, 1\]"),
        ([200, 30, 0, 0, 90, 0], r"the palette of a mask .*\[0, 1\]"),
    ],
)
def test_palettes_are_taken_by_colour(tmp_path: Path, palette: list[int], expected: list[int] | str) -> None:
    picture = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    picture.putpalette(palette)
    picture.save(tmp_path / "m.png")
    if isinstance(expected, list):
        assert read_mask(tmp_path / "m.png").tolist() == [expected]
        return
    with pytest.raises(ValueError, match=rf"m\.png` cannot be used: {expected}"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize(
    "coded",
    [
        np.array([[0, 1]], dtype=np.uint8),
        np.array([[3, 250]], dtype=np.uint8),
        np.array([[False, True]]),
        np.array([[[0, 0, 0], [255, 255, 255]]], dtype=np.uint8),
        np.array([[[0, 0, 0, 255], [255, 255, 255, 255]]], dtype=np.uint8),
        np.array([[0, 65535]], dtype=np.uint16),
        np.array([[0, 255]], dtype=np.uint16),
    ],
    ids=["zero and one", "noise", "one bit", "RGB", "RGBA", "16 bits", "8 bits in 16"],
)
def test_masks_of_every_coding(tmp_path: Path, coded: Array) -> None:
    assert read_mask(save(tmp_path / "mask.png", coded)).tolist() == [[0, 1]]


def test_labels_of_classes_in_palettes_and_16_bits(tmp_path: Path) -> None:
    road, car = (128, 64, 128), (64, 0, 128)
    path = tmp_path / "label.png"
    Image.fromarray(np.array([[road, car]], dtype=np.uint8)).quantize(2).save(path)
    assert read_coded_label(path, CLASSES).tolist() == [[3, 8]], "by colour"
    picture = Image.fromarray(np.array([[3, 8, 8]], dtype=np.uint8)).convert("P")
    picture.putpalette([1, 2, 3] * 9)
    picture.save(path)
    assert read_coded_label(path, CLASSES).tolist() == [[3, 8, 8]], "by index, where colours are not those of classes"
    with pytest.raises(ValueError, match=r"raw ids .* got \[264\]"):
        read_coded_label(save(path, np.array([[3, 256 + 8]], dtype=np.uint16)), CLASSES)


def shifted(voters: int) -> Array:
    return sum(np.roll(disc(), RANDOM.integers(-3, 4, 2), (0, 1)).astype(np.int64) for _ in range(voters))


def through_jpeg(pixels: Array, path: Path, quality: int) -> Array:
    return np.asarray(Image.open(save(path / "through.jpg", pixels, quality=quality)))


VOTES: dict[str, Callable[[Path], Array]] = {
    **{f"{n} annotators": lambda _, n=n: np.rint(shifted(n) * 255 / n) for n in (3, 4, 5, 7, 10)},
    "soft edges": lambda _: np.asarray(Image.fromarray(disc(40, 160)).convert("L").resize((40, 40), Image.BILINEAR)),
    "blurred": lambda _: np.rint(ndimage.gaussian_filter(255.0 * disc(14), 2)),
    "specks of JPEG": lambda path: through_jpeg((disc() * 255).astype(np.uint8), path, 60),
    "much JPEG": lambda path: through_jpeg((disc() * 255).astype(np.uint8), path, 30),
}


@pytest.mark.parametrize("kind", VOTES)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_votes_and_noise_are_thresholded_at_half(tmp_path: Path, kind: str, suffix: str) -> None:
    pixels = VOTES[kind](tmp_path).astype(np.uint8)
    path = save(tmp_path / f"m.{suffix}", pixels)
    assert np.array_equal(read_mask(path), pixels > 127)
    assert np.array_equal(read_mask(path, "votes"), pixels > 127)


@pytest.mark.parametrize("quality", [30, 60, 75, 95])
def test_black_and_white_jpeg_is_read(tmp_path: Path, quality: int) -> None:
    small = numbered(10, 10, side=6, gap=6) > 0
    for expected in (disc(), small):
        path = save(tmp_path / "m.jpg", (expected * 255).astype(np.uint8), quality=quality)
        assert np.array_equal(read_mask(path), expected)


AMBIGUOUS: dict[str, Array] = {
    "one vote of five, or object 51": renumbered(numbered(1, 1), [51]),
    "two votes of five at most": np.minimum(np.rint(shifted(5) * 51), 102),
    "three objects that are spread to white": renumbered(numbered(1, 3), [85, 170, 255]),
    "counts of annotators": shifted(3),
    "an object with a border of 255": np.where(disc(8), 1, np.where(disc(10), 255, 0)),
    "a class within a class": np.where(disc(6), 2, np.where(disc(10), 1, 0)),
    "grey without a background": np.full((9, 9), 7),
}


@pytest.mark.parametrize("kind", AMBIGUOUS)
def test_what_may_be_both_is_refused_and_the_id_is_named(tmp_path: Path, kind: str) -> None:
    pixels = AMBIGUOUS[kind].astype(np.uint8)
    path = save(tmp_path / "m.png", pixels)
    values = ", ".join(map(str, np.unique(pixels[pixels > 0])[:8]))
    with pytest.raises(ValueError, match=rf"m\.png` cannot be used: .* values {values} of .*--mask_values instances"):
        read_mask(path)
    assert np.array_equal(read_mask(path, "instances"), pixels > 0)


def test_numbers_with_loss_are_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "m.jpg", numbered(10, 20, side=8).astype(np.uint8), quality=95)
    for mask_values in ("auto", "instances"):
        with pytest.raises(ValueError, match=r"m\.jpg` cannot be used: .* JPEG"):
            read_mask(path, mask_values)  # type: ignore[arg-type]


@pytest.mark.parametrize("maximum", [3, 15, 300])
def test_stretched_values_are_not_taken_for_votes(tmp_path: Path, maximum: int) -> None:
    ids = numbered(1, 3)
    samples = ids.astype(np.uint8 if maximum < 256 else ">u2").tobytes()
    (tmp_path / "m.pgm").write_bytes(f"P5 {ids.shape[1]} {ids.shape[0]} {maximum}\n".encode() + samples)
    try:
        assert np.array_equal(read_mask(tmp_path / "m.pgm"), ids > 0)
    except ValueError as error:
        assert "--mask_values instances" in str(error)
    assert np.array_equal(read_mask(tmp_path / "m.pgm", "instances"), ids > 0)
    with pytest.raises(ValueError, match=r"m\.pgm` cannot be used: a label must be stored with 8 or 16 bits"):
        read_coded_label(tmp_path / "m.pgm", CLASSES)


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.int32, np.uint16, np.uint8, bool])
@pytest.mark.parametrize("order", "<>")
def test_tiff_of_every_type(tmp_path: Path, kind: Any, order: str) -> None:
    path = write_tiff(tmp_path / "m.tif", disc().astype(kind), order=order)
    assert np.array_equal(read_mask(path), disc())
    assert np.array_equal(read_coded_label(path, CLASSES), disc())


@pytest.mark.parametrize("near", [0.9999, 0.999, 1.0001])
def test_fractions_near_whole_numbers_are_whole(tmp_path: Path, near: float) -> None:
    path = save(tmp_path / "m.tif", np.array([[0, near, 2 * near - 1, 1e-6]], dtype=np.float32))
    assert read_mask(path).tolist() == [[0, 1, 1, 0]]
    path = save(tmp_path / "label.tif", np.array([[0, near, 2 + near, 11 * near - 11 + 11]], dtype=np.float32))
    if near == 0.999:  # eleven times as far from a whole number
        with pytest.raises(ValueError, match=r"label\.tif` cannot be used: a label must hold whole numbers"):
            read_coded_label(path, CLASSES)
    else:
        assert read_coded_label(path, CLASSES).tolist() == [[0, 1, 3, 11]]


def test_probabilities_are_votes_and_no_classes(tmp_path: Path) -> None:
    path = save(tmp_path / "m.tif", np.array([[0, 0.2, 0.5, 0.51, 0.9, 1]], dtype=np.float32))
    assert read_mask(path).tolist() == [[0, 0, 0, 1, 1, 1]]
    low = save(tmp_path / "low.tif", np.array([[0.1, 0.3]], dtype=np.float32))
    assert read_mask(low).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"m\.tif` cannot be used: a label must hold whole numbers"):
        read_coded_label(path, CLASSES)
    with pytest.raises(ValueError, match="must be whole"):
        read_mask(path, "instances")


def test_cmyk_and_other_colours_are_read_as_shown(tmp_path: Path) -> None:
    white = Image.fromarray((disc() * 255).astype(np.uint8)).convert("RGB")
    for mode in ("CMYK", "YCbCr"):
        white.convert(mode).save(tmp_path / "m.tif")
        assert np.array_equal(read_mask(tmp_path / "m.tif"), disc())
    white.convert("CMYK").save(tmp_path / "m.jpg", quality=95)
    assert np.array_equal(read_mask(tmp_path / "m.jpg"), disc())
    ink = np.zeros((40, 40, 4), dtype=np.uint8)
    ink[..., 3] = np.where(disc(), 0, 255)  # black ink alone
    assert np.array_equal(read_mask(write_tiff(tmp_path / "k.tif", ink, photometric=5)), disc())
    colors = np.array([[info.color for info in CLASSES]], dtype=np.uint8)
    Image.fromarray(colors).convert("CMYK").save(tmp_path / "label.tif")
    assert read_coded_label(tmp_path / "label.tif", CLASSES).tolist() == [list(range(12))]


def _transparent(mode: str, color: Any, alpha: Array) -> Image.Image:
    picture = Image.new(mode, alpha.shape[::-1], color)
    picture.putalpha(Image.fromarray(alpha))
    return picture


ALPHA = (disc() * 255).astype(np.uint8)
HIDDEN: dict[str, Image.Image] = {
    "black and alpha": _transparent("L", 0, ALPHA),
    "white and alpha": _transparent("L", 255, ALPHA),
    "red and alpha": _transparent("RGB", (255, 0, 0), ALPHA),
    "white that is hidden": _transparent("L", 0, ALPHA),
    "soft alpha": _transparent("L", 0, ALPHA),
}
HIDDEN["white that is hidden"].paste((255, 0), (0, 0, 5, 5))
HIDDEN["white that is hidden"].paste((255, 255), (18, 18, 20, 20))
HIDDEN["soft alpha"].paste((255, 90), (18, 18, 20, 20))


def _write_deep(path: Path, channels: int) -> None:
    pixels = np.zeros((40, 40, channels), dtype=np.uint16)
    pixels[..., -1] = disc() * 300
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(path))


def _write_transparent_palette(path: Path) -> None:
    picture = Image.fromarray(disc().astype(np.uint8))
    picture.putpalette([0, 0, 0, 0, 0, 0])
    picture.save(path, transparency=bytes([0, 255]))


def _write_pages(path: Path) -> None:
    pages = [Image.fromarray((disc(4 + page) * 255).astype(np.uint8)) for page in range(3)]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    pages[0].save(path, save_all=True, append_images=pages[1:], **options)


# Suffix, what writes a label that is refused, and why.
REFUSED: list[tuple[str, Callable[[Path], object], str]] = [
    *((".tif", lambda path, bad=bad: save(path, np.array([[0, 1, bad]], dtype=np.float32)), "a label must hold")
      for bad in (np.nan, np.inf, -1.0, 3.4, -0.5)),
    *((".tif", lambda path, kind=kind: write_tiff(path, np.array([[0, 1, -1]], dtype=kind)), "from 0 on; got -1")
      for kind in (np.int8, np.int16, np.int32)),
    *((".tif", lambda path, kind=kind, end=end: write_tiff(path, disc().astype(kind), photometric=0, order=end), "")
      for kind in (bool, np.uint8, np.uint16) for end in "<>"),
    *((suffix, lambda path, kind=kind: HIDDEN[kind].save(path, lossless=True, exact=True), "in its transparency alone")
      for kind in HIDDEN for suffix in (".png", ".tif", ".webp")),
    *((".png", lambda path, channels=channels: _write_deep(path, channels), "") for channels in (2, 4)),
    (".png", _write_transparent_palette, "in its transparency alone"),
    *((suffix, _write_pages, "one picture; this one holds 3") for suffix in (".tif", ".gif", ".webp", ".png")),
]  # fmt: skip


@pytest.mark.parametrize(("suffix", "write", "message"), REFUSED)
def test_what_is_no_label_is_refused(
    tmp_path: Path, suffix: str, write: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / f"m{suffix}"
    write(path)
    for read in (read_mask, lambda file: read_coded_label(file, CLASSES)):
        with pytest.raises(ValueError, match=rf"m\{suffix}` cannot be used: .*{message}"):
            read(path)


def test_transparency_that_changes_nothing_is_left_out(tmp_path: Path) -> None:
    _transparent("L", 0, ALPHA).save(tmp_path / "m.png")
    for alpha in (np.full_like(ALPHA, 255), np.full_like(ALPHA, 90), ALPHA):
        picture = Image.fromarray(ALPHA)
        picture.putalpha(Image.fromarray(alpha))
        picture.save(tmp_path / "m.png")
        assert np.array_equal(read_mask(tmp_path / "m.png"), disc())
    picture = Image.fromarray(disc().astype(np.uint8))
    picture.putpalette([0, 0, 0, 200, 0, 0])
    picture.save(tmp_path / "p.png", transparency=0)
    assert np.array_equal(read_mask(tmp_path / "p.png"), disc())


def test_deep_colours_are_not_cut_to_8_bits(tmp_path: Path) -> None:
    deep = np.stack([numbered(15, 20), 0 * numbered(15, 20), 0 * numbered(15, 20)], axis=-1).astype(np.uint16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(deep, isVector=True), str(tmp_path / "m.png"))
    assert np.array_equal(read_mask(tmp_path / "m.png"), numbered(15, 20) > 0)
    deep[...] = 256 + 64, 0, 128  # a car, but for the upper byte
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(deep, isVector=True), str(tmp_path / "label.png"))
    with pytest.raises(ValueError, match=r"label\.png` cannot be used: `label` must hold colours of 8 bits"):
        read_coded_label(tmp_path / "label.png", ORIGINAL_CLASSES)
    with pytest.raises(ValueError, match="colours of 8 bits; got values from 0 to 320"):
        map_raw_labels(deep, ORIGINAL_CLASSES)


def nuclei(root: Path, masks: list[Array]) -> Path:
    for number, mask in enumerate(masks):
        save(root / "images" / f"{number}.png", np.zeros((*mask.shape, 3), dtype=np.uint8))
        save(root / "masks" / f"{number}.png", mask)
        names = "\n".join(str(one) for one in range(len(masks)))
        (root / "train.txt").write_text(names, encoding="utf-8")
    return root


def test_check_and_training_print_what_was_assumed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    ids = numbered(10, 20).astype(np.uint8)
    root = nuclei(tmp_path / "nuclei", [ids, ids, (ids > 0).astype(np.uint8) * 255])
    for _ in range(2):  # read, and taken from the cache
        assert main(["check", "nuclei", str(root), "--section", "train"]) == 0
        assert "2 masks are read as instances: any value above 0 is an object" in capsys.readouterr().out
    survey = survey_section(NUCLEI, root, "train")
    assert survey.counts.tolist() == [[ids.size - 3200, 3200]] * 3
    assert dict(survey.readings) == {"instances": 2}
    assert survey.objects is not None and survey.objects[survey.objects[:, 0] == 1].tolist() == [[1, 16, 200]] * 3
    with caplog.at_level(logging.INFO):
        survey_dataset(NUCLEI, root, ["train"])
    assert "2 masks are read as instances" in caplog.text


def test_an_option_decides_and_the_cache_keeps_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ambiguous = renumbered(numbered(1, 2), [51, 255]).astype(np.uint8)
    root = nuclei(tmp_path / "nuclei", [ambiguous])
    assert main(["check", "nuclei", str(root), "--section", "train"]) == 1
    assert "--mask_values" in capsys.readouterr().out
    for mask_values, pixels in (("instances", 32), ("votes", 16), ("instances", 32)):
        reader = with_mask_values(NUCLEI, mask_values)  # type: ignore[arg-type]
        assert survey_section(reader, root, "train").counts[0, 1] == pixels
        assert reader.read_label({"label": str(root / "masks" / "0.png")}).sum() == pixels
        assert main(["objects", "nuclei", str(root), "--section", "train", "--mask_values", mask_values,
                     "--output_dir", str(tmp_path / "objects")]) == 0  # fmt: skip


def test_readings_that_do_not_exist_or_do_not_apply_are_refused() -> None:
    for call in (lambda: read_mask("m.png", "ids"), lambda: with_mask_values(ISIC, "ids"), lambda: MaskReader("ids")):  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"`mask_values` must be one of auto, instances, votes; got 'ids'"):
            call()
    with pytest.raises(ValueError, match="`mask_values` must be one of auto, instances, votes; got 5"):
        check_ids({"mask_values": 5})
    with pytest.raises(ValueError, match=r"`mask_values` must be 'auto' .* CamVid; got 'votes'"):
        with_mask_values(CAMVID, "votes")
    assert with_mask_values(CAMVID) is CAMVID
    masks = [name for name, reader in READERS.items() if isinstance(reader.read_label, MaskReader)]
    assert masks == ["isic", "cub", "nuclei", "lesion_slices"]


def test_a_trial_hands_the_reading_to_its_trainings() -> None:
    material, extent = Material(10, 10, 10, 1, (64, 64), "test"), Extent(2, 10, 10, 10)
    assert trial_options(material, extent, with_mask_values(ISIC, "votes"))[0]["mask_values"] == "votes"
    assert "mask_values" not in trial_options(material, extent, ISIC)[0]
