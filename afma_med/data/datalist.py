"""Pairing of image and label files. Whatever does not fit is refused at once, with all that is needed to mend it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

__all__ = ["check_section", "missing_layout", "pair_files", "refuse_unlisted"]

_PICTURES = (".png", ".jpg", ".jpeg")
_EXIF_ORIENTATION = 0x0112
# More names than this do not help the reader of an error.
_SHOWN = 8


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
        ValueError: if an image or label has no partner or two, cannot be opened, or the sizes differ.

    Example:
        >>> pair_files("data/camvid/train", "data/camvid/trainannot")  # doctest: +SKIP
        [{'image': 'data/camvid/train/0001TP_006690.png', 'label': 'data/camvid/trainannot/0001TP_006690.png'}, ...]
    """
    images = _by_name(image_dir, _PICTURES, "", keep)
    labels = _by_name(label_dir, (".png",), label_suffix, keep)
    if not images:
        raise FileNotFoundError(
            f"`{image_dir}` must hold images ({', '.join(_PICTURES)}); found none that belong to this section. "
            "Check the dataset folder."
        )
    _refuse(f"images without a label in `{label_dir}`", (images[name] for name in images.keys() - labels.keys()))
    _refuse(f"labels without an image in `{image_dir}`", (labels[name] for name in labels.keys() - images.keys()))
    pairs = [{"image": str(images[name]), "label": str(labels[name])} for name in sorted(images)]
    _refuse("files that cannot be used", (problem for pair in pairs for problem in _problems(pair)))
    return pairs


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


def refuse_unlisted(split_file: Path, wanted: Iterable[str], found: Iterable[str]) -> None:
    """Refuse names of a split file that have no image.

    Raises:
        ValueError: listing them.
    """
    _refuse(f"names of `{split_file}` without an image", set(wanted) - set(found))


def _by_name(
    folder: str | os.PathLike[str], suffixes: tuple[str, ...], name_suffix: str, keep: Callable[[str], bool]
) -> dict[str, Path]:
    """Files of a folder by name, without the name suffix; hidden files are left out."""
    found: dict[str, Path] = {}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() not in suffixes or path.name.startswith("."):
            continue
        if not path.stem.endswith(name_suffix):
            continue
        name = path.stem.removesuffix(name_suffix)
        if not keep(name):
            continue
        if name in found:
            raise ValueError(
                f"`{folder}` must hold one file a name; got {found[name].name} and {path.name}. Delete one."
            )
        found[name] = path
    return found


def _problems(pair: dict[str, str]) -> list[str]:
    """What is wrong with the headers of an image and its label, one line each."""
    sizes, problems = [], []
    for path in pair.values():
        try:
            sizes.append(_oriented_size(path))
        except (OSError, UnidentifiedImageError, SyntaxError) as error:
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
        sideways = image.getexif().get(_EXIF_ORIENTATION, 1) >= 5
    return (height, width) if sideways else (width, height)


def _refuse(what: str, items: Iterable[Path | str]) -> None:
    found = sorted(str(item) for item in items)
    if found:
        shown = "\n  ".join(found[:_SHOWN])
        more = f"\n  … and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        raise ValueError(
            f"Image and label files must pair one to one; {len(found)} {what}:\n  {shown}{more}\n"
            "Add, replace or remove them."
        )
