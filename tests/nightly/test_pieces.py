"""A list of trainings in pieces: when its time is over, the training saves its state, and the next piece goes on."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from afma_med.samples import write_street_scenes
from afma_med.trial.stopping import TimeIsUp, stop_after
from afma_med.trial.training_list import Training, list_trainings
from afma_med.trial.trainings import run_trainings

pytestmark = pytest.mark.slow


def write_list(folder: Path, *, max_epochs: int) -> list[Training]:
    options = {"max_epochs": max_epochs, "batch_size": 2, "crop_size": [64, 64], "encoder": "resnet18"}
    content = {
        "bundle": "camvid_afma",
        "options": {**options, "milestones": [], "encoder_weights": "$None"},
        "only_scores": True,
        "arms": {"afma": {}},
    }
    (folder / "list.json").write_text(json.dumps(content), encoding="utf-8")
    return list_trainings(folder / "list.json")


def test_time_stops_a_training_that_the_next_piece_resumes(tmp_path: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"train": 4, "val": 1, "test": 1}, size=(64, 96))
    runs, results = tmp_path / "runs", tmp_path / "results"
    given = {"runs_dir": runs, "results_dir": results, "options": {"dataset_dir": str(scenes), "num_workers": 0}}
    last = runs / "afma_0" / "last.pt"

    def end_time_after_an_epoch() -> None:
        while not last.is_file():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGALRM)

    threading.Thread(target=end_time_after_an_epoch, daemon=True).start()
    with pytest.raises(TimeIsUp), stop_after(9):
        run_trainings(write_list(tmp_path, max_epochs=500), **given)
    log = (runs / "afma_0.log").read_text(encoding="utf-8")
    assert "SIGTERM: stopping after this step" in log and "and saved a checkpoint" in log
    assert not list(results.rglob("*.json")), "a result only when it is done"
    done = torch.load(last, weights_only=True)["trainer"]
    epoch = done["iteration"] // done["epoch_length"] + 1
    assert epoch < 500
    assert run_trainings(write_list(tmp_path, max_epochs=epoch), **given) == []
    assert "Resuming from" in (runs / "afma_0.log").read_text(encoding="utf-8")
    assert (results / "afma_0.json").is_file()
