"""What scores are made from: pixels of labels and predictions by class and size of their objects, in one matrix."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from afma_med.data.object_sizes import SIZES, SizeGroups, group_pixels

__all__ = ["COUNTS", "count_pixels", "object_counts", "spacing_of"]

#: What :func:`object_counts` gives of each class and size.
COUNTS = ("label", "prediction", "intersection", "covered")


def count_pixels(
    prediction: Tensor,
    label: Tensor,
    classes: int,
    *,
    groups: SizeGroups | None = None,
    spacing: Sequence[float] | None = None,
) -> Tensor:
    """Count how often each (class, size) of a label meets each of its prediction: a confusion matrix.

    The size is that of the connected component that a pixel lies in, of the label for the rows and of the prediction
    for the columns, found among the pixels that count.

    Args:
        prediction: (H,W) or (H,W,D) train ids.
        label: the same shape; pixels that are none of the K classes do not count, whatever is predicted there.
        classes: K.
        groups: bounds between small, medium and large; None to tell no sizes, so that all objects are small.
        spacing: millimetres between pixels along each axis, if the groups ask for them.

    Returns:
        (3K,3K) int64 on the CPU; index 3 k + size.

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
    """Sum a matrix of :func:`count_pixels` up to what scores need.

    Args:
        confusion: (3K,3K).

    Returns:
        (K,4,4): of each class, for all objects and for small, medium and large ones, the pixels of the label's objects,
        of the prediction's, of both at once, and those of the label's that are predicted as the class, whatever the
        size of the predicted object.
    """
    sizes = len(SIZES)
    matrix = confusion.view(len(confusion) // sizes, sizes, -1, sizes)
    own = matrix.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (K, size in the label, size in the prediction)
    by_size = (matrix.sum((2, 3)), matrix.sum((0, 1)), own.diagonal(dim1=1, dim2=2), own.sum(2))
    everything = (x.sum(1) for x in (by_size[0], by_size[1], own.sum(2), own.sum(2)))
    return torch.cat([torch.stack(list(everything), -1)[:, None], torch.stack(by_size, -1)], dim=1)


def spacing_of(label: Tensor) -> list[float] | None:
    """Return the millimetres between the pixels of a label (1,H,W) or (1,H,W,D) by its metadata; None without any."""
    pixdim = getattr(label, "pixdim", None)
    return None if pixdim is None else [float(step) for step in pixdim[: label.ndim - 1]]
