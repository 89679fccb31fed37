"""Files as users have them: read where they are unambiguous, otherwise named with the remedy."""

from __future__ import annotations

import codecs
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

from _helpers.dataset_files import read_mask, save, stems
from afma_med.cli import main
from afma_med.data import (
    CAMVID,
    CITYSCAPES,
    CUB,
    ISIC,
    LESION_SLICES,
    LITS,
    NUCLEI,
    DatasetError,
    DatasetWarning,
    build_lits,
    find_image_range,
    survey_dataset,
    survey_section,
)
from afma_med.data.ct.volume_reader import find_volumes
from afma_med.data.picture_reader import find_pictures
from afma_med.data.pictures import bits_range, to_rgb
from afma_med.data.problems import collect_warnings
from afma_med.transforms import LoadCTSliced, LoadCTVolumed, LoadRGBImaged, SaveLabelVolumed

RANDOM = np.random.default_rng(0)


DISC = np.pad(np.full((8, 8), 255, dtype=np.uint8), 12)
REAL = np.diag([-0.7, -0.7, 2.5, 1.0]) + np.array([[0, 0, 0, 100], [0, 0, 0, 80], [0, 0, 0, -20], [0] * 4])


def plain(root: Path, names: str | list[str], *, mask: np.ndarray = DISC, suffix: str = "png") -> Path:
    """Images and masks in plain folders, as nuclei and lesion slices have them."""
    for name in names:
        save(root / "images" / f"{name}.{suffix}", RANDOM.integers(0, 255, (32, 32, 3)).astype(np.uint8))
        save(root / "masks" / f"{name}.png", mask)
    return root


def sections(root: Path, *, suffix: str = "png", mask_suffix: str = "png", mask: np.ndarray = DISC) -> Path:
    """A dataset in folders of sections, as ISIC has them."""
    for section in ("train", "val", "test"):
        for name in "ab":
            pixels = RANDOM.integers(0, 255, (32, 32, 3)).astype(np.uint8)
            save(root / section / "images" / f"{name}.{suffix}", pixels)
            save(root / section / "masks" / f"{name}.{mask_suffix}", mask)
    return root


def volume(path: Path, voxels: np.ndarray | None = None, affine: np.ndarray | None = REAL) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    voxels = RANDOM.integers(-1000, 400, (6, 5, 4)).astype(np.int16) if voxels is None else voxels
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def volumes(root: Path, count: int, affines: dict[int, np.ndarray | None] | None = None) -> Path:
    for number in range(count):
        affine = (affines or {}).get(number, REAL)
        volume(root / f"volume-{number}.nii", affine=affine)
        volume(root / f"segmentation-{number}.nii", RANDOM.integers(0, 3, (6, 5, 4)).astype(np.uint8), affine)
    names = "\n".join(f"volume-{number}" for number in range(count))
    (root / "train.txt").write_text(names, encoding="utf-8")
    return root


class TestEmptyMasks:
    @pytest.mark.parametrize("highest", [1, 2, 5, 20, 127])
    @pytest.mark.parametrize("name", ["mask.jpg", "mask.JPEG", "really a jpeg.png"])
    def test_low_valued_jpeg_masks_are_refused(self, tmp_path: Path, highest: int, name: str) -> None:
        save(tmp_path / name, np.where(DISC > 0, highest, 0).astype(np.uint8), format="JPEG", quality=95)
        with pytest.raises(ValueError, match=r"cannot be used: a mask must reach white; the highest value .*Scale"):
            read_mask(tmp_path / name)

    def test_labels_of_classes_in_a_jpeg_are_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "label.png", np.full((8, 8), 3, dtype=np.uint8), format="JPEG")
        with pytest.raises(ValueError, match=r"label\.png` cannot be used: a label must be stored without loss.*PNG"):
            CAMVID.read_label({"label": str(tmp_path / "label.png")})

    def test_class_without_pixels_is_a_warning_of_check_and_training(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        root = sections(tmp_path / "data")
        for path in root.glob("val/masks/*"):
            save(path, np.zeros((32, 32), dtype=np.uint8))
        assert main(["check", "isic", str(root)]) == 0
        printed = capsys.readouterr().out
        assert "Warning: val: no label holds a pixel of lesion." in printed
        assert "Nothing is wrong" not in printed and "train: no label" not in printed
        survey_dataset(ISIC, root, ["train", "val"])
        assert [record.getMessage() for record in caplog.records] == [
            "val: no label holds a pixel of lesion. Check the label files of this section."
        ]

    def test_unscored_and_withheld_classes_are_no_warning(self, tmp_path: Path) -> None:
        for name in "ab":
            save(tmp_path / "leftImg8bit/test/ulm" / f"{name}_leftImg8bit.png", np.zeros((8, 8, 3), dtype=np.uint8))
        assert not survey_section(CITYSCAPES, tmp_path, "test").warnings


class TestPictureFormats:
    @pytest.mark.parametrize("suffix", ["bmp", "tif", "TIFF", "webp", "ppm", "gif", "JPG", "jp2", "tga", "jfif"])
    def test_images_of_every_format_pair(self, tmp_path: Path, suffix: str) -> None:
        plain(tmp_path, "abc", suffix="jpg")
        plain(tmp_path, "def", suffix=suffix)
        assert sum(len(NUCLEI.datalist(tmp_path, section)) for section in ("train", "val", "test")) == 6
        plain(tmp_path, "g", suffix=suffix)
        assert len([item for s in ("train", "val", "test") for item in LESION_SLICES.datalist(tmp_path, s)]) == 7
        assert len(find_pictures(tmp_path / "images")) == 7
        item = {"image": str(tmp_path / "images" / f"g.{suffix}")}
        assert LoadRGBImaged("image")(item)["image"].shape == (3, 32, 32)

    def test_skipped_files_are_counted_and_named(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        root = sections(tmp_path / "data")
        for name in ("c.heic", "d.npy", ".hidden", "Thumbs.db"):
            (root / "train" / "images" / name).touch()
        assert main(["check", "isic", str(root)]) == 0
        printed = capsys.readouterr().out
        assert "Warning: 2 files are skipped" in printed and "c.heic" in printed and "d.npy" in printed
        assert "hidden" not in printed and "Thumbs" not in printed
        survey_dataset(ISIC, root, ["train"])
        assert "2 files are skipped" in caplog.text
        with pytest.warns(DatasetWarning, match=r"(?s)2 files are skipped.*c\.heic.*d\.npy"):
            find_pictures(root / "train" / "images")

    def test_skipped_volumes_are_counted_and_named(self, tmp_path: Path) -> None:
        root = volumes(tmp_path / "lits", 3)
        for name in ("volume-3.nrrd", "vol-4.nii", "notes.txt"):
            (root / name).touch()
        with pytest.warns(DatasetWarning, match=r"(?s)2 files are skipped.*vol-4\.nii.*volume-3\.nrrd"):
            assert len(LITS.datalist(root, "train")) == 3
        (root / "vol-4.nii").unlink()
        with pytest.warns(DatasetWarning, match=r"(?s)3 files are skipped.*volume-3\.nrrd"):
            assert len(find_volumes(root)) == 3

    def test_expected_files_of_cityscapes_are_not_reported(self, tmp_path: Path) -> None:
        save(tmp_path / "leftImg8bit/train/ulm/a_leftImg8bit.png", np.zeros((8, 8, 3), dtype=np.uint8))
        for kind in ("labelIds", "color", "instanceIds"):
            save(tmp_path / f"gtFine/train/ulm/a_gtFine_{kind}.png", np.full((8, 8), 7, dtype=np.uint8))
        (tmp_path / "gtFine/train/ulm/a_gtFine_polygons.json").touch()
        with collect_warnings() as texts:
            assert len(CITYSCAPES.datalist(tmp_path, "train")) == 1
        assert not texts

    def test_stacks_of_pictures_are_refused(self, tmp_path: Path) -> None:
        pages = [Image.new("L", (8, 8), grey) for grey in (0, 255)]
        pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
        with pytest.raises(DatasetError, match=r"stack\.tif` cannot be used: an image file must hold one picture.*2"):
            find_pictures(tmp_path)

    def test_other_warnings_pass(self) -> None:
        with pytest.warns(DeprecationWarning, match="old"), collect_warnings() as texts:
            warnings.warn("old", DeprecationWarning, stacklevel=1)
        assert not texts


class TestGeometry:
    @pytest.mark.parametrize("affine", [np.eye(4), np.diag([-1.0, -1, 1, 1]), None])
    def test_volumes_without_geometry_are_named(
        self, tmp_path: Path, affine: np.ndarray | None, capsys: pytest.CaptureFixture[str],
        caplog: pytest.LogCaptureFixture,
    ) -> None:  # fmt: skip
        root = volumes(tmp_path / "lits", 5, {1: affine, 3: affine})
        assert main(["check", "lits", str(root), "--section", "train"]) == 0
        printed = capsys.readouterr().out
        assert "Warning: 2 volumes without geometry" in printed and "missing_orientation" in printed
        assert "volume-1.nii has" in printed and "volume-3.nii has" in printed and "volume-2.nii has" not in printed
        assert "assumed: 6×5×4" in printed and "spacing [1.0, 1.0, 1.0] mm" in printed
        survey_dataset(LITS, root, ["train"])
        assert "volume-1.nii has" in caplog.text

    @pytest.mark.parametrize("kind", ["oblique axes", "sheared axes", "a spacing of exactly 1×1×1 mm"])
    def test_volumes_of_another_kind_are_named(self, tmp_path: Path, kind: str) -> None:
        affine = REAL.copy()
        if kind == "oblique axes":
            affine[:3, :3] = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]]) @ REAL[:3, :3]
        elif kind == "sheared axes":
            affine[0, 2] = 1.0
        else:
            affine[:3, :3] = np.eye(3)
        root = volumes(tmp_path / "lits", 4, {2: affine})
        with pytest.warns(DatasetWarning, match=rf"(?s)1 volumes whose geometry differs .*volume-2\.nii: {kind}"):
            LITS.datalist(root, "train")

    def test_the_rest_are_the_volumes_of_all_sections(self, tmp_path: Path) -> None:
        affine = REAL.copy()
        affine[0, 2] = 1.0
        root = volumes(tmp_path / "lits", 4, {3: affine})
        for section, names in (("train", "volume-0\nvolume-1\nvolume-2"), ("val", "volume-3")):
            (root / f"{section}.txt").write_text(names, encoding="utf-8")
        with pytest.warns(DatasetWarning, match=r"(?s)1 volumes whose geometry differs .*volume-3\.nii: sheared axes"):
            LITS.datalist(root, "val")

    def test_supplied_geometry_turns_slices_and_sizes(self, tmp_path: Path) -> None:
        root = volumes(tmp_path / "lits", 4, {3: np.eye(4)})
        for kind in ("volume", "segmentation"):  # the voxels of volume 0, without their geometry
            voxels = np.asarray(nib.load(root / f"{kind}-0.nii").dataobj)
            volume(root / f"{kind}-3.nii", voxels, np.eye(4))
        reader = build_lits(missing_spacing=[0.7, 0.7, 2.5], missing_orientation="LPS")
        with pytest.warns(DatasetWarning, match=r"volume-3\.nii has an identity affine; supplied: 6×5×4 LPS, spacing"):
            items = reader.datalist(root, "train")
        load = LoadCTSliced()
        for k in range(4):
            first, last = (load(reader.inspect(items[i])[k].item) for i in (0, 3))
            assert np.array_equal(first["image"], last["image"]) and np.array_equal(first["label"], last["label"])
        plain_item = {key: items[3][key] for key in ("image", "label")}
        assert not np.array_equal(load({**plain_item, "slice": 0})["image"], load({**items[0], "slice": 0})["image"])
        assert LITS.read_volume(items[3])[1] == pytest.approx((0.7, 0.7, 2.5))
        assert LITS.read_volume(plain_item)[1] == pytest.approx((1, 1, 1))
        assert LITS.read_volume(items[0])[1] == pytest.approx((0.7, 0.7, 2.5))
        first, last = (LoadCTVolumed()(items[i])["image"].affine[:3, :3] for i in (0, 3))
        assert np.allclose(first, last)

    def test_predictions_keep_the_geometry_of_the_file(self, tmp_path: Path) -> None:
        path = volume(tmp_path / "in" / "volume-0.nii", affine=np.eye(4))
        reader = build_lits([0.7, 0.7, 2.5], "LPS")
        with pytest.warns(DatasetWarning, match="without geometry"):
            (item,) = reader.find_inputs(tmp_path / "in")
        image = LoadCTVolumed("image")(item)["image"]
        SaveLabelVolumed("pred", tmp_path / "out", class_table=LITS.classes)({"pred": image * 0 + 1})
        assert np.array_equal(nib.load(tmp_path / "out" / "segmentation-0.nii.gz").affine, nib.load(path).affine)

    @pytest.mark.parametrize(
        ("spacing", "orientation", "message"),
        [
            ([1, 2], None, r"`missing_spacing` must be three numbers .* got \[1, 2\]\. For example"),
            ([1, 2, 0], None, "`missing_spacing` must be three"),
            (0.7, None, "`missing_spacing` must be three"),
            (None, "LPX", r"`missing_orientation` must be three letters.*got 'LPX'\. For example"),
            (None, "LRS", "`missing_orientation` must be three letters"),
        ],
    )
    def test_malformed_geometry_is_refused(self, spacing: Any, orientation: str | None, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            build_lits(spacing, orientation)


class TestDeepPictures:
    def test_range_is_that_of_the_bits_in_use_over_the_dataset(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = sections(tmp_path)
        for section, highest in (("train", 3000), ("val", 900)):
            save(root / section / "images" / "a.png", np.full((32, 32), highest, dtype=np.uint16))
        surveys = survey_dataset(ISIC, root, ["train", "val"])
        assert find_image_range(surveys) == 4095
        load = LoadRGBImaged("image", image_range=find_image_range(surveys))
        bright, dark = (load({"image": str(root / s / "images" / "a.png")})["image"].unique() for s in ("train", "val"))
        assert bright.tolist() == [3000 * 255 // 4095] and dark.tolist() == [900 * 255 // 4095]
        assert main(["check", "isic", str(root)]) == 0
        assert "train 3000 (12 bits), val 900 (10 bits)" in (printed := capsys.readouterr().out)
        assert "`image_range`, here 4095" in printed

    @pytest.mark.parametrize(("highest", "expected"), [(4095, 4095), (4096, 8191), (1, 255), (0, 255), (65535, 65535)])
    def test_ranges(self, highest: int, expected: int) -> None:
        assert bits_range(highest) == expected

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    def test_deep_colours_keep_all_their_bits(self, tmp_path: Path, suffix: str) -> None:
        pixels = np.arange(4096, dtype=np.uint16)[: 4 * 5 * 3].reshape(4, 5, 3) * 68
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(pixels, isVector=True), str(tmp_path / f"deep.{suffix}"))
        with Image.open(tmp_path / f"deep.{suffix}") as image:
            assert np.array_equal(np.asarray(to_rgb(image, 4095)), pixels.astype(int) * 255 // 4095)

    def test_fractions_and_rotated_pictures(self, tmp_path: Path) -> None:
        save(tmp_path / "f.tif", np.array([[0.0, 0.5, 1.0]], dtype=np.float32))
        with Image.open(tmp_path / "f.tif") as image:
            assert np.asarray(to_rgb(image))[0, :, 0].tolist() == [0, 127, 255]
        rotated = Image.fromarray(np.array([[0, 4095]], dtype=np.uint16))
        rotated.getexif()[0x0112] = 6
        assert np.asarray(to_rgb(rotated, 4095))[..., 0].tolist() == [[0], [255]]

    def test_pictures_with_nan_are_refused(self, tmp_path: Path) -> None:
        save(tmp_path / "f.tif", np.array([[0.0, np.nan]], dtype=np.float32))
        with pytest.raises(DatasetError, match=r"f\.tif` cannot be used: a picture must hold finite numbers"):
            find_pictures(tmp_path)


SPLITS = {
    "UTF-16": lambda text: text.encode("utf-16"),
    "UTF-16 without mark": lambda text: text.encode("utf-16-le"),
    "UTF-16 big endian": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-8 with mark": lambda text: text.encode("utf-8-sig"),
    "Windows lines": lambda text: text.replace("\n", "\r\n").encode(),
    "old Mac lines": lambda text: text.replace("\n", "\r").encode(),
    "trailing spaces": lambda text: text.replace("\n", "  \t\n").encode(),
    "commas": lambda text: text.replace("\n\n", "\n").replace("\n", ",train\n").encode(),
    "semicolons": lambda text: text.replace("\n", ";;\n").encode(),
    "tabs": lambda text: text.replace("\n\n", "\n").replace("\n", "\t3\n").encode(),
    "numbers first": lambda text: "".join(f"{n},{line}\n" for n, line in enumerate(text.split(), 7)).encode(),
    "quotes": lambda text: text.replace("a", '"a.png"').encode(),
    "backslashes": lambda text: text.replace("a", "C:\\data\\images\\a.png").encode(),
    "header": lambda text: ("image,section\n" + text).encode(),
}


class TestSplitFiles:
    @pytest.mark.parametrize("kind", SPLITS)
    def test_unambiguous_files_are_read(self, tmp_path: Path, kind: str) -> None:
        plain(tmp_path, "abcdef")
        (tmp_path / "train.txt").write_bytes(SPLITS[kind]("a\nb\n\nc\n"))
        assert stems(NUCLEI.datalist(tmp_path, "train")) == ["a", "b", "c"]

    def test_names_with_spaces_and_commas(self, tmp_path: Path) -> None:
        plain(tmp_path, ["cell 1", "cell 2", "x,y", "v1.2", "v1", "e"])
        (tmp_path / "train.txt").write_text("cell 1\n'cell 2.png'\nx,y\nv1.2\n", encoding="utf-8")
        assert stems(NUCLEI.datalist(tmp_path, "train")) == ["cell 1", "cell 2", "v1.2", "x,y"]

    @pytest.mark.parametrize("name", ["train.csv", "train.tsv", "Train.TXT"])
    def test_names_of_spreadsheets_and_windows(self, tmp_path: Path, name: str) -> None:
        plain(tmp_path, "abcdef")
        (tmp_path / name).write_text("a\nb\n", encoding="utf-8")
        assert stems(NUCLEI.datalist(tmp_path, "train")) == ["a", "b"]
        (tmp_path / "train.txt").write_text("c\n", encoding="utf-8")
        if name != "train.txt":
            with pytest.raises(DatasetError, match="2 split files of the section train, where one is needed"):
                NUCLEI.datalist(tmp_path, "train")

    @pytest.mark.parametrize("text", ["c\na,b\n", "c\na b\n", "c\na;b\n"])
    def test_lines_of_several_names_are_refused(self, tmp_path: Path, text: str) -> None:
        plain(tmp_path, "abcdef")
        (tmp_path / "train.txt").write_text(text, encoding="utf-8")
        with pytest.raises(
            DatasetError, match=r"train\.txt` must name one image in each line; line 2 names .*Write one"
        ):
            NUCLEI.datalist(tmp_path, "train")

    def test_other_encodings_are_refused(self, tmp_path: Path) -> None:
        plain(tmp_path, ["zellkörper", "a", "b", "c"])
        (tmp_path / "train.txt").write_bytes("a\nzellkörper\n".encode("cp1252"))
        with pytest.raises(
            DatasetError, match=r"train\.txt` must be text in UTF-8; line 2 .*Save the file again as UTF-8"
        ):
            NUCLEI.datalist(tmp_path, "train")

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
    def test_lits_and_camvid(self, tmp_path: Path, encoding: str) -> None:
        volumes(tmp_path / "lits", 3)
        (tmp_path / "lits" / "train.txt").write_text("data\\volume-1.nii.gz;1\r\n", encoding=encoding)
        assert stems(LITS.datalist(tmp_path / "lits", "train")) == ["volume-1"]
        for name in ("x1", "x2"):
            save(tmp_path / "cv/701_StillsRaw_full" / f"{name}.png", np.zeros((8, 8, 3), dtype=np.uint8))
            save(tmp_path / "cv/LabeledApproved_full" / f"{name}_L.png", np.zeros((8, 8, 3), dtype=np.uint8))
        (tmp_path / "cv" / "val.txt").write_text("x2.png,\r\n", encoding=encoding)
        assert stems(CAMVID.datalist(tmp_path / "cv", "val")) == ["x2"]

    @pytest.mark.parametrize("layout", [2010, 2011])
    def test_cub(self, tmp_path: Path, layout: int) -> None:
        names = [f"001.Bird/Bird_{number}" for number in range(4)]
        for name in names:
            save(tmp_path / "images" / f"{name}.jpg", np.zeros((32, 32, 3), dtype=np.uint8))
            save(tmp_path / "segmentations" / f"{name}.png", DISC)
        paths = [f'"{name}.jpg"'.replace("/", "\\") for name in names]
        if layout == 2010:
            (tmp_path / "lists").mkdir()
            (tmp_path / "lists" / "train.txt").write_text("\r\n".join(paths[:3]), encoding="utf-16")
            (tmp_path / "lists" / "test.txt").write_text(f"{paths[3]},\r\n", encoding="utf-8-sig")
        else:
            rows = [f"{number};{path}" for number, path in enumerate(paths)]
            (tmp_path / "images.txt").write_text("\r\n".join(rows), encoding="utf-16")
            (tmp_path / "train_test_split.txt").write_text("0,1\n1,1\n2,1\n3,0\n", encoding="utf-8")
        assert stems(CUB.datalist(tmp_path, "test")) == ["Bird_3"]


class TestStrictness:
    def test_jpeg_copies_of_cityscapes_are_read(self, tmp_path: Path) -> None:
        for section in ("train", "val"):
            save(tmp_path / f"leftImg8bit/{section}/ulm/a_leftImg8bit.jpg", np.zeros((8, 8, 3), dtype=np.uint8))
            save(tmp_path / f"gtFine/{section}/ulm/a_gtFine_labelIds.png", np.full((8, 8), 7, dtype=np.uint8))
        surveys = survey_dataset(CITYSCAPES, tmp_path, ["train", "val"])
        assert [survey.counts[0, 0].item() for survey in surveys.values()] == [64, 64]

    @pytest.mark.parametrize("missing", ["test", "testannot"])
    def test_missing_test_section_is_a_note(
        self, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for section in ("train", "val", "test"):
            save(tmp_path / section / "a.png", np.zeros((8, 12, 3), dtype=np.uint8))
            save(tmp_path / f"{section}annot" / "a.png", np.arange(96, dtype=np.uint8).reshape(8, 12) % 12)
        (tmp_path / missing / "a.png").unlink()
        (tmp_path / missing).rmdir()
        assert main(["check", "camvid", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert "Note: the section test is missing, which trainings do not need" in printed
        assert printed.endswith("Nothing is wrong with the files.\n")
        assert main(["check", "camvid", str(tmp_path), "--section", "test"]) == 2

    def test_missing_validation_section_is_a_problem(self, tmp_path: Path) -> None:
        save(tmp_path / "train" / "a.png", np.zeros((8, 8, 3), dtype=np.uint8))
        save(tmp_path / "trainannot" / "a.png", np.zeros((8, 8), dtype=np.uint8))
        assert main(["check", "camvid", str(tmp_path)]) == 1

    @pytest.mark.parametrize("voxels", [
        RANDOM.integers(0, 2000, (6, 5, 4)).astype(np.int16),
        RANDOM.normal(size=(6, 5, 4)).astype(np.float32),
        RANDOM.random((6, 5, 4)).astype(np.float32),
    ], ids=["MR", "standardized", "fractions"])  # fmt: skip
    def test_values_that_are_not_hounsfield_units_are_refused(self, tmp_path: Path, voxels: np.ndarray) -> None:
        path = volume(tmp_path / "volume-0.nii", voxels)
        for use in (
            lambda: LITS.inspect({"image": str(path)}),
            lambda: LITS.inspect({"image": str(path)}),  # the second time from the cache
            lambda: LoadCTVolumed("image")({"image": str(path)}),
            lambda: find_volumes(path),
            lambda: find_volumes(tmp_path),
        ):
            with pytest.raises(
                ValueError, match=r"volume-0\.nii` must hold Hounsfield units.*got values from .*Convert"
            ):
                use()

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_nan_in_a_volume_is_found_by_check(
        self, tmp_path: Path, suffix: str, value: float, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = volumes(tmp_path / "lits", 3)
        voxels = RANDOM.integers(-1000, 400, (6, 5, 4)).astype(np.float32)
        voxels[2, 3, 3] = value
        (root / "volume-1.nii").unlink()
        volume(root / f"volume-1{suffix}", voxels)
        assert main(["check", "lits", str(root), "--section", "train"]) == 1
        assert f"volume-1{suffix}` must be a whole NIfTI volume; got: 1 voxels" in capsys.readouterr().out
        for use in (lambda: survey_dataset(LITS, root, ["train"]), lambda: find_volumes(root)):
            with pytest.raises(DatasetError, match="NaN or infinite"):
                use()

    @pytest.mark.parametrize(("modality", "refused"), [("MR", True), ("PT", True), ("CT", False), ("OT", False)])
    def test_dicom_series_of_other_modalities_are_refused(self, tmp_path: Path, modality: str, refused: bool) -> None:
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        (tmp_path / "series").mkdir()
        for k in range(3):
            plane = SimpleITK.GetImageFromArray(RANDOM.integers(-1000, 400, (5, 6)).astype(np.int16))
            tags = {
                "0008|0060": modality,
                "0020|000e": "1.2.3",
                "0020|0032": f"0\\0\\{k}",
                "0020|0037": "1\\0\\0\\0\\1\\0",
            }
            for tag, text in {**tags, "0008|0018": f"1.2.3.{k}", "0020|0013": str(k)}.items():
                plane.SetMetaData(tag, text)
            writer.SetFileName(str(tmp_path / "series" / f"{k}.dcm"))
            writer.Execute(plane)
        if refused:
            message = rf"series` must hold a CT series.* got the modality {modality}\. Pass the folder"
            with pytest.raises(DatasetError, match=message):
                find_volumes(tmp_path)
            with pytest.raises(ValueError, match=message):
                LoadCTVolumed("image")({"image": str(tmp_path / "series")})
        else:
            assert len(find_volumes(tmp_path)) == 1


class TestFormsOfUnicode:
    """One accent in two forms: a letter of its own, or a mark that follows a letter, as macOS writes it."""

    COMPOSED, MARKED = "zellk\u00f6rper", "zellko\u0308rper"

    def test_images_labels_and_split_files_meet(self, tmp_path: Path) -> None:
        plain(tmp_path, "bc")
        save(tmp_path / "images" / f"{self.MARKED}.png", np.zeros((32, 32, 3), dtype=np.uint8))
        save(tmp_path / "masks" / f"{self.COMPOSED}.png", DISC)
        assert len([one for s in ("train", "val", "test") for one in NUCLEI.datalist(tmp_path, s)]) == 3
        for form in (self.MARKED, self.COMPOSED):
            (tmp_path / "train.txt").write_text(f"{form}.png\n", encoding="utf-8")
            (item,) = NUCLEI.datalist(tmp_path, "train")
            assert (Path(item["image"]).stem, Path(item["label"]).stem) == (self.MARKED, self.COMPOSED)
            assert survey_section(NUCLEI, tmp_path, "train").counts.tolist() == [[32 * 32 - 64, 64]]

    def test_camvid_and_cub(self, tmp_path: Path) -> None:
        for name, folder in ((self.MARKED, "701_StillsRaw_full"), (f"{self.COMPOSED}_L", "LabeledApproved_full")):
            save(tmp_path / "cv" / folder / f"{name}.png", np.zeros((8, 8, 3), dtype=np.uint8))
        (tmp_path / "cv" / "val.txt").write_text(f"{self.COMPOSED}\n", encoding="utf-8")
        assert len(CAMVID.datalist(tmp_path / "cv", "val")) == 1
        for k in range(3):
            save(tmp_path / "cub/images" / f"1.{self.MARKED}" / f"{k}.jpg", np.zeros((32, 32, 3), dtype=np.uint8))
            save(tmp_path / "cub/segmentations" / f"1.{self.COMPOSED}" / f"{k}.png", DISC)
        (tmp_path / "cub/lists").mkdir()
        for section, form, k in (("train", self.COMPOSED, (0, 1, 2)), ("test", self.MARKED, ())):
            lines = "".join(f"1.{form}/{one}.jpg\n" for one in k)
            (tmp_path / "cub/lists" / f"{section}.txt").write_text(lines, encoding="utf-8")
        assert len([one for s in ("train", "val") for one in CUB.datalist(tmp_path / "cub", s)]) == 3

    def test_two_files_of_one_name_are_told_apart_in_the_message(self, tmp_path: Path) -> None:
        plain(tmp_path, "abc")
        for form in (self.COMPOSED, self.MARKED):
            save(tmp_path / "images" / f"{form}.png", np.zeros((32, 32, 3), dtype=np.uint8))
        with pytest.raises(DatasetError) as refused:
            find_pictures(tmp_path / "images")
        assert "zellk\\xf6rper.png" in str(refused.value) and "zellko\\u0308rper.png" in str(refused.value)
