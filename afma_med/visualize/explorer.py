"""The attention explorer: one HTML page that shows the attention of the patch below the pointer."""

from __future__ import annotations

import base64
import gzip
import importlib.resources
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from string import Template
from typing import Any, NamedTuple

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from afma_med._ops.patches import ceil_divide
from afma_med.data.class_table import ClassInfo, class_colors, class_names
from afma_med.visualize.attention import AttendedImage
from afma_med.visualize.attention_panels import map_names
from afma_med.visualize.packed_attention import Components, count_nonzeros, pack_components, split_attention

__all__ = ["MAX_BYTES", "ExplorerSlice", "format_explorer"]

#: Size of a page, at most.
MAX_BYTES = 15 * 10**6
# Steps of rounding that are tried until the page is small enough; coarse ones if no slice can be left out any more.
_FINE, _COARSE = (2e-4, 5e-4, 1e-3, 2e-3), (5e-3, 1e-2, 2e-2)
_JPEG_QUALITY = 90


class ExplorerSlice(NamedTuple):
    """Hold an image, or a slice of a volume, for the explorer.

    Args:
        seen: Its prediction and attention.
        picture: (H,W,3) uint8, as shown.
        label: (H,W) train ids, with values of K or more where the label is void; None without a label.
        number: Number of the slice; None for an image.
    """

    seen: AttendedImage
    picture: NDArray[np.uint8]
    label: NDArray[np.integer] | None = None
    number: int | None = None


def format_explorer(
    slices: Sequence[ExplorerSlice],
    class_table: Sequence[ClassInfo],
    *,
    title: str,
    point: tuple[int, int],
    first: int = 0,
    depth: int | None = None,
    max_bytes: int = MAX_BYTES,
) -> tuple[str, list[int]]:
    """Format a page that shows the attention of the patch below the pointer. It opens without a server.

    The page holds the factors of the attention, rounded, and computes the rows of A itself. If it is too large, it is
    rounded more coarsely, then every second slice is left out, and the last one is rounded more coarsely still. Of
    several attentions, the page shows one at a time, and lets the reader choose it.

    Args:
        slices: The image, or slices of one volume.
        class_table: Table of the classes.
        title: Name of the image and of the network.
        point: (row, column) at which the page starts, in pixels.
        first: Index of the slice at which it starts.
        depth: Number of slices of the volume; None for an image.
        max_bytes: Size of the page, at most.

    Returns:
        The page, and the numbers of its slices; without numbers for an image.

    Raises:
        ValueError: If there are no slices, the page is too large, or ``class_table`` does not fit the network.

    Example:
        >>> import torch
        >>> from afma_med import AFMANet
        >>> from afma_med.data import ISIC
        >>> from afma_med.visualize import attend_image, stretch_image
        >>> host = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2, 2), torch.nn.ConvTranspose2d(4, 2, 2, 2))
        >>> seen = attend_image(AFMANet(host, 2, feature="0"), torch.rand(3, 40, 60))
        >>> one = ExplorerSlice(seen, stretch_image(seen.image))
        >>> page, numbers = format_explorer([one], ISIC.classes, title="a", point=(5, 5))
        >>> page.startswith("<!DOCTYPE html>"), len(page) < 60_000, numbers
        (True, True, [])
    """
    if not slices:
        raise ValueError("`slices` must hold at least one slice; got none. Pass the image as a slice.")
    described = _describe(slices[0].seen, class_table) | {"title": title, "point": point, "depth": depth}
    parts = [[_split_part(seen) for seen in _list_parts(one.seen)] for one in slices]
    for kept in _thinned(len(slices), first):
        described["first"] = kept.index(first)
        for tolerance in _FINE if len(kept) > 1 else _FINE + _COARSE:
            packed = [_pack_slice(n, slices[i], parts[i], tolerance) for n, i in enumerate(kept)]
            page = _fill_page(described, packed)
            if len(page.encode("utf-8")) <= max_bytes:
                return page, [number for i in kept if (number := slices[i].number) is not None]
    height, width = slices[0].seen.after.shape
    raise ValueError(
        f"`slices` must fit into a page of {max_bytes / 1e6:g} MB; got an image of {height}×{width} pixels with "
        f"{sum(len(part['maps']) for part in described['parts'])} attention maps. Use a smaller image, or one of "
        "several attentions: AttendedImage.for_part."
    )


def _thinned(count: int, first: int) -> Iterator[list[int]]:
    """Yield all indices, then every second one, every fourth and so on, always with the first slice to show."""
    step = 1
    while True:
        yield list(range(first % step, count, step))
        if step >= count:
            return
        step *= 2


def _list_parts(seen: AttendedImage) -> list[AttendedImage]:
    """Return the image with each of its attentions."""
    return [seen.for_part(i) for i in range(len(seen.parts))] or [seen]


def _describe(seen: AttendedImage, class_table: Sequence[ClassInfo]) -> dict[str, Any]:
    """Return what all slices have in common."""
    count = len(seen.values)
    names, colors = class_names(class_table), class_colors(class_table)
    maps = [len(names) - 1] if count == 1 else list(range(count))
    return {
        "classes": [{"name": name, "color": colors[k].tolist()} for k, name in enumerate(names)],
        "maps": [{"name": name, "id": k} for k, name in zip(maps, map_names(class_table, count), strict=True)],
        "size": seen.after.shape,
        "parts": [_describe_part(part) for part in _list_parts(seen)],
        "viridis": (colormaps["viridis"](np.arange(256), bytes=True)[:, :3]).flatten().tolist(),
    }


def _describe_part(seen: AttendedImage) -> dict[str, Any]:
    """Return the grid of an attention, the indices of its maps, and its name, if it is one of several."""
    grid = seen.attention.grid
    (height, width), (rows, columns) = grid.patch_size, grid.feature_size
    return {
        "name": seen.parts[0].name if seen.parts else "",
        "maps": seen.class_indices,
        "patch": grid.patch_size,
        "stride": grid.stride,
        "feature_size": grid.feature_size,
        "grid": [ceil_divide(grid.image_size[0], height), ceil_divide(grid.image_size[1], width)],
        "regions": [ceil_divide(rows, height), ceil_divide(columns, width)],
    }


class _Part(NamedTuple):
    """One attention of a slice, before it is rounded."""

    seen: AttendedImage
    components: list[Components]
    counts: NDArray[np.uint32]


# Arrays by name: the content of one element of the page.
_Arrays = dict[str, NDArray[Any]]


def _split_part(seen: AttendedImage) -> _Part:
    return _Part(seen, split_attention(seen.attention), count_nonzeros(seen.attention))


def _pack_slice(
    index: int, one: ExplorerSlice, parts: Sequence[_Part], tolerance: float
) -> tuple[dict[str, Any], dict[str, _Arrays]]:
    """Return the description of a slice, and its elements by id: its predictions, and each attention."""
    predictions: _Arrays = {"before": one.seen.before, "after": one.seen.after}
    if one.label is not None:
        predictions["label"] = one.label.clip(0, 255).astype(np.uint8)
    elements, described = {f"slice{index}": predictions}, []
    for number, part in enumerate(parts):
        about, arrays = _pack_part(part, tolerance)
        elements[f"slice{index}part{number}"] = arrays
        described.append(about | {"arrays": _list_arrays(arrays)})
    about = {"number": one.number, "picture": _as_jpeg(one.picture), "arrays": _list_arrays(predictions)}
    return about | {"parts": described}, elements


def _pack_part(part: _Part, tolerance: float) -> tuple[dict[str, Any], _Arrays]:
    maps = pack_components(part.components, tolerance=tolerance)
    described = {
        "scales": [x.scale.tolist() for x in maps],
        "error": max(x.error for x in maps),
        "signed": bool(min(factor.min() for factor in part.seen.attention[:2]) < 0),
    }
    return described, {
        "values": part.seen.values.cpu().numpy().astype(np.float32),
        "counts": part.counts,
        "query": np.concatenate([x.query.ravel() for x in maps]),
        "key": np.concatenate([x.key.ravel() for x in maps]),
    }


def _list_arrays(arrays: _Arrays) -> list[dict[str, Any]]:
    return [{"name": name, "type": x.dtype.name, "length": x.size} for name, x in arrays.items()]


def _fill_page(described: Mapping[str, Any], slices: Sequence[tuple[dict[str, Any], dict[str, _Arrays]]]) -> str:
    """Fill the template. The page decodes an element when it shows it."""
    files = importlib.resources.files("afma_med.visualize")
    template, style, script = (
        (files / name).read_text(encoding="utf-8") for name in ("explorer.html", "explorer.css", "explorer.js")
    )
    content = json.dumps({**described, "slices": [about for about, _ in slices]}, separators=(",", ":"))
    elements = {name: arrays for _, of_slice in slices for name, arrays in of_slice.items()}
    return Template(template).substitute(
        title=escape(str(described["title"])),
        style=style,
        script=script,
        # A title that holds a tag must not end the element.
        description=content.replace("<", "\\u003c"),
        numbers="\n".join(
            f'<script type="text/plain" id="{name}">{_as_base64(_compress(arrays))}</script>'
            for name, arrays in elements.items()
        ),
    )


def _compress(arrays: _Arrays) -> bytes:
    return gzip.compress(b"".join(_as_planes(x) for x in arrays.values()), compresslevel=6, mtime=0)


def _as_planes(x: NDArray[Any]) -> bytes:
    """Return the first bytes of all numbers, then their second bytes and so on, which compresses better."""
    little = np.ascontiguousarray(x).astype(x.dtype.newbyteorder("<"))
    planes: NDArray[np.uint8] = little.reshape(-1, 1).view(np.uint8).T
    return planes.tobytes()


def _as_jpeg(picture: NDArray[np.uint8]) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{_as_base64(file.getvalue())}"


def _as_base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
