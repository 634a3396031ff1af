"""A stack of runs: their networks run together, in one forward pass and one backward pass (``kd.stack``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gkd_plugin.models.observed import Request
from gkd_plugin.models.rng import RandomStreams, random_state
from gkd_plugin.models.stacked import Alone, Stacker, differentiate
from gkd_plugin.plan import Plan
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.turns import Seat, Turns, find_seat

MOST = 32  # seeds of one run, where nothing else was asked for: memory grows with them


@dataclass(frozen=True)
class _Observe:
    requests: tuple[Request, ...]
    grad: bool


@dataclass(frozen=True)
class _Backward:
    totals: tuple[Tensor, ...]
    keep: bool


@dataclass(frozen=True)
class _Differentiate:
    values: tuple[Tensor, ...]
    weights: tuple[nn.Parameter, ...]


@dataclass(frozen=True)
class _Answer:
    """What a meeting gives: observations, gradients, or nothing."""

    observations: tuple[Observation | None, ...] = ()
    gradients: tuple[Tensor, ...] = ()


class Stack(Turns):
    """Runs that meet at every forward and backward pass.

    Args:
        seed (int): Seeds the stream that all dropout draws from.
        most (int): How many networks are trained together, of one run or of several.
    """

    def __init__(self, seed: int, most: int = MOST) -> None:
        super().__init__()
        self.most = most
        with RandomStreams(seed).use("stack"):
            self.stacker = Stacker(random_state())

    def meet(self, seats: Sequence[Seat[Any]]) -> None:
        """Forward passes first: runs go on until all that went forward together ask for their gradients, or are over."""
        observing = [seat for seat in seats if isinstance(seat.asked, _Observe)]
        if observing:
            requests = [request for seat in observing for request in seat.asked.requests]
            grads = [seat.asked.grad for seat in observing for _ in seat.asked.requests]
            found = iter(self.stacker.observe(requests, grads))
            for seat in observing:
                seat.answer = _Answer(tuple(next(found) for _ in seat.asked.requests))
            return
        asking = [seat for seat in seats if isinstance(seat.asked, _Differentiate)]
        if asking:
            values = [value for seat in asking for value in seat.asked.values]
            gradients = iter(differentiate(values, [each for seat in asking for each in seat.asked.weights]))
            for seat in asking:
                seat.answer = _Answer(gradients=tuple(next(gradients) for _ in seat.asked.weights))
            return
        keep = any(seat.asked.keep for seat in seats)
        torch.autograd.backward([total for seat in seats for total in seat.asked.totals], retain_graph=keep)
        for seat in seats:
            seat.answer = _Answer()


class Member:
    """A run's way to its stack.

    Args:
        seat (Seat): The run's place in it.
        stack (Stack): The stack.
    """

    def __init__(self, seat: Seat[Any], stack: Stack) -> None:
        self.seat, self.stack, self.told = seat, stack, stack.stacker.told

    def observe(self, requests: Sequence[Request]) -> Sequence[Observation | None]:
        answer = self.stack.ask(self.seat, _Observe(tuple(requests), torch.is_grad_enabled()))
        assert isinstance(answer, _Answer)
        return answer.observations

    def backward(self, totals: Sequence[Tensor], keep: bool) -> None:
        self.stack.ask(self.seat, _Backward(tuple(totals), keep))

    def differentiate(self, values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        answer = self.stack.ask(self.seat, _Differentiate(tuple(values), tuple(weights)))
        assert isinstance(answer, _Answer)
        return answer.gradients


def find_together(plan: Plan, streams: RandomStreams) -> Member | Alone | None:
    """Who runs a run's networks: the stack that it is in, or, with ``kd.stack`` and several students, its own.

    Args:
        plan (Plan): The plan.
        streams (RandomStreams): The run's streams.
    """
    seat = find_seat()
    if seat is not None and isinstance(seat.turns, Stack):
        return Member(seat, seat.turns)
    if plan["stack"] and plan.students > 1:
        with streams.use("stack"):
            return Alone(random_state())
    return None
