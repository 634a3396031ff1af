"""How alike two nodes are.

Written so that gradients at distance 0 are 0, never NaN, and the cosine of a zero vector is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gkd_plugin.ops import compiled, pairwise
from gkd_plugin.ops.edges import EdgeSet
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
    return _root(squared(x, y))


def _root(square: Tensor) -> Tensor:
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


def unit_rows(rows: Tensor) -> Tensor:
    """Rows of length 1, or 0 where one is 0: their inner products are cosines."""
    return rows * _inverse_length(rows).unsqueeze(-1)


def all_cosines(rows: Tensor) -> Tensor:
    """Cosines of all pairs of rows."""
    return all_dots(unit_rows(rows))


def all_squared(rows: Tensor) -> Tensor:
    """Squared Euclidean distances of all pairs of rows, by one matrix product."""
    rows = rows - rows.detach().mean(dim=0)  # distances stay, but long common parts would cost digits
    square = dot(rows, rows)
    return (square.unsqueeze(1) + square - 2 * all_dots(rows)).clamp_min(0.0)


def all_distances(rows: Tensor, norm: int) -> Tensor:
    """Manhattan (1) or Euclidean (2) distances of all pairs of rows, without the rounding of a matrix product."""
    return torch.cdist(rows, rows, p=float(norm), compute_mode="donot_use_mm_for_euclid_dist")


@dataclass(frozen=True)
class Measure:
    """One number for two rows, the same in both directions: what a kernel is a formula of.

    Args:
        pairs (callable): ``pairs(x, y)`` of rows ``[P, d]``, ``[P, d]`` gives ``[P]``.
        on_edges (callable): ``on_edges(rows, pairs)`` of ``[N, d]`` and P pairs gives ``[P]``.
        dense (callable): ``dense(rows)`` gives all pairs ``[n, n]`` of ``[n, d]``.
        norm (int): The norm of its distances, 1 or 2.
        factors (callable, optional): Rows whose inner products it is.
    """

    pairs: Callable[[Tensor, Tensor], Tensor]
    on_edges: Callable[[Tensor, EdgeSet], Tensor]
    dense: Callable[[Tensor], Tensor]
    norm: int = 2
    factors: Callable[[Tensor], Tensor] | None = None


def measure(name: str, function: Callable[[Tensor, Tensor], Tensor], rows: Tensor, pairs: EdgeSet) -> Tensor:
    """A measure of many pairs, in compiled loops where they can be used and pay.

    Args:
        name (str): The name of the loops.
        function (callable): The same for rows ``[P, d]``, ``[P, d]``.
        rows (Tensor): ``[N, d]``.
        pairs (EdgeSet): P pairs.
    """
    found = compiled.measure(name, rows, pairs)
    return pairwise.pair_values(function, rows, pairs) if found is None else found


def dot_on(rows: Tensor, pairs: EdgeSet) -> Tensor:
    """Inner products of many pairs of rows."""
    return measure(compiled.DOT, dot, rows, pairs)


def manhattan_on(rows: Tensor, pairs: EdgeSet) -> Tensor:
    """Sums of absolute differences of many pairs of rows."""
    return measure(compiled.MANHATTAN, manhattan, rows, pairs)


def squared_on(rows: Tensor, pairs: EdgeSet) -> Tensor:
    """Squared Euclidean distances of many pairs of rows."""
    return measure(compiled.SQUARED, squared, rows, pairs)


def cosine_on(rows: Tensor, pairs: EdgeSet) -> Tensor:
    """Cosines of many pairs of rows; each row's length is computed once."""
    return dot_on(unit_rows(rows), pairs)


def euclidean_on(rows: Tensor, pairs: EdgeSet) -> Tensor:
    """Euclidean distances of many pairs of rows."""
    return _root(squared_on(rows, pairs))


def distances_on(rows: Tensor, pairs: EdgeSet, norm: int) -> Tensor:
    """Manhattan (1) or Euclidean (2) distances of many pairs of rows."""
    return manhattan_on(rows, pairs) if norm == 1 else euclidean_on(rows, pairs)


DOT = Measure(dot, dot_on, all_dots, factors=lambda rows: rows)
COSINE = Measure(cosine, cosine_on, all_cosines, factors=unit_rows)
MANHATTAN = Measure(manhattan, manhattan_on, lambda rows: all_distances(rows, 1), norm=1)
EUCLIDEAN = Measure(euclidean, euclidean_on, lambda rows: all_distances(rows, 2))
SQUARED = Measure(squared, squared_on, all_squared)


def make_kernel(
    measure: Measure,
    formula: Callable[[Tensor, Any], Tensor] | None,
    summary: str,
    reference: str,
    scaled: bool = False,
) -> Kernel:
    """The kernel ``formula(m, scale)`` of one measure m, or m itself, for single pairs, for many and for all at once."""
    factors = measure.factors if formula is None else None
    formula = formula or (lambda m, s: m)
    return Kernel(
        lambda x, y, scale: formula(measure.pairs(x, y), scale),
        summary,
        reference,
        scaled=scaled,
        norm=measure.norm,
        symmetric=True,
        on_edges=lambda rows, pairs, scale: formula(measure.on_edges(rows, pairs), scale),
        dense=lambda rows, scale: formula(measure.dense(rows), scale),
        factors=factors,
    )


_LSP = "LSP (arXiv 2003.10477)"
_JOSHI = "G-CRD (arXiv 2111.04964)"
_GKD = "GKD (arXiv 2210.13014)"

KERNELS: dict[str, Kernel] = {
    "laplacian": make_kernel(
        MANHATTAN,
        lambda m, s: torch.exp(-m / s),
        "exp(-|x-y|_1 / s)",
        "Alignahead (arXiv 2205.02468)",
        scaled=True,
    ),
    "rbf": make_kernel(
        SQUARED,
        lambda m, s: torch.exp(-m / (2 * s * s)),
        "exp(-|x-y|^2 / (2 s^2)); 2 sigma = 200 of LSP is s = 10",
        _LSP,
        scaled=True,
    ),
    "heat": make_kernel(SQUARED, lambda m, s: torch.exp(-m / (4 * s)), "exp(-|x-y|^2 / (4 s))", _GKD, scaled=True),
    "linear": make_kernel(DOT, None, "<x, y>", _LSP),
    "poly": make_kernel(DOT, lambda m, s: (m + 1).pow(3), "(<x, y> + 1)^3", _LSP),
    "cosine": make_kernel(COSINE, None, "<x, y> / (|x| |y|), 0 for a zero vector", _JOSHI),
    "cosine_squared": make_kernel(
        COSINE, lambda m, s: m.square(), "the square of cosine ('poly' of the reference)", _JOSHI
    ),
    "l2": make_kernel(EUCLIDEAN, lambda m, s: m, "|x-y|, a distance: far nodes get weight", _JOSHI),
    "euclidean": make_kernel(SQUARED, lambda m, s: m, "|x-y|^2, positive as printed: far nodes get weight", _LSP),
    "sigmoid": make_kernel(DOT, lambda m, s: m.tanh(), "tanh<x, y>", _GKD),
}
