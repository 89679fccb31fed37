"""Pairing of image and label files. Files that do not fit raise an error that names each of them and the remedy."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from afma_med.data.dataset_reader import SECTIONS
from afma_med.data.file_names import as_one_form, join_names
from afma_med.data.pictures import PICTURES, UNREADABLE, oriented_size
from afma_med.data.problems import DatasetError, DatasetWarning, list_files, missing_layout

__all__ = [
    "PICTURES",
    "DatasetError",
    "check_section",
    "dataset_folders",
    "files_below",
    "files_by_name",
    "pair_by_name",
    "pair_files",
    "picture_files",
    "unlabelled_items",
    "warn_skipped",
]

# What operating systems leave in folders.
_OF_SYSTEMS = ("thumbs.db", "desktop.ini")


def pair_files(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str],
    *,
    label_suffix: str = "",
    keep: Callable[[str], bool] = lambda _name: True,
    problems: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Pair the pictures of two folders by name and check that both open and agree in size.

    Args:
        image_dir: folder of the images.
        label_dir: folder of the labels.
        label_suffix: end of the label names, after the image name.
        keep: which names belong to the list.
        problems: further problems of the dataset, for the same error.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        FileNotFoundError: if there is no image.
        DatasetError: naming every image or label that has no partner or two, cannot be opened, or differs in size.

    Example:
        >>> pair_files("data/camvid/train", "data/camvid/trainannot")  # doctest: +SKIP
        [{'image': 'data/camvid/train/0001TP_006690.png', 'label': 'data/camvid/trainannot/0001TP_006690.png'}, ...]
    """
    images = picture_files(Path(image_dir).iterdir())
    labels = picture_files(Path(label_dir).iterdir(), name_suffix=label_suffix)
    return pair_by_name(images, labels, keep=keep, image_dir=image_dir, label_dir=label_dir, problems=problems)


def files_below(root: Path) -> list[Path]:
    """List every file below a folder, in linked folders too, but nothing hidden."""
    found, seen = [], set()
    for folder, folders, files in os.walk(root, followlinks=True):
        # A link may lead back up.
        real = os.path.realpath(folder)
        folders[:] = [name for name in sorted(folders) if not name.startswith(".") and real not in seen]
        if real not in seen:
            found += [Path(folder, name) for name in sorted(files) if not name.startswith(".")]
        seen.add(real)
    return found


def files_by_name(
    paths: Iterable[Path], suffixes: Sequence[str], *, name_prefix: str = "", name_suffix: str = ""
) -> dict[str, list[Path]]:
    """Group files by name, without prefix and suffix; hidden files and those without them are left out.

    Names that differ only in their form of Unicode are the same.

    Args:
        paths: files of any kind.
        suffixes: which kinds of files count, in lower case.
        name_prefix: beginning of every name.
        name_suffix: end of every name, before the file's suffix.

    Example:
        >>> files_by_name([Path("a_L.png"), Path("b.txt")], (".png",), name_suffix="_L")
        {'a': [PosixPath('a_L.png')]}
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = as_one_form(path.name[: -len(suffix)])
        if name.startswith(name_prefix) and name.endswith(name_suffix):
            found.setdefault(name.removeprefix(name_prefix).removesuffix(name_suffix), []).append(path)
    return found


def picture_files(
    paths: Iterable[Path], *, name_prefix: str = "", name_suffix: str = "", known: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """Group pictures by name as :func:`files_by_name` does, and warn of the files that are skipped.

    Args:
        paths: files of any kind.
        name_prefix: beginning of every name.
        name_suffix: end of every name, before the file's suffix.
        known: ends of names that the dataset has for other purposes; no warning for these.
    """
    paths = list(paths)
    found = files_by_name(paths, PICTURES, name_prefix=name_prefix, name_suffix=name_suffix)
    used = {path for files in found.values() for path in files}
    warn_skipped(path for path in paths if path not in used and not path.name.endswith(tuple(known)))
    return found


def warn_skipped(paths: Iterable[Path]) -> None:
    """Warn of files that are not read, with their number and the first names; hidden files do not count."""
    skipped = [p for p in paths if not p.name.startswith(".") and p.name.lower() not in _OF_SYSTEMS and p.is_file()]
    if skipped:
        what = "files are skipped: their format cannot be read, or their names do not follow the layout"
        warnings.warn(list_files(what, skipped), DatasetWarning, stacklevel=2)


def pair_by_name(
    images: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[Path]],
    *,
    keep: Callable[[str], bool] = lambda _name: True,
    image_dir: object = "the images' folder",
    label_dir: object = "the labels' folder",
    check: Callable[[dict[str, str]], Sequence[str]] | None = None,
    problems: Sequence[str] = (),
) -> list[dict[str, str]]:
    """Pair images with labels of the same name.

    Args:
        images: files of each name, see :func:`files_by_name`.
        labels: files of each name.
        keep: which names belong to the list.
        image_dir: where the images are, for messages.
        label_dir: where the labels are.
        check: pair -> its problems, one line each; default: pictures must open and agree in size.
        problems: further problems of the dataset, for the same error; empty texts do not count.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        FileNotFoundError: if there is no image.
        DatasetError: naming every file that does not pair or cannot be used.
    """
    images = {name: paths for name, paths in images.items() if keep(name)}
    labels = {name: paths for name, paths in labels.items() if keep(name)}
    if not images:
        raise FileNotFoundError(
            f"`{image_dir}` must hold images; found none that belong to this section. Check the dataset folder."
        )
    both = images.keys() & labels.keys()
    twice = [paths for files in (images, labels) for paths in files.values() if len(paths) > 1]
    single = [name for name in sorted(both) if len(images[name]) == len(labels[name]) == 1]
    pairs = [{"image": str(images[name][0]), "label": str(labels[name][0])} for name in single]
    checked = [(pair, (check or _picture_problems)(pair)) for pair in pairs]
    found = [
        list_files(f"images without a label in `{label_dir}`", _first(images, images.keys() - both)),
        list_files(f"labels without an image in `{image_dir}`", _first(labels, labels.keys() - both)),
        list_files("names with several files, where one is needed", map(join_names, twice)),
        list_files("files that cannot be used", (line for _, lines in checked for line in lines)),
        *problems,
    ]
    good = [pair for pair, lines in checked if not lines]
    if any(found):
        raise DatasetError(list(filter(None, found)), good)
    return good


def unlabelled_items(
    images: Mapping[str, Sequence[Path]],
    image_dir: object,
    *,
    check: Callable[[dict[str, str]], Sequence[str]] | None = None,
) -> list[dict[str, str]]:
    """List images without labels: ``[{"image": path}, ...]`` in the order of the names.

    Args:
        images: files of each name, see :func:`files_by_name`.
        image_dir: where they are, for messages.
        check: see :func:`pair_by_name`.
    """
    # An image is its own partner, so that the same checks apply.
    pairs = pair_by_name(images, images, image_dir=image_dir, label_dir=image_dir, check=check)
    return [{"image": pair["image"]} for pair in pairs]


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


def _first(files: Mapping[str, Sequence[Path]], names: Iterable[str]) -> list[Path]:
    return [files[name][0] for name in names]


def _picture_problems(pair: dict[str, str]) -> list[str]:
    """Return the problems that the headers of an image and its label show, one line each."""
    sizes, problems = [], []
    for path in dict.fromkeys(pair.values()):  # an image without a label is its own partner
        try:
            with Image.open(path) as image:
                sizes.append(oriented_size(image))
        except UNREADABLE as error:
            problems.append(f"{path} (unreadable: {error})")
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        (width, height), (own_width, own_height) = sizes
        problems.append(f"{pair['image']} ({width}×{height}) with {pair['label']} ({own_width}×{own_height})")
    return problems
