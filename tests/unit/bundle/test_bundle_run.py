"""Functions that a bundle calls before it runs: its data, its folder, its errors."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from afma_med.bundle.run import dataset_or_sample, folder_of, list_inputs
from afma_med.bundle.run_folder import find_weights, open_run_folder
from afma_med.bundle.settings import read_settings, write_settings
from afma_med.data import ISIC, DatasetError
from afma_med.samples import Sample, write_lesions


def test_existing_dataset_is_used_and_nothing_drawn(tmp_path: Path) -> None:
    (tmp_path / "isic").mkdir()
    assert dataset_or_sample(ISIC, tmp_path) == str(tmp_path / "isic")
    assert [path.name for path in tmp_path.iterdir()] == ["isic"]


def test_missing_dataset_draws_the_sample_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Path] = []
    monkeypatch.setattr("afma_med.bundle.run.SAMPLES", {"isic": Sample("lesions", drawn.append)})
    assert dataset_or_sample(ISIC, tmp_path) == str(tmp_path / "lesions")
    assert drawn == [tmp_path / "lesions"]
    assert "--dataset_dir" in caplog.text
    assert caplog.records[0].levelno >= logging.WARNING, "it must be seen by default"


def test_inputs_are_a_file_a_folder_or_a_section(tmp_path: Path) -> None:
    root = write_lesions(tmp_path / "lesions", counts={"train": 3, "val": 1, "test": 2})
    section = list_inputs(ISIC, None, root, "test")
    assert [list(item) for item in section] == [["image"], ["image"]], "labels are not needed"
    folder = Path(section[0]["image"]).parent
    assert list_inputs(ISIC, folder, "nowhere", "test") == section
    assert list_inputs(ISIC, section[1]["image"], "nowhere", "test") == section[1:]
    assert (folder_of(folder), folder_of(section[0]["image"]), folder_of(None)) == (str(folder), "", "")


def test_missing_and_unreadable_inputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`input` must be a file or folder; there is no `.*nowhere`"):
        list_inputs(ISIC, tmp_path / "nowhere", tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="must hold images"):
        list_inputs(ISIC, tmp_path, tmp_path, "test")
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_text("no picture", encoding="utf-8")
    with pytest.raises(DatasetError, match=r"(?s)a\.jpg \(unreadable.*b\.png \(unreadable"):
        list_inputs(ISIC, tmp_path, tmp_path, "test")


def test_pictures_cut_short_are_refused_before_anything_is_predicted(tmp_path: Path) -> None:
    root = write_lesions(tmp_path / "lesions", counts={"train": 3})
    path = sorted(root.rglob("*.jpg"))[1]
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DatasetError, match=path.name):
        list_inputs(ISIC, path.parent, tmp_path, "test")


def test_folder_of_keeps_links_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert folder_of(tmp_path / "link") == str(tmp_path / "link"), "the paths of its files begin so"


def test_resuming_with_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    write_settings(tmp_path, {"encoder": "resnet18", "patch_size": (10, 10), "dataset_dir": "here"})
    before = (tmp_path / "settings.json").read_bytes()
    with pytest.raises(ValueError, match=r"got encoder='resnet34', the run has 'resnet18'.*--encoder resnet18"):
        write_settings(tmp_path, {"encoder": "resnet34"}, checkpoint=tmp_path / "last.pt")
    assert (tmp_path / "settings.json").read_bytes() == before
    moved = {"encoder": "resnet18", "patch_size": (10, 10), "dataset_dir": "there"}
    write_settings(tmp_path, moved, checkpoint=tmp_path / "last.pt")
    assert read_settings(tmp_path / "last.pt")["dataset_dir"] == "there"


def test_weights_of_another_bundle_are_refused(tmp_path: Path) -> None:
    write_settings(tmp_path, {"name": "isic_afma"})
    assert read_settings(tmp_path / "model.pt", name="isic_afma") == {"name": "isic_afma"}
    with pytest.raises(ValueError, match=r"must be weights of cub_afma; .* was trained by isic_afma"):
        read_settings(tmp_path / "model.pt", name="cub_afma")


def test_new_run_gets_an_empty_folder(tmp_path: Path) -> None:
    assert open_run_folder(tmp_path / "runs" / "a") is None
    assert (tmp_path / "runs" / "a").is_dir()


def test_earlier_run_is_moved_aside_not_overwritten(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "last.pt").write_text("earlier", encoding="utf-8")
    assert open_run_folder(run) is None
    assert list(run.iterdir()) == []
    [aside] = [path for path in tmp_path.iterdir() if path != run]
    assert (aside / "last.pt").read_text(encoding="utf-8") == "earlier"
    assert "--resume True" in caplog.text


def test_two_earlier_runs_of_one_second_are_both_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for content in ("first", "second", "third"):
        run.mkdir(exist_ok=True)
        (run / "last.pt").write_text(content, encoding="utf-8")
        open_run_folder(run)
    assert {path.read_text(encoding="utf-8") for path in tmp_path.glob("*/last.pt")} == {"first", "second", "third"}


def test_only_the_first_process_touches_the_folder(tmp_path: Path) -> None:
    (tmp_path / "last.pt").touch()
    assert open_run_folder(tmp_path, rank=1) is None
    assert (tmp_path / "last.pt").exists()
    assert open_run_folder(tmp_path, rank=1, resume=True) == str(tmp_path / "last.pt")


@pytest.mark.parametrize("resume", [True, "True", "true"])
def test_resume_finds_the_checkpoint(tmp_path: Path, resume: bool | str) -> None:
    (tmp_path / "last.pt").touch()
    assert open_run_folder(tmp_path, resume=resume) == str(tmp_path / "last.pt")
    assert open_run_folder(tmp_path / "other", resume=str(tmp_path / "last.pt")) == str(tmp_path / "last.pt")


@pytest.mark.parametrize("resume", [True, "nowhere.pt"])
def test_resume_without_checkpoint_is_refused(tmp_path: Path, resume: bool | str) -> None:
    with pytest.raises(FileNotFoundError, match="`resume` must find a checkpoint"):
        open_run_folder(tmp_path, resume=resume)


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file `.*model\.pt`. Train first"):
        find_weights(tmp_path)
    (tmp_path / "model.pt").touch()
    assert find_weights(tmp_path) == str(tmp_path / "model.pt")


def test_settings_round_trip(tmp_path: Path) -> None:
    settings = {"encoder": "resnet18", "feature": 2, "patch_size": [10, 5]}
    write_settings(tmp_path, settings)
    assert read_settings(tmp_path / "model.pt") == settings


def test_missing_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"settings\.json of its run"):
        read_settings(tmp_path / "model.pt")
