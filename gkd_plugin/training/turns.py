"""Several runs in one process that take turns: each has a thread, only one of them runs, and all meet where they ask for the same.

A run's code needs to know nothing of it. Whatever is global - the host's configuration, random streams, filters of warnings,
torch's threads - is put away with a run that waits and put back with one that goes on.
"""

from __future__ import annotations

import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from gkd_plugin.host import cfg
from gkd_plugin.models.rng import random_state, set_random_state

T = TypeVar("T")
_POLL = 0.5  # seconds
_legacy: Any = np.random  # the stream that the host draws from
_READY, _WAITS, _PARENT, _OVER = "ready", "waits", "parent", "over"


class Stopped(BaseException):
    """Another run of the stack was interrupted. No ``Exception``: this one is interrupted, too, and keeps its checkpoints."""


class _Globals:
    """Everything global that a run may change, as it is now."""

    def __init__(self) -> None:
        self.cfg, self.filters, self.threads = dict(cfg), list(warnings.filters), torch.get_num_threads()
        self.torch, self.python = random_state(), random.getstate()
        self.numpy = _legacy.get_bit_generator()

    def restore(self) -> None:
        dict.clear(cfg)
        dict.update(cfg, self.cfg)
        warnings.filters[:] = self.filters  # type: ignore[index]
        if torch.get_num_threads() != self.threads:
            torch.set_num_threads(self.threads)
        set_random_state(self.torch)
        random.setstate(self.python)
        _legacy.set_bit_generator(self.numpy)


class Seat(Generic[T]):
    """The place of one run.

    Args:
        turns (Turns): What it takes part in.
        parent (Seat, optional): The run that waits for it; ``None`` for whoever began.

    Attributes:
        asked: What it asks for, while it waits.
        answer: What it is given; an exception is raised in it.
        result: What it returned.
        error (BaseException, optional): What ended it.
        ends (bool): Whether the runs that it waits for shall end.
        spent (float): Seconds that it had the turn, and its share of the meetings.
        since (float): When it got the turn that it has.
    """

    def __init__(self, turns: Turns, parent: Seat[Any] | None) -> None:
        self.turns, self.parent = turns, parent
        self.state = _READY
        self.asked: Any = None
        self.answer: Any = None
        self.result: T | None = None
        self.error: BaseException | None = None
        self.children = 0
        self.ends = False
        self.spent = 0.0
        self.since = time.perf_counter()
        self.globals = _Globals()
        if parent is not None:  # a stream of its own, which begins where the parent's is
            own = type(self.globals.numpy)()
            own.state = self.globals.numpy.state
            self.globals.numpy = own
        self.turn = threading.Semaphore(0)

    @property
    def is_stopped(self) -> bool:
        """Whether it shall end, because one that waits for it wants it to."""
        return self.parent is not None and (self.parent.ends or self.parent.is_stopped)


_here = threading.local()


def find_seat() -> Seat[Any] | None:
    """The seat of the run that this thread trains, or ``None`` outside of a stack."""
    return getattr(_here, "seat", None)


def clock() -> float:
    """Seconds on a clock that runs while this thread's run has its turn; outside of a stack the usual one."""
    seat = find_seat()
    return time.perf_counter() if seat is None else seat.spent + time.perf_counter() - seat.since


@contextmanager
def staying() -> Iterator[None]:
    """Within, this run gives nobody else a turn."""
    seat = find_seat()
    _here.seat = None
    try:
        yield
    finally:
        _here.seat = seat


class Turns:
    """Runs functions in turns."""

    def __init__(self) -> None:
        self._seats: list[Seat[Any]] = []

    def meet(self, seats: Sequence[Seat[Any]]) -> None:
        """Called when no run can go on; it gives an answer to some of those that wait, which lets them go on.

        Args:
            seats (sequence of Seat): The runs that wait.
        """
        raise NotImplementedError

    def run(self, calls: Sequence[Callable[[], T]]) -> list[Seat[T]]:
        """Runs all, each in a thread of its own; returns when all have ended, each with its result or its error.

        One that is interrupted (an error that is no ``Exception``) interrupts the others.

        Args:
            calls (sequence of callable): What to run. A run that takes part itself may call this, too, and waits.

        Raises:
            BaseException: What interrupts the caller meanwhile; all runs have been interrupted then.
        """
        own = find_seat()
        caller: Seat[Any] = Seat(self, None) if own is None else own
        seats: list[Seat[T]] = [Seat(self, caller) for _ in calls]
        if not seats:
            return seats
        self._seats += seats if own is not None else [caller, *seats]
        caller.children, caller.state, caller.ends = len(seats), _PARENT, False
        threads = [
            threading.Thread(target=copy_context().run, args=(self._work, seat, call), daemon=True)
            for seat, call in zip(seats, calls, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            self._give_way(caller)
        except BaseException:  # a signal in this thread: the run whose turn it is ends when it asks for something
            caller.ends = True
            while caller.children:
                caller.turn.acquire()
            raise
        finally:
            for thread in threads:
                thread.join()
            gone = {id(seat) for seat in seats if seat.state == _OVER} | ({id(caller)} if own is None else set())
            self._seats = [seat for seat in self._seats if id(seat) not in gone]
            caller.globals.restore()
        return seats

    def ask(self, seat: Seat[Any], asked: Any) -> Any:
        """Waits until the meeting answers.

        Args:
            seat (Seat): The run's own.
            asked: What it asks for.

        Raises:
            Stopped: If the run shall end.
        """
        if seat.is_stopped:
            raise Stopped
        seat.state, seat.asked, seat.answer = _WAITS, asked, None
        self._give_way(seat)
        if seat.is_stopped:
            raise Stopped
        answer, seat.asked, seat.answer = seat.answer, None, None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _work(self, seat: Seat[T], call: Callable[[], T]) -> None:
        seat.turn.acquire()
        _here.seat, seat.since = seat, time.perf_counter()
        parent = seat.parent
        assert parent is not None
        try:
            seat.globals.restore()
            if seat.is_stopped:
                raise Stopped
            seat.result = call()
        except BaseException as error:  # it is the parent's to raise
            seat.error = error
            parent.ends |= not isinstance(error, Exception)
        finally:
            seat.state = _OVER
            parent.children -= 1
            if not parent.children:
                parent.state = _READY
            self._choose().turn.release()

    def _give_way(self, seat: Seat[Any]) -> None:
        """Lets others go on until this one may."""
        seat.globals = _Globals()
        seat.spent += time.perf_counter() - seat.since
        following = self._choose()
        if following is not seat:
            following.turn.release()
            while not seat.turn.acquire(timeout=_POLL):  # a signal is seen between two tries, on every system
                pass
        seat.since = time.perf_counter()
        seat.globals.restore()

    def _choose(self) -> Seat[Any]:
        """Who goes on; where nobody can, a meeting answers first."""
        while True:
            waiting = [seat for seat in self._seats if seat.state == _WAITS]
            for seat in waiting:
                if seat.is_stopped:
                    seat.state = _READY
            ready = next((seat for seat in self._seats if seat.state == _READY), None)
            if ready is not None:
                return ready
            began = time.perf_counter()
            try:
                self.meet(waiting)
            except BaseException as error:  # out of memory, say: each run ends with it, as it would alone
                for seat in waiting:
                    seat.answer = error
            served = [seat for seat in waiting if seat.answer is not None]
            for seat in served:
                seat.spent += (time.perf_counter() - began) / len(served)
            for seat in waiting:
                if seat.answer is not None:
                    seat.state = _READY
