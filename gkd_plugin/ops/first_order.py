"""Gradients of our own that cannot be derived again: asking for that is refused, where torch would give 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_REFUSAL = (
    "gkd_plugin: the gradient of this term does not require grad: it has no second derivatives. Leave the term out of what is "
    "derived twice (create_graph=True)."
)


class _Refused(torch.autograd.Function):
    """A gradient as it is, which depends on tensors in a way that cannot be derived."""

    @staticmethod
    def forward(ctx: Any, given: Tensor, *depends: Tensor) -> Tensor:
        return given.view_as(given)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        raise RuntimeError(_REFUSAL)


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the ``backward`` of a function whose gradient is not differentiable, as torch's ``once_differentiable``.

    That one notices a second derivative only where the gradient that comes in depends on something. Of a sum of this and
    another loss the part of this one would be missing without a word.

    Args:
        backward (callable): ``backward(ctx, *grads)``.

    Raises:
        RuntimeError: Where its gradient is derived; under ``create_graph=True`` at once, where what it depends on is not
            kept.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if not torch.is_grad_enabled():  # no create_graph=True
            return once(ctx, *grads)
        kept, given = (
            [each for each in many if each is not None and each.requires_grad] for many in (ctx.saved_tensors, grads)
        )
        if not kept:  # the gradient was taken along with the value
            raise RuntimeError(_REFUSAL)
        found = once(ctx, *grads)
        several = found if isinstance(found, tuple) else (found,)
        marked = tuple(
            _Refused.apply(each.detach(), *kept, *given) if isinstance(each, Tensor) else each  # type: ignore[no-untyped-call]
            for each in several
        )
        return marked if isinstance(found, tuple) else marked[0]

    return checked
