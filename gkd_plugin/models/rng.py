"""Separate random streams for everything besides the host's own run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import torch
from torch import Tensor


def random_state() -> list[Tensor]:
    """The state of torch's global stream on every device in use."""
    states = [torch.get_rng_state()]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states += torch.cuda.get_rng_state_all()
    return states


def set_random_state(states: list[Tensor]) -> None:
    """Restores what :func:`random_state` returned."""
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state_all(states[1:])


def has_drawn(before: list[Tensor]) -> bool:
    """Whether anything was drawn from the global stream since :func:`random_state` gave ``before``."""
    return not all(torch.equal(a, b) for a, b in zip(before, random_state(), strict=False))


class RandomStreams:
    """Named random streams, each seeded from (seed, name) and never drawn from the global one.

    Student 1 of a cohort equals the host's own run digit for digit only while nothing else draws from the global
    stream; everything else draws inside :meth:`use`.

    Args:
        seed (int): The run's seed.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.states: dict[str, list[Tensor]] = {}

    @contextmanager
    def use(self, name: str) -> Iterator[None]:
        """Draws inside come from the stream ``name``, which continues where its last use ended."""
        outer = random_state()
        if name in self.states:
            set_random_state(self.states[name])
        else:
            digest = sha256(f"{self.seed}/{name}".encode()).digest()
            torch.manual_seed(int.from_bytes(digest[:8], "big") % 2**63)
        try:
            yield
        finally:
            self.states[name] = random_state()
            set_random_state(outer)


def emulate_draws(count: int) -> None:
    """Draws from the current stream what a loader's iterator would have drawn."""
    for _ in range(count):
        torch.empty((), dtype=torch.int64).random_()
