"""Every bundle trains, evaluates and predicts on files in its dataset's layout, alone and with every overlay."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from PIL import Image
from refusals import refused
from test_bundles import BUNDLES, NAMES, ROOT, run, run_two_processes, workflow
from test_finished_run import write_run as write_untrained

from afma_med.data import READERS, build_lesion_slices
from afma_med.runs.finished_run import load_run
from afma_med.samples import write_street_scenes
from afma_med.samples.cityscapes_scenes import write_cityscapes_sample
from afma_med.samples.ct_phantom import write_ct_phantom
from afma_med.samples.single_objects import write_birds, write_lesions

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


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["AFMA_MED_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    folder = tmp_path_factory.mktemp("samples")
    # Drawn when first asked for; writers do nothing the second time.
    return lambda name: DRAW[name](folder / name)


def options(name: str, root: Path, folder: Path, **more: object) -> dict[str, object]:
    return {"dataset_dir": str(root), "output_dir": str(folder), **TINY, **more}


def parsed(name: str) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / f"{name}_afma.json"))
    parser["dataset_dir"], parser["is_sample"] = "somewhere", False
    return parser


@pytest.mark.parametrize(
    ("name", "crop", "epochs", "batch"),
    [
        ("camvid", [480, 640], 500, 16),
        ("cityscapes", [640, 800], 200, 8),
        ("lits", [512, 512], 50, 16),
        ("isic", [192, 192], 200, 16),
        ("cub", [320, 320], 200, 16),
        ("nuclei", [256, 256], 200, 16),
        ("lesion_slices", [256, 256], 200, 16),
    ],
)
def test_recipes(name: str, crop: list[int], epochs: int, batch: int) -> None:
    parser = parsed(name)
    values = {key: parser.get_parsed_content(key) for key in ("crop_size", "max_epochs", "batch_size", "encoder")}
    assert values == {"crop_size": crop, "max_epochs": epochs, "batch_size": batch, "encoder": "resnet101"}
    assert parser.get_parsed_content("optimizer_name") == "SGD"
    assert parser.get_parsed_content("zoom_range") == [0.5, 2.0]
    assert parser.get_parsed_content("num_classes") == {"camvid": 12, "cityscapes": 19, "lits": 3}.get(name, 2)


def test_released_recipe_is_adam() -> None:
    recipe = json.loads((BUNDLES / "released_recipe.json").read_text(encoding="utf-8"))
    assert recipe["optimizer"]["_target_"] == "torch.optim.Adam"
    assert (recipe["learning_rate"], recipe["lr_scheduler#gamma"]) == (1e-4, 0.5)
    assert (recipe["milestones"], recipe["max_epochs"]) == ([400, 500, 700, 800, 900], 1000)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_train_evaluate_predict(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    root, folder, bundle = samples(name), tmp_path / "run", f"{name}_afma.json"
    section = "val" if name == "cityscapes" else "test"  # whose test labels are withheld
    run(bundle, **options(name, root, folder))
    run(bundle, "evaluate.json", output_dir=str(folder), val_section=section)
    report = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))
    files = READERS[name].datalist(root, section)
    assert report["images"] == len(files)
    assert 0 <= report["scores"]["mIoU"] <= 1
    run(bundle, "inference.json", output_dir=str(folder))
    pictures = READERS[name].datalist(root, "test")
    assert len(list((folder / "predictions").rglob("segmentation-*" if name == "lits" else "labels/**/*.png"))) == len(
        pictures
    ), "no prediction replaces another"
    raw = {info.raw_id for info in READERS[name].classes if info.train_id != 255}
    for item in pictures:
        prediction, shape = (read_volume if name == "lits" else read_picture)(folder / "predictions", item["image"])
        assert prediction.shape == shape, "a prediction has the size of its image"
        assert set(np.unique(prediction)) <= raw, "and the values of the dataset's own label files"


def read_volume(folder: Path, image: str) -> tuple[np.ndarray, tuple[int, ...]]:
    volume = nibabel.load(image)
    name = Path(image).name.split(".")[0].replace("volume", "segmentation")
    prediction = nibabel.load(folder / f"{name}.nii.gz")
    assert np.array_equal(prediction.affine, volume.affine)
    assert prediction.header.get_zooms() == volume.header.get_zooms()
    return np.asarray(prediction.dataobj), volume.shape


def read_picture(folder: Path, image: str) -> tuple[np.ndarray, tuple[int, ...]]:
    width, height = Image.open(image).size
    [path] = folder.glob(f"labels/**/{Path(image).stem}*.png")
    [color] = folder.glob(f"color/**/{Path(image).stem}.png")
    assert Image.open(color).size == (width, height)
    return np.asarray(Image.open(path)), (height, width)


@pytest.mark.parametrize(("name", "title"), [("nuclei", "Nuclei"), ("lesion_slices", "Lesion slices")])
def test_bundles_without_a_sample_ask_for_the_dataset(tmp_path: Path, name: str, title: str) -> None:
    with refused(match=rf"error: `dataset_dir` must hold {title}; there is no .*Pass --dataset_dir"):
        run(f"{name}_afma.json", bundle_root=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_fold_of_a_run_is_that_of_its_evaluation(samples: Callable[[str], Path], tmp_path: Path) -> None:
    root = samples("lesion_slices")
    given = options("lesion_slices", root, tmp_path / "run", fold=3)
    workflow("lesion_slices_afma.json", **given).initialize()
    assert json.loads((tmp_path / "run" / "settings.json").read_text(encoding="utf-8"))["fold"] == 3
    (tmp_path / "run" / "model.pt").write_bytes(b"")
    tested = [item["image"] for item in build_lesion_slices(3).datalist(root, "test")]
    for overlay in ("evaluate.json", "inference.json"):
        bundle = workflow("lesion_slices_afma.json", overlay, output_dir=str(tmp_path / "run"))
        reader = bundle.parser.get_parsed_content("reader")
        assert [item["image"] for item in reader.datalist(root, "test")] == tested
    (tmp_path / "run" / "last.pt").write_bytes(b"")
    with refused(match="`resume` must go on with the network of its run; got fold=0, the run has 3"):
        workflow("lesion_slices_afma.json", **{**given, "fold": 0}, resume=True).initialize()


def test_loaded_run_has_its_fold(samples: Callable[[str], Path], tmp_path: Path) -> None:
    root = samples("lesion_slices")
    run_of_fold = load_run(write_untrained(tmp_path / "run", "lesion_slices", root, fold=4))
    assert run_of_fold.settings["fold"] == 4
    assert run_of_fold.find_image() == build_lesion_slices(4).datalist(root, "test")[0]["image"]


def test_folds_that_do_not_exist_end_the_command(samples: Callable[[str], Path], tmp_path: Path) -> None:
    with refused(match="error: `fold` must be a whole number from 0 to 4; got 5"):
        run("lesion_slices_afma.json", **options("lesion_slices", samples("lesion_slices"), tmp_path / "run", fold=5))
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
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


@pytest.mark.parametrize("name", ["isic", "lits"])
def test_baseline_and_afma_start_alike(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    """The same initial host, and the same crops in the same order."""
    found = []
    for overlays in ((), ("baseline.json",)):
        given = options(name, samples(name), tmp_path / f"run{len(overlays)}")
        bundle = workflow(f"{name}_afma.json", *overlays, **given)
        bundle.initialize()
        trainer = bundle.parser.get_parsed_content("train#trainer")
        bundle.parser.get_parsed_content("epoch_seed").attach(trainer)
        trainer.state.epoch = 1
        trainer.fire_event(Events.EPOCH_STARTED)
        batches = [batch["image"] for batch in bundle.parser.get_parsed_content("train#dataloader")]
        found.append((batches, bundle.parser.get_parsed_content("backbone").state_dict()))
    assert all(torch.equal(*pair) for pair in zip(found[0][0], found[1][0], strict=True))
    assert all(torch.equal(weight, found[1][1][key]) for key, weight in found[0][1].items())


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_baseline_takes_what_afma_takes(samples: Callable[[str], Path], tmp_path: Path) -> None:
    """FPN alone refuses sides that 32 does not divide, such as CamVid's 360."""
    more = {"network_name": "FPN", "longest_side": 90}
    run("isic_afma.json", "baseline.json", **options("isic", samples("isic"), tmp_path / "run", **more))
    run("isic_afma.json", "evaluate.json", output_dir=str(tmp_path / "run"))


@pytest.mark.slow
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


@pytest.mark.slow
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
def test_broken_data_end_the_training_with_the_report(
    samples: Callable[[str], Path], tmp_path: Path, name: str
) -> None:
    root = DRAW[name](tmp_path / "data")
    item = READERS[name].datalist(root, "train")[0]
    Path(item["label"]).write_bytes(b"")
    with refused(match=rf"(?s)error: The dataset's files must fit.*{Path(item['label']).name}"):
        run(f"{name}_afma.json", **options(name, root, tmp_path / "run"))
    assert not (tmp_path / "run").exists(), "a refused training leaves nothing behind"


def test_withheld_labels_end_the_evaluation_with_what_to_do(samples: Callable[[str], Path], tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    settings = {"dataset_dir": str(samples("cityscapes")), "afma": False, "feature": 2, "patch_size": 10}
    settings |= {"network_name": "Unet", "encoder": "resnet18", "variant": "released", "longest_side": None}
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with refused(match=r"must have labels; got 'test' of Cityscapes.*inference\.json"):
        run("cityscapes_afma.json", "evaluate.json", output_dir=str(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["isic", "lits"])
def test_cached_training_is_the_same_training(samples: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    weights = []
    for overlays in ((), ("cache.json",)):
        folder = tmp_path / f"run{len(overlays)}"
        bundle = run(f"{name}_afma.json", *overlays, **options(name, samples(name), folder))
        weights.append(torch.load(folder / "last.pt", weights_only=True)["model"])
    assert type(bundle.parser.get_parsed_content("train#dataset")).__name__ == "CacheDataset"
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
