"""Pack an attention into a few small integers per patch, from which a page can compute any row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from afma_med._ops.nonzeros import count_nonzero_per_row
from afma_med._ops.tensors import at_least_float32
from afma_med.functional import PatchAttention

__all__ = ["Components", "PackedMap", "count_nonzeros", "pack_components", "split_attention"]

# Components below this part of the largest one are dropped at once; every step of rounding is coarser.
_SMALLEST = 1e-5
# Image patches at which the error is measured.
_MEASURED = 512


class Components(NamedTuple):
    """Hold the attention map of one class as factors (N,R) and (M,R): A is the first times the second transposed."""

    query: NDArray[np.float64]
    key: NDArray[np.float64]


class PackedMap(NamedTuple):
    """Hold the attention map of one class as integers: A[n,m] = Σ_r scale[r] · query[r,n] · key[r,m].

    Args:
        query: (R,N) int16.
        key: (R,M) int16.
        scale: (R,) float64.
        error: Largest error of A that rounding causes, as a part of the largest component.
    """

    query: NDArray[np.int16]
    key: NDArray[np.int16]
    scale: NDArray[np.float64]
    error: float = 0.0

    def dense(self) -> NDArray[np.float64]:
        """Build A, (N,M)."""
        matrix: NDArray[np.float64] = np.matmul(self.query.T * self.scale, self.key.astype(np.float64))
        return matrix


def split_attention(attention: PatchAttention) -> list[Components]:
    """Split each class's map into components by a singular value decomposition, the largest one first.

    A trained attention, with B = 1 here, has about twenty components that matter, of D = 100.
    """
    return [_split_map(query, key) for query, key in zip(attention.query[0], attention.key[0], strict=True)]


def pack_components(components: Sequence[Components], *, tolerance: float = 1e-3) -> list[PackedMap]:
    """Round the components of each class to integers.

    The step of rounding is the same in all components of a class, measured in A. Small components therefore have small
    integers, which compress well, and components below the step vanish.

    Args:
        components: Result of :func:`split_attention`.
        tolerance: Step of rounding, as a part of the largest component of a class; at least 1 / 32767.

    Example:
        >>> from afma_med.functional import PatchGrid
        >>> grid = PatchGrid(image_size=(20, 20), stride=2, patch_size=(5, 5))
        >>> attention = PatchAttention(torch.rand(1, 1, 16, 25), torch.rand(1, 1, 4, 25), grid)
        >>> (packed,) = pack_components(split_attention(attention))
        >>> bool(abs(packed.dense() - attention.dense()[0, 0].numpy()).max() < 0.01)
        True
    """
    return [_round_map(one, tolerance) for one in components]


def count_nonzeros(attention: PatchAttention) -> NDArray[np.uint32]:
    """Count the non-zeros of each row of A, (K,N), by which step 8 divides the row."""
    query, key = (at_least_float32(factor[0]) for factor in attention[:2])
    return np.asarray(count_nonzero_per_row(query, key)[..., 0].cpu(), dtype=np.uint32)


def _split_map(query: torch.Tensor, key: torch.Tensor) -> Components:
    query, key = query.cpu().double(), key.cpu().double()
    (query_axes, query_rest), (key_axes, key_rest) = torch.linalg.qr(query), torch.linalg.qr(key)
    left, sizes, right = torch.linalg.svd(query_rest @ key_rest.T / query.shape[1], full_matrices=False)
    found = Components((query_axes @ left * sizes.sqrt()).numpy(), (key_axes @ right.T * sizes.sqrt()).numpy())
    size = _largest(found.query) * _largest(found.key)
    kept = size > _SMALLEST * size.max()
    return Components(found.query[:, kept], found.key[:, kept])


def _round_map(components: Components, tolerance: float) -> PackedMap:
    query, key = components
    query_size, key_size = _largest(query), _largest(key)
    largest = (query_size * key_size).max(initial=0)
    step = tolerance * largest
    # An error of one step in one factor, times the largest value of the other, is one step of A.
    whole = np.rint(query * key_size / step if step else query), np.rint(key * query_size / step if step else key)
    kept = whole[0].any(axis=0) & whole[1].any(axis=0)
    scale = step**2 / (query_size * key_size)[kept]
    packed = PackedMap(whole[0][:, kept].T.astype(np.int16), whole[1][:, kept].T.astype(np.int16), scale)
    # The error is measured at evenly spread image patches.
    rows = np.unique(np.linspace(0, len(query) - 1, min(len(query), _MEASURED)).round().astype(int))
    error = np.abs(packed._replace(query=packed.query[:, rows]).dense() - query[rows] @ key.T).max()
    return packed._replace(error=float(error / largest) if largest else 0.0)


def _largest(factor: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.abs(factor).max(axis=0))
