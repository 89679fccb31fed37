"""What the values of a mask mean: black and white, numbers of objects, or votes."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from afma_med._ops.components import find_object_runs
from afma_med.data.label_samples import LabelSamples

__all__ = ["MaskValues", "Reading", "check_mask_values", "decide_mask"]

MaskValues = Literal["auto", "instances", "votes"]
#: How a mask was read where it is not black and white.
Reading = Literal["", "instances", "votes"]

# White of a mask that was stored with loss: a spot of one pixel is darker than 255.
_REACH = 160 / 255
# Darker than this part of white may be noise of black.
_DARK = 1 / 8
# Whole votes of this many annotators, for one grey value alone and for several.
_VOTERS_OF_ONE, _VOTERS = 6, 10
# So few numbers may also be classes or counts, in which the upper ones lie inside of the lower ones.
_FEW = 16


class _Mask(NamedTuple):
    """Hold the brightness (H,W) of a mask, numbers (H,W) that tell its colours apart, and the brightness of white."""

    brightness: NDArray[Any]
    key: NDArray[Any]
    is_grey: bool
    white: int


def check_mask_values(mask_values: object) -> None:
    """Raise a ValueError that lists the readings of masks if a value is none of them."""
    if mask_values not in get_args(MaskValues):
        raise ValueError(
            f"`mask_values` must be one of {', '.join(get_args(MaskValues))}; got {mask_values!r}. "
            "For example: --mask_values instances"
        )


def decide_mask(samples: LabelSamples, mask_values: MaskValues = "auto") -> tuple[NDArray[np.uint8], Reading]:
    """Decide where the object is.

    ``"instances"`` are numbers or colours of objects: whatever is not black is an object. ``"votes"`` are brightness,
    such as the share of the annotators or a probability: above half is the object. ``"auto"`` takes the values:

    1. Where both readings agree (0 and 255, bright numbers), or 1 is the highest value, there is nothing to decide.
       One grey value, or one colour, other than black is an object, unless it is a share of 2 to 6 votes.
    2. Fractions are votes, and so are grey values k · white / n of n = 2 to 10 annotators that reach white and touch.
       Noise and soft edges are votes too: the mask reaches white, and pixels darker than half lie next to brighter
       ones, or are speckle near black. With loss, as in JPEG, nothing else can be read.
    3. Numbers of objects occur once: each value, or colour, forms about one connected region. Up to 16 of them must
       also border on the background, which nested votes, counts and classes do not.
    4. Where both hold, or neither, the mask is refused.

    Args:
        samples: of the mask's file.
        mask_values: the reading.

    Returns:
        (H,W), 1 where the object is; and the reading that was assumed, empty where there was nothing to decide.

    Raises:
        ValueError: if the values do not fit the reading, or may be either.
    """
    if samples.pixels.dtype.kind == "f":
        if mask_values == "instances":
            raise ValueError("numbers of objects must be whole; this mask holds fractions. Use --mask_values votes.")
        return (samples.pixels > 0.5).astype(np.uint8), "votes"
    mask = _as_mask(samples)
    highest = int(mask.brightness.max(initial=0))
    if highest == 0 or (highest == 1 and not samples.lossy):
        return (mask.brightness > 0).astype(np.uint8), ""
    reading = _assume(mask, samples, highest) if mask_values == "auto" else mask_values
    _check_reading(reading, samples, highest, mask.white)
    above = mask.white // 2 if reading == "votes" else 0
    return (mask.brightness > above).astype(np.uint8), reading


def _as_mask(samples: LabelSamples) -> _Mask:
    pixels = samples.pixels if samples.palette is None else _painted(samples.pixels, samples.palette)
    if pixels.ndim == 2:
        brightness = key = pixels
        is_grey = True
    else:
        brightness = pixels.max(axis=2)
        # JPEG gives greys a little colour.
        is_grey = samples.lossy or bool((pixels == pixels[..., :1]).all())
        key = brightness if is_grey else pixels.astype(np.int64) @ np.array([1, 1 << 16, 1 << 32])
    highest = int(brightness.max(initial=0))
    white = next((white for white in (255, 65535) if highest <= white), 2 * highest + 1)
    return _Mask(brightness, key, is_grey, white)


def _painted(indices: NDArray[Any], palette: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the colours of a palette picture, (H,W) where all are grey."""
    used = np.flatnonzero(np.bincount(indices.ravel(), minlength=256))
    black = used[~palette[used].any(axis=1)]
    if len(black) > 1 or (not len(black) and used[0] == 0 and len(used) > 1 and np.ptp(palette[used], axis=1).any()):
        raise ValueError(
            "the palette of a mask must show the background in black, and nothing else; this one shows the values "
            f"{(black if len(black) else used)[:8].tolist()} in {'black' if len(black) else 'other colours'}. "
            "Save the mask as a grey PNG."
        )
    is_grey = (palette[used] == palette[used][:, :1]).all()
    return np.asarray(palette[indices, 0] if is_grey else palette[indices])


def _check_reading(reading: Reading, samples: LabelSamples, highest: int, white: int) -> None:
    if reading == "instances" and samples.lossy:
        raise ValueError(
            f"numbers of objects must be stored without loss; this mask is {samples.format}, which changes them. "
            "Save the original as PNG."
        )
    # With loss, 0 and 1 become other low values or vanish, and grey masks lie on both sides of half.
    if reading != "instances" and highest < (_REACH * white if samples.lossy else (white // 2 + 1) * bool(reading)):
        raise ValueError(
            f"a mask must reach white{'' if samples.lossy else ', hold 0 and 1 only, or number its objects'}; the "
            f"highest value of this {samples.format} file is {highest}. Scale votes, or 0 and 1, to 0 and 255, and "
            "save them as PNG. Do not scale numbers of objects: save them as PNG, and pass --mask_values instances."
        )


def _assume(mask: _Mask, samples: LabelSamples, highest: int) -> Reading:
    """Return the reading that the values show."""
    brightness, white = mask.brightness, mask.white
    doubtful = (brightness > 0) & (brightness <= white // 2)
    if samples.lossy:
        grey = doubtful & (brightness > _DARK * white)
        if highest < _REACH * white or _flat_share(brightness, grey, span=_DARK * white) < 0.2:
            return "votes"
    elif not mask.is_grey and brightness.min() > _DARK * white and np.ptp(mask.key):
        raise ValueError("a coloured mask must have a black background; this one has none. Paint the background black.")
    elif not doubtful.any():
        return ""
    elif _is_scale(mask):
        if not samples.stretched and highest == white and _touch(brightness) and not _is_numbered(mask, doubtful):
            return "votes"
    elif (soft := _has_soft_edges(mask, doubtful)) != _is_numbered(mask, doubtful):
        return "votes" if soft else "instances"
    values = _values(brightness)
    listed = ", ".join(map(str, values[:8].tolist())) + (", …" if len(values) > 8 else "")
    raise ValueError(
        f"a mask must reach white, hold 0 and 1 only, or number its objects; the values {listed} of this "
        f"{samples.format} file may be votes or numbers of objects. Say which with --mask_values votes (above half of "
        "white is the object) or --mask_values instances (any value above 0 is an object)."
    )


def _has_soft_edges(mask: _Mask, doubtful: NDArray[np.bool_]) -> bool:
    """Return whether a mask reaches white, and its pixels darker than half are edges or noise."""
    brightness, white = mask.brightness, mask.white
    dark = doubtful & (brightness <= _DARK * white)
    if brightness.max() < _REACH * white or not _is_edge(brightness, doubtful & ~dark):
        return False
    if not dark.any() or brightness.min() > 0 or _is_edge(brightness, dark):
        return True
    regions = _regions_of_values(np.where(dark, brightness, 0))
    return bool(regions.sum() >= 4 * len(regions))


def _is_edge(brightness: NDArray[Any], pixels: NDArray[np.bool_]) -> bool:
    """Return whether most pixels have a brighter neighbour, or a value that their neighbours do not have."""
    if not pixels.any() or _soft_share(brightness, pixels) >= 0.8:
        return True
    return bool(_regions_of_values(np.where(pixels, brightness, 0)).sum() * 2 >= pixels.sum())


def _is_numbered(mask: _Mask, doubtful: NDArray[np.bool_]) -> bool:
    """Return whether each value above the background's 0 is that of one object."""
    if mask.brightness.min() > 0:
        return False
    regions = _regions_of_values(mask.key)
    if len(regions) == 1:
        return True
    if regions.sum() > 2 * len(regions) or _soft_share(mask.brightness, doubtful) >= 0.5:
        return False
    return len(regions) > _FEW or _border_on_black(mask.key)


def _is_scale(mask: _Mask) -> bool:
    """Return whether all values are grey and whole votes of a few annotators."""
    if not mask.is_grey:
        return False
    values = _values(mask.brightness)
    if len(values) > _VOTERS:
        return False
    for voters in range(max(2, len(values)), (_VOTERS if len(values) > 1 else _VOTERS_OF_ONE) + 1):
        steps = np.arange(1, voters + 1) * mask.white / voters
        if np.isin(values, [*np.floor(steps), *np.ceil(steps)]).all():
            return True
    return False


def _values(brightness: NDArray[Any]) -> NDArray[np.int64]:
    """Return the values above 0, sorted."""
    small = brightness.max() <= 65535  # counting is much faster than sorting
    values = np.flatnonzero(np.bincount(brightness.ravel())) if small else np.unique(brightness)
    return values[values > 0].astype(np.int64)


def _soft_share(brightness: NDArray[Any], pixels: NDArray[np.bool_]) -> float:
    """Return the share of pixels with a brighter neighbour."""
    return float((_with_neighbours(brightness, np.maximum) > brightness)[pixels].mean())


def _flat_share(brightness: NDArray[Any], pixels: NDArray[np.bool_], *, span: float) -> float:
    """Return the share of pixels whose neighbours differ by less than a span of brightness; 0.0 without pixels."""
    if not pixels.any():
        return 0.0
    brightest, darkest = (_with_neighbours(brightness, extreme)[pixels] for extreme in (np.maximum, np.minimum))
    return float((brightest - darkest < span).mean())


def _with_neighbours(brightness: NDArray[Any], extreme: np.ufunc) -> NDArray[Any]:
    """Return the extreme of each pixel and its eight neighbours."""
    result = brightness
    for axis in (0, 1):
        ahead, behind = ((slice(None),) * axis + (part,) for part in (slice(1, None), slice(None, -1)))
        wider = result.copy()
        extreme(wider[ahead], result[behind], out=wider[ahead])
        extreme(wider[behind], result[ahead], out=wider[behind])
        result = wider
    return result


def _touch(brightness: NDArray[Any]) -> bool:
    """Return whether pixels of different values above 0 are neighbours."""
    pairs = ((brightness[:, 1:], brightness[:, :-1]), (brightness[1:], brightness[:-1]))
    return any(bool(((a != b) & (a > 0) & (b > 0)).any()) for a, b in pairs)


def _regions_of_values(key: NDArray[Any]) -> NDArray[np.int64]:
    """Return how many connected regions each value above 0 forms."""
    runs = find_object_runs(key)
    _, first = np.unique(runs.number, return_index=True)
    values, regions = np.unique(runs.value[first], return_counts=True)
    return regions[values > 0].astype(np.int64)


def _border_on_black(key: NDArray[Any]) -> bool:
    """Return whether at least a fifth of each value's border is one with the background."""
    _, index = np.unique(key, return_inverse=True)  # 0 is the background
    index = index.reshape(key.shape)
    pairs = ((index[:, 1:], index[:, :-1]), (index[1:], index[:-1]))
    both = np.concatenate([np.stack([a[a != b], b[a != b]]) for a, b in pairs], axis=1)
    both = np.concatenate([both, both[::-1]], axis=1)
    border = np.bincount(both[0], minlength=index.max() + 1)[1:]
    with_black = np.bincount(both[0][both[1] == 0], minlength=index.max() + 1)[1:]
    return bool((5 * with_black >= border).all())
