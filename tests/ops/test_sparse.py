"""Sparse products against dense ones, with first and second derivatives."""

from __future__ import annotations

import pytest
import torch

from gkd_plugin.ops.sparse import SparseMatrix


def mostly_empty(rows: int, columns: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    random = torch.Generator().manual_seed(rows * 100 + columns)
    values = torch.randn(rows, columns, generator=random, dtype=dtype)
    return values * (torch.rand(rows, columns, generator=random) < 0.3)


@pytest.mark.parametrize("shape", [(7, 5, 3), (1, 1, 1), (4, 6, 1), (1, 9, 2), (9, 1, 2), (0, 3, 2), (3, 2, 0)])
@pytest.mark.parametrize("empty", [False, True])
def test_product_and_gradient_equal_the_dense_ones(shape, empty):
    n, f, d = shape
    dense = mostly_empty(n, f) * (0 if empty else 1)
    other = torch.randn(f, d, dtype=torch.float64, requires_grad=True)
    matrix = SparseMatrix.of(dense)
    pull = torch.randn(n, d, dtype=torch.float64)
    for found in (matrix.product(other), matrix.transposed.transposed.product(other)):
        torch.testing.assert_close(found, dense @ other)
        (gradient,) = torch.autograd.grad((found * pull).sum(), other)
        torch.testing.assert_close(gradient, dense.t() @ pull)


def test_derivatives_pass_gradcheck():
    matrix, other = SparseMatrix.of(mostly_empty(5, 4)), torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(matrix.product, other)
    assert torch.autograd.gradgradcheck(lambda x: matrix.product(x).pow(2), other)


def test_views_and_expanded_gradients_are_read_right():
    dense, weight = mostly_empty(6, 5, torch.float32), torch.randn(2, 5, requires_grad=True)
    SparseMatrix.of(dense).product(weight.t()).sum().backward()
    torch.testing.assert_close(weight.grad, dense.sum(0).expand(2, 5))


def test_the_matrix_is_constant():
    dense = mostly_empty(4, 3).requires_grad_()
    assert not SparseMatrix.of(dense).product(torch.ones(3, 1, dtype=torch.float64)).requires_grad


@pytest.mark.parametrize("places", [[[0, 2, 0], [1, 0, 1]], [[], []]])
def test_entries_at_the_same_place_are_added(places):
    index = torch.tensor(places, dtype=torch.long).view(2, -1)
    values = torch.arange(1.0, index.size(1) + 1)
    dense = torch.zeros(3, 4).index_put(tuple(index), values, accumulate=True)
    matrix = SparseMatrix.of_entries(index, values, (3, 4))
    torch.testing.assert_close(matrix.product(torch.eye(4)), dense)
    torch.testing.assert_close(matrix.transposed.product(torch.eye(3)), dense.t())
