"""Class weights that balance classes by how many pixels they have."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["median_frequency_weights"]


def median_frequency_weights(counts_per_image: Any, *, power: float = 1.0) -> Tensor:
    """Weight classes by median frequency balancing.

    freq_k = pixels of k / pixels of the images that contain k; weight_k = median(freq) / freq_k. The median is over
    the classes that occur; a class that never occurs gets weight 0, since nothing is known of it.

    Args:
        counts_per_image: (images, K) pixel counts, a tensor, an array or nested lists. Void pixels are not counted.
        power: exponent of the weights: 1 as published; 0.5, their square root, favours rare classes less; 0 gives all
            classes that occur the weight 1.

    Returns:
        (K,) float32 weights.

    Raises:
        ValueError: if the counts are not 2-D, empty, negative or all zero, or the power is not a finite number.

    Example:
        >>> median_frequency_weights([[90, 10, 0], [50, 0, 50]])
        tensor([0.7143, 5.0000, 1.0000])

    Reference:
        Eigen, Fergus: Predicting Depth, Surface Normals and Semantic Labels with a Common Multi-Scale Convolutional
        Architecture, ICCV 2015.
    """
    if not math.isfinite(power):
        raise ValueError(f"`power` must be a finite number; got {power}. 1 is the published form, 0.5 its square root.")
    counts = torch.as_tensor(counts_per_image).double().cpu()
    are_counts = bool(((counts >= 0) & counts.isfinite()).all()) and bool((counts > 0).any())
    if counts.ndim != 2 or not are_counts:
        values = f"{counts.min().item():g} to {counts.max().item():g}" if counts.numel() else "none"
        raise ValueError(
            f"`counts_per_image` must be pixel counts ≥ 0 of shape (images, K), not all zero; got shape "
            f"{tuple(counts.shape)}, values {values}. Count the pixels of each class in each label."
        )
    present = counts > 0
    pixels = (counts.sum(dim=1, keepdim=True) * present).sum(dim=0)
    occurs = pixels > 0
    frequency = counts.sum(dim=0)[occurs] / pixels[occurs]
    weights = torch.zeros(counts.shape[1], dtype=torch.float64)
    # torch.median takes the lower of the two middle values; balancing means their mean.
    weights[occurs] = (frequency.quantile(0.5) / frequency) ** power
    return weights.float()
