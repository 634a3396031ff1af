"""Successive halving: who goes on, with how many epochs, and what cannot be halved."""

from __future__ import annotations

from typing import Any

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.halving import Candidate, choose_promotion, count_runs, make_steps, shorten
from gkd_plugin.study.points import Point


def make(step: int, *scores: float, **more: Any) -> Candidate:
    return Candidate(Point("p", {}), step=step, scores=dict(enumerate(scores)), **more)


def test_the_best_third_goes_on_and_higher_steps_first() -> None:
    below = [make(0, score) for score in (0.1, 0.5, 0.3, 0.9, 0.7, 0.2)]
    assert choose_promotion(below, 3) is below[3]
    below[3].step, below[3].running = 1, True
    assert choose_promotion(below, 3) is below[4]
    below[4].step, below[4].running = 1, True
    assert choose_promotion(below, 3) is None, "two of six, also while they run"
    above = [make(1, 0.9, score) for score in (0.4, 0.8, 0.6)]
    assert choose_promotion([*below, *above], 3) is above[1]
    assert choose_promotion([make(2, 0.9, 0.9, 0.9)] * 3, 3) is None
    assert choose_promotion([make(0, 0.9)] * 9, 1) is None, "without halving nobody goes on"
    assert choose_promotion([make(0, 0.9), make(0, failed=True), make(0, failed=True)], 3) is None


def test_in_a_row_each_step_has_a_third_of_the_one_below() -> None:
    candidates = [make(0, number / 27) for number in range(27)]
    runs = 27
    while (chosen := choose_promotion(candidates, 3)) is not None:
        chosen.step += 1
        chosen.scores[chosen.step] = chosen.scores[0]
        runs += 1
    assert [sum(step in each.scores for each in candidates) for step in range(3)] == [27, 9, 3]
    assert [each.step for each in candidates[-3:]] == [2, 2, 2]
    assert runs == count_runs(27, 3) == 39 and count_runs(27, 1) == 27


def test_a_shorter_run_is_one_of_its_own() -> None:
    point = Point("base-width=8", {"optim": {"max_epoch": 90, "base_lr": 1}, "gnn": {}}, {"width": 8})
    short = shorten(point, 10)
    assert (short.name, short.epochs, short.choices) == ("base-width=8-epochs=10", 10, {"width": 8})
    assert short.values == {"optim": {"max_epoch": 10, "base_lr": 1}, "gnn": {}}
    assert shorten(point, None) is point and point.values["optim"]["max_epoch"] == 90


def test_the_steps_and_what_has_none() -> None:
    assert make_steps(True, 100, None, []) == (11, 33, None)
    assert make_steps(True, 9, 9, ["gnn.act"]) == (1, 3, None)
    assert make_steps(False, 1, 1, ["optim.max_epoch"]) == (None,)
    for arguments, said in (
        ((True, 8, 20, []), "that is 8"),
        ((True, 100, 8, []), "at least --runs 9"),
        ((True, 100, 20, ["optim.max_epoch"]), "so the space cannot"),
    ):
        with pytest.raises(UserError, match=said):
            make_steps(*arguments)
