"""A function of many pairs of rows, with memory of order pairs + nodes x width instead of pairs x width."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK_ELEMENTS = 2**22
"""Numbers in one gathered block of rows (16 MiB of float32); only blocks that need the gradient at once are kept."""

Function = Callable[[Tensor, Tensor], Tensor]


def pair_values(function: Function, rows: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """``function`` of the rows at both ends of many pairs.

    Args:
        function (callable): Gives ``[P]`` of two ``[P, d]``; draws nothing at random.
        rows (Tensor): ``[N, d]``.
        first, second (Tensor): The row numbers of each pair, ``[P]``.

    Returns:
        Tensor: ``[P]``. Where several chunks are needed each is computed again for its gradient.
    """
    size = max(1, CHUNK_ELEMENTS // max(1, rows.size(-1)))
    pairs = zip(torch.split(first, size), torch.split(second, size), strict=True)

    def block(rows: Tensor, u: Tensor, v: Tensor) -> Tensor:
        return function(rows.index_select(0, u), rows.index_select(0, v))

    return _evaluate(block, [(rows, u, v) for u, v in pairs])


def matrix_values(function: Function, rows: Tensor) -> Tensor:
    """``function`` of all ordered pairs of rows, ``[n, n]``, chunked like :func:`pair_values`."""
    count = rows.size(0)
    size = max(1, CHUNK_ELEMENTS // max(1, rows.numel()))

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
