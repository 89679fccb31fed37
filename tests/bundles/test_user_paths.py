"""A training and a prediction from the command line, with names like numbers and pictures of 12 bits."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from afma_med.bundle.installed import bundles_folder

SMALL = [
    "--max_epochs",
    "1",
    "--crop_size",
    "[64,64]",
    "--batch_size",
    "2",
    "--num_workers",
    "0",
    "--longest_side",
    "96",
]


def run_bundle(folder: Path, *arguments: str, files: tuple[str, ...]) -> str:
    config = str([str(bundles_folder() / file) for file in files])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_training_and_prediction(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for section, count in (("train", 4), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "2018_06" / section / kind).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 4000, (96, 96)).astype(np.uint16)
            Image.fromarray(image).save(tmp_path / "2018_06" / section / "images" / f"{number}.png")
            mask = np.pad(np.full((40, 40), 255 if section == "train" else 0, dtype=np.uint8), 28)
            Image.fromarray(mask).save(tmp_path / "2018_06" / section / "masks" / f"{number}.tif")
    (tmp_path / "2018_06" / "val" / "images" / "x.heic").touch()
    printed = run_bundle(
        tmp_path, "--dataset_dir", "2018_06", "--output_dir", "2024", *SMALL, files=("isic_afma.json", "small.json")
    )
    assert "val: no label holds a pixel of lesion" in printed and "x.heic" in printed
    settings = json.loads((tmp_path / "2024" / "settings.json").read_text(encoding="utf-8"))
    assert settings["image_range"] == 4095 and settings["dataset_dir"] == str(tmp_path / "2018_06")
    options = ("--output_dir", "2024", "--input", "2018_06", "--prediction_dir", "1_1", "--num_workers", "0")
    printed = run_bundle(tmp_path, *options, files=("isic_afma.json", "inference.json"))
    assert "x.heic" in printed
    assert len(list((tmp_path / "1_1" / "labels").rglob("*.png"))) == 12
