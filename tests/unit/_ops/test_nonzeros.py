"""The count of non-zeros, by sets and in products, against the matrix itself."""

import pytest
import torch

from afma_med._ops import nonzeros
from afma_med._ops.nonzeros import count_nonzero_per_row


def make_factors(items: int, rows: int, columns: int, depth: int, density: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Non-negative factors, with a row and a column of zeros, in whose product zeros and others are many."""
    query, key = (torch.rand(items, n, depth) * (torch.rand(items, n, depth) < density) for n in (rows, columns))
    query[:, 0] = key[:, -1] = 0
    return query, key


def count_in_the_matrix(query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    return (query.double() @ key.double().mT != 0).sum(dim=2, keepdim=True)


# Columns that fill words and leave some open, pixels that fill tables and leave some open, one pixel.
@pytest.mark.parametrize(("columns", "depth"), [(1, 1), (63, 9), (64, 10), (65, 11), (128, 100), (200, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("chunk", [1, 500, 2**22])
def test_sets_count_what_the_matrix_has(monkeypatch, columns, depth, dtype, chunk):
    monkeypatch.setattr(nonzeros, "_LEAST_COLUMNS", 0)
    monkeypatch.setattr(nonzeros, "_CHUNK_ELEMENTS", chunk)
    monkeypatch.setattr(nonzeros, "_count_in_products", None)
    query, key = (
        factor.to(dtype) for factor in make_factors(3, 40, columns, depth, density=0.3 if depth < 50 else 0.1)
    )
    expected = count_in_the_matrix(query, key)
    assert columns == 1 or len(expected.unique()) > 2
    count = count_nonzero_per_row(query, key)
    assert count.dtype == dtype
    assert torch.equal(count, expected.to(dtype))


@pytest.mark.parametrize("chunk", [1, 2**22])
def test_factors_with_signs_are_multiplied(monkeypatch, chunk):
    """Where products cancel, sets would not tell."""
    monkeypatch.setattr(nonzeros, "_CHUNK_ELEMENTS", chunk)
    query = torch.randint(-1, 2, (2, 30, 4)).float()
    key = torch.randint(-1, 2, (2, 150, 4)).float()
    expected = count_in_the_matrix(query, key)
    assert (expected < count_in_the_matrix(query.abs(), key.abs())).any()
    assert torch.equal(count_nonzero_per_row(query, key), expected.float())
    assert torch.equal(count_nonzero_per_row(query.abs(), key), count_in_the_matrix(query.abs(), key).float())


def test_few_columns_are_multiplied_and_many_are_not(monkeypatch):
    few, many = make_factors(2, 20, 100, 12, 0.2), make_factors(2, 20, 130, 12, 0.2)
    expected = [count_in_the_matrix(*factors).float() for factors in (few, many)]
    monkeypatch.setattr(nonzeros, "_count_by_sets", None)
    assert torch.equal(count_nonzero_per_row(*few), expected[0])
    monkeypatch.undo()
    monkeypatch.setattr(nonzeros, "_count_in_products", None)
    assert torch.equal(count_nonzero_per_row(*many), expected[1])
