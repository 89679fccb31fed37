"""Whole trainings of the bundles: resumed, killed, of several processes, exported."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from _helpers.bundle_runs import SMALL, command, run, run_two_processes, workflow
from _helpers.paths import BUNDLES, ROOT
from afma_med.data import READERS
from afma_med.data.class_table import class_colors
from afma_med.samples import write_street_scenes

pytestmark = pytest.mark.slow
CAMVID = str(BUNDLES / "camvid_afma.json")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 4, "val": 3, "test": 2}, size=(64, 96))


def test_train_evaluate_and_top_level_ids(scenes: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a run"
    options = {"encoder": "mobilenet_v2", "feature": 3, "network_name": "FPN", "patch_size": [5, 8], "max_epochs": 2}
    run("camvid_afma.json", dataset_dir=str(scenes), output_dir=str(folder), **{**SMALL, **options})
    weights = torch.load(folder / "model.pt", weights_only=True)
    assert weights["afma_block.patch_linear1.weight"].shape == (80, 40)

    # Settings and dataset come from the run's folder: naming the folder is enough.
    bundle = run("camvid_afma.json", "evaluate.json", output_dir=str(folder))
    report = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert report["section"] == "test"
    assert report["images"] == 2
    assert set(report["scores"]) >= {f"IoU/{info.name}" for info in READERS["camvid"].classes[:11]} | {
        "mIoU",
        "mIoU_small",
        "mIoU_large",
    }
    names = [Path(item["image"]).name for item in bundle.parser.get_parsed_content("validate#dataset").data]
    for name in names:
        index = np.asarray(Image.open(folder / "evaluation" / "labels" / name))
        color = np.asarray(Image.open(folder / "evaluation" / "color" / name))
        assert index.shape == (64, 96), "predictions have the image's own size"
        assert index.max() < 12
        assert np.array_equal(color, class_colors(READERS["camvid"].classes)[index])


def test_evaluation_scores_what_it_wrote(scenes: Path, tmp_path: Path) -> None:
    """IoU recomputed from the written predictions is the reported one."""
    folder = tmp_path / "run"
    run("camvid_afma.json", dataset_dir=str(scenes), output_dir=str(folder), max_epochs=1, **SMALL)
    run("camvid_afma.json", "evaluate.json", output_dir=str(folder))
    reported = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))["scores"]
    labels = [np.asarray(Image.open(path)) for path in sorted((scenes / "testannot").iterdir())]
    predictions = [np.asarray(Image.open(path)) for path in sorted((folder / "evaluation" / "labels").iterdir())]
    label, prediction = np.concatenate([x.ravel() for x in labels]), np.concatenate([x.ravel() for x in predictions])
    label, prediction = label[label != 11], prediction[label != 11]
    for info in READERS["camvid"].classes[:11]:
        either = ((label == info.train_id) | (prediction == info.train_id)).sum()
        both = ((label == info.train_id) & (prediction == info.train_id)).sum()
        if either:
            assert reported[f"IoU/{info.name}"] == pytest.approx(both / either), info.name
        else:
            assert reported[f"IoU/{info.name}"] is None


def test_killed_training_resumes(scenes: Path, tmp_path: Path) -> None:
    """kill -9 after the first epoch; resuming continues with the next one and keeps the best score."""
    folder = tmp_path / "run"
    options = {"dataset_dir": scenes, "output_dir": folder, **SMALL}
    process = subprocess.Popen(
        command("camvid_afma.json", max_epochs=200, **options),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
    )
    deadline = time.monotonic() + 240
    while not (folder / "last.pt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = torch.load(folder / "last.pt", weights_only=True)
    epoch = before["trainer"]["epoch_length"] and before["trainer"]["iteration"] // before["trainer"]["epoch_length"]
    assert epoch >= 1
    run(
        "camvid_afma.json",
        resume=True,
        max_epochs=epoch + 1,
        **{**options, "dataset_dir": str(scenes), "output_dir": str(folder)},
    )
    after = torch.load(folder / "last.pt", weights_only=True)
    assert after["trainer"]["iteration"] == before["trainer"]["iteration"] + before["trainer"]["epoch_length"]
    assert after["best"]["best_metric"] >= before["best"]["best_metric"]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resumed_training_equals_one_that_never_stopped(scenes: Path, tmp_path: Path, num_workers: int) -> None:
    """Weights, optimiser, schedule and best score, bit by bit."""
    options = {
        **SMALL,
        "dataset_dir": str(scenes),
        "num_workers": num_workers,
        "schedule": "steps",  # one cycle depends on how long it is
        "milestones": [2],
        "encoder": "resnet18",
    }
    run("camvid_afma.json", output_dir=str(tmp_path / "whole"), max_epochs=3, **options)
    run("camvid_afma.json", output_dir=str(tmp_path / "cut"), max_epochs=1, **options)
    torch.rand(7)  # what was drawn before does not matter
    run("camvid_afma.json", output_dir=str(tmp_path / "cut"), max_epochs=3, resume=True, **options)
    states = [torch.load(tmp_path / name / "last.pt", weights_only=True) for name in ("whole", "cut")]
    assert states[0].keys() == {"model", "optimizer", "lr_scheduler", "trainer", "best", "random"}
    assert differences(*states) == []


def differences(a: object, b: object, path: str = "") -> list[str]:
    """Where two checkpoints differ."""
    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            return [f"{path}: keys"]
        return [found for key in a for found in differences(a[key], b[key], f"{path}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [found for i, pair in pairs for found in differences(*pair, f"{path}/{i}")]
    same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
    return [] if same else [path]


def test_bare_command_draws_the_sample_and_says_so(tmp_path: Path) -> None:
    """As a user types it, in an empty folder; only the number of epochs and iterations is cut."""
    (tmp_path / "bundles").symlink_to(BUNDLES)
    done = subprocess.run(
        [sys.executable, "-m", "monai.bundle", "run", "--config_file", "bundles/camvid_afma.json", "--max_epochs", "1"],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        check=False,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert any("using the embedded synthetic sample" in line for line in lines[:3]), lines[:5]
    assert (tmp_path / "data" / "street_scenes" / "train").is_dir()
    assert (tmp_path / "runs" / "camvid_afma" / "model.pt").is_file()


def test_seed_decides_the_training(scenes: Path, tmp_path: Path) -> None:
    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        run(
            "camvid_afma.json",
            dataset_dir=str(scenes),
            output_dir=str(tmp_path / name),
            max_epochs=1,
            seed=seed,
            **SMALL,
        )
        loaded: dict[str, torch.Tensor] = torch.load(tmp_path / name / "last.pt", weights_only=True)["model"]
        return loaded

    first, again, other = weights("a", 0), weights("b", 0), weights("c", 1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_two_processes_train_resume_and_score_as_one(scenes: Path, tmp_path: Path) -> None:
    """Two gloo ranks train, save and resume; their score of the best weights is that of one process."""
    folder = tmp_path / "run"
    options = {"dataset_dir": scenes, "output_dir": folder, **SMALL}
    launch = partial(run_two_processes, "camvid_afma.json", **options)
    launch(max_epochs=1)
    launch(max_epochs=2, resume=True)
    last = torch.load(folder / "last.pt", weights_only=True)
    assert last["trainer"]["iteration"] == 2 * last["trainer"]["epoch_length"]
    assert not [name for name in last["model"] if name.startswith("module.")]
    run("camvid_afma.json", "evaluate.json", output_dir=str(folder), val_section="val")
    alone = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))["scores"]["mIoU"]
    assert alone == pytest.approx(last["best"]["best_metric"], abs=1e-6)


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGSTOP], ids=["dies", "hangs"])
def test_other_processes_end_when_one_does_not_answer(scenes: Path, tmp_path: Path, signal_number: int) -> None:
    """Without torchrun, which would end them: two processes of a cluster's own launcher."""
    options = {"dataset_dir": scenes, "output_dir": tmp_path / "run", "process_timeout_minutes": 0.1, **SMALL}
    given = command("camvid_afma.json", "multi_gpu.json", max_epochs=500, **options)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    with (tmp_path / "log").open("w", encoding="utf-8") as log:
        processes = [
            subprocess.Popen(given, cwd=ROOT, env={**common, "RANK": str(rank)}, stdout=log, stderr=log)
            for rank in range(2)
        ]
    try:
        deadline = time.monotonic() + 240
        while not (tmp_path / "run" / "last.pt").exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        processes[1].send_signal(signal_number)
        assert processes[0].wait(timeout=90) != 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert "Error" in (tmp_path / "log").read_text(encoding="utf-8")


def test_monai_exports_the_trained_network(scenes: Path, tmp_path: Path) -> None:
    """The two commands of docs/export.md; files hold the trained weights and take any image size."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = tmp_path / "run"
    run("camvid_afma.json", dataset_dir=str(scenes), output_dir=str(folder), max_epochs=1, **SMALL)
    given = ["--output_dir", str(folder), "--ckpt_file", str(folder / "model.pt"), "--filepath"]
    configs = "['bundles/camvid_afma.json','bundles/evaluate.json']"
    for arguments in (
        ["ckpt_export", "--config_file", configs, "--meta_file", "bundles/metadata.json", *given, "model.ts"],
        ["onnx_export", "--args_file", "bundles/onnx_export.json", *given, "model.onnx"],
    ):
        arguments[-1] = str(folder / arguments[-1])
        done = subprocess.run(
            [sys.executable, "-m", "monai.bundle", *arguments],
            cwd=ROOT,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]

    network = workflow("camvid_afma.json", "evaluate.json", output_dir=str(folder)).parser.get_parsed_content("network")
    network.cpu().load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    extra = {"metadata.json": "", "camvid_afma.json": "", "evaluate.json": ""}
    scripted = torch.jit.load(folder / "model.ts", map_location="cpu", _extra_files=extra)
    assert json.loads(extra["metadata.json"])["network_data_format"]["outputs"]["pred"]["num_channels"] == len(
        READERS["camvid"].classes
    )
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    for size in [(1, 3, 50, 70), (2, 3, 96, 64)]:
        image = torch.rand(*size)
        with torch.no_grad():
            expected = network.eval()(image)
            torch.testing.assert_close(scripted(image), expected, rtol=1e-4, atol=1e-4)
        (got,) = session.run(["pred"], {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)
