"""A number that is a sum over rows, block by block: what lies between is small enough for a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from gkd_plugin.ops import compiled
from gkd_plugin.ops.first_order import first_order

ROWS = 1024
"""Rows of a block."""
SHORTEST = 1e-12
"""Rows up to this length count as 0."""
NOTHING = (None, None)
"""For weight and bias, where rows are not projected."""


def _start(rows: Tensor) -> Tensor:
    """What a sum begins with: half precision holds no sum of many rows."""
    return rows.new_zeros((), dtype=torch.promote_types(rows.dtype, torch.float32))


class _Sum(torch.autograd.Function):
    """The gradient is taken along with the value, while a block is still in the cache; it is linear in what comes back."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], split: int, learns: bool, *tensors: Tensor) -> Tensor:
        wanted = [place for place, tensor in enumerate(tensors) if learns and ctx.needs_input_grad[place + 3]]
        grads = {place: torch.zeros_like(tensors[place]) for place in wanted}
        shared = [tensor.detach() for tensor in tensors[split:]]
        total = _start(tensors[0])
        for start in range(0, tensors[0].size(0), ROWS):
            part = [tensor.detach()[start : start + ROWS] for tensor in tensors[:split]] + shared
            leaves = [part[place].requires_grad_() for place in wanted]
            with torch.set_grad_enabled(bool(wanted)):
                value = function(*part)
            total += value.detach()
            found = torch.autograd.grad(value, leaves, allow_unused=True) if wanted and value.requires_grad else ()
            for place, grad in zip(wanted, found, strict=False):
                if grad is not None:
                    target = grads[place][start : start + ROWS] if place < split else grads[place]
                    target += grad
        ctx.places = wanted
        ctx.save_for_backward(*grads.values())
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, *given: Any) -> Any:
        found = {place: grad * given[0] for place, grad in zip(ctx.places, ctx.saved_tensors, strict=True)}
        count = len(ctx.needs_input_grad) - 3
        return None, None, None, *(found.get(place) for place in range(count))


def sum_rows(function: Callable[..., Tensor], rows: Sequence[Tensor], shared: Sequence[Tensor] = ()) -> Tensor:
    """The sum over blocks of rows of ``function(*blocks, *shared)``.

    Args:
        function (callable): Gives a scalar that is a sum over the rows of its blocks; draws nothing at random.
        rows (sequence of Tensor): Tensors with the same number of rows, ``[N, ...]``.
        shared (sequence of Tensor): What every block is computed with.

    Shapes:
        - **output:** a scalar; a second derivative is refused
    """
    tensors = (*rows, *shared)
    out: Tensor = _Sum.apply(function, len(rows), torch.is_grad_enabled(), *tensors)  # type: ignore[no-untyped-call]
    return out


def unit_rows(rows: Tensor) -> Tensor:
    """Rows scaled to length 1; a row of length 0 stays 0 and gets the gradient 0.

    Args:
        rows (Tensor): ``[..., d]``.
    """
    found = compiled.unit_rows(rows, SHORTEST)
    if found is None:
        found = rows * _invert(rows)
    return found


def _invert(rows: Tensor) -> Tensor:
    """1 over the length of each row, ``[..., 1]``, and 0 where that is 0."""
    length = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    some = length > SHORTEST
    return torch.where(some, 1 / torch.where(some, length, 1.0), 0.0)


class _UnitGaps(torch.autograd.Function):
    """Gradients in closed form, taken along with the value; most passes are in place, for its tables are the largest of a step."""

    @staticmethod
    def forward(ctx: Any, positive: bool, learns: bool, *tensors: Tensor | None) -> Tensor:
        x, weight, bias, y, y_weight, y_bias = (None if each is None else each.detach() for each in tensors)
        assert x is not None and y is not None
        total = _start(x)
        owners = (x, weight, bias, None, y_weight, y_bias)
        grads = [torch.zeros_like(each) if learns and each is not None else None for each in owners]
        for start in range(0, x.size(0), ROWS):
            ours, theirs = x[start : start + ROWS], y[start : start + ROWS]
            a, b = _project(ours, weight, bias), _project(theirs, y_weight, y_bias)
            value, for_a, for_b = compiled.unit_gap(a, b, positive, SHORTEST) or _compare(a, b, positive)
            total += value
            if learns:
                assert grads[0] is not None
                grads[0][start : start + ROWS] = for_a if weight is None else for_a @ weight
                _add_up(grads[1], grads[2], ours, for_a)
                _add_up(grads[4], grads[5], theirs, for_b)
        ctx.save_for_backward(*grads)
        return total

    @staticmethod
    @first_order
    def backward(ctx: Any, *given: Any) -> Any:
        return None, None, *(None if grad is None else grad * given[0] for grad in ctx.saved_tensors)


def _project(rows: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    return rows if weight is None else functional.linear(rows, weight, bias)


def _add_up(for_weight: Tensor | None, for_bias: Tensor | None, rows: Tensor, given: Tensor) -> None:
    """Adds to the gradients of a projection, where there is one."""
    if for_weight is not None and for_bias is not None:
        for_weight.addmm_(given.t(), rows)
        for_bias += given.sum(dim=0)


def _compare(x: Tensor, y: Tensor, positive: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The squared difference of rows scaled to length 1, summed, and its gradients."""
    if positive:
        x, y = x.relu(), y.relu()
    over_x, over_y = _invert(x), _invert(y)
    x, y = x * over_x, y * over_y
    apart = (x - y).flatten()
    # of |x - y|^2 for rows of length 1: (x·y) x - y, over half the length that x had
    cosine = (x * y).sum(dim=1, keepdim=True)
    for_x = (x * (2 * over_x * cosine)).addcmul_(y, over_x, value=-2)
    for_y = (y * (2 * over_y * cosine)).addcmul_(x, over_y, value=-2)
    if positive:
        pass_on = torch.ops.aten.threshold_backward
        for_x, for_y = pass_on(for_x, x, 0), pass_on(for_y, y, 0)
    return apart.dot(apart), for_x, for_y


def unit_gaps(
    x: Tensor,
    y: Tensor,
    x_map: Sequence[Tensor],
    y_map: Sequence[Tensor],
    positive: bool,
) -> Tensor:
    """The sum of squared differences of rows that are projected and scaled to length 1; a row of length 0 stays 0.

    Args:
        x, y (Tensor): ``[N, a]`` and ``[N, b]``. Only ``x`` gets a gradient.
        x_map, y_map (sequence of Tensor): Weight ``[d, a]`` or ``[d, b]``, and bias ``[d]``, of a side's projection; or
            nothing.
        positive (bool): Whether only what is positive after it counts (ReLU).

    Shapes:
        - **output:** a scalar; a second derivative is refused
    """
    tensors = (x, *(x_map or NOTHING), y, *(y_map or NOTHING))
    out: Tensor = _UnitGaps.apply(positive, torch.is_grad_enabled(), *tensors)  # type: ignore[no-untyped-call]
    return out
