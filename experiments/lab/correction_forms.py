"""Corrections by other attentions than the network's own, which test whether it matters what the attention is."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from afma_med.functional import gold_attention_from_index
from afma_med.grouped_attention import Attention, make_gold, map_parts
from afma_med.networks import AFMANet

__all__ = ["FORMS", "correct_in_all_forms"]

#: What corrects the logits: nothing, zeros, the network's attention, another image's, the label's.
FORMS = ("before", "zero", "after", "swap", "gold")


def correct_in_all_forms(
    afma: AFMANet, logits: Tensor, attention: Any, *, other: tuple[Tensor, Any], index: Tensor
) -> dict[str, Tensor]:
    """Correct logits by the network's attention and by others in its place.

    Args:
        afma: the network. If its attention is not between patches, the attention has methods
            ``zeroed()`` and ``swapped(other)``, and the network ``gold(logits, attention, index)``.
        logits, attention: output of ``afma.attend`` on an image.
        other: output on another image, which may have another size.
        index: (B,H,W) int64 train ids of the image, negative where it is void.

    Returns:
        Logits (B,K,H,W) by the names of :data:`FORMS`.

    Raises:
        TypeError: if an attention of another kind does not have these methods.
    """
    if not isinstance(attention, Attention):
        used = _replace_by_methods(afma, logits, attention, other=other[1], index=index)
        corrected = [afma.correct(logits, one) for one in used]
    else:
        zero = map_parts(lambda own: own._replace(query=torch.zeros_like(own.query)), attention)
        swapped = map_parts(lambda own, others: own._replace(key=others.key), attention, other[1])
        gold = make_gold(attention, lambda grid: gold_attention_from_index(index, grid, logits.shape[1]))
        corrected = [
            afma.correct(logits, zero),
            afma.correct(logits, attention),
            afma.correct(logits, swapped, afma.split_prediction(*other)),
            # The gold query is boolean, which cannot be multiplied.
            afma.correct(logits, map_parts(lambda own: own._replace(query=own.query.to(own.key.dtype)), gold)),
        ]
    return dict(zip(FORMS, [logits, *corrected], strict=True))


def _replace_by_methods(afma: Any, logits: Tensor, attention: Any, *, other: Any, index: Tensor) -> tuple[Any, ...]:
    """An attention that is not between patches in the forms after the first."""
    needed = {"zeroed": attention, "swapped": attention, "gold": afma}
    missing = [name for name, owner in needed.items() if not hasattr(owner, name)]
    if missing:
        raise TypeError(
            f"`attention` must be a PatchAttention, or have methods zeroed and swapped, and its network gold; "
            f"got {type(attention).__name__} of {type(afma).__name__} without {', '.join(missing)}. Add them."
        )
    return attention.zeroed(), attention, attention.swapped(other), afma.gold(logits, attention, index)
