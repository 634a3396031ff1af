"""Factors by epoch: the formulas of the configuration keys, by hand."""

from __future__ import annotations

import math

import pytest

from gkd_plugin import plugins
from gkd_plugin.errors import UserError
from gkd_plugin.schema import BadValue
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.answers import Schedule

plugins.load()


@pytest.mark.parametrize(
    ("word", "factors"),
    [
        ("constant", {0: 1, 1000: 1}),
        ("warmup_3", {0: 0, 2: 0, 3: 1, 4: 1}),
        ("warmup_0", {0: 1}),
        ("window_0_30", {0: 1, 29: 1, 30: 0, 31: 0}),
        ("window_2_4", {1: 0, 2: 1, 3: 1, 4: 0}),
        ("linear_2_6", {0: 0, 2: 0, 3: 0.25, 5: 0.75, 6: 1, 7: 1}),
        ("rampup_80", {0: math.exp(-5), 40: math.exp(-1.25), 79: math.exp(-5 / 6400), 80: 1, 81: 1}),
        ("rampup_0", {0: 1}),
    ],
)
def test_factors(word: str, factors: dict[int, float]) -> None:
    for epoch, wanted in factors.items():
        assert schedules.factor(word, epoch) == pytest.approx(wanted, abs=1e-12), epoch


def test_parse_gives_the_numbers() -> None:
    schedule, numbers = schedules.parse("linear_10_200")
    assert schedule is schedules.SCHEDULES["linear_a_b"]
    assert numbers == (10, 200)


@pytest.mark.parametrize(
    "word", ["", "never", "warmup", "warmup_", "warmup_1.5", "warmup_-1", "window_3", "constant_1", "none"]
)
def test_unknown_words_are_refused_with_what_is_allowed(word: str) -> None:
    with pytest.raises(BadValue, match=r"constant, warmup_n, window_a_b, linear_a_b, rampup_n"):
        schedules.parse(word)


def test_the_nearest_form_is_named() -> None:
    with pytest.raises(BadValue, match="Did you mean 'constant'"):
        schedules.parse("constent")


@pytest.mark.parametrize("word", ["window_5_5", "window_6_5", "linear_5_5", "linear_6_5"])
def test_empty_spans_are_refused(word: str) -> None:
    with pytest.raises(BadValue, match="below the second"):
        schedules.parse(word)


def test_a_schedule_of_somebody_else() -> None:
    axes.schedules.add("every_n", Schedule(r"every_(\d+)", lambda e, n: float(e % n == 0), "each n-th", "-"), "test")
    try:
        assert [schedules.factor("every_2", epoch) for epoch in range(4)] == [1, 0, 1, 0]
    finally:
        axes.schedules.discard("test")


def test_every_answer_tells_what_it_is() -> None:
    for schedule in schedules.SCHEDULES.values():
        assert schedule.summary
        assert schedule.reference
        assert "\n" not in schedule.summary


@pytest.mark.parametrize("found", [None, -1.0, float("nan"), float("inf"), "1"])
def test_a_factor_that_is_no_number_of_at_least_0_is_refused(found: object) -> None:
    axes.schedules.add("odd_n", Schedule(r"odd_(\w+)", lambda e, n: found, "odd", "-"), "test")  # type: ignore[arg-type, return-value]
    try:
        with pytest.raises(BadValue, match=r"In odd_n, the factor in epoch 0 is .*, and not a number of at least 0"):
            schedules.parse("odd_3")
        with pytest.raises(BadValue, match="Allowed: "):
            schedules.parse("odd_word")  # its group is no number
    finally:
        axes.schedules.discard("test")


def test_a_factor_that_fails_is_told() -> None:
    axes.schedules.add("odd_n", Schedule(r"odd_(\d+)", lambda e, n: 1 / n, "odd", "-"), "test")
    try:
        assert schedules.factor("odd_4", 0) == 0.25
        with pytest.raises(BadValue, match="In odd_n, the factor in epoch 0 cannot be computed: ZeroDivisionError"):
            schedules.parse("odd_0")
    finally:
        axes.schedules.discard("test")


def test_a_factor_that_fails_later_is_told_then() -> None:
    axes.schedules.add("odd_n", Schedule(r"odd_(\d+)", lambda e, n: n - e, "odd", "-"), "test")
    try:
        assert schedules.factor("odd_4", 4) == 0
        with pytest.raises(UserError, match="schedule odd_4: the factor in epoch 5 is -1, and not a number"):
            schedules.factor("odd_4", 5)
    finally:
        axes.schedules.discard("test")


def test_the_numbers_are_told_with_their_letters() -> None:
    assert schedules.describe("window_0_30") == "1 for a <= epoch < b, else 0 (a = 0, b = 30)"
    assert schedules.describe("constant") == "always"
