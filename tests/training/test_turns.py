"""Runs that take turns: who goes on, what each finds as it left it, and how they end."""

from __future__ import annotations

import _thread
import random
import warnings
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from gkd_plugin.host import cfg
from gkd_plugin.training import turns as turns_module
from gkd_plugin.training.turns import Seat, Stopped, Turns, clock, find_seat, staying


class Echo(Turns):
    """Answers everybody at once, and keeps who had asked for what."""

    def __init__(self) -> None:
        super().__init__()
        self.meetings: list[list[Any]] = []

    def meet(self, seats: Sequence[Seat[Any]]) -> None:
        self.meetings.append([seat.asked for seat in seats])
        for seat in seats:
            if isinstance(seat.asked, Exception):
                raise seat.asked
            seat.answer = f"<{seat.asked}>"


def ask(turns: Turns, asked: Any) -> Any:
    seat = find_seat()
    assert seat is not None
    return turns.ask(seat, asked)


def test_runs_meet_where_they_ask_and_one_runs_at_a_time() -> None:
    turns, order = Echo(), []

    def work(name: str, times: int) -> str:
        for step in range(times):
            order.append((name, step))
            assert ask(turns, f"{name}{step}") == f"<{name}{step}>"
        return name

    seats = turns.run([partial(work, "a", 2), partial(work, "b", 3)])
    assert [seat.result for seat in seats] == ["a", "b"] and find_seat() is None
    assert turns.meetings == [["a0", "b0"], ["a1", "b1"], ["b2"]]
    assert order == [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("b", 2)]


def test_whatever_is_global_is_each_run_s_own() -> None:
    turns = Echo()
    outside = (cfg.seed, torch.get_rng_state(), random.getstate(), list(warnings.filters), torch.get_num_threads())

    def work(seed: int) -> list[Any]:
        cfg.seed = seed
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.set_num_threads(1 + seed % 2)
        found = []
        for _ in range(3):
            with warnings.catch_warnings():
                warnings.filterwarnings("error" if seed == 1 else "ignore", message="careful")
                ask(turns, seed)
                try:
                    warnings.warn("careful", stacklevel=1)
                    found.append("silent")
                except UserWarning:
                    found.append("raised")
            found += [cfg.seed, float(torch.rand(())), random.random(), float(np.random.rand())]  # noqa: NPY002
            found.append(torch.get_num_threads())
        return found

    before = work_alone = []
    for seed in (1, 2):
        work_alone.append(turns.run([partial(work, seed)])[0].result)
    together = [seat.result for seat in turns.run([partial(work, 1), partial(work, 2)])]
    assert together == before and together[0][0] == "raised" and together[1][0] == "silent"
    assert cfg.seed == outside[0] and torch.equal(torch.get_rng_state(), outside[1])
    assert random.getstate() == outside[2] and list(warnings.filters) == outside[3]
    assert torch.get_num_threads() == outside[4]


def test_an_error_ends_one_run_and_an_interruption_all() -> None:
    turns = Echo()

    def fail(error: BaseException) -> None:
        ask(turns, "first")
        raise error

    def go_on() -> str:
        for step in range(3):
            ask(turns, step)
        return "done"

    failed, done = turns.run([partial(fail, ValueError("no")), go_on])
    assert isinstance(failed.error, ValueError) and done.result == "done"
    ended, stopped = turns.run([partial(fail, KeyboardInterrupt()), go_on])
    assert isinstance(ended.error, KeyboardInterrupt) and isinstance(stopped.error, Stopped)


def test_what_fails_in_a_meeting_fails_in_every_run_of_it() -> None:
    turns = Echo()

    def work(asked: Any) -> str:
        try:
            return str(ask(turns, asked))
        except MemoryError as error:
            return f"caught {error}"

    seats = turns.run([partial(work, MemoryError("full")), partial(work, "a")])
    assert [seat.result for seat in seats] == ["caught full"] * 2


def test_a_run_may_divide_itself() -> None:
    turns = Echo()

    def child(name: str) -> str:
        return str(ask(turns, name))

    def parent(name: str) -> list[str | None]:
        found = turns.run([partial(child, f"{name}{number}") for number in range(2)])
        return [*(seat.result for seat in found), str(ask(turns, name))]

    seats = turns.run([partial(parent, "a"), partial(parent, "b"), partial(child, "c")])
    assert [seat.result for seat in seats] == [["<a0>", "<a1>", "<a>"], ["<b0>", "<b1>", "<b>"], "<c>"]
    assert turns.meetings == [["c", "a0", "a1", "b0", "b1"], ["a", "b"]]


def test_an_interruption_among_children_leaves_other_families_alone() -> None:
    turns = Echo()

    def late() -> None:
        ask(turns, "x")
        raise SystemExit

    def parent() -> list[type[BaseException]]:
        return [type(seat.error) for seat in turns.run([late, partial(other, 5)])]

    def other(times: int) -> str:
        for _ in range(times):
            ask(turns, "y")
        return "done"

    first, second = turns.run([parent, partial(other, 5)])
    assert first.result == [SystemExit, Stopped] and second.result == "done"


def test_one_that_stays_gives_nobody_a_turn() -> None:
    turns = Echo()
    seen: list[str] = []

    def quiet() -> None:
        with staying():
            seen.append("in" if find_seat() is None else "seated")
        seen.append("out" if find_seat() is not None else "lost")

    turns.run([quiet])
    assert seen == ["in", "out"] and turns.meetings == []


def test_ctrl_c_ends_all(heeded_ctrl_c: None) -> None:
    turns, ends = Echo(), []

    def work(name: str) -> None:
        try:
            for step in range(100_000):
                ask(turns, name)
                if (name, step) == ("b", 2):
                    _thread.interrupt_main()
        finally:
            ends.append(name)

    with pytest.raises(KeyboardInterrupt):
        turns.run([partial(work, "a"), partial(work, "b")])
    assert sorted(ends) == ["a", "b"] and not turns._seats


def test_a_run_s_clock_runs_while_it_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    class Slow(Echo):
        def meet(self, seats: Sequence[Seat[Any]]) -> None:
            wait(2)
            super().meet(seats)

    def work(turns: Turns, seconds: float) -> float:
        began = clock()
        wait(seconds)
        ask(turns, seconds)
        return clock() - began

    monkeypatch.setattr(turns_module.time, "perf_counter", lambda: now[0])
    turns = Slow()
    seats = turns.run([partial(work, turns, seconds) for seconds in (1, 4)])
    assert [seat.result for seat in seats] == [2, 5] and clock() == now[0] == 7


def test_no_runs() -> None:
    assert Echo().run([]) == []
