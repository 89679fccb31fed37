"""Example images of comparisons: the right ones, in the right colours, or a reason why there are none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from _helpers.synthetic_runs import NAMES, copy_run, random_rows, write_run, write_street_run
from afma_med.comparison import compare_runs, group_runs, pair_with_baselines, read_run
from afma_med.comparison.arms import Pairing
from afma_med.comparison.examples import Example, find_items, find_prediction, load_example
from afma_med.comparison.gallery import (
    BETTER,
    WORSE,
    ImageScore,
    draw_changes,
    draw_gallery,
    draw_sheet,
    most_changed,
    rank_images,
)
from afma_med.data import CAMVID, CUB, ISIC, LITS, VOID
from afma_med.data.ct.nifti_slices import NiftiSlices
from afma_med.runs.run import Run
from afma_med.samples import write_street_scenes
from afma_med.samples.ct_phantom import write_ct_phantom


@pytest.fixture(autouse=True)
def _without_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts take most of the time, and are tested elsewhere."""
    monkeypatch.setattr("afma_med.comparison.compare.draw_charts", lambda found: ([], []))


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AFMA_MED_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "scenes"
    return write_street_scenes(root, counts={"train": 1, "val": 1, "test": 5}, size=(48, 64))


@pytest.fixture(scope="module")
def folders(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A baseline in coarse blocks, AFMA in fine ones, but for one image where it is worse."""
    root = tmp_path_factory.mktemp("runs")
    runs = [
        write_street_run(root / f"{name}{seed}", scenes, step=step + seed, seed=seed, afma=afma)
        for name, step, afma in (("baseline", 5, False), ("afma", 2, True))
        for seed in (0, 1)
    ]
    worst = min((scenes / "test").iterdir())
    for run, other in zip(runs[:2], runs[2:], strict=True):
        swap_images(run, other, worst.name)
    return runs


def swap_images(run: Path, other: Path, name: str) -> None:
    """Exchange the predictions of one image, and what was counted in it."""
    labels = [folder / "evaluation" / "labels" / name for folder in (run, other)]
    contents = [path.read_bytes() for path in labels]
    tables = [
        (folder / "evaluation" / "images.csv").read_text(encoding="utf-8").splitlines() for folder in (run, other)
    ]
    own = [[line for line in table if line.startswith(f"test/{name},")] for table in tables]
    rest = [[line for line in table if line not in part] for table, part in zip(tables, own, strict=True)]
    for i, folder in enumerate((run, other)):
        labels[i].write_bytes(contents[1 - i])
        rows = {}
        for line in rest[i][1:] + own[1 - i]:
            image, name_of_class, objects, *counts = line.split(",")
            rows[image, name_of_class, objects] = tuple(int(count) for count in counts)
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        report = json.loads((folder / "evaluation" / "scores.json").read_text(encoding="utf-8"))
        again = write_run(folder.parent / "again", rows, evaluation={key: report[key] for key in ("dataset", "images")})
        for file in ("scores.json", "images.csv"):
            shutil.copy(again / "evaluation" / file, folder / "evaluation" / file)
        shutil.rmtree(again)
        assert settings["dataset_dir"] == report["dataset"]


@pytest.fixture(scope="module")
def pairing(folders: list[Path]) -> Pairing:
    return pair_with_baselines(group_runs([read_run(folder) for folder in folders]))[0][0]


@pytest.fixture(scope="module")
def compared(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compare_runs(folders, tmp_path_factory.mktemp("out") / "comparison", resamples=20, images=2)


def image_scores(folders: list[Path], scenes: Path, image: str) -> float:
    """The mean IoU of an image over the classes of its label and over runs, pixel by pixel."""
    label = np.asarray(Image.open(scenes / image.replace("test/", "testannot/")))
    values = []
    for folder in folders:
        prediction = np.asarray(Image.open(folder / "evaluation" / "labels" / Path(image).name))
        scored = label != NAMES.index("unlabelled")
        ious = [
            ((label == k) & (prediction == k)).sum() / (((label == k) | (prediction == k)) & scored).sum()
            for k in np.unique(label[scored])
        ]
        values.append(np.mean(ious))
    return float(np.mean(values))


def test_images_are_ranked_by_their_mean_iou(pairing: Pairing, folders: list[Path], scenes: Path) -> None:
    ranked = rank_images(pairing)
    assert len(ranked) == 5
    assert [one.gain for one in ranked] == sorted((one.gain for one in ranked), reverse=True)
    for one in ranked:
        assert one.baseline == pytest.approx(image_scores(folders[:2], scenes, one.image))
        assert one.arm == pytest.approx(image_scores(folders[2:], scenes, one.image))
    assert ranked[-1].image == "test/" + min(path.name for path in (scenes / "test").iterdir())
    assert ranked[-1].gain < 0 < ranked[0].gain


def test_images_without_a_class_are_not_ranked(tmp_path: Path) -> None:
    rows = random_rows(0, quality=0.6, images=2)
    rows |= {("test/void.png", "car", "all"): (0, 9, 0, 0)}
    runs = [read_run(write_run(tmp_path / str(afma), rows, settings={"afma": afma})) for afma in (False, True)]
    (pairing,), _ = pair_with_baselines(group_runs(runs))
    assert [one.image for one in rank_images(pairing)] == ["test/000.png", "test/001.png"]


def test_without_common_seeds_each_side_is_averaged(folders: list[Path], tmp_path: Path, scenes: Path) -> None:
    other = copy_run(folders[2], tmp_path / "other", training={"seed": 9})
    runs = [read_run(folder) for folder in (*folders[:2], other)]
    (pairing,), _ = pair_with_baselines(group_runs(runs))
    for one in rank_images(pairing):
        assert one.baseline == pytest.approx(image_scores(folders[:2], scenes, one.image))
        assert one.arm == pytest.approx(image_scores([other], scenes, one.image))


def test_most_changed_leaves_out_what_did_not_change() -> None:
    ranked = [ImageScore(str(i), 0.5, 0.5 + gain) for i, gain in enumerate((0.25, 0.125, 0.0, -0.125, -0.25))]
    helped, hurt = most_changed(ranked, 1)
    assert ([one.image for one in helped], [one.image for one in hurt]) == (["0"], ["4"])
    helped, hurt = most_changed(ranked, 9)
    assert ([one.image for one in helped], [one.image for one in hurt]) == (["0", "1"], ["4", "3"])
    assert most_changed(ranked, 0) == ([], [])


@pytest.mark.parametrize(
    ("image", "prediction"),
    [
        ("test/a.png", "labels/a.png"),
        ("test/a.png", "labels/test/a.png"),
        ("a.b.jpg", "labels/a.b.png"),
        ("ISIC/ISIC_1.jpg", "labels/ISIC_1_segmentation.png"),
        ("images/001.Black/x.jpg", "labels/001.Black/x.png"),
        ("leftImg8bit/val/bonn/bonn_0_leftImg8bit.png", "labels/bonn_0_leftImg8bit.png"),
        ("volume-3.nii", "segmentation-3.nii.gz"),
        ("batch 1/test-volume-3.nii.gz", "test-segmentation-3.nii.gz"),
        ("batch 1/volume-3.nii.gz", "batch 1/segmentation-3.nii.gz"),
        ("liver.NII.gz", "liver_segmentation.nii.gz"),
    ],
)
def test_predictions_are_found_where_evaluations_write_them(tmp_path: Path, image: str, prediction: str) -> None:
    path = tmp_path / "evaluation" / prediction
    path.parent.mkdir(parents=True)
    path.touch()
    run = Run(tmp_path, {}, {}, {}, None)
    assert find_prediction(run, image) == path
    path.unlink()
    with pytest.raises(FileNotFoundError, match="there is no prediction of "):
        find_prediction(run, image)


def test_prediction_of_the_nearest_folder_counts(tmp_path: Path) -> None:
    for name in ("labels/x/a.png", "labels/a.png"):
        (tmp_path / "evaluation" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "evaluation" / name).touch()
    run = Run(tmp_path, {}, {}, {}, None)
    assert find_prediction(run, "x/a.jpg") == tmp_path / "evaluation" / "labels" / "x" / "a.png"
    assert find_prediction(run, "y/a.jpg") == tmp_path / "evaluation" / "labels" / "a.png"


def test_dataset_is_looked_for_where_any_run_had_it(folders: list[Path], scenes: Path) -> None:
    runs = [read_run(folder) for folder in folders[:2]]
    moved = runs[0]._replace(evaluation={**runs[0].evaluation, "dataset": "/gone"})
    nowhere = runs[0]._replace(evaluation={**runs[0].evaluation, "dataset": ""}, settings={})
    items = find_items(CAMVID, [nowhere, moved, runs[1]])
    assert set(items) == set(runs[0].counts.images)
    assert all(Path(item["label"]).is_file() for item in items.values())
    with pytest.raises(FileNotFoundError, match="there is no dataset at /gone"):
        find_items(CAMVID, [moved])


def test_examples_of_images_are_their_files(pairing: Pairing, scenes: Path) -> None:
    image = "test/" + max(path.name for path in (scenes / "test").iterdir())
    run, baseline = pairing.shown
    paths = {"arm": find_prediction(run, image), "baseline": find_prediction(baseline, image)}
    example = load_example(CAMVID, find_items(CAMVID, [run])[image], **paths)
    label = np.asarray(Image.open(scenes / image.replace("test/", "testannot/")))
    unlabelled = label == NAMES.index("unlabelled")
    assert (example.picture == np.asarray(Image.open(scenes / image))).all()
    assert (example.label[~unlabelled] == label[~unlabelled]).all()
    assert (example.label[unlabelled] == VOID).all()
    assert (example.arm == np.asarray(Image.open(paths["arm"]))).all()
    assert (example.baseline == np.asarray(Image.open(paths["baseline"]))).all()
    assert example.place == ""


def test_examples_refuse_other_sizes(pairing: Pairing, tmp_path: Path) -> None:
    run, _ = pairing.shown
    items = find_items(CAMVID, [run])
    Image.new("L", (5, 4)).save(tmp_path / "small.png")
    with pytest.raises(ValueError, match=r"image, label and predictions of .* differ in size"):
        load_example(CAMVID, next(iter(items.values())), arm=tmp_path / "small.png", baseline=tmp_path / "small.png")


@pytest.fixture(scope="module")
def volumes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs on CT phantoms; the baseline misses the liver in one slice of the file's own axes."""
    root = tmp_path_factory.mktemp("ct")
    phantoms = write_ct_phantom(root / "phantoms", count=4)
    runs = []
    for afma in (False, True):
        run, rows = root / f"run{afma}", {}
        predictions = {}
        for item in LITS.datalist(phantoms, "test"):
            file = nib.load(item["label"])
            label = np.asarray(file.dataobj).astype(np.uint8)
            prediction = label.copy()
            if not afma:
                prediction[_slice_of(item["label"], 7)] = 0
            predictions[Path(item["image"]).name.replace("volume", "segmentation")] = (prediction, file.affine)
            for k, name in enumerate(("background", "liver", "tumour")):
                both = int(((label == k) & (prediction == k)).sum())
                rows[Path(item["image"]).name, name, "all"] = (
                    int((label == k).sum()),
                    int((prediction == k).sum()),
                    both,
                    both,
                )
        evaluation = {"dataset": str(phantoms), "classes": ["background", "liver", "tumour"], "unscored": []}
        settings = {"name": "lits_afma", "afma": afma}
        write_run(run, rows, settings=settings, evaluation={**evaluation, "size_groups": None})
        for name, (prediction, affine) in predictions.items():
            target = run / "evaluation" / f"{name.removesuffix('.gz')}.gz"
            nib.save(nib.Nifti1Image(prediction, affine), target)
        runs.append(run)
    return runs


def _slice_of(path: str, number: int) -> tuple[slice | int, ...]:
    """Where the axial slice lies in the file's own axes."""
    codes = nib.aff2axcodes(nib.load(path).affine)
    axis = next(i for i, code in enumerate(codes) if code in "SI")
    depth = nib.load(path).shape[axis]
    return tuple((number if codes[axis] == "S" else depth - 1 - number) if i == axis else slice(None) for i in range(3))


def test_examples_of_volumes_are_the_slices_that_differ_most(volumes: list[Path]) -> None:
    runs = [read_run(folder) for folder in volumes]
    items = find_items(LITS, runs)
    for image, item in items.items():
        paths = [find_prediction(run, image) for run in runs]
        example = load_example(LITS, item, arm=paths[1], baseline=paths[0])
        assert example.place == "slice 7"
        upright = NiftiSlices(item["label"])[7]
        assert (example.label == upright).all()
        assert (example.arm == upright).all()
        assert (example.baseline == 0).all()
        assert example.label.any()
        plane = NiftiSlices(item["image"])[7].clip(-250, 250)
        assert np.corrcoef(example.picture[..., 0].ravel(), plane.ravel())[0, 1] > 0.99


def test_volumes_have_a_gallery(volumes: list[Path], tmp_path: Path) -> None:
    folder = compare_runs(volumes, tmp_path / "out", resamples=5)
    assert (folder / "helped.png").is_file()
    assert not (folder / "hurt.png").exists()
    swapped = [copy_run(run, tmp_path / str(afma), afma=afma) for run, afma in zip(volumes, (True, False), strict=True)]
    hurt = compare_runs(swapped, tmp_path / "hurt", resamples=5)
    assert (hurt / "hurt.png").is_file()
    assert "Negative cases" not in (hurt / "comparison.md").read_text(encoding="utf-8"), (
        "a slice shows no whole objects"
    )
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert text.startswith("# LiTS, embedded synthetic sample: 1 volume of the section test")


@pytest.mark.parametrize("reader", [ISIC, CUB])
def test_masks_are_read_as_the_dataset_does(tmp_path: Path, reader: object) -> None:
    mask = np.zeros((6, 8), dtype=np.uint8)
    mask[2:4] = 255
    for name in ("label", "arm", "baseline"):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    Image.fromarray(np.stack([mask] * 3, axis=-1)).save(tmp_path / "image.jpg")
    item = {"image": str(tmp_path / "image.jpg"), "label": str(tmp_path / "label.png")}
    example = load_example(reader, item, arm=tmp_path / "arm.png", baseline=tmp_path / "baseline.png")
    assert (example.arm == mask // 255).all()


def example_of(label: list[int], arm: list[int], baseline: list[int]) -> Example:
    arrays = [np.array([row], dtype=np.uint8) for row in (label, arm, baseline)]
    return Example(np.full((1, len(label), 3), 100, dtype=np.uint8), *arrays, "")


def test_changes_tell_better_from_worse_and_skip_void() -> None:
    drawn = draw_changes(example_of([1, 1, 1, 1, VOID, VOID], [1, 2, 1, 2, 1, 255], [1, 1, 2, 2, 255, 1]))
    assert drawn[0, 2].tolist() == list(BETTER)
    assert drawn[0, 1].tolist() == list(WORSE)
    for same in (0, 3, 4, 5):
        assert drawn[0, same].tolist() == [213, 213, 213]


def test_sheet_has_a_row_an_image_and_a_legend() -> None:
    small = example_of([1] * 30, [1] * 30, [2] * 30)
    tall = Example(*(np.repeat(array, 12, axis=0) for array in small[:4]), "slice 3")
    scores = [ImageScore("a", 0.25, 0.5), ImageScore("b", 0.25, 0.5)]
    one, two = (draw_sheet(scores[:n], [tall, small][:n], classes=CAMVID.classes) for n in (1, 2))
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > one.shape[0] > 120
    colors = {tuple(color) for color in one.reshape(-1, 3).tolist()}
    assert {BETTER, WORSE, CAMVID.classes[1].color, CAMVID.classes[2].color} <= colors


def test_gallery_shows_the_most_changed_images(pairing: Pairing) -> None:
    sheets = draw_gallery(pairing, CAMVID, images=2)
    assert list(sheets) == ["helped", "hurt"]
    helped, hurt = (sheets[name] for name in ("helped", "hurt"))
    assert helped.shape[0] > hurt.shape[0], "one image was hurt, two are shown as helped"
    assert draw_gallery(pairing, CAMVID, images=1)["hurt"].shape == hurt.shape


def test_gallery_is_part_of_the_page(compared: Path) -> None:
    assert (compared / "helped.png").is_file()
    assert (compared / "hurt.png").is_file()
    page = (compared / "index.html").read_text(encoding="utf-8")
    assert page.count("<img ") == 5
    assert "the images that AFMA hurt most, as the networks of seed 0 see them." in page
    assert "CamVid, embedded synthetic sample: AFMA and baseline compared" in page


def test_gallery_goes_with_the_comparison(folders: list[Path], tmp_path: Path) -> None:
    target = compare_runs([folders[0], folders[2]], tmp_path / "out", resamples=5, images=1)
    assert (target / "helped.png").exists()
    compare_runs([folders[0], folders[2]], target, resamples=5, images=0)
    assert not (target / "helped.png").exists()


def test_several_arms_have_galleries_of_their_own(folders: list[Path], tmp_path: Path) -> None:
    deeper = copy_run(folders[2], tmp_path / "deeper", feature=3)
    target = compare_runs([folders[0], folders[2], deeper], tmp_path / "out", resamples=5, images=1)
    assert {"helped.png", "hurt.png", "helped_2.png", "hurt_2.png"} <= {path.name for path in target.iterdir()}


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("predictions", "there is no prediction of test/scene_"),
        ("dataset", "there is no dataset at "),
        ("image", "the dataset has no test/scene_"),
        ("section", "must hold CamVid; missing"),
    ],
)
def test_gallery_is_left_out_with_the_reason(
    spoil: str, reason: str, scenes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    runs = [write_street_run(tmp_path / str(afma), data, step=4 - afma, afma=bool(afma)) for afma in (0, 1)]
    if spoil == "predictions":
        shutil.rmtree(runs[0] / "evaluation" / "labels")
    if spoil == "dataset":
        shutil.rmtree(data)
    if spoil == "section":
        shutil.rmtree(data / "testannot")
    if spoil == "image":
        for path in data.glob("test*/*"):
            path.rename(path.with_name(f"renamed{path.name}"))
    folder = compare_runs(runs, tmp_path / "out", resamples=5)
    assert not (folder / "helped.png").exists()
    (warning,) = caplog.messages
    assert warning.startswith("Example images of AFMA − baseline are left out: ")
    assert reason in warning
    assert reason in (folder / "comparison.md").read_text(encoding="utf-8")


def test_unknown_datasets_have_no_gallery(folders: list[Path], tmp_path: Path) -> None:
    runs = [copy_run(folder, tmp_path / folder.name, name="polyps_afma") for folder in (folders[0], folders[2])]
    folder = compare_runs(runs, tmp_path / "out", resamples=5)
    text = (folder / "comparison.md").read_text(encoding="utf-8")
    assert "Example images are left out: polyps_afma is not a bundle of the package." in text
