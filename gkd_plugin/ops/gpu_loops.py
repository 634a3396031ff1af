"""The loops that Triton compiles for GPUs: one program compares some pairs, or sums one node's gradient.

A node's gradient is summed over its pairs in their order, without atomic additions: the same numbers in every run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import triton
import triton.language as tl
from torch import Tensor

if TYPE_CHECKING:
    from gkd_plugin.ops.edges import EdgeSet

_compile = triton.jit  # reads annotations of constants only
_TILE = 4096  # numbers that a program holds of each end
_WIDEST = 256  # of them in one row at a time


@_compile
def _compare(
    rows,
    ends,
    out,
    count,
    width: tl.constexpr,
    NAME: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    pair = tl.program_id(0).to(tl.int64) * PAIRS + tl.arange(0, PAIRS)
    inside = pair < count
    first = tl.load(ends + pair, mask=inside, other=0) * width
    second = tl.load(ends + count + pair, mask=inside, other=0) * width
    total = tl.zeros([PAIRS], rows.dtype.element_ty)
    for start in range(0, width, WIDTH):
        column = start + tl.arange(0, WIDTH)
        mask = inside[:, None] & (column < width)[None, :]
        x = tl.load(rows + first[:, None] + column[None, :], mask=mask, other=0)
        y = tl.load(rows + second[:, None] + column[None, :], mask=mask, other=0)
        if NAME == "manhattan":
            total += tl.sum(tl.abs(x - y), 1)
        elif NAME == "squared":
            total += tl.sum((x - y) * (x - y), 1)
        else:
            total += tl.sum(x * y, 1)
    tl.store(out + pair, total, mask=inside)


@_compile
def _spread(
    rows,
    starts,
    partners,
    places,
    given,
    out,
    width: tl.constexpr,
    NAME: tl.constexpr,
    PAIRS: tl.constexpr,
    WIDTH: tl.constexpr,
):
    node = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    there = column < width
    x = tl.load(rows + node * width + column, mask=there, other=0)
    total = tl.zeros([WIDTH], rows.dtype.element_ty)
    end = tl.load(starts + node + 1)
    for start in range(tl.load(starts + node), end, PAIRS):
        place = start + tl.arange(0, PAIRS)
        inside = place < end
        partner = tl.load(partners + place, mask=inside, other=0) * width
        share = tl.load(given + tl.load(places + place, mask=inside, other=0), mask=inside, other=0)
        mask = inside[:, None] & there[None, :]
        y = tl.load(rows + partner[:, None] + column[None, :], mask=mask, other=0)
        apart = x[None, :] - y
        if NAME == "manhattan":
            slope = (apart > 0).to(y.dtype) - (apart < 0).to(y.dtype)
        elif NAME == "squared":
            slope = apart + apart
        else:
            slope = y
        total += tl.sum(tl.where(mask, share[:, None] * slope, 0), 0)
    tl.store(out + node * width + column, total, mask=there)


def compare(name: str, rows: Tensor, index: Tensor) -> Tensor:
    """A measure of the rows at both ends of each pair, ``[P]``."""
    count = index.size(1)
    out = rows.new_empty(count)
    if count:
        width = _fit(rows)
        some = _TILE // width
        grid = (triton.cdiv(count, some),)
        with _on(rows):
            _compare[grid](rows, index.contiguous(), out, count, rows.size(1), NAME=name, PAIRS=some, WIDTH=width)
    return out


def spread(name: str, rows: Tensor, pairs: EdgeSet, given: Tensor) -> Tensor:
    """The gradient of :func:`compare` for the rows, where ``given`` is that of each value."""
    out = torch.zeros_like(rows)
    if pairs.num_pairs:
        width = _fit(rows)
        grid = (pairs.num_nodes, triton.cdiv(rows.size(1), width))
        with _on(rows):
            _spread[grid](rows, *pairs.ends, given, out, rows.size(1), NAME=name, PAIRS=8, WIDTH=width, num_warps=1)
    return out


def _fit(rows: Tensor) -> int:
    return min(_WIDEST, int(triton.next_power_of_2(max(rows.size(1), 1))))


def _on(rows: Tensor) -> Any:
    """Triton launches on the current device, which need not be the rows'."""
    return torch.cuda.device(rows.device) if rows.is_cuda else torch.no_grad()
