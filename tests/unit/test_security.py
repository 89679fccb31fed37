"""Loading files runs no code in them, writes to no other place, and does not use the internet."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from monai.apps.utils import extractall
from monai.bundle import ConfigWorkflow
from torch import nn

from _helpers.commands import run_afma
from _helpers.paths import ROOT
from _helpers.synthetic_runs import write_untrained
from afma_med.bundle.settings import write_settings
from afma_med.data import CAMVID
from afma_med.handlers import next_epoch
from afma_med.handlers.checkpoints import load_weights
from afma_med.runs.trained_network import load_network
from afma_med.samples import write_street_scenes


class Code:
    """An object that writes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def workflow(*files: str, **options: object) -> ConfigWorkflow:
    return ConfigWorkflow(
        config_file=[str(ROOT / "bundles" / file) for file in files],
        workflow_type="train",
        meta_file=str(ROOT / "bundles" / "metadata.json"),
        logging_file=str(ROOT / "bundles" / "logging.conf"),
        **options,
    )


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """The file that such code would write; afterwards, show that the code can write it."""
    path = tmp_path / "mark"
    yield path
    assert not path.exists(), "code of the file was run"
    torch.save({"model": Code(path)}, tmp_path / "proof.pt")
    torch.load(tmp_path / "proof.pt", weights_only=False)
    assert path.exists()


def spoil(path: Path, mark: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {"weight": Code(mark)}, "trainer": Code(mark)}, path)
    return path


def test_weights_run_no_code(tmp_path: Path, mark: Path) -> None:
    with pytest.raises(ValueError, match="`checkpoint` must hold the weights of the network"):
        load_weights(nn.Linear(1, 1), spoil(tmp_path / "model.pt", mark))


def test_checkpoints_run_no_code(tmp_path: Path, mark: Path) -> None:
    with pytest.raises(ValueError, match=r"`checkpoint` must be the last\.pt of a run"):
        next_epoch(spoil(tmp_path / "last.pt", mark))


def test_resuming_and_evaluating_runs_no_code(tmp_path: Path, mark: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 2, "val": 1, "test": 1}, size=(64, 64))
    options = {"output_dir": str(tmp_path / "run"), "encoder": "resnet18", "num_workers": 0}
    spoil(tmp_path / "run" / "last.pt", mark)
    with pytest.raises((SystemExit, RuntimeError)):
        bundle = workflow("camvid_afma.json", dataset_dir=str(scenes), resume=True, **options)
        bundle.initialize()
        bundle.run()
    settings = {"name": "camvid_afma", "dataset_dir": str(scenes), "network_name": "Unet", "encoder": "resnet18"}
    more = {"afma": True, "feature": 2, "patch_size": 10, "variant": "released", "longest_side": None}
    write_settings(tmp_path / "run", {**settings, **more})
    spoil(tmp_path / "run" / "model.pt", mark)
    with pytest.raises((SystemExit, RuntimeError)):
        bundle = workflow("camvid_afma.json", "evaluate.json", output_dir=str(tmp_path / "run"), num_workers=0)
        bundle.initialize()
        bundle.run()
    with pytest.raises(ValueError, match="`checkpoint` must hold the weights"):
        load_network(tmp_path / "run")


HOSTILE = {
    "encoder": "$__import__('os').mkdir(MARK) or 'resnet18'",
    "longest_side": "$__import__('os').mkdir(MARK)",
    "feature": {"_target_": "os.mkdir", "path": "MARK"},
    "normalization": "%MARK.json",
    "study": {"_target_": "os.mkdir", "path": "MARK"},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_settings_of_others_run_no_code(tmp_path: Path, mark: Path, name: str) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 2, "val": 1, "test": 1}, size=(64, 64))
    run = write_untrained(tmp_path / "run", "camvid", scenes)
    shutil.copy(run / "model.pt", run / "last.pt")
    written = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    text = json.dumps({name: HOSTILE[name]}).replace("MARK", f"'{mark}'" if "$" in str(HOSTILE[name]) else str(mark))
    settings = {**written, **json.loads(text), "network_target": "os.mkdir"}
    (run / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    for command in (
        ("package", "camvid", "--checkpoint", run / "model.pt", "--output_dir", tmp_path / "packages"),
        ("show", run, "--output_dir", tmp_path / "figures"),
        ("show", run, "--explore", tmp_path / "page.html"),
        ("compare", run, run),
    ):
        done = run_afma(*command)
        assert done.returncode == 2 and "must be plain data" in done.stderr, (command, done.stderr)
    own = {"dataset_dir": str(scenes), "encoder": "resnet18", "num_workers": 0, "max_epochs": 1}
    fresh = str(tmp_path / "fresh")
    for files, options in (
        (["evaluate.json"], {"output_dir": str(run), "num_workers": 0}),
        (["inference.json"], {"output_dir": str(run), "num_workers": 0}),
        ([], {**own, "output_dir": str(run), "resume": True}),
        ([], {**own, "output_dir": fresh, "initial_weights": str(run)}),
    ):
        with pytest.raises((SystemExit, RuntimeError, ValueError)) as raised:
            bundle = workflow("camvid_afma.json", *files, **options)
            bundle.initialize()
            bundle.run()
        causes = [raised.value]
        while causes[-1].__cause__:
            causes.append(causes[-1].__cause__)
        assert any("must be plain data" in str(cause) for cause in causes), files
    assert not Path(fresh, "last.pt").exists()


@pytest.mark.parametrize("target", ["afma_med.bundle.run.os.mkdir", "experiments.lab.studies.build_studied_network"])
def test_settings_name_no_other_function(tmp_path: Path, target: str) -> None:
    run = write_untrained(tmp_path / "run", "camvid", tmp_path)
    settings = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    changed = {**settings, "network_target": target, "study": "gain"}
    (run / "settings.json").write_text(json.dumps(changed), encoding="utf-8")
    with pytest.raises(ValueError, match=f"must be a run of the bundle's own network.*'{target}'"):
        load_network(run)


def test_names_of_run_folders_run_no_code(tmp_path: Path, mark: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "$__import__('os').mkdir('mark')"
    write_untrained(Path(name), "camvid", tmp_path)
    assert load_network(name).folder.name == name


def test_kept_counts_run_no_code(tmp_path: Path, mark: Path) -> None:
    np.save(tmp_path / "kept.npy", np.array([Code(mark)], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        np.load(tmp_path / "kept.npy")  # as the package calls it, see below


def test_nothing_in_the_package_loads_or_runs_code() -> None:
    banned = {"eval", "exec", "compile", "__import__"}
    modules = {"pickle", "dill", "shelve", "marshal", "zipfile", "tarfile"}
    for path in [*(ROOT / "afma_med").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name.split(".")[0] for alias in node.names} | {getattr(node, "module", None) or ""}
                assert not names & modules, path
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert name not in banned, f"{path}: {name}"
            assert name != "torch.load" or keywords.get("weights_only") == "True", path
            assert keywords.get("allow_pickle", "False") == "False", path
            assert not name.endswith(("extractall", "unpack_archive")), path


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "a/../../outside"])
def test_lists_of_a_dataset_do_not_lead_out_of_it(tmp_path: Path, name: str) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 2, "val": 1}, size=(32, 32))
    (scenes / "train.txt").write_text(f"{name}.png {name}.png\n", encoding="utf-8")
    try:
        items = CAMVID.datalist(scenes, "train")
    except (OSError, ValueError):
        return
    assert all(Path(item["image"]).resolve().is_relative_to(scenes.resolve()) for item in items)


def test_packed_bundle_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    """`monai.bundle.load` and `download` unpack with this function; our package unpacks nothing."""
    with ZipFile(tmp_path / "camvid_afma.zip", "w") as packed:
        packed.writestr("camvid_afma/../../outside", "written")
    with pytest.raises(ValueError, match=r"\.\./outside"):
        extractall(tmp_path / "camvid_afma.zip", tmp_path / "bundles" / "here")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".zip"]


@pytest.mark.slow  # all other tests import the package without a network too
def test_import_needs_no_network() -> None:
    code = "import afma_med, afma_med.data, afma_med.handlers, afma_med.comparison, afma_med.visualize"
    # PYTHONPATH of the tests refuses connections, see tests/_helpers/no_network.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("start", ["here", "in a process of its own"])
def test_network_is_refused(start: str) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=1)"
    if start == "here":
        with pytest.raises(PermissionError, match="Tests use no network"):
            socket.create_connection(("192.0.2.1", 80), timeout=1)
        return
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False)
    assert "Tests use no network" in done.stderr
