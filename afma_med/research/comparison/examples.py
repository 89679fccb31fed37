"""Images of a dataset with their labels and two predictions, out of the files of runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from nibabel.orientations import apply_orientation
from numpy.typing import NDArray
from PIL import Image

from afma_med.data import VOID, DatasetReader, class_names
from afma_med.data.dataset_reader import Item
from afma_med.data.nifti_slices import NiftiSlices
from afma_med.data.voxel_grid import orient_grid
from afma_med.handlers.run_files import EVALUATION, LABELS
from afma_med.runs.run import Run
from afma_med.transforms.pictures import to_rgb
from afma_med.visualize.class_colors import stretch_image

__all__ = ["Example", "find_items", "find_prediction", "load_example"]

# Hounsfield units between black and white, those that the networks see.
_CT_WINDOW = (-250, 250)


class Example(NamedTuple):
    """Hold an image, or a slice of a volume, with what was to be predicted and what was.

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
    """List the images and labels that runs were evaluated on, in the first of their dataset folders that is there.

    Args:
        reader: of the dataset.
        runs: whose folders are tried.

    Returns:
        Items of paths by the names that ``images.csv`` gives the images.

    Raises:
        FileNotFoundError: if none of the folders is there, or it holds no such section.
        ValueError: if the dataset's files do not fit together.
    """
    folders = [str(run.evaluation.get("dataset") or run.settings.get("dataset_dir") or "") for run in runs]
    there = [folder for folder in folders if folder and os.path.isdir(folder)]
    if not there:
        raise FileNotFoundError(f"there is no dataset at {' or '.join(sorted(set(folders)))}")
    items = reader.datalist(there[0], runs[0].evaluation["section"])
    return {os.path.relpath(item["image"], there[0]): item for item in items}


def find_prediction(run: Run, image: str) -> Path:
    """Return the path of a run's prediction of an image.

    Predictions of images keep the folders of the images or a part of them, and their names; those of volumes are named
    as :class:`~afma_med.transforms.SaveImageVolumed` does.

    Args:
        run: evaluated.
        image: name, relative to the dataset's folder.

    Raises:
        FileNotFoundError: if there is none.

    Example:
        >>> find_prediction(Run(Path("runs/none"), {}, {}, {}, None), "test/a.png")
        Traceback (most recent call last):
        FileNotFoundError: there is no prediction of test/a.png in runs/none/evaluation/labels
    """
    name, folder = PurePath(image).name, run.folder / EVALUATION
    if re.search(r"\.nii(\.gz)?$", name, flags=re.IGNORECASE):
        stem = name[: name.lower().index(".nii")]
        renamed = re.sub(r"^(test-)?volume-", r"\1segmentation-", stem)
        names = [f"{renamed if renamed != stem else f'{stem}_segmentation'}.nii.gz"]
    else:
        names, folder = [f"{PurePath(name).stem}{ending}.png" for ending in ("", "_segmentation")], folder / LABELS
    above = PurePath(image).parent.parts
    for start in range(len(above) + 1):
        for one in names:
            path = folder.joinpath(*above[start:], one)
            if path.is_file():
                return path
    raise FileNotFoundError(f"there is no prediction of {image} in {folder}")


def load_example(
    reader: DatasetReader, item: Item, *, arm: str | os.PathLike[str], baseline: str | os.PathLike[str]
) -> Example:
    """Load an image, its label and two predictions of it; of a volume, the slice where these differ most.

    Args:
        reader: of the dataset.
        item: paths of image and label.
        arm: path of the prediction with AFMA.
        baseline: path of the prediction without.

    Returns:
        The example; slices are axial and upright.

    Raises:
        OSError: if a file cannot be read.
        ValueError: naming the file, if it is not what it should be, or the sizes differ.
    """
    if reader.read_volume is not None:
        volumes = [_load_upright(reader.read_volume, path) for path in (arm, baseline)]
        if volumes[0].shape != volumes[1].shape:
            raise ValueError(f"{arm} and {baseline} differ in size")
        example = _cut_slice(reader, item, *volumes)
    else:
        with Image.open(item["image"]) as image:
            picture = np.asarray(to_rgb(image))
        label, *predictions = (reader.read_label({"label": str(path)}) for path in (item["label"], arm, baseline))
        example = Example(picture, label, predictions[0], predictions[1], "")
    if len({array.shape[:2] for array in example[:4]}) > 1:
        raise ValueError(f"image, label and predictions of {item['image']} differ in size")
    names = class_names(reader.classes)
    left_out = np.isin(example.label, [names.index(name) for name in reader.unscored])
    return example._replace(label=np.where(left_out, np.uint8(VOID), example.label))


def _cut_slice(reader: DatasetReader, item: Item, arm: NDArray[np.uint8], baseline: NDArray[np.uint8]) -> Example:
    """The axial slice where two volumes (H,W,D) of train ids differ most."""
    k = int((arm != baseline).sum(axis=(0, 1)).argmax())
    plane = NiftiSlices(item["image"])[k].clip(*_CT_WINDOW)
    label = reader.read_label({"label": item["label"], "slice": k})
    return Example(stretch_image(plane[None]), label, arm[..., k], baseline[..., k], f"slice {k}")


def _load_upright(
    read_volume: Callable[[Item], tuple[NDArray[np.uint8], tuple[float, ...]]], path: str | os.PathLike[str]
) -> NDArray[np.uint8]:
    """(H,W,D) train ids, with the axes of :class:`~afma_med.data.nifti_slices.NiftiSlices`."""
    train_ids, _ = read_volume({"label": str(path)})
    transform, _ = orient_grid(NiftiSlices(path).stored, "PLS")
    upright: NDArray[np.uint8] = apply_orientation(train_ids, transform)
    return upright
