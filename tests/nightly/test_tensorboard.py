"""A TensorBoard server on a run's log answers with everything the docs promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from _helpers.bundle_runs import options, run
from afma_med.data import CAMVID, ISIC, class_names
from afma_med.samples import write_street_scenes
from afma_med.samples.single_objects import write_lesions

pytestmark = pytest.mark.slow

SIZES = ("small", "medium", "large")
COMPANY = ("lone", "accompanied")


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: skin lesions, and street scenes for two epochs."""
    folder = tmp_path_factory.mktemp("logs")
    lesions = write_lesions(folder / "lesions", counts={"train": 4, "val": 2, "test": 2})
    scenes = write_street_scenes(folder / "scenes", counts={"train": 4, "val": 3, "test": 2}, size=(64, 96))
    run("isic_afma.json", **options("isic", lesions, folder / "runs" / "isic"))
    run("camvid_afma.json", **options("camvid", scenes, folder / "runs" / "camvid", max_epochs=2))
    return folder / "runs"


@pytest.fixture(scope="module")
def server(logs: Path) -> Iterator[str]:
    """Address of a server on the loopback that has read the logs."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), "--host", "127.0.0.1", "--port", "0"]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    # The slower of its two readers of logs needs no helper program.
    process = subprocess.Popen(
        [*command, "--load_fast", "false"], stderr=subprocess.PIPE, encoding="utf-8", env=environment
    )
    try:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        deadline = time.monotonic() + 60
        while len(get(address, "runs")) < 2 and time.monotonic() < deadline:
            time.sleep(0.5)
        yield address
    finally:
        process.kill()
        process.wait()


def get(address: str, path: str, body: object = None) -> object:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{address}/data/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_scalars(server: str) -> None:
    tags = get(server, "plugin/scalars/tags")
    names = class_names(CAMVID.classes)[:11]
    expected = {"train/loss", "train/segmentation_loss", "train/attention_loss", "best/mIoU"}
    expected |= {"training/learning_rate", "training/images_per_second", "training/seconds", "training/data_share"}
    expected |= {"val/mIoU", "val/mIoU_small", "val/mIoU_large"} | {f"val_IoU/{name}" for name in names}
    expected |= {f"val_{score}_by_size/{size}" for size in SIZES for score in ("IoU", "recall")}
    expected |= {f"val_{score}_by_company/{which}" for which in COMPANY for score in ("IoU", "recall")}
    expected |= {f"val_{s}_{o}_objects/{n}" for o in (*SIZES, *COMPANY) for n in names for s in ("IoU", "recall")}
    assert set(tags["camvid"]) - {"training/gpu_memory_MiB"} == expected
    points = get(server, "plugin/scalars/scalars?run=camvid&tag=val%2FmIoU")
    assert [point[1] for point in points] == [1, 2]


def test_pictures(server: str) -> None:
    tags = get(server, "plugin/images/tags")
    assert set(tags["camvid"]) >= {"image, label, prediction/1", "image, label, prediction/3", "attention/1"}
    (picture,) = get(server, "plugin/images/images?run=isic&tag=attention%2F1&sample=0")
    with urllib.request.urlopen(f"{server}/data/plugin/images/individualImage?{picture['query']}") as answer:
        assert answer.read(8) == b"\x89PNG\r\n\x1a\n"


def test_precision_recall_curve_of_the_binary_set_only(server: str) -> None:
    assert {name: set(tags) for name, tags in get(server, "plugin/pr_curves/tags").items()} == {
        "isic": {"precision-recall/lesion"}
    }
    (curve,) = get(server, "plugin/pr_curves/pr_curves?run=isic&tag=precision-recall%2Flesion")["isic"]
    # One point a threshold, but for those above all probabilities.
    assert len(curve["precision"]) == len(curve["recall"]) > 90
    assert curve["recall"][0] == 1 and sorted(curve["recall"], reverse=True) == curve["recall"]
    assert all(0 <= value <= 1 for value in curve["precision"])


def test_hyperparameters_with_the_final_scores(server: str) -> None:
    experiment = get(server, "plugin/hparams/experiment", {"experimentName": ""})
    names = {info["name"] for info in experiment["hparamInfos"]}
    assert {"encoder", "afma", "feature", "training.seed", "training.learning_rate"} <= names
    asked = {"experimentName": "", "startIndex": 0, "sliceSize": 9, "colParams": []}
    asked["allowedStatuses"] = ["STATUS_SUCCESS"]
    groups = get(server, "plugin/hparams/session_groups", asked)["sessionGroups"]
    assert len(groups) == 2, "both runs ended well"
    for group in groups:
        values = {value["name"]["tag"]: value["value"] for value in group["metricValues"]}
        assert 0 <= values["val/mIoU"] <= values["best/mIoU"] <= 1
        assert group["hparams"]["encoder"] == "resnet18"
        assert group["hparams"]["afma"] == "True"


def test_texts_and_charts(server: str) -> None:
    tags = get(server, "plugin/text/tags")
    assert {tag.removesuffix("/text_summary") for tag in tags["isic"]} == {"settings", "command", "attention explorer"}
    categories = get(server, "plugin/custom_scalars/layout")["category"]
    for category, objects in zip(categories, (SIZES, COMPANY), strict=True):
        charts = {chart["title"]: chart["multiline"]["tag"] for chart in category["chart"]}
        assert set(charts) == {*class_names(ISIC.classes), *class_names(CAMVID.classes)[:11]}
        assert charts["pole"] == [f"val_IoU_{one}_objects/pole" for one in objects]
