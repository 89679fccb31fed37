"""Several attentions of one image: of several depths, or of groups of classes with their own depth and patch size.

The functions here take one attention too, and then do what its own functions do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from afma_med._ops.patches import PatchGrid, split_patches
from afma_med._ops.tensors import at_least_float32, with_metadata_of, without_metadata
from afma_med.functional import PatchAttention, compress_prediction, modulate_logits

__all__ = ["Attention", "GroupedAttention", "correct_logits", "list_parts", "make_gold", "map_parts", "mean_distance"]
__all__ += ["split_prediction", "take_classes"]


class GroupedAttention(NamedTuple):
    """Hold several attentions of one image, each of some of the K classes.

    A class may be in several parts (several depths), in one, or in none (it is not corrected).

    Args:
        parts: the attentions, with the classes of each along the axis K.
        classes: for each part, the indices of its classes among the K of the logits.

    Example:
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(10, 10))
        >>> part = PatchAttention(torch.rand(1, 1, 4, 100), torch.rand(1, 1, 1, 100), grid)
        >>> correct_logits(torch.rand(1, 3, 20, 20), GroupedAttention((part, part), ((0,), (2,)))).shape
        torch.Size([1, 3, 20, 20])
    """

    parts: tuple[PatchAttention, ...]
    classes: tuple[tuple[int, ...], ...]

    def __getattr__(self, name: str) -> Any:
        return PatchAttention.__getattr__(self, name)  # type: ignore[arg-type]


Attention: TypeAlias = PatchAttention | GroupedAttention


def list_parts(attention: Attention) -> tuple[PatchAttention, ...]:
    """Return the parts of an attention; one attention is its only part."""
    return (attention,) if isinstance(attention, PatchAttention) else attention.parts


def map_parts(function: Callable[..., PatchAttention], *attentions: Any) -> Any:
    """Apply a function to one attention, or to each part of it; of several attentions, to their parts in turn."""
    first = attentions[0]
    if isinstance(first, PatchAttention):
        return function(*attentions)
    parts = zip(*(attention.parts for attention in attentions), strict=True)
    return first._replace(parts=tuple(function(*one) for one in parts))


def take_classes(x: Tensor, classes: Sequence[int]) -> Tensor:
    """Select classes, (B,K,...) -> (B,len(classes),...); all of them in order are the tensor itself."""
    return x if list(classes) == list(range(x.shape[1])) else x[:, list(classes)]


def split_prediction(logits: Tensor, attention: Attention, *, soft: bool = False) -> Tensor | tuple[Tensor, ...]:
    """Compress a prediction and split it into patches: steps 6 and 7.

    Args:
        logits: (B,K,H,W).
        attention: of the same images.
        soft: as for :func:`~afma_med.modulate_logits`.

    Returns:
        V, (B,K,M,D); of several parts, one for each, with the classes of the part.
    """
    if isinstance(attention, PatchAttention):
        return _split(logits, attention.grid, soft=soft)
    return tuple(
        take_classes(_split(logits, part.grid, soft=soft), classes)
        for part, classes in zip(attention.parts, attention.classes, strict=True)
    )


def correct_logits(
    logits: Tensor, attention: Attention, *, soft: bool = False, values: Tensor | Sequence[Tensor] | None = None
) -> Tensor:
    """Correct a prediction by one attention, as :func:`~afma_med.modulate_logits`, or by the mean of several.

    The correction X of a class is the mean over the parts that hold the class. The prediction is compressed before
    classes are selected, so the arg max is that of all K classes. A class without a part keeps its logits.

    Args:
        logits: (B,K,H,W).
        attention: of the same images.
        soft: spread the class probabilities instead of the one-hot arg max.
        values: V as :func:`split_prediction` returns it, spread in place of the prediction's own.

    Returns:
        (B,K,H,W), at least float32.

    Raises:
        ValueError: if ``logits``, ``attention`` and ``values`` disagree.
    """
    if not isinstance(attention, GroupedAttention):
        return modulate_logits(logits, attention, soft=soft, values=values)  # type: ignore[arg-type]
    plain = at_least_float32(without_metadata(logits))
    given = split_prediction(plain, attention, soft=soft) if values is None else values
    corrected: list[list[Tensor]] = [[] for _ in range(plain.shape[1])]
    for part, classes, own in zip(attention.parts, attention.classes, given, strict=True):
        modulated = modulate_logits(take_classes(plain, classes), part, values=own)
        for k, plane in zip(classes, modulated.unbind(1), strict=True):
            corrected[k].append(plane)
    planes = [_mean(found) if found else plane for found, plane in zip(corrected, plain.unbind(1), strict=True)]
    return with_metadata_of(torch.stack(planes, dim=1), logits)


def make_gold(attention: Attention, make: Callable[[PatchGrid], PatchAttention]) -> Attention:
    """Make the gold attention of an attention's grid, or of the grid and classes of each of its parts.

    Args:
        attention: that is to be supervised.
        make: grid -> gold attention of all K classes.
    """
    if isinstance(attention, PatchAttention):
        return make(attention.grid)
    parts = []
    for part, classes in zip(attention.parts, attention.classes, strict=True):
        gold = make(part.grid)
        parts.append(gold._replace(query=take_classes(gold.query, classes), key=take_classes(gold.key, classes)))
    return attention._replace(parts=tuple(parts))


def mean_distance(
    attention: Attention, gold: Attention, distance: Callable[[PatchAttention, PatchAttention], Tensor]
) -> Tensor:
    """Average the distances of the parts to their gold attentions, weighted with the number of classes of each part.

    A distance is a mean over classes itself, so that each class at each of its depths has the same weight. Parts of
    all classes (several depths) are averaged plainly, and a partition of the classes into groups of one depth and
    patch size gives what one attention gives.

    Args:
        attention, gold: of the same parts.
        distance: of two attentions, a scalar.
    """
    if isinstance(attention, PatchAttention):
        return distance(attention, gold)  # type: ignore[arg-type]
    counts = [len(classes) for classes in attention.classes]
    terms = [count * distance(*pair) for count, *pair in zip(counts, attention.parts, list_parts(gold), strict=True)]
    return torch.stack(terms).sum() / sum(counts)


def _split(logits: Tensor, grid: PatchGrid, *, soft: bool) -> Tensor:
    return split_patches(compress_prediction(logits, grid, soft=soft), grid.patch_size)


def _mean(planes: list[Tensor]) -> Tensor:
    return planes[0] if len(planes) == 1 else torch.stack(planes).mean(dim=0)
