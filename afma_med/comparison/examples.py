"""Images of a dataset with their labels and two predictions, read from the files of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray
from PIL import Image

from afma_med.data import VOID, DatasetReader, class_names
from afma_med.data.ct.nifti_slices import NiftiSlices
from afma_med.data.ct.voxel_grid import orient_grid
from afma_med.data.dataset_reader import Item
from afma_med.data.pictures import to_rgb
from afma_med.handlers.run_files import EVALUATION, LABELS
from afma_med.runs.run import Run
from afma_med.visualize.class_colors import stretch_image

__all__ = ["Example", "find_items", "find_prediction", "load_example"]

# Hounsfield units of black and white, as the networks see them.
_CT_WINDOW = (-250, 250)


class Example(NamedTuple):
    """Hold an image, or a slice of a volume, with its label and two predictions.

    Args:
        picture: (H,W,3) uint8.
        label: (H,W) train ids; ``VOID`` where nothing is scored.
        arm: (H,W) train ids predicted with AFMA.
        baseline: (H,W) train ids predicted without.
        place: number of the slice, from inferior; empty for images.
    """

    picture: NDArray[np.uint8]
    label: NDArray[np.uint8]
    arm: NDArray[np.uint8]
    baseline: NDArray[np.uint8]
    place: str


def find_items(reader: DatasetReader, runs: Sequence[Run]) -> dict[str, Item]:
    """List the images and labels of the evaluated section, by the names that ``images.csv`` gives the images.

    The dataset is the first of the runs' folders that exists.

    Raises:
        FileNotFoundError: if no folder exists, or it does not hold the section.
        ValueError: if the dataset's files do not belong together.
    """
    folders = [str(run.evaluation.get("dataset") or run.settings.get("dataset_dir") or "") for run in runs]
    folder = next((folder for folder in folders if folder and os.path.isdir(folder)), None)
    if folder is None:
        raise FileNotFoundError(f"there is no dataset at {' or '.join(sorted(set(folders)))}")
    items = reader.datalist(folder, runs[0].evaluation["section"])
    return {os.path.relpath(item["image"], folder): item for item in items}


def find_prediction(run: Run, image: str) -> Path:
    """Return the path of a run's prediction of an image.

    Predictions of images keep the names of the images, and their folders or a part of them; those of volumes are named
    as :class:`~afma_med.transforms.SaveLabelVolumed` names them.

    Args:
        run: evaluated.
        image: name, relative to the dataset's folder.

    Raises:
        FileNotFoundError: if there is none.
    """
    path, folder = PurePath(image), run.folder / EVALUATION
    if re.search(r"\.nii(\.gz)?$", path.name, flags=re.IGNORECASE):
        stem = path.name[: path.name.lower().index(".nii")]
        renamed = re.sub(r"^(test-)?volume-", r"\1segmentation-", stem)
        names = [f"{renamed if renamed != stem else f'{stem}_segmentation'}.nii.gz"]
    else:
        names, folder = [f"{path.stem}.png", f"{path.stem}_segmentation.png"], folder / LABELS
    parts = path.parent.parts
    places = [folder.joinpath(*parts[start:], name) for start in range(len(parts) + 1) for name in names]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise FileNotFoundError(f"there is no prediction of {image} in {folder}")
    return found


def load_example(
    reader: DatasetReader, item: Item, *, arm: str | os.PathLike[str], baseline: str | os.PathLike[str]
) -> Example:
    """Load an image, its label and two predictions; of a volume, the axial slice where the predictions differ most.

    Raises:
        OSError: if a file cannot be read.
        ValueError: if a file is malformed, or the sizes differ; the message names the file.
    """
    predictions, place = [_read_upright(reader, path) for path in (arm, baseline)], ""
    if reader.read_volume is None:
        with Image.open(item["image"]) as image:
            picture = np.asarray(to_rgb(image))
        label = reader.read_label({"label": str(item["label"])})
    else:
        if predictions[0].shape != predictions[1].shape:
            raise ValueError(f"{arm} and {baseline} differ in size")
        k = int((predictions[0] != predictions[1]).sum(axis=(0, 1)).argmax())
        picture = stretch_image(NiftiSlices(item["image"])[k].clip(*_CT_WINDOW)[None])
        label, place = reader.read_label({"label": item["label"], "slice": k}), f"slice {k}"
        predictions = [prediction[..., k] for prediction in predictions]
    if len({array.shape[:2] for array in (picture, label, *predictions)}) > 1:
        raise ValueError(f"image, label and predictions of {item['image']} differ in size")
    names = class_names(reader.classes)
    unscored = np.isin(label, [names.index(name) for name in reader.unscored])
    return Example(picture, np.where(unscored, np.uint8(VOID), label), predictions[0], predictions[1], place)


def _read_upright(reader: DatasetReader, path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Train ids (H,W) of an image, or (H,W,D) of a volume with the axes of :class:`NiftiSlices`."""
    if reader.read_volume is None:
        return reader.read_label({"label": str(path)})
    train_ids, _ = reader.read_volume({"label": str(path)})
    transform, _ = orient_grid(NiftiSlices(path).stored, "PLS")
    upright: NDArray[np.uint8] = apply_orientation(train_ids, transform)
    return upright
