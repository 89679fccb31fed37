"""Bundles as users run them, on samples of a few small images, in this process and in others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from monai.bundle import ConfigWorkflow
from PIL import Image

from _helpers.paths import BUNDLES, ROOT
from afma_med.samples import write_cityscapes_sample, write_street_scenes
from afma_med.samples.ct_phantom import write_ct_phantom
from afma_med.samples.single_objects import write_birds, write_lesions

NAMES = ("camvid", "cityscapes", "lits", "isic", "cub", "nuclei", "lesion_slices")
SMALL = {"crop_size": [64, 96], "batch_size": 2, "num_workers": 0, "encoder": "resnet18"}
TINY = {"batch_size": 2, "num_workers": 0, "encoder": "resnet18", "max_epochs": 1, "crop_size": [64, 64]}


def draw_pictures(root: Path, count: int) -> Path:
    """Images of discs and their masks, in plain folders."""
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True, exist_ok=True)
    for number in range(count):
        rows, columns = np.mgrid[:64, :96]
        disc = (rows - random.integers(64)) ** 2 + (columns - random.integers(96)) ** 2 < random.integers(50, 300)
        noise = random.integers(0, 99, (64, 96)) + 150 * disc
        Image.fromarray(noise.astype(np.uint8)).save(root / "images" / f"picture_{number}.png")
        Image.fromarray((255 * disc).astype(np.uint8)).save(root / "masks" / f"picture_{number}.png")
    return root


DRAW: dict[str, Callable[[Path], Path]] = {
    "camvid": lambda root: write_street_scenes(root, counts={"train": 4, "val": 2, "test": 2}, size=(64, 96)),
    "cityscapes": lambda root: write_cityscapes_sample(root, counts={"train": 4, "val": 2, "test": 2}, size=(64, 96)),
    "lits": lambda root: write_ct_phantom(root, count=4),
    "isic": lambda root: write_lesions(root, counts={"train": 4, "val": 2, "test": 2}),
    "cub": lambda root: write_birds(root, counts={"train": 10, "test": 2}),
    "nuclei": lambda root: draw_pictures(root, 8),
    "lesion_slices": lambda root: draw_pictures(root, 8),
}


def options(name: str, root: Path, folder: Path, **more: object) -> dict[str, object]:
    return {"dataset_dir": str(root), "output_dir": str(folder), **TINY, **more}


def workflow(*files: str, **override: object) -> ConfigWorkflow:
    return ConfigWorkflow(
        config_file=[str(BUNDLES / file) for file in files],
        workflow_type="train",
        meta_file=str(BUNDLES / "metadata.json"),
        logging_file=str(BUNDLES / "logging.conf"),
        bundle_root=override.pop("bundle_root", str(ROOT)),
        **override,
    )


def run(*files: str, **override: object) -> ConfigWorkflow:
    """Do the same as ``python -m monai.bundle run`` in this process."""
    bundle = workflow(*files, **override)
    bundle.initialize()
    bundle.run()
    bundle.finalize()
    return bundle


def command(*files: str, **override: object) -> list[str]:
    config = "[" + ",".join(f"'{BUNDLES / file}'" for file in files) + "]"
    options = [item for key, value in override.items() for item in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *options]


def run_two_processes(bundle: str, *files: str, **override: object) -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*launcher, *command(bundle, "multi_gpu.json", *files, **override)[1:]],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
