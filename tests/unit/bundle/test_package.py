"""Packaged bundles work with the model zoo, MONAI Label and MONAI Deploy, without internet or a dataset."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.transforms import Compose
from PIL import Image

from _helpers.paths import ROOT
from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.package import package_bundle, prune_config, reachable_ids
from afma_med.bundle.settings import write_settings
from afma_med.cli import main
from afma_med.data import READERS, class_names
from afma_med.samples import SAMPLES, write_birds, write_street_scenes

FILES = {
    *("LICENSE", "docs/README.md", "models/model.pt", "configs/logging.conf"),
    *(f"configs/{name}.json" for name in ("metadata", "train", "inference", "evaluate", "onnx_export")),
    *(f"configs/multi_gpu_{name}.json" for name in ("train", "evaluate")),
}
# The required keys of MONAI's bundle specification and of its metadata schema of 2024-07-25.
METADATA = {
    *("schema", "version", "changelog", "monai_version", "pytorch_version", "numpy_version"),
    *("required_packages_version", "name", "task", "description", "authors", "copyright", "network_data_format"),
}
TENSOR = {
    *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
    "channel_def",
}
SECRET = "/home/someone/private/data"


def write_run(folder: Path, name: str, **override: Any) -> Path:
    """Write the folder of a run with initial weights and their settings."""
    folder.mkdir(parents=True)
    parser = ConfigParser()
    parser.read_config(str(bundles_folder() / f"{name}_afma.json"))
    parser.update({"dataset_dir": SECRET, "network_name": "FPN", "encoder": "mobilenet_v2", **override})
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    write_settings(folder, parser.get_parsed_content("settings"))
    return folder / "model.pt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "camvid", "camvid")


@pytest.fixture(scope="module", params=READERS)
def package(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return package_bundle(request.param, write_run(folder / "run", request.param), output_dir=folder / "packages")


@pytest.fixture(scope="module")
def camvid(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package_bundle("camvid", checkpoint, output_dir=tmp_path_factory.mktemp("packages"))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 2, "val": 1, "test": 2}, size=(64, 96))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def has_id(config: dict[str, Any], name: str) -> bool:
    node: Any = config
    for part in name.split("#"):
        if part not in node:
            return False
        node = node[part]
    return True


def has_weights(network: torch.nn.Module, folder: Path) -> bool:
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    own = network.state_dict()
    return set(own) == set(weights) and all(torch.equal(own[name].cpu(), weights[name]) for name in own)


def test_postprocessing_is_built_without_drawing_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = SAMPLES["cub"]._replace(write=partial(write_birds, counts={"train": 3, "test": 1}))
    monkeypatch.setattr("afma_med.bundle.run.SAMPLES", {"cub": sample})
    folder = package_bundle("cub", write_run(tmp_path / "run", "cub"), output_dir=tmp_path)
    parser = ConfigParser(read(folder / "configs" / "inference.json"))
    parser.update({"bundle_root": str(tmp_path)})
    assert isinstance(parser.get_parsed_content("postprocessing"), Compose)
    images = tmp_path / "data" / "birds" / "images"
    assert parser.get_parsed_content("input_dir") == str(images)
    assert not (tmp_path / "data").exists()
    (item,) = parser.get_parsed_content("dataset").data
    assert Path(item["image"]).is_relative_to(images)


def test_package_has_the_model_zoos_files(package: Path) -> None:
    assert {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()} == FILES
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert [path.name for path in package.parent.iterdir()] == [package.name]


def test_package_needs_and_tells_nothing_of_the_training(package: Path) -> None:
    for path in [*package.glob("configs/*"), package / "docs" / "README.md"]:
        text = path.read_text(encoding="utf-8")
        assert SECRET not in text, path
        assert "read_settings" not in text, path
        assert "find_weights" not in text, path
        assert "bundles/" not in text, path


def test_metadata_is_complete(package: Path) -> None:
    metadata = read(package / "configs" / "metadata.json")
    assert set(metadata) >= METADATA
    assert metadata["version"] in metadata["changelog"]
    versions = [metadata["pytorch_version"], *metadata["required_packages_version"].values()]
    assert all("+" not in version for version in versions)
    reader = READERS[package.name.removesuffix("_afma")]
    inputs, outputs = (metadata["network_data_format"][key] for key in ("inputs", "outputs"))
    assert (list(inputs), list(outputs)) == (["image"], ["pred"])
    for tensor in (inputs["image"], outputs["pred"]):
        assert set(tensor) == TENSOR
        assert tensor["type"] == "image"
        assert list(tensor["channel_def"]) == [str(i) for i in range(tensor["num_channels"])]
    assert list(outputs["pred"]["channel_def"].values()) == class_names(reader.classes)
    low, high = inputs["image"]["value_range"]
    assert low < high


def test_ct_is_described_as_ct(package: Path) -> None:
    image = read(package / "configs" / "metadata.json")["network_data_format"]["inputs"]["image"]
    if package.name == "lits_afma":
        assert (image["num_channels"], image["modality"], image["value_range"]) == (1, "CT", [0, 1])
    else:
        assert (image["num_channels"], image["value_range"]) == (3, [-2.118, 2.64])


def test_inference_has_what_is_asked_for_and_no_training(package: Path) -> None:
    config = read(package / "configs" / "inference.json")
    asked = {"bundle_root", "device", "dataset_dir", "dataset", "evaluator", "network_def", "network", "inferer"}
    asked |= {"preprocessing", "postprocessing", "handlers", "imports", "output_dir", "input", "run", "checkpoint"}
    assert asked <= set(config)
    training = {
        "optimizer",
        "survey",
        "train",
        "validate",
        "loss",
        "lr_scheduler",
        "settings",
        "recipe",
    }
    assert not training & {*config, *reachable_ids(config, config)}
    assert config["checkpoint"] == "$@paths#bundle_root + '/models/model.pt'"


def test_train_has_the_model_zoos_ids(package: Path) -> None:
    config = read(package / "configs" / "train.json")
    names = ["bundle_root", "device", "dataset_dir", "output_dir", "val_interval", "train#preprocessing"]
    names += [f"train#{name}" for name in ("trainer#max_epochs", "dataset#data", "handlers", "inferer")]
    names += [f"validate#{name}" for name in ("evaluator", "handlers", "dataset#data", "preprocessing", "key_metric")]
    assert [name for name in names if not has_id(config, name)] == []
    assert config["encoder"] == "mobilenet_v2"
    assert "about" not in config


@pytest.mark.parametrize("overlay", ["evaluate", "multi_gpu_train", "multi_gpu_evaluate"])
def test_overlays_change_nothing_of_the_network(camvid: Path, overlay: str) -> None:
    settings = {"network_name", "encoder", "afma", "feature", "patch_size", "variant", "longest_side", "settings"}
    assert not settings & set(read(camvid / "configs" / f"{overlay}.json"))


def test_transforms_and_network_are_there_without_data(package: Path, elsewhere: Path) -> None:
    """Load a bundle's directory as MONAI Label does."""
    parser = ConfigParser()
    parser.read_config(str(package / "configs" / "inference.json"))
    parser["bundle_root"] = str(package)
    for name in ("preprocessing", "postprocessing"):
        assert isinstance(parser.get_parsed_content(name), Compose)
    assert isinstance(parser.get_parsed_content("device"), torch.device)
    assert callable(parser.get_parsed_content("inferer"))
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(package / "models" / "model.pt", weights_only=True))
    assert not list(elsewhere.iterdir())


def test_prediction_ends_as_one_channel_of_classes(camvid: Path, elsewhere: Path, scenes: Path) -> None:
    """MONAI Label and Deploy use the item pred of the postprocessing's result."""
    parser = ConfigParser()
    parser.read_config(str(camvid / "configs" / "inference.json"))
    parser.update({"bundle_root": str(camvid), "output_dir": str(elsewhere / "out")})
    before, after = (parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing"))
    item = before({"image": str(next((scenes / "test").glob("*.png")))})
    item["pred"] = torch.rand(12, *item["image"].shape[1:])
    label = after(item)["pred"]
    assert label.shape == (1, 64, 96)
    assert set(np.unique(label)) <= set(range(12))


@pytest.mark.parametrize("workflow_type", ["train", "inference"])
def test_monai_loads_the_trained_network_from_elsewhere(camvid: Path, elsewhere: Path, workflow_type: str) -> None:
    network = monai.bundle.load(camvid.name, bundle_dir=camvid.parent, workflow_type=workflow_type)
    assert has_weights(network, camvid)
    assert not list(elsewhere.iterdir()), "loading draws, trains and writes nothing"


def test_net_in_out_is_verified(package: Path, elsewhere: Path) -> None:
    configs = package / "configs"
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(configs / "metadata.json"),
        config_file=str(configs / "inference.json"),
        bundle_root=str(package),
    )


def test_baseline_says_what_sizes_it_takes(tmp_path: Path) -> None:
    folder = package_bundle("isic", write_run(tmp_path / "run", "isic", afma=False), output_dir=tmp_path)
    metadata = read(folder / "configs" / "metadata.json")
    assert metadata["network_data_format"]["inputs"]["image"]["spatial_shape"] == ["32*n", "32*p"]
    assert "without AFMA" in metadata["description"]
    batch, channels, *size = read(folder / "configs" / "onnx_export.json")["input_shape"]
    assert (batch, channels, [side % 32 for side in size]) == (2, 3, [0, 0])
    monai.bundle.verify_net_in_out(
        net_id="network_def",
        meta_file=str(folder / "configs" / "metadata.json"),
        config_file=str(folder / "configs" / "inference.json"),
    )


def test_zip_holds_the_directory(checkpoint: Path, tmp_path: Path) -> None:
    package_bundle("camvid", checkpoint, output_dir=tmp_path, version="1.2.3", archive=True)
    with zipfile.ZipFile(tmp_path / "camvid_afma_v1.2.3.zip") as archive:
        assert {name for name in archive.namelist() if not name.endswith("/")} == {f"camvid_afma/{x}" for x in FILES}
        metadata = json.loads(archive.read("camvid_afma/configs/metadata.json"))
    assert metadata["version"] == "1.2.3"
    assert "1.2.3" in metadata["changelog"]
    assert {path.name for path in tmp_path.iterdir()} == {"camvid_afma", "camvid_afma_v1.2.3.zip"}


@pytest.fixture
def scored(checkpoint: Path, tmp_path: Path) -> Path:
    """The run with an evaluation."""
    run = tmp_path / "run"
    (run / "evaluation").mkdir(parents=True)
    (run / "model.pt").symlink_to(checkpoint)
    write_settings(run, read(checkpoint.with_name("settings.json")))
    report = {"checkpoint": "runs/a/model.pt", "dataset": SECRET, "section": "val", "images": 101}
    report["scores"] = {"mIoU": 0.5, "IoU/sky": 0.912345, "IoU/pole": None, "IoU_small_objects/sky": 0.25}
    (run / "evaluation" / "scores.json").write_text(json.dumps(report), encoding="utf-8")
    return run


def read_without_padding(path: Path) -> str:
    return re.sub(" +", " ", path.read_text(encoding="utf-8"))


def test_readme_and_metadata_have_the_scores_of_the_run(scored: Path) -> None:
    folder = package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    text = read_without_padding(folder / "docs" / "README.md")
    assert "on the section `val`, 101 images:" in text
    for row in ("| IoU/sky | 0.9123 |", "| IoU/pole | not present |", "| mIoU | 0.5000 |"):
        assert row in text
    assert SECRET not in text
    assert read(folder / "configs" / "metadata.json")["eval_metrics"] == {"IoU/sky": 0.912345, "mIoU": 0.5}


def test_scores_of_other_weights_are_left_out(scored: Path) -> None:
    path = scored / "evaluation" / "scores.json"
    path.write_text(path.read_text(encoding="utf-8").replace("model.pt", "earlier.pt"), encoding="utf-8")
    folder = package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    assert "have not been evaluated" in (folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert read(folder / "configs" / "metadata.json")["eval_metrics"] == {}


def test_weights_of_the_sample_are_called_so(scored: Path, scenes: Path) -> None:
    write_settings(scored, {**read(scored / "settings.json"), "dataset_dir": str(scenes)})
    folder = package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    assert "come from the embedded synthetic sample" in (folder / "docs" / "README.md").read_text(encoding="utf-8")
    assert "synthetic sample" in read(folder / "configs" / "metadata.json")["description"]


def test_readme_lists_classes_and_layout(package: Path) -> None:
    text = read_without_padding(package / "docs" / "README.md")
    for index, name in enumerate(class_names(READERS[package.name.removesuffix("_afma")].classes)):
        assert f"| {index} | {name} |" in text
    assert "`dataset_dir` holds" in text
    assert "10.1109/TPAMI.2022.3211171" in text


def test_unknown_dataset_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`name` must be one of camvid, .*; got 'kitti'"):
        package_bundle("kitti", checkpoint, output_dir=tmp_path)


def test_bad_version_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`version` must be three numbers; got 'v1'"):
        package_bundle("camvid", checkpoint, output_dir=tmp_path, version="v1")


def test_weights_of_another_network_are_refused(scored: Path) -> None:
    write_settings(scored, {**read(scored / "settings.json"), "encoder": "resnet34"})
    with pytest.raises(
        ValueError, match=r"(?s)`checkpoint` must hold the weights.*(size mismatch|Missing key).*Name a run's"
    ):
        package_bundle("camvid", scored / "model.pt", output_dir=scored / "packages")
    assert not list((scored / "packages").iterdir()), "nothing half-written is left"


def test_weights_of_another_dataset_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """Also if the shapes fit, as those of ISIC and CUB do."""
    with pytest.raises(ValueError, match=r"must be weights of isic_afma; .* was trained by camvid_afma"):
        package_bundle("isic", checkpoint, output_dir=tmp_path / "packages")
    assert not list(tmp_path.rglob("*afma"))


def test_last_checkpoint_is_refused(scored: Path) -> None:
    torch.save({"model": {}, "trainer": {}}, scored / "last.pt")
    with pytest.raises(ValueError, match=r"not its last\.pt"):
        package_bundle("camvid", scored / "last.pt", output_dir=scored.parent)


def test_missing_settings_are_refused(scored: Path) -> None:
    settings = read(scored / "settings.json")
    write_settings(scored, {name: value for name, value in settings.items() if name != "variant"})
    with pytest.raises(ValueError, match=r"settings\.json without variant"):
        package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    (scored / "settings.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"must lie next to the settings\.json"):
        package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)


def test_existing_directory_is_kept_unless_it_is_a_package_to_overwrite(scored: Path) -> None:
    folder = package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    with pytest.raises(FileExistsError, match="--overwrite"):
        package_bundle("camvid", scored / "model.pt", output_dir=scored.parent)
    package_bundle("camvid", scored / "model.pt", output_dir=scored.parent, version="0.2.0", overwrite=True)
    assert read(folder / "configs" / "metadata.json")["version"] == "0.2.0"
    (folder / "runs").mkdir()
    with pytest.raises(FileExistsError, match="holds runs"):
        package_bundle("camvid", scored / "model.pt", output_dir=scored.parent, overwrite=True)
    (scored.parent / "mine" / "camvid_afma").mkdir(parents=True)
    with pytest.raises(FileExistsError, match="is not a package"):
        package_bundle("camvid", scored / "model.pt", output_dir=scored.parent / "mine", overwrite=True)


def test_pruning_follows_references_wherever_they_stand() -> None:
    config = {
        **{
            "imports": ["$import os"],
            "run": ["$@engine#net.run(@a)"],
            "a": "@b::c",
            "b": {"c": "$1 + @d#0", "e": "@f"},
        },
        **{
            "d": [1],
            "engine": {"net": {"_target_": "x", "y": [{"z": "@g"}]}},
            "f": 2,
            "g": "mail@h",
            "h": 3,
            "i": "@a",
        },
    }
    assert list(prune_config(config, ["run"])) == ["run", "a", "b", "d", "engine", "f", "g"]


def test_command_says_where_and_what_to_try(
    checkpoint: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["package", "camvid", "--checkpoint", str(checkpoint), "--zip"]) == 0
    said = capsys.readouterr().out.splitlines()[-1]
    assert said.startswith("The package is in packages/camvid_afma. Try it: cd packages/camvid_afma && python")
    assert (elsewhere / "packages" / "camvid_afma_v0.1.0.zip").is_file()


def test_command_refuses_in_one_line(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["package", "camvid", "--checkpoint", "runs/none/model.pt"]) == 2
    assert capsys.readouterr().err.startswith("error: `checkpoint` must be a run's model.pt; there is no file")


@pytest.mark.slow
def test_readmes_prediction_draws_no_sample(checkpoint: Path, scenes: Path, tmp_path: Path) -> None:
    folder = package_bundle("camvid", checkpoint, output_dir=tmp_path)
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/inference.json"]
    command += ["--input", str(scenes / "test"), "--num_workers", "0"]
    done = subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {path.name for path in folder.iterdir()} == {"LICENSE", "configs", "docs", "models", "runs"}
    written = folder / "runs" / "camvid_afma" / "predictions" / "labels"
    assert {path.name for path in written.iterdir()} == {path.name for path in (scenes / "test").iterdir()}


@pytest.mark.slow
def test_package_evaluates_its_weights_and_trains(camvid: Path, scenes: Path, elsewhere: Path) -> None:
    common = {"bundle_root": str(camvid), "dataset_dir": str(scenes), "output_dir": str(elsewhere), "num_workers": 0}
    files = [str(camvid / "configs" / f"{name}.json") for name in ("train", "evaluate")]
    evaluation = create_workflow(config_file=files, **common)
    evaluation.run()
    evaluation.finalize()
    report = read(elsewhere / "evaluation" / "scores.json")
    assert report["checkpoint"] == str(camvid / "models" / "model.pt")
    assert report["images"] == 2
    small = {"max_epochs": 1, "batch_size": 2, "crop_size": [64, 96]}
    training = create_workflow(config_file=files[0], **common, **small)
    assert not training.check_properties()
    training.run()
    training.finalize()
    assert {"model.pt", "settings.json"} <= {path.name for path in elsewhere.iterdir()}


@pytest.mark.slow
def test_package_is_exported_with_its_configurations(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The README's two commands, in the package's directory; the files take any size and number of images."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = package_bundle("camvid", checkpoint, output_dir=tmp_path)
    monkeypatch.chdir(folder)
    monai.bundle.ckpt_export(config_file="configs/inference.json")
    monai.bundle.onnx_export(args_file="configs/onnx_export.json", input_shape=[2, 3, 72, 90])
    network = monai.bundle.load(folder.name, bundle_dir=tmp_path, workflow_type="inference", device="cpu").eval()
    extra = {"metadata.json": "", "inference.json": ""}
    scripted = torch.jit.load("models/model.ts", map_location="cpu", _extra_files=extra)
    assert json.loads(extra["inference.json"]) == read(folder / "configs" / "inference.json")
    metadata = json.loads(extra["metadata.json"])
    assert metadata["network_data_format"] == read(folder / "configs" / "metadata.json")["network_data_format"]
    session = onnxruntime.InferenceSession("models/model.onnx", providers=["CPUExecutionProvider"])
    for size in [(1, 3, 50, 70), (2, 3, 96, 64)]:
        image = torch.rand(*size)
        with torch.no_grad():
            expected = network(image)
            torch.testing.assert_close(scripted(image), expected, rtol=1e-4, atol=1e-4)
        (got,) = session.run(["pred"], {"image": image.numpy()})
        torch.testing.assert_close(torch.from_numpy(got), expected, rtol=1e-4, atol=1e-4)


def predict(folder: Path, source: Path, output_dir: Path) -> torch.nn.Module:
    """Predict as an application does, with ``monai.bundle.create_workflow``, and return the network."""
    workflow = create_workflow(
        config_file=str(folder / "configs" / "inference.json"),
        workflow_type="infer",
        bundle_root=str(folder),
        output_dir=str(output_dir),
        input=str(source),
        num_workers=0,
    )
    assert not workflow.check_properties()
    workflow.run()
    workflow.finalize()
    network: torch.nn.Module = workflow.network_def
    return network


def test_pictures_are_predicted_at_their_own_size(camvid: Path, elsewhere: Path) -> None:
    Image.fromarray(np.zeros((50, 70, 3), dtype=np.uint8)).save(elsewhere / "a.png")
    assert has_weights(predict(camvid, elsewhere / "a.png", elsewhere / "out"), camvid)
    assert Image.open(elsewhere / "out" / "predictions" / "labels" / "a.png").size == (70, 50)
    assert {path.name for path in elsewhere.iterdir()} == {"a.png", "out"}, "no sample is drawn"


def test_volumes_are_predicted_on_their_own_grid(tmp_path: Path) -> None:
    folder = package_bundle("lits", write_run(tmp_path / "run", "lits"), output_dir=tmp_path)
    affine = np.diag([-0.7, 0.8, 2.5, 1.0])
    volume = np.random.default_rng(0).integers(-300, 300, (40, 36, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "volume-7.nii")
    assert has_weights(predict(folder, tmp_path / "volume-7.nii", tmp_path / "out"), folder)
    label = nib.load(tmp_path / "out" / "predictions" / "segmentation-7.nii.gz")
    assert label.shape == volume.shape
    np.testing.assert_allclose(label.affine, affine, atol=1e-6)
