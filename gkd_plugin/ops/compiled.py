"""Measures of many pairs of rows in compiled loops (numba, the extra ``fast``): nothing of pairs x width is ever built.

Numba is imported at the first use that pays for it. Threads are torch's; each writes its own part of the result, so the
numbers are the same in every run with as many threads.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gkd_plugin.errors import describe_error
from gkd_plugin.ops.edges import EdgeSet
from gkd_plugin.printing import tell

SMALLEST = 2**18
"""Pairs x width from which compiled loops are used: below, an operation of torch's is as fast."""
_LARGE = 2**24  # where their absence is worth a line
_TYPES = (torch.float32, torch.float64)
_MANY = 4096  # pairs that make a thread worth its start

MANHATTAN, SQUARED, DOT = "manhattan", "squared", "dot"


class _Measure(torch.autograd.Function):
    """One measure of many pairs; the gradient goes into one buffer of the rows' size."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, pairs: EdgeSet, name: str) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.pairs, ctx.name = pairs, name
        out = rows.new_empty(pairs.num_pairs)
        first, second = pairs.index.contiguous().numpy()
        _share(getattr(_loops(), name), pairs.num_pairs, _read(rows), first, second, out.numpy())
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        (rows,) = ctx.saved_tensors
        pairs: EdgeSet = ctx.pairs
        out = torch.zeros_like(rows, memory_format=torch.contiguous_format)
        given = _read(grads[0])
        if torch.get_num_threads() == 1:
            first, second = pairs.index.contiguous().numpy()
            getattr(_loops(), f"{ctx.name}_by_pair")(_read(rows), first, second, given, out.numpy())
        else:
            starts, partners, places = (part.numpy() for part in pairs.ends)
            loop = getattr(_loops(), f"{ctx.name}_by_node")
            _share(loop, pairs.num_nodes, _read(rows), starts, partners, places, given, out.numpy())
        return out, None, None


def measure(name: str, rows: Tensor, pairs: EdgeSet) -> Tensor | None:
    """A measure of the rows at both ends of many pairs, or ``None`` where compiled loops cannot be used or do not pay.

    Args:
        name (str): ``manhattan`` (sums of absolute differences), ``squared`` (of squared ones) or ``dot``.
        rows (Tensor): ``[N, d]``.
        pairs (EdgeSet): P pairs.

    Returns:
        Tensor: ``[P]``.
    """
    size = pairs.num_pairs * rows.size(-1)
    if size < SMALLEST or rows.device.type != "cpu" or rows.dtype not in _TYPES or rows.dim() != 2:
        return None
    if not is_there(size >= _LARGE):
        return None
    if (
        rows.size(0) < pairs.num_nodes or not pairs.is_inside
    ):  # loops would read and write beside the rows; torch says it
        return None
    out: Tensor = _Measure.apply(rows, pairs, name)  # type: ignore[no-untyped-call]
    return out


def is_there(aloud: bool = True) -> bool:
    """Whether compiled loops can be used; where not, why is said once if asked to.

    Args:
        aloud (bool): Whether to say it.
    """
    reason = _find_obstacle()
    if reason and aloud:
        tell(f"edges are compared by torch's operations: {reason}")
    return not reason


@cache
def _find_obstacle() -> str:
    """Why compiled loops cannot be used, or an empty text; the loops are compiled here, or read from their cache."""
    if find_spec("numba") is None:
        return "numba is not installed (pip install 'gkd_plugin[fast]' makes this several times faster)"
    try:
        if import_module("numba").config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT is set"
        loops = _loops()
        for kind in _TYPES:
            rows, index = torch.eye(2, dtype=kind).numpy(), torch.tensor([[0], [1]]).numpy()
            out = torch.zeros(1, dtype=kind).numpy()
            loops.manhattan(0, 1, rows, index[0], index[1], out)
            if out[0] != 2:
                return f"numba computes a distance of 2 as {out[0]}"
    except Exception as error:  # a numba that does not suit this numpy, a cache that cannot be written
        return f"numba does not work here ({describe_error(error)})"
    return ""


def _loops() -> Any:
    return import_module("gkd_plugin.ops.loops")


def _read(values: Tensor) -> Any:
    return values.detach().contiguous().numpy()


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
