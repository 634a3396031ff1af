"""A number that is a sum over rows, block by block: what lies between is small enough for a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gkd_plugin.ops import compiled

ROWS = 1024
"""Rows of a block."""
SHORTEST = 1e-12
"""Rows up to this length count as 0."""


class _Sum(torch.autograd.Function):
    """The gradient is taken along with the value, while a block is still in the cache; it is linear in what comes back."""

    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], split: int, learns: bool, *tensors: Tensor) -> Tensor:
        wanted = [place for place, tensor in enumerate(tensors) if learns and ctx.needs_input_grad[place + 3]]
        grads = {place: torch.zeros_like(tensors[place]) for place in wanted}
        shared = [tensor.detach() for tensor in tensors[split:]]
        total = tensors[0].new_zeros(())
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
    @once_differentiable
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
        - **output:** a scalar; second derivatives are not there
    """
    tensors = (*rows, *shared)
    out: Tensor = _Sum.apply(function, len(rows), torch.is_grad_enabled(), *tensors)  # type: ignore[no-untyped-call]
    return out


class _UnitGap(torch.autograd.Function):
    """Few passes, most of them in place: its tables are the largest of a block."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, positive: bool, learns: bool) -> Tensor:
        found = compiled.unit_gap(x, y, positive, SHORTEST)
        if found is not None:
            ctx.save_for_backward(*found[1:])
            return found[0]
        if positive:
            x, y = x.relu(), y.relu()
        sides = []
        for rows in (x, y):
            length = torch.linalg.vector_norm(rows, dim=1, keepdim=True)
            some = length > SHORTEST
            inverse = torch.where(some, 1 / torch.where(some, length, 1.0), 0.0)
            sides.append((rows.mul_(inverse) if positive else rows * inverse, inverse))
        (x, over_x), (y, over_y) = sides
        apart = (x - y).flatten()
        value = apart.dot(apart)
        if learns:
            # of |x - y|^2 for rows of length 1: (x·y) x - y, over half the length that x had, where ReLU let it through
            cosine = (x * y).sum(dim=1, keepdim=True)
            for_x = (x * (2 * over_x * cosine)).addcmul_(y, over_x, value=-2)
            for_y = (y * (2 * over_y * cosine)).addcmul_(x, over_y, value=-2)
            if positive:
                pass_on = torch.ops.aten.threshold_backward
                for_x, for_y = pass_on(for_x, x, 0), pass_on(for_y, y, 0)
            ctx.save_for_backward(for_x, for_y)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *given: Any) -> Any:
        for_x, for_y = ctx.saved_tensors
        return for_x * given[0], for_y * given[0], None, None


def unit_gap(x: Tensor, y: Tensor, positive: bool) -> Tensor:
    """The sum of squared differences of rows that are scaled to length 1 first; a row of length 0 stays 0.

    Args:
        x, y (Tensor): ``[N, d]``.
        positive (bool): Whether only what is positive in them counts (ReLU).

    Shapes:
        - **output:** a scalar; second derivatives are not there
    """
    out: Tensor = _UnitGap.apply(x, y, positive, torch.is_grad_enabled())  # type: ignore[no-untyped-call]
    return out
