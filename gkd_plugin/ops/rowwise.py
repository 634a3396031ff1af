"""A number that is a sum over rows, block by block: what lies between is small enough for a core's cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

ROWS = 512
"""Rows of a block."""


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
