"""Uncompressed TIFF files with tags that Pillow does not write, such as white-is-zero."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_tiff"]

_SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3, "c": 6, "b": 1}


def write_tiff(
    path: Path,
    *pages: NDArray[np.generic],
    photometric: int = 1,
    order: str = "<",
    tags: Mapping[int, int] = MappingProxyType({}),
) -> Path:
    """Write pages (H,W) or (H,W,C) of any type, bool as one bit.

    Args:
        path: of the file.
        pages: one array a page.
        photometric: 0 white is zero, 1 black is zero, 2 RGB, 5 CMYK.
        order: ``"<"`` or ``">"``, of the bytes.
        tags: further tags, or other values of those that are written, one SHORT each.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = bytearray(struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8))
    link = 4
    for page in pages:
        bits = 1 if page.dtype == bool else page.dtype.itemsize * 8
        packed = np.packbits(page, axis=1) if page.dtype == bool else page.astype(page.dtype.newbyteorder(order))
        start = len(data)
        data += packed.tobytes() + b"\0" * (packed.nbytes % 2)
        channels = page.shape[2] if page.ndim == 3 else 1
        per_channel = len(data)
        data += struct.pack(
            f"{order}{2 * channels}H", *[bits] * channels, *[_SAMPLE_FORMATS[page.dtype.kind]] * channels
        )
        several = channels > 2
        entries = {
            256: (4, 1, page.shape[1]),
            257: (4, 1, page.shape[0]),
            258: (3, channels, per_channel if several else _shorts(order, [bits] * channels)),
            259: (3, 1, _shorts(order, [1])),
            262: (3, 1, _shorts(order, [photometric])),
            273: (4, 1, start),
            277: (3, 1, _shorts(order, [channels])),
            278: (4, 1, page.shape[0]),
            279: (4, 1, packed.nbytes),
            339: (
                3,
                channels,
                per_channel + 2 * channels
                if several
                else _shorts(order, [_SAMPLE_FORMATS[page.dtype.kind]] * channels),
            ),
            **{tag: (3, 1, _shorts(order, [value])) for tag, value in tags.items()},
        }
        data[link : link + 4] = struct.pack(f"{order}I", len(data))
        data += struct.pack(f"{order}H", len(entries))
        for tag, (kind, count, value) in sorted(entries.items()):
            data += struct.pack(f"{order}HHI", tag, kind, count)
            data += value if isinstance(value, bytes) else struct.pack(f"{order}I", value)
        link = len(data)
        data += b"\0\0\0\0"
    path.write_bytes(data)
    return path


def _shorts(order: str, values: list[int]) -> bytes:
    return struct.pack(f"{order}{len(values)}H", *values).ljust(4, b"\0")
