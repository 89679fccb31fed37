"""Pairing of image and label files. Files that do not fit raise an error that names each of them and the remedy."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

__all__ = [
    "EXIF_ORIENTATION",
    "PICTURES",
    "UNREADABLE",
    "DatasetError",
    "check_section",
    "files_below",
    "files_by_name",
    "list_files",
    "missing_layout",
    "pair_by_name",
    "pair_files",
    "unlabelled_items",
]

#: Suffixes of picture files, in lower case.
PICTURES = (".png", ".jpg", ".jpeg")

#: EXIF tag of how a picture must be turned to be upright.
EXIF_ORIENTATION = 0x0112
#: What Pillow raises for damaged or far too large pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
# More files of one kind than this do not help the reader of an error.
_SHOWN = 8


class DatasetError(ValueError):
    """Refuse a dataset for everything that is wrong with its files.

    Args:
        problems: one text each.
        items: what is left and can be used, for a report that goes on.

    Example:
        >>> print(DatasetError(["1 images without a label:\\n  a.png"]))
        The dataset's files must fit together; got:
        1 images without a label:
          a.png
        Add, replace or remove these files.
    """

    def __init__(self, problems: Sequence[str], items: Sequence[dict[str, str]] = ()) -> None:
        self.problems = list(problems)
        self.items = list(items)
        super().__init__(
            "The dataset's files must fit together; got:\n{}\nAdd, replace or remove these files.".format(
                "\n".join(self.problems)
            )
        )


def pair_files(
    image_dir: str | os.PathLike[str],
    label_dir: str | os.PathLike[str],
    *,
    label_suffix: str = "",
    keep: Callable[[str], bool] = lambda _name: True,
) -> list[dict[str, str]]:
    """Pair PNG or JPEG images with PNG labels by name and check that both open and agree in size.

    Args:
        image_dir: folder of NAME.png, NAME.jpg or NAME.jpeg.
        label_dir: folder of NAME<label_suffix>.png.
        label_suffix: what label names add to image names.
        keep: which names belong to the list.

    Returns:
        ``[{"image": path, "label": path}, ...]`` in the order of the names.

    Raises:
        FileNotFoundError: if there is no image.
        DatasetError: naming every image or label that has no partner or two, cannot be opened, or differs in size.

    Example:
        >>> pair_files("data/camvid/train", "data/camvid/trainannot")  # doctest: +SKIP
        [{'image': 'data/camvid/train/0001TP_006690.png', 'label': 'data/camvid/trainannot/0001TP_006690.png'}, ...]
    """
    images = files_by_name(Path(image_dir).iterdir(), PICTURES)
    labels = files_by_name(Path(label_dir).iterdir(), (".png",), name_suffix=label_suffix)
    return pair_by_name(images, labels, keep=keep, image_dir=image_dir, label_dir=label_dir)


def files_below(root: Path) -> list[Path]:
    """List every file below a folder, in linked folders too, but nothing hidden.

    Example:
        >>> files_below(Path("nowhere"))
        []
    """
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

    Args:
        paths: files of any kind.
        suffixes: which kinds of files count, in lower case.
        name_prefix: what every name begins with.
        name_suffix: what every name ends with, before the file's suffix.

    Example:
        >>> files_by_name([Path("a_L.png"), Path("b.txt")], (".png",), name_suffix="_L")
        {'a': [PosixPath('a_L.png')]}
    """
    found: dict[str, list[Path]] = {}
    for path in sorted(paths):
        suffix = next((suffix for suffix in suffixes if path.name.lower().endswith(suffix)), None)
        if suffix is None or path.name.startswith("."):
            continue
        name = path.name[: -len(suffix)]
        if name.startswith(name_prefix) and name.endswith(name_suffix):
            found.setdefault(name.removeprefix(name_prefix).removesuffix(name_suffix), []).append(path)
    return found


def pair_by_name(
    images: Mapping[str, Sequence[Path]],
    labels: Mapping[str, Sequence[Path]],
    *,
    keep: Callable[[str], bool] = lambda _name: True,
    image_dir: object = "the images' folder",
    label_dir: object = "the labels' folder",
    check: Callable[[dict[str, str]], Sequence[str]] | None = None,
) -> list[dict[str, str]]:
    """Pair images with labels of the same name.

    Args:
        images: files of each name, see :func:`files_by_name`.
        labels: files of each name.
        keep: which names belong to the list.
        image_dir: where the images are, for messages.
        label_dir: where the labels are.
        check: pair -> what is wrong with it, one line each; default: pictures must open and agree in size.

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
    found = [(pair, (check or _picture_problems)(pair)) for pair in pairs]
    problems = [
        list_files(f"images without a label in `{label_dir}`", _first(images, images.keys() - both)),
        list_files(f"labels without an image in `{image_dir}`", _first(labels, labels.keys() - both)),
        list_files("names with several files, where one is needed", (" and ".join(map(str, paths)) for paths in twice)),
        list_files("files that cannot be used", (line for _, lines in found for line in lines)),
    ]
    good = [pair for pair, lines in found if not lines]
    if any(problems):
        raise DatasetError([problem for problem in problems if problem], good)
    return good


def unlabelled_items(images: Mapping[str, Sequence[Path]], image_dir: object) -> list[dict[str, str]]:
    """List images of a section whose labels are withheld.

    Args:
        images: files of each name, see :func:`files_by_name`.
        image_dir: where they are, for messages.

    Returns:
        ``[{"image": path}, ...]`` in the order of the names.

    Raises:
        FileNotFoundError: if there is no image.
        DatasetError: naming every file that cannot be opened.
    """
    # An image is its own partner, so that the same checks apply.
    pairs = pair_by_name(images, images, image_dir=image_dir, label_dir=image_dir)
    return [{"image": pair["image"]} for pair in pairs]


def check_section(section: str, sections: Sequence[str]) -> None:
    """Refuse an unknown section of a dataset.

    Raises:
        ValueError: listing the sections.
    """
    if section not in sections:
        raise ValueError(f"`section` must be one of {list(sections)}; got {section!r}. Choose one of them.")


def missing_layout(dataset: str, root: Path, missing: Path, layout: str) -> FileNotFoundError:
    """Build the error for a folder that does not hold a dataset: root, first missing path, expected layout."""
    found = "no such folder" if not root.is_dir() else f"missing `{missing}`"
    return FileNotFoundError(
        f"`{root}` must hold {dataset}; {found}. Pass the folder that holds {layout}",
    )


def list_files(what: str, items: Iterable[Path | str]) -> str:
    """Write one problem with its files, cut short; empty without any."""
    found = sorted(str(item) for item in items)
    if not found:
        return ""
    shown = "\n  ".join(found[:_SHOWN])
    more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return f"{len(found)} {what}:\n  {shown}{more}"


def _first(files: Mapping[str, Sequence[Path]], names: Iterable[str]) -> list[Path]:
    return [files[name][0] for name in names]


def _picture_problems(pair: dict[str, str]) -> list[str]:
    """What is wrong with the headers of an image and its label, one line each."""
    sizes, problems = [], []
    for path in dict.fromkeys(pair.values()):  # where labels are withheld, an image is its own partner
        try:
            sizes.append(_oriented_size(path))
        except UNREADABLE as error:
            problems.append(f"{path} (unreadable: {error})")
    if len(sizes) == 2 and sizes[0] != sizes[1]:
        problems.append(
            f"{pair['image']} ({sizes[0][0]}×{sizes[0][1]}) with {pair['label']} ({sizes[1][0]}×{sizes[1][1]})"
        )
    return problems


def _oriented_size(path: str) -> tuple[int, int]:
    """(width, height) as seen, after the EXIF orientation; reads the header only."""
    with Image.open(path) as image:
        width, height = image.size
        sideways = image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    return (height, width) if sideways else (width, height)
