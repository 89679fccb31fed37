"""Readers refuse what does not fit, and class tables give the right numbers."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngImageFile

from _helpers.paths import SHARED
from afma_med.data import (
    CAMVID,
    VOID,
    class_colors,
    class_groups,
    class_names,
    map_raw_labels,
    survey_section,
)
from afma_med.data.class_table import color_lookup, raw_id_lookup
from afma_med.data.pictures import oriented_size
from afma_med.data.readers.camvid import CLASSES, ORIGINAL_CLASSES, _published_section

SHARED_CAMVID = SHARED / "data" / "camvid"
NAMES = ["0001TP_006690", "0006R0_f00930", "0016E5_07959", "Seq05VD_f00000"]


def write_pair(root: Path, section: str, name: str, *, size: tuple[int, int] = (8, 6), value: int = 3) -> None:
    """One image and label of the common layout; size is (width, height)."""
    for folder, mode, suffix in ((section, "RGB", ".png"), (f"{section}annot", "L", ".png")):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, value if mode == "L" else (value, 0, 0)).save(root / folder / f"{name}{suffix}")


@pytest.fixture
def common_layout(tmp_path: Path) -> Path:
    for section in ("train", "val", "test"):
        for name in ("b", "a"):
            write_pair(tmp_path, section, name)
    return tmp_path


@pytest.fixture
def original_layout(tmp_path: Path) -> Path:
    (tmp_path / "701_StillsRaw_full").mkdir()
    (tmp_path / "LabeledApproved_full").mkdir()
    for name in NAMES:
        Image.new("RGB", (8, 6)).save(tmp_path / "701_StillsRaw_full" / f"{name}.png")
        Image.new("RGB", (8, 6), (64, 0, 128)).save(tmp_path / "LabeledApproved_full" / f"{name}_L.png")
    return tmp_path


def test_class_table_has_the_paper_s_groups() -> None:
    names = class_names(CLASSES)
    groups = {group: {names[k] for k in ids} for group, ids in class_groups(CLASSES).items()}
    assert groups["small"] == {"signsymbol", "pedestrian", "pole", "bicyclist"}
    assert groups["large"] == set(names) - groups["small"] - {"unlabelled"}


def test_original_classes_merge_to_the_twelve() -> None:
    assert len(ORIGINAL_CLASSES) == 32
    assert len(color_lookup(ORIGINAL_CLASSES)) == 32, "two classes share a colour"
    assert {info.train_id for info in ORIGINAL_CLASSES} == set(range(12))


def test_lookups_send_unlisted_values_to_void() -> None:
    assert raw_id_lookup(CLASSES)[12] == VOID
    assert class_colors(CLASSES)[VOID].tolist() == [0, 0, 0]
    assert class_colors(CLASSES).shape == (256, 3)


def test_jpeg_images_pair_with_png_labels(common_layout: Path) -> None:
    image = common_layout / "train" / "a.png"
    Image.open(image).save(image.with_suffix(".jpg"))
    image.unlink()
    assert Path(CAMVID.datalist(common_layout, "train")[0]["image"]).name == "a.jpg"


def test_original_layout_follows_the_published_split(original_layout: Path) -> None:
    sections = {
        s: [Path(i["image"]).stem for i in CAMVID.datalist(original_layout, s)] for s in ("train", "val", "test")
    }
    assert sections == {"train": NAMES[:2], "val": NAMES[2:3], "test": NAMES[3:]}


@pytest.mark.parametrize("line", ["Seq05VD_f00000", "/SegNet/train/Seq05VD_f00000.png /SegNet/trainannot/x.png"])
def test_original_layout_follows_a_split_file(original_layout: Path, line: str) -> None:
    (original_layout / "train.txt").write_text(f"{line}\n\n", encoding="utf-8")
    assert [Path(i["image"]).stem for i in CAMVID.datalist(original_layout, "train")] == ["Seq05VD_f00000"]


def test_split_file_with_unknown_name_is_refused(original_layout: Path) -> None:
    (original_layout / "train.txt").write_text("0001TP_006690\nnowhere\n", encoding="utf-8")
    with pytest.raises(ValueError, match="without an image:\n  nowhere"):
        CAMVID.datalist(original_layout, "train")


@pytest.mark.skipif(not SHARED_CAMVID.is_dir(), reason="no CamVid beside the checkout")
def test_published_split_agrees_with_the_common_copy() -> None:
    counts = {}
    for section in ("train", "val", "test"):
        names = [Path(item["image"]).stem for item in CAMVID.datalist(SHARED_CAMVID, section)]
        assert {_published_section(name) for name in names} == {section}
        counts[section] = len(names)
    assert counts == {"train": 367, "val": 101, "test": 233}


def test_empty_section_is_refused(common_layout: Path) -> None:
    for path in common_layout.glob("train*/*"):
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"must hold images; found none"):
        CAMVID.datalist(common_layout, "train")


def test_two_images_of_one_name_are_refused(common_layout: Path) -> None:
    Image.new("RGB", (8, 6)).save(common_layout / "train" / "a.jpg")
    with pytest.raises(ValueError, match=r"(?s)names with several files.*a\.jpg and .*a\.png"):
        CAMVID.datalist(common_layout, "train")


def test_many_problems_are_cut_short(common_layout: Path) -> None:
    for i in range(20):
        Image.new("RGB", (8, 6)).save(common_layout / "train" / f"extra{i:02}.png")
    with pytest.raises(ValueError, match=r"20 images without a label[\s\S]*extra07[\s\S]*and 12 more"):
        CAMVID.datalist(common_layout, "train")


def test_raw_ids_and_colours_give_the_same_label() -> None:
    raw = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colors = class_colors(CLASSES)[raw]
    alpha = np.dstack([colors, np.full(raw.shape, 255, np.uint8)])
    for coded in (raw, colors, alpha):
        assert map_raw_labels(coded, CLASSES).tolist() == raw.tolist()


def test_every_original_colour_maps_to_its_class() -> None:
    colors = np.array([[info.color for info in ORIGINAL_CLASSES]], dtype=np.uint8)
    assert map_raw_labels(colors, CLASSES, color_classes=ORIGINAL_CLASSES).tolist() == [
        [i.train_id for i in ORIGINAL_CLASSES]
    ]


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.array([[0, 12, 40]]), r"got \[12, 40\]"),
        (np.array([[-1, 300]]), r"got \[-1, 300\]"),
        (np.array([[0.5]]), r"got \[0.5\]"),
        (np.array([[[1, 2, 3]]], dtype=np.uint8), r"colours of the class table; got \[\(1, 2, 3\)\]"),
        (np.zeros((2, 2, 2)), r"shape \(H,W\), \(H,W,3\) or \(H,W,4\); got \(2, 2, 2\)"),
    ],
)
def test_labels_out_of_the_table_are_refused(raw: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        map_raw_labels(raw, CLASSES)


def test_survey_counts_the_pixels_of_every_class(common_layout: Path) -> None:
    write_pair(common_layout, "train", "c", value=VOID)
    survey = survey_section(CAMVID, common_layout, "train")
    assert survey.counts.shape == (3, 12)
    assert survey.counts[0].tolist() == [0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0]
    assert survey.counts[2].sum() == 0, "void pixels belong to no class"
    assert survey.counts.dtype == torch.int64
    assert survey.sizes == {(6, 8): 3}


def _png(path: Path, chunk: bytes = b"", *, behind: bool = True) -> Path:
    """A PNG of 6×4 pixels with a chunk before or behind its pixels."""
    Image.new("L", (6, 4)).save(path)
    content = path.read_bytes()
    if chunk:
        whole = len(chunk[4:]).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        place = content.index(b"IEND" if behind else b"IDAT") - 4
        content = content[:place] + whole + content[place:]
    path.write_bytes(content)
    return path


# A quarter turn, as EXIF data in little-endian TIFF and as ImageMagick's text.
_TURN = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
_TURN_TEXT = b"Raw profile type exif\0\nexif\n%8d\n%s\n" % (len(_TURN) + 6, (b"Exif\0\0" + _TURN).hex().encode())


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("chunk", [b"eXIf" + _TURN, b"tEXt" + _TURN_TEXT], ids=["exif", "text"])
def test_exif_of_a_png_turns_it_wherever_it_is(tmp_path: Path, chunk: bytes, behind: bool) -> None:
    with Image.open(_png(tmp_path / "a.png", chunk, behind=behind)) as image:
        assert oriented_size(image) == (4, 6)
    with Image.open(tmp_path / "a.png") as image:
        assert ImageOps.exif_transpose(image).size == (4, 6), "as Pillow has it"


@pytest.mark.parametrize("chunk", [b"", b"tEXtComment\0none"], ids=["no chunk", "other text"])
def test_the_size_of_a_png_is_read_without_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: bytes
) -> None:
    monkeypatch.setattr(PngImageFile, "load", lambda self: pytest.fail("the pixels are decoded"))
    with Image.open(_png(tmp_path / "a.png", chunk)) as image:
        assert oriented_size(image) == (6, 4)
