"""A constant sparse matrix times a dense one: forward and backward touch its entries only."""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """A constant matrix in compressed rows, beside its transpose for the backward pass.

    Args:
        rows (Tensor): The matrix, ``[N, F]``; a dense one is multiplied as it is.
        columns (Tensor): Its transpose, ``[F, N]``.
    """

    rows: Tensor
    columns: Tensor

    @classmethod
    def of(cls, dense: Tensor) -> SparseMatrix:
        """The entries of a dense matrix in floating point."""
        return cls(compress(dense.detach()), compress(dense.detach().t()))

    @classmethod
    def of_entries(cls, places: Tensor, values: Tensor, shape: tuple[int, int]) -> SparseMatrix:
        """A matrix from row and column (``[2, E]``) of each entry; those at the same place are added.

        Args:
            places (Tensor): ``[2, E]``.
            values (Tensor): ``[E]``.
            shape (tuple): N and F.
        """
        entries = make_coordinates(places, values.detach(), shape).coalesce()
        return cls(compress(entries), compress(entries.t().coalesce()))

    @property
    def transposed(self) -> SparseMatrix:
        """Its transpose, which shares its memory."""
        return SparseMatrix(self.columns, self.rows)

    def product(self, other: Tensor) -> Tensor:
        """The matrix times ``other`` (``[F, d]``), with the gradient for ``other``."""
        out: Tensor = _Product.apply(other, self)  # type: ignore[no-untyped-call]
        return out


def make_coordinates(places: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse matrix of coordinates, whose places are right by construction.

    Args:
        places (Tensor): Row and column of each entry, ``[2, E]``.
        values (Tensor): ``[E]``.
        shape (tuple): Its shape.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse invariant checks")  # said once in a process, asked for or not
        return torch.sparse_coo_tensor(places, values, shape, check_invariants=False)


def compress(matrix: Tensor) -> Tensor:
    """A matrix in compressed rows, with indices that its products take as they are.

    Args:
        matrix (Tensor): A dense matrix, or a sparse one of coordinates.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse")  # torch calls compressed rows a beta feature
        found = matrix.to_sparse_csr()
        # MKL takes 32-bit indices; others would be converted in every product
        ends, places = found.crow_indices().int(), found.col_indices().int()
        return torch.sparse_csr_tensor(ends, places, found.values(), found.shape)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(other: Tensor, matrix: SparseMatrix) -> Tensor:
        return matrix.rows @ other

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.matrix = inputs[1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.matrix.transposed.product(gradients[0]), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], other: Tensor, matrix: SparseMatrix) -> tuple[Tensor, int]:
        """Several right sides are one wide one, so that the matrix is read once."""
        beside = other.movedim(in_dims[0], 1)
        wide = matrix.product(beside.reshape(beside.size(0), -1))
        return wide.view(wide.size(0), beside.size(1), -1), 1


# torch binds the arguments of a function with ``setup_context`` in every call, and would read its signature each time
_Product.forward.__signature__ = inspect.signature(_Product.forward)  # type: ignore[attr-defined]
