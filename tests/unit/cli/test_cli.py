"""The command `afma`: the help of each command, what it prints on small data, and its exit codes when it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from _helpers.places import files_of
from _helpers.synthetic_runs import random_rows, write_run
from afma_med import __version__
from afma_med.bundle import installed
from afma_med.bundle.command_line import evaluate_command
from afma_med.bundle.installed import bundle_files, bundle_names, bundles_folder, copy_bundle, run_command
from afma_med.cli import build_parser, bundles, datasets, main
from afma_med.cli.runs import FORMATS
from afma_med.data import READERS, class_names
from afma_med.data.dataset_reader import SECTIONS
from afma_med.samples import SAMPLES, write_street_scenes
from afma_med.visualize.figure_file import SUFFIXES

COMMANDS = (
    "bundle",
    "check",
    "objects",
    "advise",
    "trial",
    "show",
    "compare",
    "package",
)

# The command line, typed in the folder of the fixture, and the error; all exit with 2.
REFUSED: list[tuple[str, str]] = [
    ("", r"required: command"),
    ("chek", r"invalid choice: 'chek'"),
    ("check camvd scenes", r"unknown dataset 'camvd'; choose of \['camvid'"),
    ("check json:dumps scenes", r"'json:dumps' must be a DatasetReader; it is a function"),
    ("check nothing:READER scenes", r"'nothing:READER' cannot be imported"),
    ("check camvid none", r"no such folder"),
    ("check camvid scenes --section tset", r"invalid choice: 'tset'"),
    ("objects camvid none", r"no such folder"),
    ("trial camvd scenes", r"unknown dataset 'camvd'; choose of \['camvid'"),
    ("trial camvid none", r"no such folder"),
    ("trial camvid scenes --arms baseline relesed", r"`arms` must be .*released; got baseline, relesed"),
    ("trial camvid scenes --arms released plain_head", r"`arms` must be baseline and at least one more"),
    ("trial camvid scenes --arms baseline", r"`arms` must be baseline and at least one more"),
    ("trial camvid scenes --seeds 0 8", r"`seeds` must be numbers from 0 to 7; got 0, 8"),
    ("trial camvid scenes --minutes 0", r"must be a number above 0; got '0'"),
    ("trial camvid scenes --minutes long", r"must be a number above 0; got 'long'"),
    ("trial camvid scenes --minutes 9 --max_epochs 3", r"not allowed with"),
    ("trial camvid scenes --max_epochs 0", r"must be a whole number above 0; got '0'"),
    ("trial camvid scenes --output_dir scored", r"`output_dir` must be a new folder or an earlier trial; `scored`"),
    ("trial camvid scenes --output_dir text.json", r"`output_dir` must be a new folder or an earlier trial"),
    ("bundle camvd", r"invalid choice: 'camvd'"),
    ("bundle camvid --copy text.json", r"`folder` must be a folder; got the file `text\.json`"),
    ("bundle camvid --overwrite", r"`--overwrite` must go with --copy"),
    ("show untrained untrained --checkpoint x.pt", r"`--checkpoint` must go with one run"),
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
    ("show none", r"there is no folder `none`"),
    ("show untrained --corrected --image none.png", r"`--corrected` must go without --image"),
    ("show untrained --point 1", r"point.*1"),
    ("show untrained --point 1000,1000", r"1000"),
    ("show untrained --image none.png", r"none\.png"),
    ("show untrained --image text.json", r"text\.json"),
    ("show untrained --objects carr", r"carr"),
    ("show untrained --slice 3", r"slice"),
    ("show untrained --checkpoint text.json", r"settings|text\.json"),
    ("package camvid", r"required: --checkpoint"),
    ("package camvd --checkpoint untrained/model.pt", r"camvd"),
    ("package camvid --checkpoint none.pt", r"none\.pt"),
    ("package isic --checkpoint untrained/model.pt", r"isic|camvid"),
    ("package camvid --checkpoint untrained/model.pt --version new", r"version.*new"),
]


@pytest.fixture
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same folder, as the current one."""
    monkeypatch.chdir(place)
    return place


def exit_code(typed: str) -> object:
    """That of the command, whether argparse ends it or it returns."""
    try:
        return main(typed.split())
    except SystemExit as stop:
        return stop.code


@pytest.mark.parametrize(("typed", "message"), REFUSED, ids=[typed or "nothing" for typed, _ in REFUSED])
def test_refuses_with_rule_and_value_and_writes_nothing(
    here: Path, typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files_of(here)
    assert exit_code(typed) == 2
    _, error, text = capsys.readouterr().err.partition("error: ")
    assert error and re.search(message, text), text
    assert files_of(here) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_the_parser_takes(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(f"{command} --help") == 0
    text = capsys.readouterr().out
    examples = re.findall(rf"^  (afma {command}\b.*)$", text.split("examples:\n")[1], flags=re.MULTILINE)
    assert examples
    for example in examples:
        typed = re.split(r"  +", example)[0].split()[1:]
        if "mydata:READER" not in typed:
            assert build_parser().parse_args(typed).command == command
    assert "scripts/" not in text


def test_help_lists_the_commands_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    text = capsys.readouterr().out
    assert tuple(re.findall(r"^    ([a-z]\w+)", text, flags=re.MULTILINE)) == COMMANDS
    assert "exit codes:" in text
    assert exit_code("--version") == 0
    assert capsys.readouterr().out == f"afma_med {__version__}\n"


def test_help_loads_no_torch() -> None:
    code = "import sys, afma_med.cli as cli; cli.build_parser().format_help(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout == "False\n"


def test_what_the_parsers_know_without_torch_is_what_the_package_has() -> None:
    assert bundle_names() == sorted(READERS)
    assert tuple(SECTIONS) == datasets.SECTIONS
    assert tuple(f".{name}" for name in FORMATS) == SUFFIXES
    assert {name for name in bundle_names() if installed.has_sample(name)} == set(SAMPLES)


def test_module_is_the_command(here: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONWARNDEFAULTENCODING"}
    command = [sys.executable, "-m", "afma_med", "show", "none"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and "Traceback" not in done.stderr


def test_bundle_prints_paths_that_exist(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", "camvid"]) == 0
    text = capsys.readouterr().out
    paths = re.findall(r"^  (\S+\.(?:json|conf))", text, flags=re.MULTILINE)
    assert [Path(path).name for path in paths] == ["camvid_afma.json", *bundles._ABOUT]
    assert {Path(path).name for path in paths} == set(bundle_files("camvid")), "every file has its line"
    for path in re.findall(r"[^\s'\"\[,]+\.(?:json|conf)", text):
        assert Path(path).name == "onnx_export.json" or Path(path).is_file(), path
    assert "draws a small synthetic sample" in text
    assert main(["bundle", "nuclei"]) == 0
    assert "draws" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["camvid", "lits"])
def test_copy_of_a_bundle_is_whole(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["bundle", name, "--copy", "new/folder"]) == 0
    text = capsys.readouterr().out
    folder = tmp_path / "new" / "folder"
    assert sorted(path.name for path in folder.iterdir()) == sorted(bundle_files(name))
    assert f"--config_file new/folder/{name}_afma.json" in text
    assert f"['new/folder/{name}_afma.json','new/folder/evaluate.json']" in text
    for file in set(bundle_files(name)) - {"onnx_export.json", "metadata.json"}:
        assert (folder / file).read_bytes() == (bundles_folder() / file).read_bytes()
    export = json.loads((folder / "onnx_export.json").read_text(encoding="utf-8"))
    assert all((folder / file).is_file() for file in [*export["config_file"], export["meta_file"]])
    assert export["input_shape"][1] == (1 if name == "lits" else 3)
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    image, pred = (metadata["network_data_format"][end] for end in ("inputs", "outputs"))
    classes = class_names(READERS[name].classes)
    assert pred["pred"]["channel_def"] == {str(index): label for index, label in enumerate(classes)}
    assert (pred["pred"]["num_channels"], image["image"]["num_channels"]) == (len(classes), export["input_shape"][1])
    assert metadata["task"] == json.loads((folder / f"{name}_afma.json").read_bytes())["about"]["task"]
    assert main(["bundle", name, "--copy", "new/folder"]) == 0, "the same files are no reason to refuse"


def test_copy_keeps_files_that_differ_without_overwrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.json").write_text("{}", encoding="utf-8")
    assert main(["bundle", "camvid", "--copy", str(tmp_path)]) == 2
    assert "has a different small.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small.json"], "nothing was copied"
    assert main(["bundle", "camvid", "--copy", str(tmp_path), "--overwrite"]) == 0
    assert (tmp_path / "small.json").read_bytes() == (bundles_folder() / "small.json").read_bytes()


def test_copy_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "baseline.json").write_text("mine", encoding="utf-8")
    write, written = Path.write_bytes, []

    def fail_at_third(path: Path, content: bytes) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", fail_at_third)
    with pytest.raises(OSError, match="No space left"):
        copy_bundle("camvid", tmp_path, overwrite=True)
    assert {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()} == {"baseline.json": "mine"}


def test_unknown_bundle_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of camvid, .*; got 'kitti'"):
        bundle_files("kitti")


def test_paths_are_those_that_the_reader_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    packaged = bundles_folder().as_posix()
    assert run_command("camvid_afma.json", options={"output_dir": "a b"}) == (
        f"python -m monai.bundle run --config_file {packaged}/camvid_afma.json --output_dir 'a b'"
    )
    (tmp_path / "bundles").mkdir()
    (tmp_path / "bundles" / "camvid_afma.json").touch()
    both = run_command("camvid_afma.json", "evaluate.json")
    assert both.endswith(f"\"['bundles/camvid_afma.json','{packaged}/evaluate.json']\"")
    copy_bundle("camvid", tmp_path / "mine")
    typed = ["run", "--config_file", "['mine/camvid_afma.json','mine/small.json']"]
    assert evaluate_command("camvid_afma", "runs/x", typed).endswith(
        "\"['mine/camvid_afma.json','mine/evaluate.json']\" --output_dir runs/x"
    )


def test_check_says_what_is_wrong_with_1(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "camvid", "scenes"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "Nothing is wrong with the files."
    root = write_street_scenes(tmp_path / "broken", counts={"train": 1}, size=(64, 96))
    assert main(["check", "camvid", str(root)]) == 1
    assert "val" in capsys.readouterr().out


def test_check_takes_a_reader_of_your_own(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_own_data.py").write_text("from afma_med.data import CAMVID as READER\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert main(["check", "my_own_data:READER", str(place / "scenes"), "--section", "train"]) == 0
    assert capsys.readouterr().out.startswith("CamVid at ")


def test_objects_writes_its_files(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["objects", "camvid", "scenes", "--section", "train", "--output_dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.endswith("(objects.csv, objects.png)\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["objects.csv", "objects.png"]


def test_show_draws_a_picture(here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["show", "untrained", "--point", "10,20", "--format", "svg", "--output_dir", str(tmp_path)]
    assert main(typed) == 0
    name, last = capsys.readouterr().out.splitlines()
    assert last == f"The pictures are in {tmp_path}"
    assert (tmp_path / name).suffix == ".svg" and (tmp_path / name).is_file()


def test_compare_writes_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [
        write_run(tmp_path / name, random_rows(0, quality=quality), settings={"afma": name == "afma"})
        for name, quality in (("baseline", 0.5), ("afma", 0.7))
    ]
    options = ["--output_dir", str(tmp_path / "found"), "--images", "0", "--resamples", "20"]
    assert main(["compare", *map(str, runs), *options]) == 0
    page = tmp_path / "found" / "index.html"
    assert page.is_file() and f"The comparison is in {page}" in capsys.readouterr().out


def test_output_that_nobody_reads_any_more_is_no_traceback(place: Path) -> None:
    command = [sys.executable, "-m", "afma_med", "bundle", "camvid"]
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, encoding="utf-8", check=False)
    assert (done.returncode, done.stderr) == (1, "")
