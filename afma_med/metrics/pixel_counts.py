"""Count pixels of labels and predictions by class and object size, in one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from afma_med.data.object_sizes import SIZES, SizeGroups, group_pixels

__all__ = ["COUNTS", "count_pixels", "object_counts", "spacing_of"]

#: Names of the four counts of :func:`object_counts`.
COUNTS = ("label", "prediction", "intersection", "covered")


def count_pixels(
    prediction: Tensor,
    label: Tensor,
    classes: int,
    *,
    groups: SizeGroups | None = None,
    spacing: Sequence[float] | None = None,
) -> Tensor:
    """Compute the confusion matrix of (class, size) pairs: rows of the label, columns of the prediction.

    The size is that of the connected component of the pixel, among the pixels that count.

    Args:
        prediction: (H,W) or (H,W,D) train ids.
        label: Train ids of the same shape. Pixels with other values than 0..K-1 do not count.
        classes: Number of classes K.
        groups: Bounds between small, medium and large; None to count all objects as small.
        spacing: Millimetres between pixels along each axis, for groups in millimetres.

    Returns:
        (3K,3K) int64 on the CPU, with index 3 k + size.

    Example:
        >>> label, prediction = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> count_pixels(prediction, label, 2, groups=SizeGroups((2, 9))).nonzero().tolist()
        [[0, 1], [4, 1], [4, 3]]
    """
    counts = (label >= 0) & (label < classes)
    rows, columns = (x.where(counts, classes).int() * len(SIZES) for x in (label, prediction))
    if groups is not None:
        for index in (rows, columns):
            sizes = group_pixels((index // len(SIZES)).cpu().numpy(), groups, spacing=spacing)
            index += torch.from_numpy(sizes).to(index)
    strata = classes * len(SIZES)
    pairs = (rows * strata + columns)[counts]
    return torch.bincount(pairs, minlength=strata**2).view(strata, strata).cpu()


def object_counts(confusion: Tensor) -> Tensor:
    """Sum a matrix of :func:`count_pixels` to the counts that scores need.

    Args:
        confusion: (3K,3K).

    Returns:
        (K,4,4) counts of each class, for all, small, medium and large objects: pixels in objects of the label, of the
        prediction, of both, and pixels in objects of the label that are predicted as the class with any size.
    """
    sizes = len(SIZES)
    matrix = confusion.view(len(confusion) // sizes, sizes, -1, sizes)
    own = matrix.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (K, size in the label, size in the prediction)
    by_size = (matrix.sum((2, 3)), matrix.sum((0, 1)), own.diagonal(dim1=1, dim2=2), own.sum(2))
    everything = (x.sum(1) for x in (by_size[0], by_size[1], own.sum(2), own.sum(2)))
    return torch.cat([torch.stack(list(everything), -1)[:, None], torch.stack(by_size, -1)], dim=1)


def spacing_of(label: Tensor) -> list[float] | None:
    """Return the millimetres between the pixels of a label (1,H,W) or (1,H,W,D); None if it has no metadata."""
    pixdim = getattr(label, "pixdim", None)
    return None if pixdim is None else [float(step) for step in pixdim[: label.ndim - 1]]
