"""Refuse predictions that are not finite: the largest of NaN is class 0, a plausible answer that is wrong."""

from __future__ import annotations

from typing import Any

from monai.data import MetaTensor
from torch import Tensor

from afma_med._ops.tensors import is_captured, without_metadata
from afma_med.checks import NonFiniteError

__all__ = ["check_finite", "file_names"]


def check_finite(prediction: Tensor, *sources: Any) -> None:
    """Refuse a prediction with NaN or infinite values, and name its images.

    Args:
        prediction: (B,...), or of one image of any shape.
        sources: Tensors whose metadata may name the images. The first one that does counts.

    Raises:
        NonFiniteError: If a value is not finite.

    Example:
        >>> import torch
        >>> check_finite(torch.zeros(1, 2, 4, 4))
    """
    values = without_metadata(prediction).detach()
    if is_captured() or bool(values.isfinite().all()):
        return
    bad = ~values.isfinite()
    names = next((found for source in sources if (found := file_names(source))), ["an image without a name"])
    if len(names) == len(values) > 1:
        names = [name for name, of_image in zip(names, bad.flatten(1).any(dim=1).tolist(), strict=True) if of_image]
    raise NonFiniteError(
        f"Predictions must be finite; got {float(values[bad][0])} for {', '.join(names)}. Check this image for NaN; if "
        "it is right, the weights are broken, or half precision is too narrow: use the weights of an earlier epoch, or "
        "float32."
    )


def file_names(x: Any) -> list[str]:
    """Return the names of the files that MONAI's metadata name; none without metadata.

    Example:
        >>> import torch
        >>> file_names(MetaTensor(torch.zeros(1), meta={"filename_or_obj": "a.png"})), file_names(torch.zeros(1))
        (['a.png'], [])
    """
    names = x.meta.get("filename_or_obj", []) if isinstance(x, MetaTensor) else []
    return [names] if isinstance(names, str) else [str(name) for name in names]
