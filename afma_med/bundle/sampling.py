"""In which order a bundle's training draws its images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.data import DistributedSampler, DistributedWeightedRandomSampler
from torch import Tensor
from torch.utils.data import Dataset, Sampler, WeightedRandomSampler

from afma_med.bundle.ids import check_sample_weights

__all__ = ["shared_sampler", "weighted_sampler"]


def weighted_sampler(weights: Sequence[float] | Tensor | None, count: int) -> WeightedRandomSampler | None:
    """Return a sampler that draws images by their weights; None without weights, where all are drawn alike.

    Args:
        weights: one for each image.
        count: how many images the training has.

    Raises:
        ValueError: if the weights do not fit the images.

    Example:
        >>> weighted_sampler(None, 2) is None
        True
        >>> set(weighted_sampler([1.0, 0.0], 2))
        {0}
    """
    if weights is None:
        return None
    return WeightedRandomSampler(torch.as_tensor(check_sample_weights(weights, count)).tolist(), count)


def shared_sampler(dataset: Dataset[object], weights: Sequence[float] | Tensor | None = None) -> Sampler[int]:
    """Return a sampler that gives each of several processes its share of the images, as many as the others.

    Args:
        dataset: the images.
        weights: one for each image; None to draw all alike.

    Raises:
        ValueError: if the weights do not fit the images.
    """
    if weights is None:
        return DistributedSampler(dataset, even_divisible=True, shuffle=True)
    count = len(dataset)  # type: ignore[arg-type]
    return DistributedWeightedRandomSampler(dataset, weights=check_sample_weights(weights, count))  # type: ignore[arg-type]
