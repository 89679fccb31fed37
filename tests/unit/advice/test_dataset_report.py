"""The objects command counts what labels hold, and writes it as a table and a chart."""

from __future__ import annotations

import csv
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from afma_med.advice.dataset_report import report_objects
from afma_med.cli import main
from afma_med.data import CAMVID, LITS, DatasetError
from afma_med.data.objects.sizes import SizeGroups
from afma_med.visualize.object_chart import draw_object_counts


def scene(root: Path, section: str, label: np.ndarray) -> None:
    for folder, array in ((section, np.zeros((*label.shape, 3), np.uint8)), (f"{section}annot", label)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(root / folder / "a.png")


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A car of 100×100 pixels and two poles on a road; unlabelled pixels; one pole in val."""
    label = np.full((120, 150), 3, dtype=np.uint8)
    label[5:105, 5:105] = 8
    label[5:60, 110:112] = label[5:60, 120:140] = 2
    label[119] = 11
    scene(tmp_path / "scenes", "train", label)
    scene(tmp_path / "scenes", "val", np.where(np.arange(40) == 7, 2, 3).astype(np.uint8)[None].repeat(30, 0))
    return tmp_path / "scenes"


def table(folder: Path) -> dict[tuple[str, str], list[int]]:
    rows = list(csv.reader((folder / "objects.csv").open(encoding="utf-8")))
    assert rows[0] == ["section", "class", "small", "medium", "large"]
    return {(row[0], row[1]): [int(cell) for cell in row[2:]] for row in rows[1:]}


def test_objects_command_counts_by_class_section_and_size(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "an empty place"
    assert main(["objects", "camvid", str(scenes), "--output_dir", str(folder)]) == 0
    counts = table(folder)
    assert counts["train", "car"] == [0, 0, 1]
    assert counts["train", "pole"] == [1, 1, 0]
    assert counts["val", "pole"] == [1, 0, 0]
    assert counts["val", "road"] == [2, 0, 0]
    assert len(counts) == 22, "two sections; unlabelled is no class of the scores"
    assert Image.open(folder / "objects.png").size[0] > 500
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Results are in {folder} (objects.csv, objects.png)"
    assert sorted(path.name for path in folder.iterdir()) == ["objects.csv", "objects.png"]


def test_objects_of_volumes_are_whole_and_in_cubic_millimetres(tmp_path: Path) -> None:
    label = np.zeros((12, 12, 12), dtype=np.uint8)
    label[1:11, 1:11, 1:11] = 1
    label[3:6, 3:6, 3:6] = 2  # 27 voxels of 8 mm³: 216 mm³; 9 pixels in each of three slices
    label[7, 7, 7] = 2
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    for number in range(3):
        nibabel.save(nibabel.Nifti1Image(np.zeros(label.shape, np.int16), affine), tmp_path / f"volume-{number}.nii")
        nibabel.save(nibabel.Nifti1Image(label, affine), tmp_path / f"segmentation-{number}.nii")
    report_objects(LITS, tmp_path, ["train"], tmp_path / "objects")
    assert table(tmp_path / "objects") == {
        ("train", "background"): [0, 0, 1],
        ("train", "liver"): [0, 0, 1],
        ("train", "tumour"): [2, 0, 0],
    }


def test_damaged_labels_are_named_and_nothing_is_written(scenes: Path, tmp_path: Path) -> None:
    (scenes / "trainannot" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"a\.png"):
        report_objects(CAMVID, scenes, ["train"], tmp_path / "objects")
    assert not (tmp_path / "objects").exists()


def test_missing_dataset_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objects", "camvid", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_sections_without_labels_are_refused(tmp_path: Path) -> None:
    for number in range(2):
        volume = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))
        nibabel.save(volume, tmp_path / f"test-volume-{number}.nii")
    with pytest.raises(ValueError, match=r"`section` must have labels; got \['test'\] of"):
        report_objects(LITS, tmp_path, ["test"], tmp_path / "objects")


def test_chart_has_a_panel_for_each_section_and_a_bar_for_each_size() -> None:
    counts = {"train": np.array([[3, 2, 1], [0, 0, 4]]), "val": np.array([[1, 1, 1], [0, 0, 0]])}
    figure = draw_object_counts(counts, ["a", "b"], groups=SizeGroups((10, 20)), title="Example")
    assert [panel.get_title() for panel in figure.axes] == ["train: 10 objects", "val: 3 objects"]
    widths = [[bar.get_width() for bar in bars] for bars in figure.axes[0].containers if hasattr(bars, "patches")]
    assert widths == [[3, 0], [2, 0], [1, 4]]
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "small (< 10 pixels)"
