"""Measures of many pairs of rows in compiled loops: nothing of pairs x width is ever built.

On a CPU numba compiles them (the extra ``fast``), on a GPU Triton, which torch brings along. Either is imported at the
first use that pays for it.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gkd_plugin.errors import describe_error
from gkd_plugin.ops.first_order import first_order
from gkd_plugin.printing import tell

if TYPE_CHECKING:  # edges come to these loops
    from gkd_plugin.ops.edges import EdgeSet

SMALLEST = 2**16
"""Pairs x width from which compiled loops are used: below, what they save is not worth loading them."""
ON_GPU = 2**7
"""How many times as many on a GPU."""
_LARGE = 2**24  # where their absence is worth a line
_TYPES = (torch.float32, torch.float64)
_FEW = 2**13  # values in groups; below, loops are not worth loading
_COMPILERS = {"cpu": "numba", "cuda": "triton"}
_LOOPS = {"cpu": "gkd_plugin.ops.loops", "cuda": "gkd_plugin.ops.gpu_loops"}

MANHATTAN, SQUARED, DOT = "manhattan", "squared", "dot"


class _Measure(torch.autograd.Function):
    """One measure of many pairs; the gradient goes into one buffer of the rows' size."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, pairs: EdgeSet, name: str) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.pairs, ctx.name = pairs, name
        values: Tensor = _loops(rows.device.type).compare(name, rows.detach().contiguous(), pairs.index)
        return values

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Any) -> Any:
        (rows,) = ctx.saved_tensors
        given = grads[0].detach().contiguous()
        out = _loops(rows.device.type).spread(ctx.name, rows.detach().contiguous(), ctx.pairs, given)
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
    if (
        size < SMALLEST * (1 if rows.device.type == "cpu" else ON_GPU)
        or rows.device.type not in _LOOPS
        or rows.dtype not in _TYPES
        or rows.dim() != 2
    ):
        return None
    if not is_there(rows.device.type, size >= _LARGE):
        return None
    # loops would read and write beside the rows; torch says it
    if rows.size(0) < pairs.num_nodes or not pairs.is_inside:
        return None
    out: Tensor = _Measure.apply(rows, pairs, name)  # type: ignore[no-untyped-call]
    return out


def log_softmax(values: Tensor, group: Tensor, num_groups: int) -> Tensor | None:
    """The logarithm of the softmax over the values of each group, or ``None`` as for :func:`measure`.

    Args:
        values (Tensor): ``[P]``.
        group (Tensor): The group of each value, ``[P]``, all of them there.
        num_groups (int): Number of groups.
    """
    if values.numel() < _FEW or values.device.type != "cpu" or values.dtype not in _TYPES or values.dim() != 1:
        return None
    if not is_there(aloud=False):
        return None
    out: Tensor = _LogSoftmax.apply(values, group, num_groups)  # type: ignore[no-untyped-call]
    return out


class _LogSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Tensor, num_groups: int) -> Tensor:
        out: Tensor = _loops("cpu").log_softmax(values.detach().contiguous(), group, num_groups)
        ctx.save_for_backward(out, group)
        ctx.num_groups = num_groups
        return out

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Any) -> Any:
        out, group = ctx.saved_tensors
        given = grads[0].detach().contiguous()
        total = _loops("cpu").sum_groups(given, group, ctx.num_groups)
        return given - out.exp() * total.index_select(0, group), None, None


def unit_rows(rows: Tensor, shortest: float) -> Tensor | None:
    """Rows scaled to length 1, with their gradient, or ``None`` as for :func:`measure`.

    Args:
        rows (Tensor): ``[N, d]``.
        shortest (float): Rows up to this length become 0.
    """
    if rows.dim() != 2 or not _takes(rows):
        return None
    out: Tensor = _UnitRows.apply(rows, shortest)  # type: ignore[no-untyped-call]
    return out


class _UnitRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, shortest: float) -> Tensor:
        out: Tensor
        out, factors = _loops("cpu").unit_rows(rows.detach().contiguous(), shortest)
        ctx.save_for_backward(out, factors)
        return out

    @staticmethod
    @first_order
    def backward(ctx: Any, *grads: Any) -> Any:
        return _loops("cpu").unit_rows_back(*ctx.saved_tensors, grads[0].detach().contiguous()), None


def unit_gap(x: Tensor, y: Tensor, positive: bool, shortest: float) -> tuple[Tensor, Tensor, Tensor] | None:
    """The sum of squared differences of rows scaled to length 1, and its gradients for both sides; or ``None`` as for
    :func:`measure`.

    Args:
        x, y (Tensor): ``[N, d]``.
        positive (bool): Whether only what is positive in them counts (ReLU).
        shortest (float): Rows up to this length count as 0.
    """
    if not _takes(x) or x.shape != y.shape:  # loops do not look at shapes: torch's operations say what is wrong
        return None
    found: tuple[Tensor, Tensor, Tensor] = _loops("cpu").unit_gap(x.contiguous(), y.contiguous(), positive, shortest)
    return found


def _takes(rows: Tensor) -> bool:
    many = rows.numel() >= SMALLEST
    return many and rows.device.type == "cpu" and rows.dtype in _TYPES and is_there(aloud=False)


def is_there(device: str = "cpu", aloud: bool = True) -> bool:
    """Whether compiled loops can be used; where a compiler is there and does not work, that is said once.

    Args:
        device (str): ``cpu`` or ``cuda``.
        aloud (bool): Whether to say it, too, where there is none.
    """
    reason, broken = _find_obstacle(device)
    if reason and (aloud or broken):
        tell(f"edges and rows are compared by torch's operations: {reason}")
    return not reason


@cache
def _find_obstacle(device: str) -> tuple[str, bool]:
    """Why compiled loops cannot be used, or an empty text, and whether that is a fault; the loops are compiled here, or read
    from their cache.
    """
    compiler = _COMPILERS[device]
    if find_spec(compiler) is None:
        how = "pip install 'gkd_plugin[fast]'" if device == "cpu" else f"pip install {compiler}"
        return f"{compiler} is not installed ({how} makes this several times faster)", False
    try:
        if device == "cpu" and import_module("numba").config.DISABLE_JIT:
            return "NUMBA_DISABLE_JIT is set", False
        pair = torch.tensor([[0], [1]], device=device)
        for kind in _TYPES:
            found = _loops(device).compare(MANHATTAN, torch.eye(2, dtype=kind, device=device), pair).item()
            if found != 2:
                return f"{compiler} computes a distance of 2 as {found:g}", True
    except Exception as error:  # a numba that does not suit this numpy, a cache that cannot be written, no C compiler
        return f"{compiler} does not work here ({describe_error(error)})", True
    return "", False


def _loops(device: str) -> Any:
    return import_module(_LOOPS[device])
