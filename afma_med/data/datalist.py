"""Pairing of image and label files. Files that do not fit raise an error that names each of them and the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.files import files_by_name, join_names
from afma_med.data.pictures import PICTURES, UNREADABLE, oriented_size
from afma_med.data.problems import DatasetError, list_files, missing_layout, warn_skipped

__all__ = ["FilesByName", "check_section", "dataset_folders", "pair_by_name", "pair_files", "picture_files"]

#: Files of each name, see :func:`~afma_med.data.files.files_by_name`.
FilesByName = Mapping[str, Sequence[Path]]


def check_section(section: str) -> None:
    """Raise a ValueError that lists the sections if the name of a section is unknown."""
    if section not in SECTIONS:
        raise ValueError(f"`section` must be one of {list(SECTIONS)}; got {section!r}. Choose one of them.")


def dataset_folders(
    title: str, root: str | os.PathLike[str], section: str, needed: Sequence[str], *, layout: str
) -> list[Path]:
    """Return the folders that a section of a dataset needs.

    Raises:
        ValueError: if the section is unknown.
        FileNotFoundError: if a folder is missing; the message shows the layout.
    """
    check_section(section)
    folders = [Path(root, name) for name in needed]
    for folder in folders:
        if not folder.is_dir():
            raise missing_layout(title, Path(root), folder, layout)
    return folders


def picture_files(
    paths: Iterable[Path], *, name_prefix: str = "", name_suffix: str = "", known: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """Group pictures by name, and warn of the files that are skipped."""
    paths = list(paths)
    found = files_by_name(paths, PICTURES, name_prefix=name_prefix, name_suffix=name_suffix)
    warn_skipped([path for path in paths if not path.name.endswith(tuple(known))], found)
    return found


def pair_files(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str],
    *,
    label_suffix: str = "",
    names: Collection[str] | None = None,
    problems: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Pair the pictures of two folders as :func:`pair_by_name` does.

    Example:
        >>> pair_files("data/camvid/train", "data/camvid/trainannot")  # doctest: +SKIP
        [{'image': 'data/camvid/train/0001TP_006690.png', 'label': 'data/camvid/trainannot/0001TP_006690.png'}, ...]
    """
    images = picture_files(Path(image_dir).iterdir())
    labels = picture_files(Path(label_dir).iterdir(), name_suffix=label_suffix)
    return pair_by_name(images, labels, names=names, image_dir=image_dir, label_dir=label_dir, problems=problems)


def pair_by_name(
    images: FilesByName,
    labels: FilesByName | None,
    *,
    names: Collection[str] | None = None,
    image_dir: object = "the images' folder",
    label_dir: object = "the labels' folder",
    check: Callable[[dict[str, str]], Sequence[str]] | None = None,
    problems: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Pair images with labels of the same name, and check that each pair can be used.

    Args:
        images: files of each name.
        labels: files of each name; None for images without labels.
        names: which names belong to the list; None for all.
        image_dir: where the images are, for messages.
        label_dir: where the labels are.
        check: item -> its problems, one line each; default: pictures must open and agree in size.
        problems: further problems of the dataset, for the same error; empty texts do not count.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        FileNotFoundError: if there is no image.
        DatasetError: naming every image or label that has no partner or two, or cannot be used.
    """
    kinds = {"image": images} if labels is None else {"image": images, "label": labels}
    if names is not None:
        kinds = {key: {name: files[name] for name in files if name in names} for key, files in kinds.items()}
    images, labels = kinds["image"], kinds.get("label", kinds["image"])
    if not images:
        raise FileNotFoundError(
            f"`{image_dir}` must hold images; found none that belong to this section. Check the dataset folder."
        )
    twice = [paths for files in kinds.values() for paths in files.values() if len(paths) > 1]
    single = [name for name in sorted(images) if len(images[name]) == len(labels.get(name, ())) == 1]
    items = [{key: str(files[name][0]) for key, files in kinds.items()} for name in single]
    checked = [(item, (check or _picture_problems)(item)) for item in items]
    found = [
        list_files(f"images without a label in `{label_dir}`", _first(images, images.keys() - labels.keys())),
        list_files(f"labels without an image in `{image_dir}`", _first(labels, labels.keys() - images.keys())),
        list_files("names with several files, where one is needed", map(join_names, twice)),
        list_files("files that cannot be used", (line for _, lines in checked for line in lines)),
        *problems,
    ]
    good = [item for item, lines in checked if not lines]
    if any(found):
        raise DatasetError(list(filter(None, found)), good)
    return good


def _first(files: FilesByName, names: Iterable[str]) -> list[Path]:
    return [files[name][0] for name in names]


def _picture_problems(item: dict[str, str]) -> list[str]:
    """Return the problems that the headers of an image and its label show, one line each."""
    sizes, problems = [], []
    for path in item.values():
        try:
            with Image.open(path) as image:
                sizes.append(oriented_size(image))
        except UNREADABLE as error:
            problems.append(f"{path} (unreadable: {error})")
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (width, height), (own_width, own_height) = sizes
        problems.append(f"{item['image']} ({width}×{height}) with {item['label']} ({own_width}×{own_height})")
    return problems
