"""How alike two nodes are.

Written so that gradients at distance 0 are 0, never NaN, and the cosine of a zero vector is 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gkd_plugin.space.answers import Kernel


def dot(x: Tensor, y: Tensor) -> Tensor:
    """Inner products of rows."""
    return (x * y).sum(dim=-1)


def manhattan(x: Tensor, y: Tensor) -> Tensor:
    """Sums of absolute differences of rows."""
    return (x - y).abs().sum(dim=-1)


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Squared Euclidean distances of rows."""
    return (x - y).square().sum(dim=-1)


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean distances of rows; the root's gradient at 0 is taken as 0."""
    square = squared(x, y)
    apart = square > 0
    return torch.where(apart, square, 1.0).sqrt() * apart


def cosine(x: Tensor, y: Tensor) -> Tensor:
    """Cosines of rows; 0 where one of them is 0."""
    return dot(x, y) * _inverse_length(x) * _inverse_length(y)


def _inverse_length(x: Tensor) -> Tensor:
    square = dot(x, x)
    some = square > 0
    return torch.where(some, square, 1.0).rsqrt() * some


def all_dots(rows: Tensor) -> Tensor:
    """Inner products of all pairs of rows."""
    return rows @ rows.t()


def all_cosines(rows: Tensor) -> Tensor:
    """Cosines of all pairs of rows."""
    return all_dots(rows * _inverse_length(rows).unsqueeze(-1))


def all_squared(rows: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of rows, by one matrix product."""
    rows = rows - rows.detach().mean(dim=0)  # distances stay, but long common parts would cost digits
    square = dot(rows, rows)
    return (square.unsqueeze(1) + square - 2 * all_dots(rows)).clamp_min(0.0)


def all_distances(rows: Tensor, norm: int) -> Tensor:
    """Manhattan (1) or Euclidean (2) distances of all pairs of rows, without the rounding of a matrix product."""
    return torch.cdist(rows, rows, p=float(norm), compute_mode="donot_use_mm_for_euclid_dist")


def distances(x: Tensor, y: Tensor, norm: int) -> Tensor:
    """Manhattan (1) or Euclidean (2) distances of rows."""
    return manhattan(x, y) if norm == 1 else euclidean(x, y)


def _laplacian(distance: Tensor, scale: Any) -> Tensor:
    return torch.exp(-distance / scale)


def _rbf(square: Tensor, scale: Any) -> Tensor:
    return torch.exp(-square / (2 * scale * scale))


def _heat(square: Tensor, scale: Any) -> Tensor:
    return torch.exp(-square / (4 * scale))


def _poly(product: Tensor) -> Tensor:
    return (product + 1).pow(3)


_LSP = "LSP (arXiv 2003.10477)"
_JOSHI = "G-CRD (arXiv 2111.04964)"
_GKD = "GKD (arXiv 2210.13014)"

KERNELS: dict[str, Kernel] = {
    "laplacian": Kernel(
        lambda x, y, s: _laplacian(manhattan(x, y), s),
        "exp(-|x-y|_1 / s)",
        "Alignahead (arXiv 2205.02468)",
        scaled=True,
        norm=1,
        symmetric=True,
        dense=lambda rows, s: _laplacian(all_distances(rows, 1), s),
    ),
    "rbf": Kernel(
        lambda x, y, s: _rbf(squared(x, y), s),
        "exp(-|x-y|^2 / (2 s^2)); 2 sigma = 200 of LSP is s = 10",
        _LSP,
        scaled=True,
        symmetric=True,
        dense=lambda rows, s: _rbf(all_squared(rows), s),
    ),
    "heat": Kernel(
        lambda x, y, s: _heat(squared(x, y), s),
        "exp(-|x-y|^2 / (4 s))",
        _GKD,
        scaled=True,
        symmetric=True,
        dense=lambda rows, s: _heat(all_squared(rows), s),
    ),
    "linear": Kernel(
        lambda x, y, s: dot(x, y),
        "<x, y>",
        _LSP,
        symmetric=True,
        dense=lambda rows, s: all_dots(rows),
    ),
    "poly": Kernel(
        lambda x, y, s: _poly(dot(x, y)),
        "(<x, y> + 1)^3",
        _LSP,
        symmetric=True,
        dense=lambda rows, s: _poly(all_dots(rows)),
    ),
    "cosine": Kernel(
        lambda x, y, s: cosine(x, y),
        "<x, y> / (|x| |y|), 0 for a zero vector",
        _JOSHI,
        symmetric=True,
        dense=lambda rows, s: all_cosines(rows),
    ),
    "cosine_squared": Kernel(
        lambda x, y, s: cosine(x, y).square(),
        "the square of cosine ('poly' of the reference)",
        _JOSHI,
        symmetric=True,
        dense=lambda rows, s: all_cosines(rows).square(),
    ),
    "l2": Kernel(
        lambda x, y, s: euclidean(x, y),
        "|x-y|, a distance: far nodes get weight",
        _JOSHI,
        symmetric=True,
        dense=lambda rows, s: all_distances(rows, 2),
    ),
    "euclidean": Kernel(
        lambda x, y, s: squared(x, y),
        "|x-y|^2, positive as printed: far nodes get weight",
        _LSP,
        symmetric=True,
        dense=lambda rows, s: all_squared(rows),
    ),
    "sigmoid": Kernel(
        lambda x, y, s: dot(x, y).tanh(),
        "tanh<x, y>",
        _GKD,
        symmetric=True,
        dense=lambda rows, s: all_dots(rows).tanh(),
    ),
}
