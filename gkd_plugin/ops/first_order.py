"""Gradients of our own that cannot be derived again: asking for that is refused, where torch would give 0."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch.autograd.function import once_differentiable


def first_order(backward: Callable[..., Any]) -> Callable[..., Any]:
    """For the ``backward`` of a function whose gradient is not differentiable, as torch's ``once_differentiable``.

    That one notices a second derivative only where the gradient that comes in depends on something; of a plain
    ``value.backward(create_graph=True)`` the second derivative would be missing without a word.

    Args:
        backward (callable): ``backward(ctx, *grads)``.

    Raises:
        RuntimeError: From the gradient, under ``create_graph=True``.
    """
    once = once_differentiable(backward)

    @wraps(backward)
    def checked(ctx: Any, *grads: Any) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "gkd_plugin: this term has no second derivatives, as create_graph=True asks for. Leave it out of what is "
                "derived twice."
            )
        return once(ctx, *grads)

    return checked
