"""Count pixels of labels and predictions by class, by object size, and by whether an object is alone in its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from afma_med.data.objects.sizes import SIZES, SizeGroups, group_pixels, label_objects

__all__ = ["COMPANY", "COUNTS", "OBJECTS", "count_pixels", "object_counts", "spacing_of"]

#: Names of the four counts of :func:`object_counts`.
COUNTS = ("label", "prediction", "intersection", "covered")

#: Names of objects by their company: the only one of its class in the label of an image, or one of several.
COMPANY = ("lone", "accompanied")

#: Names of the objects of :func:`object_counts`.
OBJECTS = ("all", *SIZES, *COMPANY)


def count_pixels(
    prediction: Tensor,
    label: Tensor,
    num_classes: int,
    *,
    groups: SizeGroups | None = None,
    spacing: Sequence[float] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute the confusion matrix of (class, size) pairs of an image, and count the objects of its label.

    An object is a connected component of a class, among the pixels that count. A pixel has the size of its object.

    Args:
        prediction: (H,W) or (H,W,D) train ids.
        label: Train ids of the same shape. Pixels with other values than 0..K-1 do not count.
        num_classes: Number of classes K.
        groups: Bounds between small, medium and large; None to count all objects as small.
        spacing: Millimetres between pixels along each axis, for groups in millimetres.

    Returns:
        The matrix (3K,3K) int64 on the CPU, with index 3 k + size, rows of the label and columns of the prediction.
        The number of label objects of each class (K,) int64 on the CPU; zeros without ``groups``.

    Example:
        >>> label, prediction = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> confusion, objects = count_pixels(prediction, label, 2, groups=SizeGroups((2, 9)))
        >>> confusion.nonzero().tolist(), objects.tolist()
        ([[0, 1], [4, 1], [4, 3]], [1, 1])
    """
    counts = (label >= 0) & (label < num_classes)
    rows, columns = (x.where(counts, num_classes).int() * len(SIZES) for x in (label, prediction))
    number = torch.zeros(num_classes, dtype=torch.int64)
    if groups is not None:
        # The objects of the prediction come first, so that those of the label are left after the loop.
        for index in (columns, rows):
            values = (index // len(SIZES)).cpu().numpy()
            objects = label_objects(values)
            sizes = group_pixels(values, groups, spacing=spacing, objects=objects)
            index += torch.from_numpy(sizes).to(index)
        number = torch.from_numpy(_count_by_value(values, objects, num_classes))
    strata = num_classes * len(SIZES)
    pairs = (rows * strata + columns)[counts]
    return torch.bincount(pairs, minlength=strata**2).view(strata, strata).cpu(), number


def object_counts(confusion: Tensor, objects: Tensor) -> Tensor:
    """Sum the results of :func:`count_pixels` for an image, (3K,3K) and (K,), to the counts that scores need.

    A class whose label has one object in the image is lone there, one with several is accompanied. Its counts are those
    of all its pixels in the image: every predicted pixel of the class counts, wherever it lies.

    Returns:
        (K,6,4) counts of each class, for the objects of :data:`OBJECTS`: pixels in objects of the label, of the
        prediction, of both, and pixels in objects of the label that are predicted as the class with any size.

    Example:
        >>> counts = object_counts(torch.tensor([[5, 0, 0], [0, 0, 0], [0, 0, 0]]), torch.tensor([1]))
        >>> dict(zip(OBJECTS, counts[0].tolist()))["lone"]
        [5, 5, 5, 5]
    """
    sizes = len(SIZES)
    matrix = confusion.view(len(confusion) // sizes, sizes, -1, sizes)
    own = matrix.diagonal(dim1=0, dim2=2).permute(2, 0, 1)  # (K, size in the label, size in the prediction)
    by_size = (matrix.sum((2, 3)), matrix.sum((0, 1)), own.diagonal(dim1=1, dim2=2), own.sum(2))
    everything = (x.sum(1) for x in (by_size[0], by_size[1], own.sum(2), own.sum(2)))
    total = torch.stack(list(everything), -1)[:, None]
    company = total * torch.stack([objects == 1, objects > 1], -1)[..., None]
    return torch.cat([total, torch.stack(by_size, -1), company], dim=1)


def _count_by_value(label: NDArray[np.integer], objects: NDArray[np.integer], values: int) -> NDArray[np.int64]:
    owner = np.full(objects.max() + 1, values)  # not every number is that of an object
    owner[objects.ravel()] = label.ravel()
    counted: NDArray[np.int64] = np.bincount(owner, minlength=values)[:values]
    return counted


def spacing_of(label: Tensor) -> list[float] | None:
    """Return the millimetres between the pixels of a label (1,H,W) or (1,H,W,D); None if it has no metadata."""
    pixdim = getattr(label, "pixdim", None)
    return None if pixdim is None else [float(step) for step in pixdim[: label.ndim - 1]]
