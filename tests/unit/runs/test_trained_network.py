"""Trained networks, and the command that draws their attention."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from _helpers.commands import run_afma
from _helpers.synthetic_runs import write_untrained as write_run
from afma_med import AFMANet
from afma_med.checks import NonFiniteError
from afma_med.data import class_names
from afma_med.networks import PaddedNetwork
from afma_med.runs.attention import find_corrected_object, show_attention
from afma_med.runs.trained_network import TrainedNetwork, load_network
from afma_med.samples import write_street_scenes
from afma_med.samples.ct_phantom import write_ct_phantom
from afma_med.visualize import attend_image, object_points, predict_slices, smallest_object


@functools.cache
def loaded(folder: Path) -> TrainedNetwork:
    """Load a run once, for tests that do not change it."""
    return load_network(folder)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 1, "val": 1, "test": 2}, size=(64, 96))


@pytest.fixture(scope="module")
def camvid(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "camvid", "camvid", scenes)


@pytest.fixture(scope="module")
def deeper(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "deeper", "camvid", scenes, feature=3, longest_side=64)


@pytest.fixture(scope="module")
def baseline(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "baseline", "camvid", scenes, afma=False)


@pytest.fixture(scope="module")
def lits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "phantoms"
    write_ct_phantom(root, count=3)
    return write_run(tmp_path_factory.mktemp("runs") / "lits", "lits", root)


# --- load_network


def test_run_has_the_trained_weights_and_sees_images_as_the_bundle_does(camvid: Path, scenes: Path) -> None:
    run = load_network(camvid)
    weights = torch.load(camvid / "model.pt", weights_only=True)
    state = run.network.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], value) for name, value in weights.items())
    assert isinstance(run.network, AFMANet)
    assert not run.network.training
    assert run.title == "camvid: Unet resnet18, AFMA depth 2"
    assert run.reader.name == "camvid"
    path = run.find_image()
    assert path == str(sorted((scenes / "test").iterdir())[0])
    pixels = np.asarray(Image.open(path).convert("RGB"), dtype=np.float64).transpose(2, 0, 1) / 255
    expected = (pixels - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
    np.testing.assert_allclose(run.prepare(path), expected, atol=1e-5)
    assert type(run.prepare(path)) is torch.Tensor


def test_image_is_a_file_or_the_first_of_a_folder_or_section(camvid: Path, scenes: Path) -> None:
    run, paths = loaded(camvid), sorted((scenes / "test").iterdir())
    assert run.find_image(paths[1]) == str(paths[1])
    assert run.find_image(scenes / "test") == str(paths[0])
    assert run.find_image(section="val") == str(next((scenes / "val").iterdir()))
    with pytest.raises(FileNotFoundError, match=r"`input` must be a file or folder; there is no `nowhere`"):
        run.find_image("nowhere")


def test_longest_side_and_depth_are_those_of_the_run(deeper: Path) -> None:
    run = loaded(deeper)
    assert run.prepare(run.find_image()).shape == (3, 43, 64)
    assert run.network.feature_tap.feature == 3


def test_settings_of_this_version_may_tell_of_the_training(camvid: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((camvid / "model.pt").read_bytes())
    settings = json.loads((camvid / "settings.json").read_text(encoding="utf-8"))
    (tmp_path / "settings.json").write_text(
        json.dumps({**settings, "training": {"seed": 3}, "feature": 2}), encoding="utf-8"
    )
    assert load_network(tmp_path).settings["training"] == {"seed": 3}
    del settings["name"], settings["feature"]
    (tmp_path / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    with pytest.raises(ValueError, match=r"`run_dir` must be a run of one of the bundles camvid_afma, .*None"):
        load_network(tmp_path)


def test_checkpoint_may_lie_elsewhere(camvid: Path, deeper: Path) -> None:
    run = load_network(camvid, checkpoint=deeper / "model.pt")
    assert run.settings["feature"] == 3
    assert run.folder == camvid


def test_volumes_are_prepared_whole(lits: Path) -> None:
    run = loaded(lits)
    volume = run.prepare(run.find_image())
    assert volume.ndim == 4
    assert volume.shape[0] == 1
    assert 0 <= volume.min() < volume.max() <= 1


def test_baseline_loads_without_attention(baseline: Path) -> None:
    run = loaded(baseline)
    assert isinstance(run.network, PaddedNetwork)
    assert run.title == "baseline: Unet resnet18, no AFMA"
    with pytest.raises(ValueError, match=r"`runs` must have been trained with AFMA; `.*baseline` has no attention"):
        show_attention([run])
    with pytest.raises(TypeError, match="Only AFMA has attention"):
        attend_image(run.network, run.prepare(run.find_image()))


def test_incomplete_runs_are_refused(camvid: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"`run_dir` must be the folder of a run; there is no folder `.*none`"):
        load_network(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"no file `.*model\.pt`. Train first"):
        load_network(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"`checkpoint` must be a run's model\.pt; there is no file"):
        load_network(camvid, checkpoint=tmp_path / "model.pt")
    (tmp_path / "model.pt").write_text("no weights", encoding="utf-8")
    with pytest.raises(FileNotFoundError, match=r"settings\.json of its run"):
        load_network(tmp_path)
    settings = (camvid / "settings.json").read_text(encoding="utf-8")
    (tmp_path / "settings.json").write_text(settings.replace("camvid_afma", "polyps_afma"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"its settings say 'polyps_afma'"):
        load_network(tmp_path)
    (tmp_path / "settings.json").write_text(settings, encoding="utf-8")
    with pytest.raises(ValueError, match=r"`checkpoint` must hold the weights of the network"):
        load_network(tmp_path)
    with pytest.raises(ValueError, match=r"`device` must be one that torch has here; got 'quantum'"):
        load_network(camvid, device="quantum")


def test_settings_are_not_executed(camvid: Path, tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes((camvid / "model.pt").read_bytes())
    settings = json.loads((camvid / "settings.json").read_text(encoding="utf-8"))
    harm = f"$open({str(tmp_path / 'harm')!r}, 'w').close()"
    (tmp_path / "settings.json").write_text(json.dumps({**settings, "encoder": harm}), encoding="utf-8")
    with pytest.raises(Exception, match=r"."):
        load_network(tmp_path)
    assert not (tmp_path / "harm").exists()


def test_unreadable_image_is_refused_by_name(camvid: Path, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("no picture", encoding="utf-8")
    with pytest.raises(ValueError, match=r"`path` must be an image that the run's bundle can read; got `.*a\.png`"):
        loaded(camvid).prepare(tmp_path / "a.png")


# --- show_attention


def test_pictures_are_named_after_image_and_point(camvid: Path, tmp_path: Path) -> None:
    run = loaded(camvid)
    [path] = show_attention([run], where=(30, 40), output_dir=tmp_path)
    assert path == tmp_path / "scene_0002_row30_column40.png"
    before = path.read_bytes()
    assert show_attention([run], where=(30, 40), output_dir=tmp_path) == [path]
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_point_is_the_smallest_object_or_in_each_of_a_class(
    camvid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("afma_med.runs.attention.draw_attention", lambda *_, **__: Figure(figsize=(1, 1)))
    run = loaded(camvid)
    after = attend_image(run.network, run.prepare(run.find_image())).after
    row, column = smallest_object(after, class_indices=range(11), min_pixels=10)
    [path] = show_attention([run], output_dir=tmp_path, suffix=".svg")
    assert path.name == f"scene_0002_row{row}_column{column}.svg"
    name = class_names(run.reader.classes)[after[row, column]]
    points = object_points(after, after[row, column], min_pixels=10)
    names = {file.name for file in show_attention([run], where=name, output_dir=tmp_path)}
    assert names == {f"scene_0002_row{row}_column{column}.png" for row, column in points}


def test_several_runs_are_drawn_side_by_side(
    camvid: Path, deeper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from afma_med.runs import attention

    drawn = []
    draw = attention.compare_attention
    monkeypatch.setattr(
        attention,
        "compare_attention",
        lambda rows, *given, **named: drawn.append(rows) or draw(rows, *given, **named),
    )
    runs = [loaded(camvid), loaded(deeper)]
    [path] = show_attention(runs, where=(30, 45), output_dir=tmp_path)
    assert path.name == "scene_0002_row30_column45_compared.png"
    [(first, one), (second, other)] = drawn[0]
    assert (first, second) == ("camvid: Unet resnet18, AFMA depth 2", "deeper: Unet resnet18, AFMA depth 3")
    assert (one.point, other.point) == ((30, 45), (20, 30)), "64×96 pixels are 43×64 to the other"
    assert one.class_index == other.class_index


def test_volume_is_shown_by_slices(lits: Path, tmp_path: Path) -> None:
    run = loaded(lits)
    volume = run.prepare(run.find_image())[:, 40:104, 40:104, ::5]
    run = dataclasses.replace(run, preprocessing=lambda item: {"image": volume})
    fullest = int((predict_slices(run.network, volume) > 0).sum(axis=(0, 1)).argmax())
    name = Path(run.find_image()).name.split(".nii")[0]
    files = show_attention([run], where=(60, 60), montage=True, output_dir=tmp_path)
    assert [file.name for file in files] == [f"{name}_slices.png", f"{name}_slice{fullest}_row60_column60.png"]
    [chosen] = show_attention([run], where=(60, 60), slice_number=3, output_dir=tmp_path)
    assert chosen.name == f"{name}_slice3_row60_column60.png"
    with pytest.raises(ValueError, match=r"`number` must be a slice of the volume"):
        show_attention([run], where=(60, 60), slice_number=999)


def test_impossible_pictures_are_refused(camvid: Path, lits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = loaded(camvid)
    with pytest.raises(ValueError, match=r"`runs` must hold at least one run"):
        show_attention([])
    with pytest.raises(ValueError, match=r"`runs` must be of one dataset; got camvid and lits"):
        show_attention([run, loaded(lits)])
    with pytest.raises(ValueError, match=r"`where` must be a class of CamVid, sky, .*; got 'cars'"):
        show_attention([run], where="cars")
    with pytest.raises(ValueError, match=r"`point` must lie in the image"):
        show_attention([run], where=(64, 0))
    for options in ({"slice_number": 1}, {"montage": True}):
        with pytest.raises(ValueError, match=r"`image` must be a volume for slices and montages"):
            show_attention([run], **options)
    monkeypatch.setattr("afma_med.runs.attention.smallest_object", lambda *_, **__: None)
    with pytest.raises(ValueError, match=r"`image` must have a predicted object of 10 pixels or more; got none"):
        show_attention([run])


# --- the command


def test_command_says_where_the_pictures_are(camvid: Path, scenes: Path) -> None:
    image = sorted((scenes / "test").iterdir())[1]
    lines = run_afma("show", camvid, "--image", image, "--point", "5,6").stdout.splitlines()
    assert lines == [f"{image.stem}_row5_column6.png", f"The pictures are in {camvid / 'attention'}"]
    assert (camvid / "attention" / lines[0]).is_file()


@pytest.mark.parametrize("helps", [True, False])
def test_command_finds_the_object_that_the_correction_helps(
    camvid: Path, scenes: Path, monkeypatch: pytest.MonkeyPatch, helps: bool
) -> None:
    """The object is the best of all test images, or the smallest one of the first image if none gains."""
    paths = [item["image"] for item in loaded(camvid).reader.datalist(scenes, "test")]
    gains = iter([(2, (3, 4)), (5, (6, 7))] if helps else [None] * len(paths))
    monkeypatch.setattr("afma_med.runs.attention.corrected_object", lambda *maps, **options: next(gains))
    monkeypatch.setattr("afma_med.runs.attention.smallest_object", lambda *maps, **options: (1, 2))
    lines = run_afma("show", camvid, "--corrected").stdout.splitlines()
    asked = f"{Path(paths[1]).stem}_row6_column7.png" if helps else f"{Path(paths[0]).stem}_row1_column2.png"
    assert len(paths) == 2 and asked in lines
    assert helps or "makes no small object of the test section better" in lines[0]


def test_corrected_objects_are_those_of_images(lits: Path) -> None:
    with pytest.raises(ValueError, match=r"`run` must be one of images; got .* of LiTS. Name a slice"):
        find_corrected_object(loaded(lits))


def test_command_ends_with_the_error_alone(camvid: Path, tmp_path: Path) -> None:
    for arguments, message in [
        ([str(tmp_path / "none")], "`run_dir` must be the folder of a run"),
        ([str(camvid), "--slice", "1"], "`image` must be a volume"),
        ([str(camvid), str(camvid), "--checkpoint", "model.pt"], "`--checkpoint` must go with one run"),
    ]:
        done = run_afma("show", *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(f"error: {message}")


def test_several_depths_and_patch_sizes_are_restored_and_drawn(scenes: Path, tmp_path: Path) -> None:
    ids = {"feature": {"small": 2, "large": [3, 4]}, "patch_size": {"pole": [20, 5]}, "source": "image"}
    run = load_network(write_run(tmp_path / "run", "camvid", scenes, **ids))
    assert {name: run.settings[name] for name in ids} == ids
    assert run.title == "run: Unet resnet18, AFMA depths small 2, large 3, 4"
    block = run.network.afma_block
    large = (0, 1, 3, 4, 5, 7, 8)
    assert block.classes == (large, large, (2,), (6, 9, 10))
    assert [(part.patch_size, type(part).__name__) for part in block.blocks] == [
        ((10, 10), "ResizedImageBlock"),
        ((10, 10), "ResizedImageBlock"),
        ((20, 5), "ResizedImageBlock"),
        ((10, 10), "ResizedImageBlock"),
    ]
    files = show_attention([run], where=(10, 20))
    assert [file.name for file in files] == ["scene_0002_row10_column20.png"]
    assert Image.open(files[0]).size[0] > 100


def test_settings_without_a_source_are_those_of_feature_maps(scenes: Path, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "old", "camvid", scenes)
    settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert settings.pop("source") == "feature"
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    assert type(load_network(folder).network.afma_block).__name__ == "AFMABlock"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_image_that_is_not_finite_is_refused_by_name(camvid: Path, value: float) -> None:
    spoilt = dataclasses.replace(loaded(camvid), preprocessing=lambda item: {"image": torch.full((3, 32, 32), value)})
    with pytest.raises(ValueError, match=r"`path` must be an image of finite values; `a\.png`"):
        spoilt.prepare("a.png")


@pytest.mark.parametrize("command", [["show"], ["show", "--explore", "page.html"]])
def test_weights_of_nan_end_commands_with_one_line(scenes: Path, tmp_path: Path, command: list[str]) -> None:
    folder = write_run(tmp_path / "run", "camvid", scenes)
    state = torch.load(folder / "model.pt")
    state["backbone.segmentation_head.0.bias"][0] = float("nan")
    torch.save(state, folder / "model.pt")
    done = run_afma(command[0], str(folder), *command[1:])
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "model.pt" in done.stderr and "backbone.segmentation_head.0.bias must be finite" in done.stderr


def test_a_network_that_gives_nan_is_refused(scenes: Path) -> None:
    network = AFMANet(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, 2), torch.nn.ConvTranspose2d(4, 2, 2, 2)), 2, feature="0"
    )
    torch.nn.init.constant_(network.backbone[1].bias, float("nan"))
    with pytest.raises(NonFiniteError, match="Predictions must be finite; got nan"):
        attend_image(network, torch.rand(3, 40, 60))
