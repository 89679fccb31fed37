"""Count the non-zeros of each row of a matrix query keyᵀ without forming it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from afma_med._ops.patches import ceil_divide
from afma_med._ops.tensors import is_captured, item_chunks

__all__ = ["count_nonzero_per_row"]

# Numbers or words of a temporary, at most: as float32 16 MiB on a CPU, 256 MiB elsewhere.
_CHUNK_ELEMENTS, _DEVICE_ELEMENTS = 2**22, 2**26
# Words of intersected sets, at most: 512 KiB, which stay in a CPU's cache, are three times as fast as 32 MiB.
_WORDS = 2**16
# From so many columns on, sets are intersected; below, products are cheaper.
_LEAST_COLUMNS = 128
# Pixels that a table of 2^10 entries covers; columns that one int64 holds.
_TABLE_BITS, _WORD_BITS = 10, 64


@torch.no_grad()
def count_nonzero_per_row(query: Tensor, key: Tensor) -> Tensor:
    """Count the non-zeros of each row of query keyᵀ, in bounded memory.

    Where no factor is negative, an entry is zero when there is no pixel at which both its patches are positive, which
    sets of patches tell at a fraction of a product's cost on a CPU. Factors with signs, few columns, other devices, to
    which a product is cheaper than many small steps, and graphs, whose branches must not depend on values, take
    products.

    Args:
        query: (items,N,D).
        key: (items,M,D).

    Returns:
        (items,N,1), in the query's type.
    """
    if is_captured():
        return (query @ key.mT != 0).sum(dim=-1, keepdim=True).to(query.dtype)
    by_sets = key.shape[1] >= _LEAST_COLUMNS and query.device.type in ("cpu", "meta")
    if not by_sets or not (query.is_meta or min(query.amin(), key.amin()) >= 0):
        return _count_in_products(query, key)
    tables = ceil_divide(key.shape[2], _TABLE_BITS) << _TABLE_BITS
    items = max(1, _CHUNK_ELEMENTS // (ceil_divide(key.shape[1], _WORD_BITS) * max(query.shape[1], tables)))
    pairs = zip(torch.split(query, items), torch.split(key, items), strict=True)
    return torch.cat([_count_by_sets(*pair) for pair in pairs]).unsqueeze(-1).to(query.dtype)


def _count_in_products(query: Tensor, key: Tensor) -> Tensor:
    elements = _CHUNK_ELEMENTS if query.device.type == "cpu" else _DEVICE_ELEMENTS
    rows = max(1, elements // (key.shape[0] * key.shape[1]))
    counts = [(chunk @ key.mT).sign_().abs_().sum(dim=-1) for chunk in torch.split(query, rows, dim=1)]
    return torch.cat(counts, dim=1).unsqueeze(-1)


def _count_by_sets(query: Tensor, key: Tensor) -> Tensor:
    """Count the key's patches that share a positive pixel with each of the query's, (items,N) int64.

    The patches that are zero at a pixel are a set of M bits, and the patches that a query patch misses are those that
    are zero at all its pixels: the intersection of as many sets. For each ten pixels a table holds the intersections
    of all 2^10 choices of them, so that a query patch of 100 pixels takes ten look-ups.
    """
    padding = -key.shape[2] % _TABLE_BITS
    zero_at = F.pad(_pack((key == 0).mT), (0, 0, 0, padding))
    zero_at = zero_at.view(len(key), -1, _TABLE_BITS, zero_at.shape[2])
    table = _pack(key.new_ones(*zero_at.shape[:2], 1, key.shape[1], dtype=torch.bool))
    for pixel in range(_TABLE_BITS):
        table = torch.cat([table, table & zero_at[:, :, pixel, None]], dim=2)
    chunks = item_chunks(len(query), query[0].numel(), query)
    choices = torch.cat([_read_digits(query[chunk].sign(), padding) for chunk in chunks])
    starts = torch.arange(table[..., 0, 0].numel(), dtype=torch.int32, device=key.device) << _TABLE_BITS
    entries = (choices + starts.view(len(key), 1, -1)).flatten(0, 1)
    rows = max(1, _WORDS // table.shape[-1])
    missed = torch.cat([_count_common(table.flatten(0, 2), chunk) for chunk in torch.split(entries, rows)])
    return key.shape[1] - missed.view(query.shape[:2])


def _count_common(table: Tensor, entries: Tensor) -> Tensor:
    """Count the bits that all of a row's entries in a table have in common: (entries,words), (N,groups) -> (N,)."""
    common = table.index_select(0, entries[:, 0])
    for column in range(1, entries.shape[1]):
        common &= table.index_select(0, entries[:, column])
    return _count_bits(common).sum(dim=-1)


def _read_digits(bits: Tensor, padding: int) -> Tensor:
    """Read each ten zeros and ones as a number, (...,D) -> (...,ceil(D / 10)) int32; exactly, floats as they are."""
    bits = F.pad(bits, (0, padding)) if padding else bits
    powers = 2.0 ** torch.arange(_TABLE_BITS, dtype=bits.dtype, device=bits.device)
    return (bits.reshape(*bits.shape[:-1], -1, _TABLE_BITS) @ powers).int()


def _pack(sets: Tensor) -> Tensor:
    """Pack bool (...,M) into words, (...,ceil(M / 64)) int64."""
    padded = F.pad(sets, (0, -sets.shape[-1] % _WORD_BITS))
    words = padded.reshape(*sets.shape[:-1], -1, _WORD_BITS).long() << torch.arange(_WORD_BITS, device=sets.device)
    return words.sum(dim=-1)


def _count_bits(words: Tensor) -> Tensor:
    """Count the ones of each int64: of pairs, of fours, of bytes, then of all bytes by a product.

    Reference:
        Warren: Hacker's Delight, 2nd edition, section 5-1, 2012.
    """
    words = words - ((words >> 1) & 0x5555555555555555)
    words = (words & 0x3333333333333333) + ((words >> 2) & 0x3333333333333333)
    words = (words + (words >> 4)) & 0x0F0F0F0F0F0F0F0F
    return (words * 0x0101010101010101) >> 56
