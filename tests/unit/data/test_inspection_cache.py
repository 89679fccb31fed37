"""Pictures that were read once and have not changed are not read again; whatever else is."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from afma_med.advice.dataset_report import report_dataset
from afma_med.data import CAMVID, picture_reader, survey
from afma_med.data.dataset_reader import Inspected
from afma_med.data.survey import Survey, survey_section
from afma_med.samples import write_street_scenes


@pytest.fixture
def scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AFMA_MED_CACHE", str(tmp_path / "cache"))
    return write_street_scenes(tmp_path / "scenes", counts={"train": 4}, size=(48, 64))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The pictures that were decoded."""
    found: list[str] = []
    read: Callable[..., Any] = picture_reader.highest_deep_value

    def noted(image: Any) -> Any:
        found.append(Path(image.filename).name)
        return read(image)

    monkeypatch.setattr(picture_reader, "highest_deep_value", noted)
    return found


def same(a: Survey, b: Survey) -> bool:
    assert a.objects is not None and b.objects is not None
    same_objects = a.objects.tolist() == b.objects.tolist()
    return a.counts.equal(b.counts) and same_objects and a._replace(counts=b.counts, objects=b.objects) == b


def test_a_second_survey_reads_nothing_and_says_the_same(scenes: Path, opened: list[str]) -> None:
    first = survey_section(CAMVID, scenes, "train")
    assert len(opened) == 4
    assert same(survey_section(CAMVID, scenes, "train"), first)
    assert len(opened) == 4


def test_a_changed_picture_is_read_again(scenes: Path, opened: list[str]) -> None:
    first = survey_section(CAMVID, scenes, "train")
    label = Path(first.files[1]["label"])
    Image.new("L", (64, 48), 3).save(label)
    second = survey_section(CAMVID, scenes, "train")
    assert len(opened) == 5
    assert second.counts[1].tolist() == [0, 0, 0, 48 * 64, *[0] * 8]
    assert second.counts[0].equal(first.counts[0])


def test_a_broken_picture_is_reported_each_time(scenes: Path) -> None:
    path = scenes / "train" / sorted(os.listdir(scenes / "train"))[0]
    survey_section(CAMVID, scenes, "train")
    path.write_bytes(path.read_bytes()[:200])
    for _ in range(2):
        assert path.name in survey_section(CAMVID, scenes, "train").problems[0]


def test_a_survey_that_was_stopped_goes_on(scenes: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    read = picture_reader.highest_deep_value

    def stop_at_the_third(image: Any) -> Any:
        if len(opened) == 2:
            raise KeyboardInterrupt
        return read(image)

    with monkeypatch.context() as patch:
        patch.setattr(picture_reader, "highest_deep_value", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            survey_section(CAMVID, scenes, "train")
    before = len(opened)
    assert len(survey_section(CAMVID, scenes, "train").items) == 4
    assert len(opened) - before < 4


def test_a_picture_that_vanishes_is_named_and_the_others_are_read(
    scenes: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = CAMVID.datalist

    def lose_the_second(root: Any, section: str) -> list[dict[str, str]]:
        files = listed(root, section)
        os.remove(files[1]["image"])
        return files

    survey = survey_section(CAMVID._replace(datalist=lose_the_second), scenes, "train")
    assert len(survey.items) == len(opened) == 3
    assert "1 files that cannot be used" in survey.problems[0] and "No such file" in survey.problems[0]


def test_a_full_disk_is_a_warning(scenes: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect

    def small(*given: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*given, **options)
        connection.executescript("PRAGMA page_size = 512; PRAGMA max_page_count = 4")
        return connection

    monkeypatch.setattr(sqlite3, "connect", small)
    survey = survey_section(CAMVID, scenes, "train")
    assert len(survey.items) == len(opened) == 4
    assert "cannot keep what was read: database or disk is full" in survey.warnings[0]
    assert "Set AFMA_MED_CACHE" in survey.warnings[0]


def test_objects_are_counted_with_the_pixels_and_kept(scenes: Path, opened: list[str]) -> None:
    def refuse(item: Any) -> Any:
        raise AssertionError("the label is read a second time")

    text, _ = report_dataset(CAMVID, scenes, ["train"])
    again, _ = report_dataset(CAMVID._replace(read_label=refuse), scenes, ["train"])
    assert again == text and len(opened) == 4
    uncounted, _ = report_dataset(CAMVID._replace(inspect=_inspect_without_objects), scenes, ["train"])
    assert uncounted == text


def _inspect_without_objects(item: Any) -> list[Inspected]:
    return [one._replace(objects=None) for one in CAMVID.inspect(item)]


def test_processes_of_a_training_begin_at_different_files(
    scenes: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = survey_section(CAMVID, scenes, "train")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert same(survey_section(CAMVID, scenes, "train"), alone)
    monkeypatch.setattr(survey, "map_files", lambda function, items, title: [function(item) for item in items])
    opened.clear()
    own = CAMVID._replace(inspect=lambda item: CAMVID.inspect(item))  # not kept
    assert same(survey_section(own, scenes, "train"), alone)
    names = [Path(item["image"]).name for item in alone.files]
    assert opened == names[2:] + names[:2]


def test_readers_of_others_are_not_kept(scenes: Path, opened: list[str]) -> None:
    own = CAMVID._replace(inspect=lambda item: CAMVID.inspect(item))
    for _ in range(2):
        survey_section(own, scenes, "train")
    assert len(opened) == 8


@pytest.mark.parametrize("how", ["a file", "damaged"])
def test_without_a_usable_file_everything_is_read(
    scenes: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    folder = tmp_path / "other"
    monkeypatch.setenv("AFMA_MED_CACHE", str(folder))
    if how == "a file":
        folder.write_text("", encoding="utf-8")
    else:
        folder.mkdir()
        (folder / "camvid.sqlite").write_bytes(b"no database" * 100)
    found = survey_section(CAMVID, scenes, "train")
    assert len(found.items) == 4
    assert "cannot keep what was read" in found.warnings[0] and "Set AFMA_MED_CACHE" in found.warnings[0]


def test_the_file_holds_no_pickles(scenes: Path, tmp_path: Path) -> None:
    survey_section(CAMVID, scenes, "train")
    with sqlite3.connect(tmp_path / "cache" / "camvid.sqlite") as connection:
        rows = connection.execute("SELECT content FROM inspections").fetchall()
    assert len(rows) == 4 and all(row[0].startswith("[{") for row in rows)
