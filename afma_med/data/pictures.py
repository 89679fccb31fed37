"""Pictures as Pillow reads them: which files, upright, and eight bits of whatever was stored."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps

__all__ = [
    "EXIF_ORIENTATION",
    "PICTURES",
    "UNREADABLE",
    "bits_range",
    "count_pages",
    "highest_deep_value",
    "is_lossy",
    "naming",
    "oriented_size",
    "read_deep_pixels",
    "to_rgb",
]

Image.init()
# Pillow knows the names of these kinds, but cannot draw them alone.
_UNDRAWN = ("BUFR", "EPS", "GRIB", "HDF5", "IPTC", "MPEG", "WMF")
#: Suffixes of the pictures that Pillow reads, in lower case.
PICTURES = tuple(
    sorted(
        suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN and kind not in _UNDRAWN
    )
)
#: What Pillow and SimpleITK raise for damaged or far too large pictures.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, struct.error, Image.DecompressionBombError)

#: The EXIF tag that says how a picture is turned.
EXIF_ORIENTATION = 0x0112
# PNG files may also hold EXIF data as text with this keyword, in chunks of these types.
_EXIF_TEXT, _PNG_TEXTS = b"Raw profile type exif", (b"tEXt", b"zTXt", b"iTXt")
_LOSSY = ("JPEG", "MPO", "JPEG2000", "AVIF")


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turn the errors of reading a file into a ValueError that names the file."""
    try:
        yield
    except UNREADABLE as error:
        raise ValueError(f"`{path}` cannot be used: {error}") from error


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """Return (width, height) after the EXIF orientation; reads the header only."""
    width, height = image.size
    turned = _may_have_exif(image) and image.getexif().get(EXIF_ORIENTATION, 1) >= 5
    return (height, width) if turned else (width, height)


def _may_have_exif(image: Image.Image) -> bool:
    """Return whether to ask Pillow for EXIF data; of a PNG, it decodes all pixels to see whether they follow."""
    path = getattr(image, "filename", "")
    if image.format != "PNG" or not path or not image.info.keys().isdisjoint(("exif", _EXIF_TEXT.decode())):
        return True
    with open(path, "rb") as file:
        file.seek(8)
        while len(head := file.read(8)) == 8 and head[4:] != b"IEND":
            length, start = int.from_bytes(head[:4], "big"), file.tell()
            if head[4:] == b"eXIf" or (head[4:] in _PNG_TEXTS and file.read(len(_EXIF_TEXT)) == _EXIF_TEXT):
                return True
            file.seek(start + length + 4)  # a checksum follows
    return False


def is_lossy(image: Image.Image) -> bool:
    """Return whether a picture was stored with loss, judged by its content, not by its name."""
    if image.format == "WEBP" and isinstance(image, ImageFile.ImageFile):
        with open(image.filename, "rb") as file:
            return b"VP8L" not in file.read(64)
    return image.format in _LOSSY or "jpeg" in str(image.info.get("compression", ""))


def count_pages(image: Image.Image) -> int:
    """Return how many pictures a file holds: pages of a TIFF file, frames of an animation."""
    # The first picture of a camera's MPO is the photograph, that of a PSD file shows all layers.
    return 1 if image.format in ("MPO", "PSD") else int(getattr(image, "n_frames", 1))


def bits_range(highest: float) -> float:
    """Return the largest value of as many bits as ``highest`` needs, 8 at least; 1.0 for fractions.

    Example:
        >>> bits_range(3000), bits_range(200), bits_range(0.9)
        (4095, 255, 1.0)
    """
    if 0 < highest <= 1 and isinstance(highest, float):
        return 1.0
    return max(255, 2 ** math.ceil(math.log2(highest + 1)) - 1) if highest > 0 else 255


def highest_deep_value(image: Image.Image) -> float | None:
    """Return the highest value of an open picture of more than 8 bits a channel; None for other pictures."""
    deep = read_deep_pixels(image)
    return None if deep is None else deep.max(initial=0).item()


def to_rgb(image: Image.Image, image_range: float | None = None) -> Image.Image:
    """Turn a picture upright after its EXIF orientation and convert it to RGB of 8 bits.

    Args:
        image: any picture, open or in memory.
        image_range: value that becomes 255 in pictures of more than 8 bits; None for the largest value of the bits
            that the picture uses. Pictures of 8 bits stay as they are.

    Example:
        >>> to_rgb(Image.new("L", (4, 2))).mode
        'RGB'
        >>> to_rgb(Image.fromarray(np.array([[4095]], dtype=np.uint16)), 4095).getpixel((0, 0))
        (255, 255, 255)
    """
    deep = read_deep_pixels(image)  # first: asking a PNG for its EXIF data loads it with 8 bits
    orientation = image.getexif().get(EXIF_ORIENTATION, 1)
    if deep is not None:
        scale = 255 / (image_range or bits_range(deep.max(initial=0).item()))
        # The tiny addend undoes rounding, so that whole results stay.
        pixels = np.floor((deep.astype(np.float64) * scale).clip(0, 255) + 1e-6).astype(np.uint8)
        # Of grey with transparency, the grey.
        image = Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 2 else pixels)
        image.getexif()[EXIF_ORIENTATION] = orientation
    return ImageOps.exif_transpose(image).convert("RGB")


def read_deep_pixels(image: Image.Image) -> NDArray[Any] | None:
    """Return the pixels of an open picture of more than 8 bits a channel, not yet turned; None for other pictures."""
    if image.mode == "F" or image.mode.startswith("I"):
        pixels = np.asarray(image)
    elif isinstance(image, ImageFile.ImageFile) and ";16" in str(image.tile):
        # Pillow drops the lower byte of 16-bit colours.
        pixels = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(image.filename)))
    else:
        return None
    if not np.isfinite(pixels).all():
        raise ValueError("a picture must hold finite numbers; this one has NaN or infinite pixels. Replace it.")
    return pixels
