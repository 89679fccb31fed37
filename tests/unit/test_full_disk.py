"""On a full disk, every writer raises one clear error, keeps the old files, and leaves no temporary files."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor

from _helpers.paths import ROOT
from _helpers.refusals import refused
from _helpers.synthetic_runs import random_rows, write_run, write_untrained
from afma_med.atomic_write import WriteError, replacing
from afma_med.checks import RunError
from afma_med.data import LITS
from afma_med.runs.result_file import write_result
from afma_med.runs.run import read_run
from afma_med.samples import write_street_scenes
from afma_med.transforms import LoadCTVolumed, SaveLabelVolumed, SavePNGd


@contextmanager
def full_disk(size: int = 16) -> Iterator[None]:
    """Limit the size of files; the kernel then raises the same kind of error as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def picture_writer(folder: Path) -> tuple[Callable[[], object], Path]:
    noise = MetaTensor(torch.randint(255, (1, 64, 64)), meta={"filename_or_obj": "images/a.png"})
    return lambda: SavePNGd("pred", str(folder))({"pred": noise}), folder / "a.png"


def volume_writer(folder: Path) -> tuple[Callable[[], object], Path]:
    path = folder.with_name("volumes") / "volume-0.nii"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 8), dtype=np.int16), np.eye(4)), path)
    image = LoadCTVolumed("image")({"image": str(path)})["image"]
    return lambda: SaveLabelVolumed("pred", folder, class_table=LITS.classes)(
        {"pred": image}
    ), folder / "segmentation-0.nii.gz"


def result_writer(folder: Path) -> tuple[Callable[[], object], Path]:
    run = read_run(write_run(folder.with_name("run"), random_rows(0, quality=0.5)))
    return lambda: write_result(folder / "a.json", run), folder / "a.json"


@pytest.mark.parametrize("writer", [picture_writer, volume_writer, result_writer])
def test_old_file_is_intact_and_nothing_else_is_left(tmp_path: Path, writer: Callable) -> None:
    folder = tmp_path / "written"
    folder.mkdir()
    write, target = writer(folder)
    target.write_bytes(b"old")
    with (
        full_disk(),
        pytest.raises(WriteError, match=rf"`{folder}` must be a folder that can .*{target.name} could not"),
    ):
        write()
    assert target.read_bytes() == b"old"
    assert list(folder.iterdir()) == [target]
    write()
    assert target.stat().st_size > 16, "with room it is written"


@pytest.mark.parametrize("below", ["", "folder"])
def test_a_file_in_the_place_of_the_folder_is_told(tmp_path: Path, below: str) -> None:
    folder = tmp_path / "file" / below
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(RunError, match=rf"`{folder}` must be a folder that can be written to"), replacing(folder / "a"):
        pass
    assert (tmp_path / "file").read_bytes() == b"old"


def test_inference_ends_with_the_reason_alone(tmp_path: Path) -> None:
    scenes = write_street_scenes(tmp_path / "scenes", counts={"test": 1}, size=(64, 96))
    folder = write_untrained(tmp_path / "run", "camvid", scenes)
    inference = ConfigWorkflow(
        config_file=[str(ROOT / "bundles" / file) for file in ("camvid_afma.json", "inference.json")],
        workflow_type="train",
        meta_file=str(ROOT / "bundles" / "metadata.json"),
        logging_file=str(ROOT / "bundles" / "logging.conf"),
        output_dir=str(folder),
        prediction_dir=str(tmp_path / "predicted"),
        num_workers=0,
    )
    inference.initialize()
    with (
        full_disk(),
        refused(match=r"^error: `.*predicted.*` must be a folder that can be written to"),
    ):
        inference.run()
    assert not [path for path in (tmp_path / "predicted").rglob("*") if path.is_file()]
