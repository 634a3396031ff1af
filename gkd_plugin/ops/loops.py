"""The loops that numba compiles for CPUs; they release Python's lock, and are kept on disk for the next process.

Sums may be reordered, so that they run in vector registers; NaN and infinity stay what they are. Threads are torch's;
each writes its own part of the result, so the numbers are the same in every run with as many threads.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from torch import Tensor

if TYPE_CHECKING:  # edges come to these loops
    from gkd_plugin.ops.edges import EdgeSet

_MANY = 4096  # pairs that make a thread worth its start
_compile = njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})


def compare(name: str, rows: Tensor, index: Tensor) -> Tensor:
    """A measure of the rows at both ends of each pair, ``[P]``."""
    out = rows.new_empty(index.size(1))
    first, second = index.contiguous().numpy()
    _share(globals()[name], index.size(1), rows.numpy(), first, second, out.numpy())
    return out


def spread(name: str, rows: Tensor, pairs: EdgeSet, given: Tensor) -> Tensor:
    """The gradient of :func:`compare` for the rows, where ``given`` is that of each value."""
    out = torch.zeros_like(rows)
    if torch.get_num_threads() == 1:
        first, second = pairs.index.contiguous().numpy()
        globals()[f"{name}_by_pair"](rows.numpy(), first, second, given.numpy(), out.numpy())
    else:
        starts, partners, places = (part.numpy() for part in pairs.ends)
        loop = globals()[f"{name}_by_node"]
        _share(loop, pairs.num_nodes, rows.numpy(), starts, partners, places, given.numpy(), out.numpy())
    return out


def log_softmax(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The logarithm of the softmax over the values of each group, ``[P]``."""
    place = group.contiguous().numpy()
    largest = values.new_full((num_groups,), -torch.inf)
    find_largest(values.numpy(), place, largest.numpy())
    shifted, total = torch.empty_like(values), values.new_zeros(num_groups)
    take_off(values.numpy(), largest.numpy(), place, shifted.numpy())
    add_up(shifted.exp().numpy(), place, total.numpy())
    # a group with values has a sum of at least exp(0); the bound keeps the logarithm of an empty one finite
    take_off(shifted.numpy(), total.clamp_min_(1.0).log_().numpy(), place, shifted.numpy())
    return shifted


def sum_groups(values: Tensor, group: Tensor, num_groups: int) -> Tensor:
    """The sum of each group's values, ``[num_groups]``."""
    out = values.new_zeros(num_groups)
    add_up(values.numpy(), group.contiguous().numpy(), out.numpy())
    return out


def unit_gap(x: Tensor, y: Tensor, positive: bool, shortest: float) -> tuple[Tensor, Tensor, Tensor]:
    """The sum of squared differences of rows scaled to length 1, and its gradients for both sides.

    Args:
        x, y (Tensor): ``[N, d]``.
        positive (bool): Whether only what is positive in them counts (ReLU).
        shortest (float): Rows up to this length count as 0.
    """
    out, for_x, for_y = x.new_empty(len(x)), torch.empty_like(x), torch.empty_like(y)
    arrays = [tensor.numpy() for tensor in (x, y, out, for_x, for_y)]
    floor = 0.0 if positive else math.nan  # nothing is at most NaN
    _share(compare_unit_rows, len(x), shortest, floor, *arrays)
    return out.sum(), for_x, for_y


def unit_rows(rows: Tensor, shortest: float) -> tuple[Tensor, Tensor]:
    """Rows scaled to length 1, and by what each was multiplied, ``[N]``.

    Args:
        rows (Tensor): ``[N, d]``.
        shortest (float): Rows up to this length become 0.
    """
    out, factors = torch.empty_like(rows), rows.new_empty(len(rows))
    _share(scale_rows, len(rows), shortest, *(tensor.numpy() for tensor in (rows, out, factors)))
    return out, factors


def unit_rows_back(out: Tensor, factors: Tensor, given: Tensor) -> Tensor:
    """The gradient of :func:`unit_rows` for its rows, where ``given`` is that of what it gave."""
    found = torch.empty_like(out)
    _share(scale_rows_back, len(out), *(tensor.numpy() for tensor in (out, factors, given, found)))
    return found


def _share(loop: Callable[..., None], count: int, *arrays: Any) -> None:
    """Runs a loop over ``count`` places, in as many parts as torch has threads."""
    parts = max(1, min(torch.get_num_threads(), count // _MANY))
    if parts == 1:
        loop(0, count, *arrays)
        return
    bounds = [count * part // parts for part in range(parts + 1)]
    with ThreadPoolExecutor(parts) as pool:
        for done in [pool.submit(loop, low, high, *arrays) for low, high in itertools.pairwise(bounds)]:
            done.result()


# ----------------------------------------------------------------------------------------------------------------- values
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


# ------------------------------------------------------------------------------------------------------ rows of length 1
@_compile
def scale_rows(low: int, high: int, shortest: float, rows: Any, out: Any, factors: Any) -> None:
    """Each row over its length."""
    zero = rows.dtype.type(0)
    for row in range(low, high):
        x, total = rows[row], zero
        for k in range(rows.shape[1]):
            total += x[k] * x[k]
        factor = rows.dtype.type(1 / np.sqrt(total)) if np.sqrt(total) > shortest else zero
        factors[row] = factor
        for k in range(rows.shape[1]):
            out[row, k] = x[k] * factor


@_compile
def scale_rows_back(low: int, high: int, out: Any, factors: Any, given: Any, found: Any) -> None:
    """The part of each gradient that is at a right angle to its row, over the length that the row had."""
    for row in range(low, high):
        x, gradient, factor = out[row], given[row], factors[row]
        along = factors.dtype.type(0)
        for k in range(out.shape[1]):
            along += x[k] * gradient[k]
        for k in range(out.shape[1]):
            found[row, k] = factor * (gradient[k] - along * x[k])


@_compile
def compare_unit_rows(
    low: int, high: int, shortest: float, floor: float, xs: Any, ys: Any, out: Any, all_for_x: Any, all_for_y: Any
) -> None:
    """The squared difference of each pair of rows when both are scaled to length 1, and its gradients; what is at most
    ``floor`` counts as 0.
    """
    zero, least = xs.dtype.type(0), xs.dtype.type(floor)
    for row in range(low, high):
        x, y, for_x, for_y = xs[row], ys[row], all_for_x[row], all_for_y[row]
        of_x, of_y, of_both, total = zero, zero, zero, zero
        for k in range(xs.shape[1]):
            a, b = zero if x[k] <= least else x[k], zero if y[k] <= least else y[k]
            of_x += a * a
            of_y += b * b
            of_both += a * b
        over_x = xs.dtype.type(1 / np.sqrt(of_x)) if np.sqrt(of_x) > shortest else zero
        over_y = xs.dtype.type(1 / np.sqrt(of_y)) if np.sqrt(of_y) > shortest else zero
        cosine, twice_over_x, twice_over_y = of_both * over_x * over_y, over_x + over_x, over_y + over_y
        for k in range(xs.shape[1]):
            a, b = over_x * (zero if x[k] <= least else x[k]), over_y * (zero if y[k] <= least else y[k])
            apart = a - b
            total += apart * apart
            # of |a - b|^2 for rows of length 1: (a.b) a - b, over half the length that x had
            for_x[k] = zero if x[k] <= least else twice_over_x * (cosine * a - b)
            for_y[k] = zero if y[k] <= least else twice_over_y * (cosine * b - a)
        out[row] = total


# ------------------------------------------------------------------------------------------------------ groups of values
@_compile
def find_largest(values: Any, group: Any, out: Any) -> None:
    """The largest value of each group."""
    for place in range(len(values)):
        out[group[place]] = max(out[group[place]], values[place])


@_compile
def add_up(values: Any, group: Any, out: Any) -> None:
    """The sum of each group."""
    for place in range(len(values)):
        out[group[place]] += values[place]


@_compile
def take_off(values: Any, amounts: Any, group: Any, out: Any) -> None:
    """Each value less the amount of its group."""
    for place in range(len(values)):
        out[place] = values[place] - amounts[group[place]]
