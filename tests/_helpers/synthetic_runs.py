"""Synthetic folders of trainings and evaluations, for tests of comparisons."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.bundle import ConfigParser
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from afma_med.bundle.installed import bundles_folder
from afma_med.bundle.settings import write_settings
from afma_med.data import CAMVID, class_groups, class_names

NAMES = tuple(class_names(CAMVID.classes))
SCORED = NAMES[:-1]
GROUPS = {group: [NAMES[k] for k in ids] for group, ids in class_groups(CAMVID.classes).items()}
SIZES = ("small", "medium", "large")
COMPANY = ("lone", "accompanied")
#: Rows of images.csv by (image, class, objects): label, prediction, intersection, covered.
Rows = dict[tuple[str, str, str], tuple[int, int, int, int]]

SETTINGS = {
    "name": "camvid_afma",
    "dataset_dir": "/data/camvid",
    "network_name": "Unet",
    "encoder": "resnet18",
    "afma": True,
    "feature": 2,
    "patch_size": 10,
    "variant": "released",
    "longest_side": None,
}
TRAINING = {
    "seed": 0,
    "max_epochs": 3,
    "batch_size": 4,
    "crop_size": [160, 224],
    "zoom_range": [0.8, 1.6],
    "learning_rate": 0.01,
    "milestones": [2],
    "encoder_weights": None,
}


def random_rows(seed: int, *, quality: float, images: int = 6, classes: Sequence[str] = NAMES[:-1]) -> Rows:
    """Counts of images whose labels depend on their number only, and whose predictions depend on seed and quality."""
    labels, errors, rows = np.random.default_rng(0), np.random.default_rng([seed, round(1000 * quality)]), {}
    for i in range(images):
        for name in classes:
            by_size = []
            for size in SIZES:
                label = int(labels.integers(50, 500))
                hits = int(label * np.clip(quality + 0.1 * errors.standard_normal(), 0, 1))
                covered = min(label, hits + int(errors.integers(0, 20)))
                by_size.append((label, hits + int(errors.integers(0, 100)), hits, covered))
                rows[f"test/{i:03d}.png", name, size] = by_size[-1]
            label, prediction, _, covered = (sum(column) for column in zip(*by_size, strict=True))
            rows[f"test/{i:03d}.png", name, "all"] = label, max(prediction, covered), covered, covered
    return rows


def plain_scores(rows: Mapping[tuple[str, str, str], Sequence[int]], classes: Sequence[str]) -> dict[str, float]:
    """Compute the scores of an evaluation with loops over the paper's definitions; NaN without pixels."""
    groups = {"": classes}
    for group in ("small", "large"):
        groups[f"_{group}"] = [info.name for info in CAMVID.classes if info.group == group and info.name in classes]
    sums = {
        (name, objects): [
            sum(counts[i] for key, counts in rows.items() if key[1:] == (name, objects)) for i in range(4)
        ]
        for name in classes
        for objects in ("all", *SIZES)
    }
    iou, recall = {}, {}
    for key, (label, prediction, both, covered) in sums.items():
        iou[key] = both / (label + prediction - both) if label + prediction > both else math.nan
        recall[key] = covered / label if label else math.nan
    scores = {f"mIoU{group}": mean([iou[name, "all"] for name in names]) for group, names in groups.items() if names}
    scores |= {f"IoU/{name}": iou[name, "all"] for name in classes}
    for kind, values in (("IoU", iou), ("recall", recall)):
        for size in SIZES:
            present = [name for name in classes if sums[name, size][0]]
            scores[f"{kind}_by_size/{size}"] = mean([values[name, size] for name in present])
            scores |= {f"{kind}_{size}_objects/{name}": values[name, size] for name in classes}
    return scores


def add_company(rows: Rows) -> Rows:
    """Add rows as if each class had one object in every second image and several in the others."""
    of_images = {key: counts for key, counts in rows.items() if key[2] == "all"}
    return rows | {
        (image, name, COMPANY[int(Path(image).stem) % 2]): counts for (image, name, _), counts in of_images.items()
    }


def company_scores(rows: Rows, classes: Sequence[str]) -> dict[str, float]:
    """Compute the scores of lone and accompanied objects, as :func:`plain_scores` does those by size."""
    scores: dict[str, float] = {}
    for which in COMPANY:
        for name in classes:
            chosen = [counts for key, counts in rows.items() if key[1:] == (name, which)]
            label, prediction, both, covered = (sum(column) for column in zip(*chosen, strict=True))
            scores[f"IoU_{which}_objects/{name}"] = both / (label + prediction - both)
            scores[f"recall_{which}_objects/{name}"] = covered / label
        for kind in ("IoU", "recall"):
            scores[f"{kind}_by_company/{which}"] = mean([scores[f"{kind}_{which}_objects/{name}"] for name in classes])
    return scores


def mean(values: Sequence[float]) -> float:
    """Mean of the values that are not NaN; NaN without such values."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def write_run(
    folder: Path,
    rows: Rows,
    *,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    scores: Mapping[str, float] | None = None,
    curve: Sequence[float] = (),
) -> Path:
    """Write a run with these pixel counts, the scores that follow from them, and the given settings."""
    (folder / "evaluation").mkdir(parents=True)
    content = {**SETTINGS, **(settings or {}), "training": {**TRAINING, "seed": seed, **(training or {})}}
    (folder / "settings.json").write_text(json.dumps(content), encoding="utf-8")
    report = {
        "checkpoint": str(folder / "model.pt"),
        "dataset": "/data/camvid",
        "section": "test",
        "images": len({image for image, _, _ in rows}),
        "classes": list(NAMES),
        "unscored": ["unlabelled"],
        "size_groups": {"names": list(SIZES), "bounds": [1024, 9216], "unit": "pixels"},
        **(evaluation or {}),
    }
    classes = [name for name in report["classes"] if name not in report["unscored"]]
    found = {**plain_scores(rows, classes), **(scores or {})}
    report["scores"] = {name: None if math.isnan(value) else value for name, value in found.items()}
    (folder / "evaluation" / "scores.json").write_text(json.dumps(report), encoding="utf-8")
    with (folder / "evaluation" / "images.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "class", "objects", "label", "prediction", "intersection", "covered"])
        writer.writerows([*key, *counts] for key, counts in rows.items() if any(counts))
    if curve:
        write_curve(folder, dict(enumerate(curve, start=1)))
    return folder


def write_six_runs(root: Path) -> list[Path]:
    """Three seeds of a baseline, then three of AFMA, which is better."""
    return [
        write_run(
            root / f"{name}{seed}",
            random_rows(seed, quality=quality),
            seed=seed,
            settings={"afma": afma},
            curve=[quality - 0.2, quality - 0.1, quality - 0.01 * seed],
        )
        for name, afma, quality in (("baseline", False, 0.6), ("afma", True, 0.7))
        for seed in range(3)
    ]


def write_curve(folder: Path, values: Mapping[int, float], *, time: float = 0.0, tag: str = "val/mIoU") -> None:
    """Write an event file; events of a later time come from a later start of the training."""
    with SummaryWriter(str(folder)) as writer:
        for epoch, value in values.items():
            writer.add_scalar(tag, value, epoch, walltime=time + epoch)


def copy_run(source: Path, target: Path, **settings: Any) -> Path:
    """The same run with other settings, those of the training as ``training={...}``."""
    shutil.copytree(source, target)
    content = json.loads((source / "settings.json").read_text(encoding="utf-8"))
    content["training"] |= settings.pop("training", {})
    (target / "settings.json").write_text(json.dumps(content | settings), encoding="utf-8")
    return target


def edit_scores(run: Path, **values: Any) -> Path:
    """Change a run's scores.json."""
    path = run / "evaluation" / "scores.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | values), encoding="utf-8")
    return run


def write_street_run(folder: Path, scenes: Path, *, step: int, seed: int = 0, afma: bool = False) -> Path:
    """A run on street scenes whose predictions are the labels in blocks of ``step`` pixels."""
    rows: Rows = {}
    predictions = {}
    for item in CAMVID.datalist(scenes, "test"):
        label, image = CAMVID.read_label(item), Path(item["image"]).relative_to(scenes).as_posix()
        height, width = label.shape
        prediction = label[(np.arange(height) // step * step)[:, None], np.arange(width) // step * step]
        scored = label != NAMES.index("unlabelled")
        predictions[Path(image).name] = prediction
        for k, name in enumerate(NAMES[:-1]):
            of_label, of_both = (label == k) & scored, (label == k) & (prediction == k)
            both = int(of_both.sum())
            counts = int(of_label.sum()), int(((prediction == k) & scored).sum()), both, both
            # All objects are small, and each meets one of its size: their counts are those of the class.
            rows |= {(image, name, objects): counts for objects in ("all", "small")}
    settings = {"afma": afma, "dataset_dir": str(scenes)}
    write_run(folder, rows, seed=seed, settings=settings, evaluation={"dataset": str(scenes)}, curve=[0.1, 0.2, 0.3])
    (folder / "evaluation" / "labels").mkdir()
    for name, prediction in predictions.items():
        Image.fromarray(prediction.astype(np.uint8)).save(folder / "evaluation" / "labels" / name)
    return folder


def write_untrained(folder: Path, name: str, dataset: Path, **override: Any) -> Path:
    """Write the folder of a run with initial weights and their settings."""
    folder.mkdir(parents=True)
    parser = ConfigParser()
    parser.read_config(str(bundles_folder() / f"{name}_afma.json"))
    parser.update({"dataset_dir": str(dataset), "encoder": "resnet18", "encoder_weights": None, **override})
    torch.manual_seed(0)
    torch.save(parser.get_parsed_content("network_def").state_dict(), folder / "model.pt")
    write_settings(folder, parser.get_parsed_content("settings"))
    return folder
