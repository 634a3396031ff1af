"""A function of many pairs of rows, with memory of order pairs + nodes x width instead of pairs x width."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.ops.first_order import first_order

CHUNK_ELEMENTS = 2**22
"""Numbers in one gathered block of rows (16 MiB of float32); only blocks that need the gradient at once are kept."""
CACHED_ELEMENTS = 2**19
"""Numbers in one such block where there are several: it stays in a core's cache while it is worked on."""
GPU_ELEMENTS = 2**25
"""Numbers in one block on any other device, whose kernels take too long to start for small ones."""

Function = Callable[[Tensor, Tensor], Tensor]


class _Chunks(torch.autograd.Function):
    """A function of many pairs of rows, chunk by chunk; the gradient goes into one buffer of the rows' size."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, pairs: EdgeSet, function: Function) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.pairs, ctx.function = pairs, function
        chunks = _split(pairs, rows)
        return torch.cat([function(rows.index_select(0, u), rows.index_select(0, v)) for u, v in chunks])

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Any) -> Any:
        (rows,) = ctx.saved_tensors
        out = torch.zeros_like(rows, memory_format=torch.contiguous_format)
        begin = 0
        for u, v in _split(ctx.pairs, rows):
            x, y = (rows.index_select(0, end).requires_grad_() for end in (u, v))
            with torch.enable_grad():
                values = ctx.function(x, y)
            given = grads[0][begin : begin + len(u)]
            begin += len(u)
            for end, part in zip((u, v), torch.autograd.grad(values, (x, y), given, allow_unused=True), strict=True):
                if part is not None:
                    out.scatter_add_(0, end.unsqueeze(-1).expand_as(part), part)
        return out, None, None


def _split(pairs: EdgeSet, rows: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    largest = min(CACHED_ELEMENTS, _largest(rows)) if rows.device.type == "cpu" else GPU_ELEMENTS
    size = max(1, largest // max(1, rows.size(-1)))
    return zip(*(torch.split(end, size) for end in pairs.index), strict=True)


def pair_values(function: Function, rows: Tensor, pairs: EdgeSet) -> Tensor:
    """``function`` of the rows at both ends of many pairs.

    Args:
        function (callable): Gives ``[P]`` of two ``[P, d]``; draws nothing at random.
        rows (Tensor): ``[N, d]``.
        pairs (EdgeSet): P pairs.

    Returns:
        Tensor: ``[P]``. Where several chunks are needed each is computed again for its gradient.
    """
    first, second = pairs.index

    def block(rows: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return function(rows.index_select(0, u), rows.index_select(0, v))

    largest = _largest(rows)
    if first.numel() * rows.size(-1) <= largest:
        return block(rows, first, second)
    if not _learns(function, rows):
        out: Tensor = _Chunks.apply(rows, pairs, function)  # type: ignore[no-untyped-call]
        return out
    size = max(1, largest // max(1, rows.size(-1)))
    chunks = zip(torch.split(first, size), torch.split(second, size), strict=True)
    return _evaluate(block, [(rows, u, v) for u, v in chunks])


def _largest(rows: Tensor) -> int:
    return CHUNK_ELEMENTS if rows.device.type == "cpu" else GPU_ELEMENTS


def _learns(function: Function, rows: Tensor) -> bool:
    """Whether a function has parameters of its own, whose gradient only torch's own ways return."""
    some = rows[:1].detach()
    return torch.is_grad_enabled() and function(some, some).requires_grad


def matrix_values(function: Function, rows: Tensor) -> Tensor:
    """``function`` of all ordered pairs of rows, ``[n, n]``, chunked like :func:`pair_values`."""
    count = rows.size(0)
    size = max(1, _largest(rows) // max(1, rows.numel()))

    def block(part: Tensor, rows: Tensor) -> Tensor:
        left, right = part.repeat_interleave(count, dim=0), rows.repeat(part.size(0), 1)
        return function(left, right).view(-1, count)

    return _evaluate(block, [(part, rows) for part in torch.split(rows, size)])


def _evaluate(block: Callable[..., Tensor], chunks: Sequence[tuple[Tensor, ...]]) -> Tensor:
    if len(chunks) == 1:
        return block(*chunks[0])
    if torch.is_grad_enabled() and chunks[0][0].requires_grad:
        values = [checkpoint(block, *chunk, use_reentrant=False, preserve_rng_state=False) for chunk in chunks]
    else:
        values = [block(*chunk) for chunk in chunks]
    return torch.cat(values)
