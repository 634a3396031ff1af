"""The loops that numba compiles; they release Python's lock, and are kept on disk for the next process.

Sums may be reordered, so that they run in vector registers; NaN and infinity stay what they are.
"""

from __future__ import annotations

from typing import Any

from numba import njit

_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})


@_compile
def manhattan(low: int, high: int, rows: Any, first: Any, second: Any, out: Any) -> None:
    """Sums of absolute differences."""
    for pair in range(low, high):
        x, y = rows[first[pair]], rows[second[pair]]
        total = rows.dtype.type(0)
        for k in range(rows.shape[1]):
            total += abs(x[k] - y[k])
        out[pair] = total


@_compile
def squared(low: int, high: int, rows: Any, first: Any, second: Any, out: Any) -> None:
    """Sums of squared differences."""
    for pair in range(low, high):
        x, y = rows[first[pair]], rows[second[pair]]
        total = rows.dtype.type(0)
        for k in range(rows.shape[1]):
            apart = x[k] - y[k]
            total += apart * apart
        out[pair] = total


@_compile
def dot(low: int, high: int, rows: Any, first: Any, second: Any, out: Any) -> None:
    """Inner products."""
    for pair in range(low, high):
        x, y = rows[first[pair]], rows[second[pair]]
        total = rows.dtype.type(0)
        for k in range(rows.shape[1]):
            total += x[k] * y[k]
        out[pair] = total


# ------------------------------------------------------------------------------------------------ gradients, pair by pair
@_compile
def manhattan_by_pair(rows: Any, first: Any, second: Any, given: Any, out: Any) -> None:
    """The gradient of :func:`manhattan`."""
    for pair in range(len(first)):
        u, v, share = first[pair], second[pair], given[pair]
        if u != v:
            for k in range(rows.shape[1]):
                apart = rows[u, k] - rows[v, k]
                part = share * (rows.dtype.type(apart > 0) - rows.dtype.type(apart < 0))
                out[u, k] += part
                out[v, k] -= part


@_compile
def squared_by_pair(rows: Any, first: Any, second: Any, given: Any, out: Any) -> None:
    """The gradient of :func:`squared`."""
    for pair in range(len(first)):
        u, v, twice = first[pair], second[pair], given[pair] + given[pair]
        if u != v:
            for k in range(rows.shape[1]):
                part = twice * (rows[u, k] - rows[v, k])
                out[u, k] += part
                out[v, k] -= part


@_compile
def dot_by_pair(rows: Any, first: Any, second: Any, given: Any, out: Any) -> None:
    """The gradient of :func:`dot`."""
    for pair in range(len(first)):
        u, v, share = first[pair], second[pair], given[pair]
        if u != v:
            for k in range(rows.shape[1]):
                x, y = rows[u, k], rows[v, k]
                out[u, k] += share * y
                out[v, k] += share * x
        else:
            for k in range(rows.shape[1]):
                out[u, k] += (share + share) * rows[u, k]


# ------------------------------------------------------------------- gradients, node by node: threads do not meet in a row
@_compile
def manhattan_by_node(
    low: int, high: int, rows: Any, starts: Any, partners: Any, places: Any, given: Any, out: Any
) -> None:
    """The gradient of :func:`manhattan`."""
    for node in range(low, high):
        for end in range(starts[node], starts[node + 1]):
            y, share = rows[partners[end]], given[places[end]]
            for k in range(rows.shape[1]):
                apart = rows[node, k] - y[k]
                out[node, k] += share * (rows.dtype.type(apart > 0) - rows.dtype.type(apart < 0))


@_compile
def squared_by_node(
    low: int, high: int, rows: Any, starts: Any, partners: Any, places: Any, given: Any, out: Any
) -> None:
    """The gradient of :func:`squared`."""
    for node in range(low, high):
        for end in range(starts[node], starts[node + 1]):
            y, twice = rows[partners[end]], given[places[end]] + given[places[end]]
            for k in range(rows.shape[1]):
                out[node, k] += twice * (rows[node, k] - y[k])


@_compile
def dot_by_node(low: int, high: int, rows: Any, starts: Any, partners: Any, places: Any, given: Any, out: Any) -> None:
    """The gradient of :func:`dot`."""
    for node in range(low, high):
        for end in range(starts[node], starts[node + 1]):
            y, share = rows[partners[end]], given[places[end]]
            for k in range(rows.shape[1]):
                out[node, k] += share * y[k]
