"""When a term counts: factors on its weight by epoch (from 0)."""

from __future__ import annotations

import math

from gkd_plugin.errors import UserError, nearest
from gkd_plugin.schema import BadValue
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Schedule


def _constant(epoch: int) -> float:
    return 1.0


def _warmup(epoch: int, first: int) -> float:
    return float(epoch >= first)


def _window(epoch: int, first: int, end: int) -> float:
    return float(first <= epoch < end)


def _linear(epoch: int, first: int, full: int) -> float:
    return min(max((epoch - first) / (full - first), 0.0), 1.0)


def _rampup(epoch: int, full: int) -> float:
    return math.exp(-5 * (1 - epoch / full) ** 2) if epoch < full else 1.0


def _ordered(first: int, second: int) -> str | None:
    return None if first < second else f"the first number must be below the second, not {first} and {second}"


SCHEDULES: dict[str, Schedule] = {
    "constant": Schedule("constant", _constant, "always", "gkd_plugin"),
    "warmup_n": Schedule(r"warmup_(\d+)", _warmup, "0 before epoch n, then 1", "gkd_plugin"),
    "window_a_b": Schedule(
        r"window_(\d+)_(\d+)",
        _window,
        "1 for a <= epoch < b, else 0",
        "LSP (arXiv 2003.10477), released code",
        _ordered,
    ),
    "linear_a_b": Schedule(
        r"linear_(\d+)_(\d+)", _linear, "0 before epoch a, rising evenly to 1 at epoch b", "gkd_plugin", _ordered
    ),
    "rampup_n": Schedule(
        r"rampup_(\d+)", _rampup, "exp(-5 (1 - epoch/n)^2) before epoch n, then 1", "ONE (arXiv 1806.04606)"
    ),
}


def parse(word: str) -> tuple[Schedule, tuple[int, ...]]:
    """The registered schedule that a word such as ``window_0_30`` names, and its numbers.

    Raises:
        BadValue: If no schedule has that form, or the numbers do not fit.
    """
    for name in axes.schedules:
        schedule = axes.schedules[name]
        numbers = schedule.numbers(word)
        if numbers is None:
            continue
        wrong = schedule.valid(*numbers) if schedule.valid else None
        if wrong:
            raise BadValue(f"In {name}, {wrong}.")
        try:
            schedule.measure(0, numbers)
        except UserError as error:
            raise BadValue(f"In {name}, {error}.") from error
        return schedule, numbers
    raise BadValue(
        f"{nearest(word, axes.schedules)}Allowed: {', '.join(axes.schedules)}, with whole numbers for the letters."
    )


def describe(word: str) -> str:
    """What a schedule such as ``rampup_80`` does, with its numbers under the letters of its registered name.

    Args:
        word (str): The schedule as the configuration names it.
    """
    schedule, numbers = parse(word)
    name = next(name for name in axes.schedules if axes.schedules[name] is schedule)
    letters = [part for part in name.split("_") if len(part) == 1]
    if not numbers or len(letters) != len(numbers):
        return schedule.summary
    return f"{schedule.summary} ({', '.join(f'{letter} = {n}' for letter, n in zip(letters, numbers, strict=True))})"


def factor(word: str, epoch: int) -> float:
    """The factor on a weight in one epoch.

    Args:
        word (str): The schedule as the configuration names it, e.g. ``warmup_10``.
        epoch (int): The epoch, from 0.

    Raises:
        UserError: If it is no number of at least 0.
    """
    schedule, numbers = parse(word)
    try:
        return schedule.measure(epoch, numbers)
    except UserError as error:
        raise UserError(f"schedule {word}: {error}.") from error
