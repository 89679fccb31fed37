"""Whole trainings on the layouts of the datasets, with overlays, in several processes, cached, of odd files."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from _helpers.bundle_runs import DRAW, options, run, run_two_processes, workflow
from _helpers.paths import BUNDLES, ROOT

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["isic", "lits"])
def test_baseline_and_small_have_the_same_network_without_afma(
    samples: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    overlays = (f"{name}_afma.json", "small.json", "baseline.json")
    run(*overlays, **options(name, samples(name), tmp_path / "run"))
    weights = torch.load(tmp_path / "run" / "model.pt", weights_only=True)
    weights = {key.removeprefix("backbone."): value for key, value in weights.items()}
    assert not [key for key in weights if "afma" in key]
    assert json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["afma"] is False
    # Evaluation finds in the settings that there is no AFMA to load.
    run(f"{name}_afma.json", "evaluate.json", output_dir=str(tmp_path / "run"))
    with_afma = workflow(f"{name}_afma.json", "small.json", **options(name, samples(name), tmp_path / "b"))
    backbone = with_afma.parser.get_parsed_content("backbone").state_dict()
    assert {key: value.shape for key, value in weights.items()} == {k: v.shape for k, v in backbone.items()}


@pytest.mark.parametrize("name", ["cityscapes", "cub"])
def test_released_recipe_trains(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    # Without the weights of ImageNet, which have to be downloaded.
    more = {"encoder_weights": "$None", "feature": 3, "network_name": "MAnet"}
    bundle = run(f"{name}_afma.json", "released_recipe.json", **options(name, samples(name), tmp_path / "run", **more))
    assert isinstance(bundle.parser.get_parsed_content("optimizer"), torch.optim.Adam)
    names = [type(step).__name__ for step in bundle.parser.get_parsed_content("train#preprocessing").transforms]
    assert names[-1] == "RandGaussianNoised"
    settings = json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))
    assert (settings["network_name"], settings["feature"]) == ("MAnet", 3)


def test_two_processes_train_and_score_volumes(tmp_path: Path) -> None:
    """Slices are drawn by their weights in every process, and two processes score as one."""
    root = DRAW["lits"](tmp_path / "data")
    for section, number in (("train", 0), ("val", 1), ("val", 2), ("test", 3)):
        with (root / f"{section}.txt").open("a", encoding="utf-8") as names:
            names.write(f"volume-{number}\n")
    given = options("lits", root, tmp_path / "run", batch_size=16)
    launch = partial(run_two_processes, "lits_afma.json")

    def counts() -> list[str]:
        return (tmp_path / "run" / "evaluation" / "images.csv").read_text(encoding="utf-8").splitlines()

    launch(**given)
    best = torch.load(tmp_path / "run" / "last.pt", weights_only=True)["best"]["best_metric"]
    launch("evaluate.json", output_dir=str(tmp_path / "run"), val_section="val")
    report = json.loads((tmp_path / "run" / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert report["images"] == 2, "volumes of both processes"
    of_two = counts()
    run("lits_afma.json", "evaluate.json", output_dir=str(tmp_path / "run"), val_section="val")
    alone = json.loads((tmp_path / "run" / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    assert report["scores"] == {
        name: value and pytest.approx(value, abs=1e-6) for name, value in alone["scores"].items()
    }
    assert {"IoU_by_size/large", "lesion_F1/liver", "Dice/liver", "surface_distance_mm/liver"} <= report[
        "scores"
    ].keys()
    assert sorted(of_two) == sorted(counts()), "the same images with the same counts"
    assert alone["scores"]["mIoU"] == pytest.approx(best, abs=1e-6), "slices score as their volume does"


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak of memory where Linux keeps it")
def test_memory_of_training_does_not_grow_with_the_volumes(tmp_path: Path) -> None:
    """Fifty times the slices, 150 MB as the network sees them, add less than 30 MB to the peak."""
    peaks = {}
    for name, count, length in (("few", 3, 4), ("many", 12, 50)):
        root = tmp_path / name
        root.mkdir()
        noise = np.random.default_rng(0).integers(-200, 200, (256, 256, length)).astype(np.int16)
        for number in range(count):
            nibabel.save(nibabel.Nifti1Image(noise, np.eye(4)), root / f"volume-{number}.nii")
            label = (noise > 150).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), root / f"segmentation-{number}.nii.gz")
        given = options("lits", root, tmp_path / f"run {name}", batch_size=4, crop_size=[32, 32])
        # VmHWM, since getrusage's peak is inherited from the process that started this one.
        code = (
            "import json, sys; from monai.bundle import run; run(**json.loads(sys.argv[1])); "
            "print('peak', open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
        )
        config = {"config_file": str(BUNDLES / "lits_afma.json"), **given}
        done = subprocess.run(
            [sys.executable, "-c", code, json.dumps(config)],
            capture_output=True,
            encoding="utf-8",
            cwd=ROOT,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        peaks[name] = int(done.stdout.rpartition("peak")[2]) / 1024
    assert peaks["many"] - peaks["few"] < 30, peaks


def test_baseline_takes_what_afma_takes(samples: Callable[[str], Path], tmp_path: Path) -> None:
    """FPN alone refuses sides that 32 does not divide, such as CamVid's 360."""
    more = {"network_name": "FPN", "longest_side": 90}
    run("isic_afma.json", "baseline.json", **options("isic", samples("isic"), tmp_path / "run", **more))
    run("isic_afma.json", "evaluate.json", output_dir=str(tmp_path / "run"))


def test_inputs_through_links_and_dicom_folders_stay_below_the_predictions(
    samples: Callable[[str], Path], tmp_path: Path
) -> None:
    import SimpleITK

    run("cub_afma.json", **options("cub", samples("cub"), tmp_path / "birds"))
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(samples("cub") / "images")
    run("cub_afma.json", "inference.json", output_dir=str(tmp_path / "birds"), input=str(tmp_path / "link"))
    written = sorted(path.relative_to(tmp_path / "birds") for path in (tmp_path / "birds").rglob("*.png"))
    assert len(written) == 24
    assert {path.parts[:2] for path in written} == {("predictions", "color"), ("predictions", "labels")}

    run("lits_afma.json", **options("lits", samples("lits"), tmp_path / "ct"))
    series = tmp_path / "patient"
    series.mkdir()
    for k in range(3):
        plane = SimpleITK.GetImageFromArray(np.zeros((1, 40, 50), dtype=np.int16))
        plane.SetOrigin((0, 0, float(k)))
        tags = {"0020|000e": "1.2.3", "0020|000d": "1.2", "0008|0018": f"1.2.3.{k}", "0020|0032": f"0\\0\\{k}"}
        for key, value in {**tags, "0020|0037": "1\\0\\0\\0\\1\\0", "0020|0013": str(k), "0008|0060": "CT"}.items():
            plane.SetMetaData(key, value)
        writer = SimpleITK.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(series / f"{k}.dcm"))
        writer.Execute(plane)
    (series / "DICOMDIR").write_bytes(b"")
    run("lits_afma.json", "inference.json", output_dir=str(tmp_path / "ct"), input=str(series))
    assert nibabel.load(tmp_path / "ct" / "predictions" / "patient_segmentation.nii.gz").shape == (50, 40, 3)


def test_pictures_of_other_sizes_share_batches_and_keep_their_size(tmp_path: Path) -> None:
    """Grey, palette and 16-bit pictures of several sizes train together, and are predicted at their own size."""
    random = np.random.default_rng(0)
    for section in ("train", "val", "test"):
        for index, (height, width) in enumerate([(90, 120), (70, 64), (128, 40), (64, 200)]):
            noise = random.integers(0, 255, (height, width, 3), dtype=np.uint8)
            picture = Image.fromarray(noise)
            coded = [picture, picture.convert("L"), picture.convert("P"), None][index]
            coded = coded or Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
            mask = Image.fromarray((noise[..., 0] > 99).astype(np.uint8) * 255)
            for kind, image in (("images", coded), ("masks", mask)):
                (tmp_path / section / kind).mkdir(parents=True, exist_ok=True)
                image.save(tmp_path / section / kind / f"{index}.png")
    run("isic_afma.json", **options("isic", tmp_path, tmp_path / "run", batch_size=4, longest_side=96))
    run("isic_afma.json", "inference.json", output_dir=str(tmp_path / "run"), input=str(tmp_path / "test" / "images"))
    for index, size in enumerate([(120, 90), (64, 70), (40, 128), (200, 64)]):
        assert Image.open(tmp_path / "run" / "predictions" / "labels" / f"{index}_segmentation.png").size == size


@pytest.mark.parametrize("name", ["isic", "lits"])
def test_cached_training_is_the_same_training(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    weights = []
    for overlays in ((), ("cache.json",)):
        folder = tmp_path / f"run{len(overlays)}"
        bundle = run(f"{name}_afma.json", *overlays, **options(name, samples(name), folder))
        weights.append(torch.load(folder / "last.pt", weights_only=True)["model"])
    assert type(bundle.parser.get_parsed_content("train#dataset")).__name__ == "CacheDataset"
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
