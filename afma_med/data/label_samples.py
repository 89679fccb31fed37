"""The samples of a label file, once for masks and labels of classes: stored values, or a clear error."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from afma_med.data.pictures import EXIF_ORIENTATION, count_pages, is_lossy, read_deep_pixels

__all__ = ["LabelSamples", "palette_colors", "read_label_samples"]

# Fractions this near to a whole number come from arithmetic, such as 0.9999 from a resampling.
_ROUNDING = 2e-3
_WHITE_IS_ZERO, _SIGNED = 0, 2
_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339
# Pillow stretches grey values of 2 and 4 bits, and those of a PGM file with another maximum than 255, to 8 bits.
_STRETCHED = re.compile(r"'L;[24]|codec_name='ppm")


class LabelSamples(NamedTuple):
    """Hold what a label file stores.

    Args:
        pixels: (H,W) values from 0 on or palette indices, or (H,W,3) colours; whole numbers, or fractions from 0 to 1.
        palette: (256,3) colours of a palette picture; None for others.
        lossy: whether the format changes values.
        format: as Pillow names it.
        stretched: whether values were stored in fewer bits and are stretched to 8.
    """

    pixels: NDArray[Any]
    palette: NDArray[np.int64] | None
    lossy: bool
    format: str
    stretched: bool


def read_label_samples(path: str | os.PathLike[str]) -> LabelSamples:
    """Read the samples of a label file, upright.

    Values of floating point are rounded where they are within 0.002 of whole numbers. CMYK and YCbCr become RGB. Alpha
    is left out if it is constant, or hides black pixels only.

    Raises:
        ValueError: if the file has several pages, stores white as zero, is drawn in its transparency, or has NaN,
            negative or other values that a label cannot have.
        OSError: if the file cannot be read.
    """
    with Image.open(path) as image:
        _check_storage(image)
        stretched = image.mode != "1" and _STRETCHED.search(str(image.tile)) is not None
        lossy, kind = is_lossy(image), str(image.format)
        deep = read_deep_pixels(image) if image.mode not in ("F", "I") and not image.mode.startswith("I;") else None
        signed = image.mode == "L" and _tiff_tag(image, _SAMPLE_FORMAT) == _SIGNED
        palette = palette_colors(image) if image.mode in ("P", "PA") else None
        if deep is None:
            image = ImageOps.exif_transpose(image)
            image = image.convert("RGB") if image.mode in ("CMYK", "YCbCr", "LAB", "HSV") else image
            pixels = np.asarray(image)
        elif image.getexif().get(EXIF_ORIENTATION, 1) != 1:
            raise ValueError("a label of 16-bit colours must be stored upright; this one is turned by its EXIF data.")
        else:
            pixels = deep
        _check_transparency(image, pixels, palette)
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return LabelSamples(_whole(pixels.view(np.int8) if signed else pixels), palette, lossy, kind, stretched)


def palette_colors(image: Image.Image) -> NDArray[np.int64]:
    """Return the (256,3) colours of a palette picture; black beyond its palette."""
    strip = Image.fromarray(np.arange(256, dtype=np.uint8)[None], "P")
    strip.putpalette(image.getpalette() or [])
    colors: NDArray[np.int64] = np.asarray(strip.convert("RGB"), dtype=np.int64)[0]
    return colors


def _check_storage(image: Image.Image) -> None:
    if (pages := count_pages(image)) > 1:
        raise ValueError(f"a label file must hold one picture; this one holds {pages}. Save the one that is meant.")
    if _tiff_tag(image, _PHOTOMETRIC) == _WHITE_IS_ZERO:
        # Programs disagree: tifffile and Fiji mean the stored value, viewers show its opposite.
        raise ValueError(
            "a label must store black as zero; in this TIFF file white is zero, so that programs disagree about what "
            "is an object. Save the label as PNG, with 0 for the background; in Fiji, first Image > Lookup Tables > "
            "Invert LUT; with tifffile, write uint8 instead of bool."
        )


def _check_transparency(image: Image.Image, pixels: NDArray[Any], palette: NDArray[np.int64] | None) -> None:
    """Refuse labels that need their transparency: hidden pixels must be black, and visible ones differ in colour."""
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        color, alpha = pixels[..., :-1], pixels[..., -1]
    elif "transparency" in image.info and image.mode in ("1", "L", "P", "RGB"):
        color, alpha = pixels, np.asarray(image.convert("RGBA"))[..., 3]
    else:
        return
    if np.ptp(alpha) == 0:
        return
    color = color if palette is None else palette[color.reshape(alpha.shape)]
    if np.ptp(color) == 0 or color[alpha == 0].any() or not np.isin(alpha, (0, alpha.max())).all():
        raise ValueError(
            "a label must be drawn in its colours; this one is drawn, all or in part, in its transparency alone. "
            "Flatten it onto black, and save it again."
        )


def _whole(pixels: NDArray[Any]) -> NDArray[Any]:
    """Return whole numbers from 0 on, or fractions from 0 to 1."""
    if pixels.dtype == bool:
        return pixels.astype(np.uint8)
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            raise ValueError("a label must hold finite numbers; this one has NaN or infinite pixels. Replace it.")
        nearest = np.rint(pixels)
        if (np.abs(pixels - nearest) <= _ROUNDING).all():
            pixels = nearest.astype(np.int64)
        elif pixels.max() > 1 + _ROUNDING:
            bad = pixels[np.abs(pixels - nearest) > _ROUNDING].flat[0]
            raise ValueError(
                f"a label must hold whole numbers, or probabilities from 0 to 1; got {bad:g}. Resample labels with "
                "nearest neighbours, and save whole numbers."
            )
    if pixels.dtype.kind != "u" and (lowest := pixels.min(initial=0)) < -_ROUNDING:
        raise ValueError(f"a label must hold values from 0 on; got {lowest:g}. Save it again without negative values.")
    return pixels


def _tiff_tag(image: Image.Image, tag: int) -> object:
    """Return the first value of a tag of a TIFF file; None for other files."""
    value = getattr(image, "tag_v2", {}).get(tag) if image.format == "TIFF" else None
    return value[0] if isinstance(value, tuple) and value else value
