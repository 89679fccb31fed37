"""Whatever is wrong with what is typed after a script is told, not traced, and nothing is written."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
from synthetic_runs import random_rows, write_run
from test_finished_run import write_run as write_untrained

from afma_med.samples import write_street_scenes

SCRIPTS = Path(__file__).parents[1] / "scripts"

LIST = {"bundle": "camvid_afma", "arms": {"afma": {}}}

# What is typed, in a folder that has what the fixture lays there, and what must be said.
CASES: list[tuple[str, str]] = [
    ("compare", r"required: RUN"),
    ("compare none", r"there is no folder|there is no"),
    ("compare text.json", r"`text\.json` must be the result of a run"),
    ("compare empty.json", r"`empty\.json` must be the result of a run"),
    ("compare empty", r"empty"),
    ("compare untrained", r"untrained"),
    ("compare scored --resamples 0", r"resamples.* must be .*got 0"),
    ("compare scored --images -1", r"images.* must be .*got -1"),
    ("compare scored --output_dir text.json", r"text\.json"),
    ("compare scored --output_dir scored", r"scored"),
    ("measure_attention", r"required: RUN"),
    ("measure_attention none", r"there is no folder `none`"),
    ("measure_attention none.json", r"none\.json"),
    ("measure_attention text.json", r"text\.json"),
    ("measure_attention empty.json", r"empty\.json"),
    ("measure_attention empty", r"must hold trained weights"),
    ("measure_attention untrained --section tset", r"tset"),
    ("measure_attention untrained --limit 0", r"limit.* must be .*got .0"),
    ("measure_attention untrained --device cuda:99", r"`device` must be one that torch has here"),
    ("measure_attention untrained --device gpu", r"`device` must be one that torch has here"),
    ("show_attention none", r"there is no folder `none`"),
    ("show_attention untrained --corrected --image none.png", r"`--corrected` must go without --image"),
    ("show_attention untrained --point 1", r"point.*1"),
    ("show_attention untrained --point 1000,1000", r"1000"),
    ("show_attention untrained --image none.png", r"none\.png"),
    ("show_attention untrained --image text.json", r"text\.json"),
    ("show_attention untrained --objects carr", r"carr"),
    ("show_attention untrained --slice 3", r"slice"),
    ("show_attention untrained --checkpoint text.json", r"settings|text\.json"),
    ("package_bundle camvid", r"required: --checkpoint"),
    ("package_bundle camvd --checkpoint untrained/model.pt", r"camvd"),
    ("package_bundle camvid --checkpoint none.pt", r"none\.pt"),
    ("package_bundle isic --checkpoint untrained/model.pt", r"isic|camvid"),
    ("package_bundle camvid --checkpoint untrained/model.pt --version new", r"version.*new"),
    ("run_experiments list.json", r"required: --dataset_dir"),
    ("run_experiments none.json --dataset_dir scenes", r"there is no file `none\.json`"),
    ("run_experiments text.json --dataset_dir scenes", r"`text\.json` must be JSON"),
    ("run_experiments list.json --dataset_dir scenes --only afmo", r"`only` must name arms.*afmo"),
    ("run_experiments list.json --dataset_dir scenes --seeds one", r"invalid int value: 'one'"),
    ("run_experiments list.json --dataset_dir none", r"dataset_dir.*none"),
    ("model_table --hosts Unett", r"Unett"),
    ("model_table --feature 9 --hosts Unet --encoder resnet18", r"feature.*9"),
    ("model_table --encoder resnet1 --hosts Unet", r"resnet1"),
    ("model_table --classes 0 --hosts Unet --encoder resnet18", r"classes.* must be .*got .0"),
    ("model_table --patch_size 0 --hosts Unet --encoder resnet18", r"patch_size.* must be .*got .0"),
    ("benchmark --repeats 0", r"repeats.* must be .*got 0"),
    ("benchmark --batch 0", r"batch.* must be .*got .0"),
    ("benchmark --cases none", r"none"),
    ("benchmark --threads 0", r"threads.* must be .*got .0"),
    ("kill_training --kills 0", r"kills.* must be .*got .0"),
    ("kill_training --epochs 0", r"epochs.* must be .*got .0"),
    ("kill_training --folder scenes", r"scenes must not exist"),
    ("soak --epochs 0", r"epochs.* must be .*got .0"),
    ("soak --folder scenes", r"scenes must not exist"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose name is unusual, with files of every kind."""
    place = tmp_path_factory.mktemp("with spaces") / "Bilder äöü 像"
    place.mkdir()
    write_street_scenes(place / "scenes", counts={"train": 1, "val": 1, "test": 1}, size=(64, 96))
    write_untrained(place / "untrained", "camvid", place / "scenes")
    write_run(place / "scored", random_rows(0, quality=0.5))
    (place / "empty").mkdir()
    (place / "empty.json").touch()
    (place / "text.json").write_text("no JSON", encoding="utf-8")
    (place / "list.json").write_text(json.dumps(LIST), encoding="utf-8")
    return place


def files_of(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("typed", "message"), CASES, ids=[typed for typed, _ in CASES])
def test_is_told(
    place: Path, typed: str, message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script, *arguments = typed.split()
    before = files_of(place)
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
    said = capsys.readouterr().err if isinstance(ended.value.code, int) else str(ended.value.code)
    assert ended.value.code not in (0, None)
    _, error, told = said.partition("error: ")
    assert error and re.search(message, told), said
    assert files_of(place) == before, "nothing was written"
