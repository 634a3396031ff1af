"""Who teaches whom."""

from __future__ import annotations

import pytest

import gkd_plugin  # noqa: F401 - the axes are filled
from gkd_plugin.space import axes


@pytest.mark.parametrize("students", [1, 2, 3, 5])
def test_peers_are_all_other_students(students: int) -> None:
    for learner in range(1, students + 1):
        members = axes.sources["peers"].members(learner, students)
        assert sorted([*members, learner]) == list(range(1, students + 1))  # type: ignore[type-var]
    assert axes.sources["peers"].needs_students == 2


def test_one_student_has_no_peers() -> None:
    assert axes.sources["peers"].members(1, 1) == ()


@pytest.mark.parametrize("name", ["self", "teacher"])
@pytest.mark.parametrize("students", [1, 3])
def test_self_and_teacher_serve_any_number_of_students(name: str, students: int) -> None:
    assert axes.sources[name].members(students, students) == (name,)
    assert axes.sources[name].needs_students == 1


def test_every_answer_tells_what_it_is() -> None:
    for source in (axes.sources[name] for name in axes.sources):
        assert source.summary
        assert source.reference
