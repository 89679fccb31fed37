"""Every dataset's reader on a tiny tree in its layout, whole and broken; what is wrong is reported and refused."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from _helpers.dataset_files import stems
from _helpers.paths import SHARED
from afma_med.advice.dataset_report import report_dataset
from afma_med.cli import main
from afma_med.data import (
    CITYSCAPES,
    CUB,
    ISIC,
    LESION_SLICES,
    NUCLEI,
    READERS,
    DatasetError,
    build_lesion_slices,
    survey_dataset,
    survey_section,
)
from afma_med.data.picture_reader import find_pictures
from afma_med.data.splits import fold_names, split_names
from afma_med.transforms import LoadRGBImaged

SHARED_DATA = SHARED / "data"
RANDOM = np.random.default_rng(0)


def picture(path: Path, *, size: tuple[int, int] = (24, 16), mode: str = "RGB") -> Path:
    """A picture of noise, so that cutting it short is cutting data; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = RANDOM.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, quality=95)
    return path


def label(path: Path, values: tuple[int, ...], *, size: tuple[int, int] = (24, 16)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RANDOM.choice(np.array(values, dtype=np.uint8), (size[1], size[0]))).save(path)
    return path


def camvid_tree(root: Path) -> tuple[Path, Path]:
    for section in ("train", "val", "test"):
        for name in "ab":
            image = picture(root / section / f"{name}.png")
            mask = label(root / f"{section}annot" / f"{name}.png", (0, 5, 11))
            if (section, name) == ("train", "b"):
                broken = image, mask
    return broken


def cityscapes_tree(root: Path) -> tuple[Path, Path]:
    for section, city in (("train", "aachen"), ("train", "bochum"), ("val", "ulm"), ("test", "bonn")):
        stem = f"{city}_000000_000019"
        image = picture(root / "leftImg8bit" / section / city / f"{stem}_leftImg8bit.png")
        if section != "test":
            mask = label(root / "gtFine" / section / city / f"{stem}_gtFine_labelIds.png", (0, 7, 24, 33))
            (mask.with_name(f"{stem}_gtFine_polygons.json")).write_text("{}", encoding="utf-8")
            label(mask.with_name(f"{stem}_gtFine_instanceIds.png"), (0, 7))
        if city == "bochum":
            broken = image, mask
    return broken


def isic_tree(root: Path) -> tuple[Path, Path]:
    for part in ("Training", "Validation", "Test"):
        for number in (1, 2):
            image = picture(root / f"ISIC2018_Task1-2_{part}_Input" / f"ISIC_{number}.jpg")
            mask = label(root / f"ISIC2018_Task1_{part}_GroundTruth" / f"ISIC_{number}_segmentation.png", (0, 255))
            if (part, number) == ("Training", 2):
                broken = image, mask
    return broken


def cub_tree(root: Path) -> tuple[Path, Path]:
    lines, flags = [], []
    for number in range(1, 10):
        stem = f"{number % 2 + 1:03}.Bird/Bird_{number:04}"
        image, mask = picture(root / "images" / f"{stem}.jpg"), root / "segmentations" / f"{stem}.png"
        label(mask, (0, 51, 102, 153, 204, 255))
        lines.append(f"{number} {stem}.jpg")
        flags.append(f"{number} {int(number < 8)}")
        if number == 7:
            broken = image, mask
    (root / "images.txt").write_text("\n".join(lines), encoding="utf-8")
    (root / "train_test_split.txt").write_text("\n".join(flags), encoding="utf-8")
    return broken


def lits_tree(root: Path) -> tuple[Path, Path]:
    root.mkdir(parents=True, exist_ok=True)
    for number in range(6):
        volume, mask = root / f"volume-{number}.nii", root / f"segmentation-{number}.nii"
        noise = RANDOM.integers(-1000, 1000, (12, 10, 4)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), volume)
        nibabel.save(nibabel.Nifti1Image(RANDOM.integers(0, 3, (12, 10, 4)).astype(np.uint8), np.eye(4)), mask)
    names = [f"volume-{number}" for number in range(6)]
    for section, members in (("train", names[:3]), ("val", names[3:4]), ("test", names[4:])):
        (root / f"{section}.txt").write_text("\n".join(members), encoding="utf-8")
    return root / "volume-1.nii", root / "segmentation-1.nii"


def plain_tree(root: Path, names: list[str], *, suffix: str = "png") -> None:
    for number, name in enumerate(names):
        picture(root / "images" / f"{name}.{suffix}", mode=("L", "RGB", "RGBA")[number % 3 if suffix == "png" else 0])
        label(root / "masks" / f"{name}.png", (0, 255))


def nuclei_tree(root: Path) -> tuple[Path, Path]:
    plain_tree(root, list("abcdef"))
    label(root / "instances" / "a.png", (0, 1, 2))
    for section, names in (("train", "abc"), ("val", "d"), ("test", "ef")):
        (root / f"{section}.txt").write_text("\n".join(names), encoding="utf-8")
    return root / "images" / "b.png", root / "masks" / "b.png"


def lesion_slices_tree(root: Path) -> tuple[Path, Path]:
    plain_tree(root, [f"slice_{number}" for number in range(1, 21)], suffix="jpg")
    return root / "images" / "slice_12.jpg", root / "masks" / "slice_12.png"


TREES: dict[str, Callable[[Path], tuple[Path, Path]]] = {
    "camvid": camvid_tree,
    "cityscapes": cityscapes_tree,
    "isic": isic_tree,
    "cub": cub_tree,
    "lits": lits_tree,
    "nuclei": nuclei_tree,
    "lesion_slices": lesion_slices_tree,
}
COUNTS = {"camvid": 6, "cityscapes": 4, "isic": 6, "cub": 9, "lits": 6, "nuclei": 6, "lesion_slices": 20}
MASKS = ("isic", "cub", "nuclei", "lesion_slices")


def resize(path: Path) -> None:
    if path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(np.zeros((12, 11, 4), dtype=np.uint8), np.eye(4)), path)
    else:
        label(path, (0,), size=(23, 16))


def fill_with_77(path: Path) -> None:
    if path.suffix == ".nii":
        nibabel.save(nibabel.Nifti1Image(np.full((12, 10, 4), 77, dtype=np.uint8), np.eye(4)), path)
    else:
        label(path, (77,))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


# What happens to (image, label), and which of the two the report must name.
BREAKS: dict[str, tuple[Callable[[Path, Path], object], tuple[str, ...]]] = {
    "image lost": (lambda image, _: image.unlink(), ("label",)),
    "label lost": (lambda _, mask: mask.unlink(), ("image",)),
    "label misnamed": (lambda _, mask: mask.rename(mask.with_name(f"x{mask.name}")), ("image",)),
    "image cut short": (lambda image, _: cut(image), ("image",)),
    "label cut short": (lambda _, mask: cut(mask), ("label",)),
    "image empty": (lambda image, _: image.write_bytes(b""), ("image",)),
    "label is text": (lambda _, mask: mask.write_text("not a picture", encoding="utf-8"), ("label",)),
    "label of another size": (lambda _, mask: resize(mask), ("label",)),
    "label with bad values": (lambda _, mask: fill_with_77(mask), ("label",)),
}


@pytest.mark.parametrize("name", TREES)
def test_whole_trees_are_read(tmp_path: Path, name: str) -> None:
    TREES[name](tmp_path / "tree")
    reader = READERS[name]
    surveys = {section: survey_section(reader, tmp_path / "tree", section) for section in ("train", "val", "test")}
    assert not [text for survey in surveys.values() for text in survey.problems]
    paths = [item["image"] for survey in surveys.values() for item in survey.files]
    assert len(paths) == len(set(paths)) == COUNTS[name]
    train = surveys["train"]
    height, width = next(iter(train.sizes))
    assert train.counts.sum(dim=1).max() <= height * width
    assert reader.read_label(train.items[0]).shape == (height, width)


@pytest.mark.parametrize("kind", BREAKS)
@pytest.mark.parametrize("name", TREES)
def test_broken_trees_are_reported_and_refused_alike(
    tmp_path: Path, name: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "label with bad values" and name in MASKS:
        pytest.skip("masks are thresholded: every value means something")
    root = tmp_path / "tree"
    image, mask = TREES[name](root)
    break_it, named = BREAKS[kind]
    break_it(image, mask)
    assert main(["check", name, str(root)]) == 1
    printed = capsys.readouterr().out
    for which in named:
        # A volume that a split file names is missed by that name, not as its mask's partner.
        lost = name == "lits" and kind == "image lost"
        assert (image.stem if lost else image.name if which == "image" else mask.name) in printed, printed
    with pytest.raises(DatasetError) as refused:
        survey_dataset(READERS[name], root, ["train", "val"])
    assert all(problem in printed for problem in refused.value.problems)
    assert str(refused.value) in printed


def test_all_problems_are_in_one_report(tmp_path: Path) -> None:
    camvid_tree(tmp_path)
    (tmp_path / "trainannot" / "a.png").unlink()
    cut(tmp_path / "train" / "b.png")
    label(tmp_path / "valannot" / "a.png", (77,))
    label(tmp_path / "valannot" / "c.png", (0,))
    text, sound = report_dataset(READERS["camvid"], tmp_path, ["train", "val", "test"])
    assert not sound
    for needle in ("train/a.png", "train/b.png", "valannot/a.png", "valannot/c.png"):
        assert needle in text


def test_check_as_a_command_prints_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    isic_tree(tmp_path)
    assert main(["check", "isic", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"train +2 +16×24 \(2\)", printed)
    assert "lesion" in printed
    assert printed.endswith("Nothing is wrong with the files.\n")


@pytest.mark.parametrize("name", TREES)
def test_missing_roots_show_the_layout(tmp_path: Path, name: str) -> None:
    for root, what in ((tmp_path / "nowhere", "no such folder"), (tmp_path, "missing `")):
        with pytest.raises(FileNotFoundError, match=f"(?s)must hold {READERS[name].title}; {what}.*Pass the folder"):
            READERS[name].datalist(root, "train")
    with pytest.raises(ValueError, match="must be one of"):
        READERS[name].datalist(tmp_path, "training")


def test_withheld_labels_are_refused_where_they_are_needed(tmp_path: Path) -> None:
    cityscapes_tree(tmp_path)
    with pytest.raises(ValueError, match=r"must have labels; got 'test' of Cityscapes.*afma bundle NAME"):
        survey_dataset(CITYSCAPES, tmp_path, ["test"])
    assert list(survey_dataset(CITYSCAPES, tmp_path, ["test"], labelled=False)["test"].files[0]) == ["image"]


class TestCityscapes:
    def test_table_is_the_official_one(self) -> None:
        labels = pytest.importorskip("cityscapesscripts.helpers.labels").labels
        official = [(x.name, x.id, x.trainId, x.color) for x in labels if x.id >= 0]
        assert [(x.name, x.raw_id, x.train_id, x.color) for x in CITYSCAPES.classes] == official

    def test_small_classes_are_the_paper_s(self) -> None:
        small = {info.name for info in CITYSCAPES.classes if info.group == "small"}
        expected = {"pole", "traffic light", "traffic sign", "person", "rider", "motorcycle", "bicycle"}
        assert small == expected
        assert sum(info.group == "large" for info in CITYSCAPES.classes) == 12

    def test_ids_become_train_ids_and_the_rest_void(self, tmp_path: Path) -> None:
        path = tmp_path / "a_gtFine_labelIds.png"
        Image.fromarray(np.arange(34, dtype=np.uint8)[None]).save(path)
        expected = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
        expected += [255, 255, 16, 17, 18]
        assert CITYSCAPES.read_label({"label": str(path)})[0].tolist() == expected

    def test_train_id_labels_are_read_as_they_are(self, tmp_path: Path) -> None:
        cityscapes_tree(tmp_path)
        for path in tmp_path.rglob("*_labelIds.png"):
            path.unlink()
            label(path.with_name(path.name.replace("labelIds", "labelTrainIds")), (0, 18, 255))
        survey = survey_section(CITYSCAPES, tmp_path, "train")
        assert survey.counts.sum(dim=0).nonzero().flatten().tolist() == [0, 18]
        assert survey.counts.sum() < 2 * 24 * 16, "void pixels belong to no class"


class TestIsic:
    @pytest.mark.parametrize(
        ("image", "mask"),
        [
            ("ISIC-2017_{c}_Data/ISIC_{n}.jpg", "ISIC-2017_{c}_Part1_GroundTruth/ISIC_{n}_segmentation.png"),
            ("{plain}/images/{n}.png", "{plain}/masks/{n}.png"),
            ("{plain}/images/{n}.jpeg", "{plain}/masks/{n}_mask.jpg"),
            ("{plain}x/imgx{n}.jpg", "{plain}y/imgy{n}.jpg"),
        ],
    )
    def test_layouts(self, tmp_path: Path, image: str, mask: str) -> None:
        for plain, official in (("train", "Training"), ("validation", "Validation"), ("test", "Test_v2")):
            for n in (1, 2):
                names = {"c": official, "plain": plain, "n": n}
                picture(tmp_path / image.format(**names))
                picture(tmp_path / mask.format(**names), mode="L")
        if "2017" in image:
            picture(tmp_path / "ISIC-2017_Training_Data" / "ISIC_1_superpixels.png")
        assert [len(ISIC.datalist(tmp_path, section)) for section in ("train", "val", "test")] == [2, 2, 2]

    def test_training_folder_alone_is_split(self, tmp_path: Path) -> None:
        plain_tree(tmp_path, [str(number) for number in range(20)])
        parts = [stems(ISIC.datalist(tmp_path, section)) for section in ("train", "val", "test")]
        assert [len(part) for part in parts] == [14, 2, 4]
        assert len({name for part in parts for name in part}) == 20

    def test_own_test_folder_leaves_the_rest_of_training(self, tmp_path: Path) -> None:
        plain_tree(tmp_path / "train", [str(number) for number in range(20)])
        plain_tree(tmp_path / "test", ["a", "b"])
        assert [len(ISIC.datalist(tmp_path, section)) for section in ("train", "val", "test")] == [18, 2, 2]

    def test_withheld_test_masks(self, tmp_path: Path) -> None:
        isic_tree(tmp_path)
        for path in tmp_path.glob("*Test_GroundTruth/*"):
            path.unlink()
        (tmp_path / "ISIC2018_Task1_Test_GroundTruth").rmdir()
        assert list(ISIC.datalist(tmp_path, "test")[0]) == ["image"]


class TestCub:
    def test_official_split_decides(self, tmp_path: Path) -> None:
        cub_tree(tmp_path)
        assert [Path(item["image"]).stem for item in CUB.datalist(tmp_path, "test")] == ["Bird_0008", "Bird_0009"]
        assert len(CUB.datalist(tmp_path, "train")) + len(CUB.datalist(tmp_path, "val")) == 7

    def test_lists_of_2010(self, tmp_path: Path) -> None:
        cub_tree(tmp_path)
        (tmp_path / "train_test_split.txt").unlink()
        (tmp_path / "lists").mkdir()
        names = [path.relative_to(tmp_path / "images").as_posix() for path in sorted(tmp_path.glob("images/*/*"))]
        (tmp_path / "lists" / "train.txt").write_text("\n".join(names[:6]), encoding="utf-8")
        (tmp_path / "lists" / "test.txt").write_text("\n".join(names[6:]), encoding="utf-8")
        assert [len(CUB.datalist(tmp_path, section)) for section in ("train", "val", "test")] == [5, 1, 3]

    def test_no_split_at_all(self, tmp_path: Path) -> None:
        cub_tree(tmp_path)
        (tmp_path / "images.txt").unlink()
        assert [len(CUB.datalist(tmp_path, section)) for section in ("train", "val", "test")] == [7, 1, 1]

    def test_name_without_an_image_is_reported(self, tmp_path: Path) -> None:
        cub_tree(tmp_path)
        with (
            (tmp_path / "images.txt").open("a", encoding="utf-8") as listing,
            (tmp_path / "train_test_split.txt").open("a", encoding="utf-8") as flags,
        ):
            listing.write("\n10 002.Bird/Bird_0010.jpg")
            flags.write("\n10 0")
        with pytest.raises(DatasetError, match=r"names of `.*images\.txt` without an image:\n  002\.Bird/Bird_0010"):
            CUB.datalist(tmp_path, "test")

    @pytest.mark.parametrize(("file", "text"), [("train_test_split.txt", "1 1\n2 2"), ("images.txt", "1 a b")])
    def test_split_files_that_make_no_sense(self, tmp_path: Path, file: str, text: str) -> None:
        cub_tree(tmp_path)
        (tmp_path / file).write_text(text, encoding="utf-8")
        with pytest.raises(ValueError, match=rf"{file}` must .*Replace"):
            CUB.datalist(tmp_path, "train")


class TestNuclei:
    def test_lists_decide(self, tmp_path: Path) -> None:
        nuclei_tree(tmp_path)
        (tmp_path / "test.txt").write_text("f.png\n\ne.png\n", encoding="utf-8")  # with suffixes, and an empty line
        found = [stems(NUCLEI.datalist(tmp_path, section)) for section in ("train", "val", "test")]
        assert found == [["a", "b", "c"], ["d"], ["e", "f"]]

    def test_pictures_of_every_mode_are_one_kind(self, tmp_path: Path) -> None:
        nuclei_tree(tmp_path)
        modes = {Image.open(path).mode for path in (tmp_path / "images").iterdir()}
        assert modes == {"L", "RGB", "RGBA"}
        load = LoadRGBImaged("image")
        assert {load(item)["image"].shape for item in NUCLEI.datalist(tmp_path, "train")} == {(3, 16, 24)}

    def test_a_list_alone_leaves_the_rest_to_the_other_sections(self, tmp_path: Path) -> None:
        plain_tree(tmp_path, [str(number) for number in range(20)])
        (tmp_path / "test.txt").write_text("3\n4", encoding="utf-8")
        parts = [stems(NUCLEI.datalist(tmp_path, section)) for section in ("train", "val", "test")]
        assert parts[2] == ["3", "4"]
        assert [len(part) for part in parts] == [17, 1, 2]

    @pytest.mark.parametrize(
        ("file", "text", "section", "message", "usable"),
        [
            ("val.txt", "d\nx", "val", r"1 names of `.*val\.txt` without an image:\n  x\n", ["d"]),
            (
                "train.txt",
                "a\nb",
                "train",
                r"(?s)2 files that no split file in .* lists:.*images/c.*masks/c\.png",
                ["a", "b"],
            ),
            ("val.txt", "\n", "train", r"1 split files that list nothing:\n  .*val\.txt", []),
            ("val.txt", "a", "train", r"(?s)names in several sections.*  a\n", []),
        ],
        ids=["no file", "no list", "empty", "shared"],
    )
    def test_lists_that_do_not_fit_are_reported(
        self, tmp_path: Path, file: str, text: str, section: str, message: str, usable: list[str]
    ) -> None:
        nuclei_tree(tmp_path)
        (tmp_path / file).write_text(text, encoding="utf-8")
        with pytest.raises(DatasetError, match=message) as refused:
            NUCLEI.datalist(tmp_path, section)
        assert stems(refused.value.items) == usable
        if section == "train" and usable:
            assert stems(NUCLEI.datalist(tmp_path, "val")) == ["d"], "reported once"


class TestLesionSlices:
    def test_folds_are_runs_of_neighbours_in_the_order_of_the_numbers(self, tmp_path: Path) -> None:
        lesion_slices_tree(tmp_path)
        expected = [[f"slice_{number}" for number in range(first, first + 4)] for first in (1, 5, 9, 13, 17)]
        for fold, names in enumerate(expected):
            assert set(stems(build_lesion_slices(fold).datalist(tmp_path, "test"))) == set(names)
            assert build_lesion_slices(fold).datalist(tmp_path, "test") == build_lesion_slices(fold).datalist(
                tmp_path, "test"
            )
        assert stems(LESION_SLICES.datalist(tmp_path, "val")) == ["slice_10", "slice_9"]

    @pytest.mark.parametrize("fold", [5, -1, 1.0, True, "1", None])
    def test_other_folds_are_refused(self, tmp_path: Path, fold: object) -> None:
        lesion_slices_tree(tmp_path)
        message = rf"`fold` must be a whole number from 0 to 4; got {re.escape(repr(fold))}\. For example"
        for call in (lambda: build_lesion_slices(fold).datalist(tmp_path, "train"), lambda: build_lesion_slices(fold)):
            with pytest.raises(ValueError, match=message):
                call()


@pytest.mark.parametrize("count", [5, 6, 7, 8, 19, 98])
def test_every_image_is_tested_in_one_fold_and_val_borders_on_no_test_image(count: int) -> None:
    names = [f"n{number}" for number in range(count)]
    tested: list[str] = []
    for fold in range(5):
        parts = {section: fold_names(names, section, fold=fold) for section in ("train", "val", "test")}
        assert sorted(name for part in parts.values() for name in part) == sorted(names), "each name in one section"
        assert all(parts.values())
        assert len(parts["val"]) == max(1, count // 8)
        places = {section: [names.index(name) for name in part] for section, part in parts.items()}
        assert min(abs(i - j) for i in places["val"] for j in places["test"]) > 1
        assert max(places["test"]) - min(places["test"]) + 1 == len(places["test"])
        tested += sorted(parts["test"])
    assert sorted(tested) == sorted(names)


def test_partial_split_files_share_nothing(tmp_path: Path) -> None:
    lits_tree(tmp_path)
    (tmp_path / "val.txt").unlink()
    (tmp_path / "test.txt").unlink()
    parts = [{item["image"] for item in READERS["lits"].datalist(tmp_path, s)} for s in ("train", "val", "test")]
    assert [len(part) for part in parts] == [3, 1, 2]
    assert len(set.union(*parts)) == 6
    (tmp_path / "val.txt").write_text("volume-0", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"(?s)names in several sections of the split files.*volume-0"):
        READERS["lits"].datalist(tmp_path, "test")


def test_overlapping_lists_of_cub_are_refused(tmp_path: Path) -> None:
    cub_tree(tmp_path)
    (tmp_path / "images.txt").unlink()
    (tmp_path / "lists").mkdir()
    for section in ("train", "test"):
        (tmp_path / "lists" / f"{section}.txt").write_text("002.Bird/Bird_0001.jpg", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"(?s)several sections.*002\.Bird/Bird_0001"):
        CUB.datalist(tmp_path, "train")


def test_a_picture_far_too_large_is_one_problem_of_the_report(tmp_path: Path) -> None:
    camvid_tree(tmp_path)
    Image.new("1", (1, 1)).save(tmp_path / "train" / "a.png")
    raw = bytearray((tmp_path / "train" / "a.png").read_bytes())
    raw[16:24] = (60000).to_bytes(4, "big") * 2
    raw[29:33] = zlib.crc32(raw[12:29]).to_bytes(4, "big")
    (tmp_path / "train" / "a.png").write_bytes(raw)
    text, sound = report_dataset(READERS["camvid"], tmp_path, ["train"])
    assert not sound
    assert "train/a.png (unreadable" in text


def test_split_depends_on_the_names_alone() -> None:
    names = [f"n{i}" for i in range(50)]
    parts = [split_names(names, section) for section in ("train", "val", "test")]
    assert [len(part) for part in parts] == [35, 5, 10]
    assert set.union(*parts) == set(names)
    assert split_names(reversed(names), "val") == parts[1]
    with pytest.raises(ValueError, match="at least 3 images"):
        split_names(["a", "b"], "train")


def test_pictures_of_a_folder_are_found_with_their_subfolders(tmp_path: Path) -> None:
    picture(tmp_path / "b" / "a.JPG")
    picture(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("no picture", encoding="utf-8")
    picture(tmp_path / ".hidden" / "c.png")
    (tmp_path / "b" / "up").symlink_to(tmp_path)  # round in circles
    assert [Path(item["image"]).relative_to(tmp_path).as_posix() for item in find_pictures(tmp_path)] == [
        "a.png",
        "b/a.JPG",
    ]
    picture(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match=r"(?s)names with several files.*a\.jpg and .*a\.png"):
        find_pictures(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(not SHARED_DATA.is_dir(), reason="no real data beside the checkout")
@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("isic", "isic2018-sample", [26, 3, 7]),
        ("cub", "cub-sample", [11, 1, 3]),
        ("lits", "lits-sample", [2, 1, 1]),
        ("camvid", "camvid-720x960-sample", [6, 6, 6]),
        ("nuclei", "nuclei", [464, 67, 133]),
        ("lesion_slices", "covid-ct", [67, 12, 19]),
    ],
)
def test_real_files_are_sound(name: str, folder: str, files: list[int]) -> None:
    found = []
    for section in ("train", "val", "test"):
        survey = survey_section(READERS[name], SHARED_DATA / folder, section)
        assert not survey.problems
        found.append(len(survey.files))
    assert found == files
