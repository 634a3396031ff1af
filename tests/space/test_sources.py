"""Who teaches whom: the members of our sources, and what is said of members that do not exist."""

from __future__ import annotations

from typing import Any

import pytest

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.errors import UserError
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Source
from gkd_plugin.space.sources import default_source, everybody, has_layers, is_within, members_of, own_member

WITH_MODEL = ("teacher", "self", "cohort", "ema", "uniform_prior")


@pytest.mark.parametrize("students", [1, 2, 3, 5])
def test_peers_are_all_other_students(students: int) -> None:
    for learner in range(1, students + 1):
        members = members_of("peers", learner, students)
        assert sorted([*members, learner]) == list(range(1, students + 1))  # type: ignore[list-item]
    assert axes.sources["peers"].needs_students == 2


@pytest.mark.parametrize("name", WITH_MODEL)
@pytest.mark.parametrize("students", [2, 3])
def test_a_source_with_a_model_is_its_own_member(name: str, students: int) -> None:
    assert members_of(name, students, students) == (name,) and everybody(name, students) == {name}
    assert axes.sources[name].needs_students == (2 if name == "cohort" else 1)


def test_only_self_is_the_learner_and_two_have_no_layers() -> None:
    assert [name for name in axes.sources if is_within(name, 2)] == ["self"] == [own_member()]
    assert {name: has_layers(name, 2) for name in ("peers", *WITH_MODEL)} == {
        **dict.fromkeys(("peers", *WITH_MODEL), True),
        "cohort": False,
        "uniform_prior": False,
    }


def test_a_teacher_is_the_default_where_one_is_named_else_peers() -> None:
    assert default_source({"teacher": None, "teacher_cfg": None}) == "peers"
    assert default_source({"teacher": "a", "teacher_cfg": None}) == "teacher"
    assert default_source({"teacher": None, "teacher_cfg": "a.yaml"}) == "teacher"


def source(*members: Any) -> Source:
    return Source(lambda learner, students: members, "a test", "a test")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (source(4), "names student 4 as a teacher of student 1. Allowed: 1 to 3"),
        (source(0), "names student 0"),
        (source("techer"), "unknown teacher of student 1: 'techer' is not a member. Did you mean 'teacher'"),
        (source("peers"), "'peers' is not a member"),
        (source(1.5), "Allowed: a tuple of members"),
        (Source(lambda learner, students: None, "a test", "a test"), "returns None for student 1"),  # type: ignore[arg-type, return-value]
    ],
)
def test_members_that_do_not_exist_are_named(answer: Source, message: str) -> None:
    class Plugin:
        @hookimpl
        def gkd_register_sources(self, register: Any) -> None:
            register("odd", answer)

    gkd_plugin.register_plugin(Plugin(), "odd")
    with pytest.raises(UserError, match="source 'odd'") as error:
        members_of("odd", 1, 3)
    gkd_plugin.unregister_plugin("odd")
    assert message in str(error.value)


def test_a_student_that_names_itself_is_taught_by_its_own_forward_pass() -> None:
    class Plugin:
        @hookimpl
        def gkd_register_sources(self, register: Any) -> None:
            register("me", Source(lambda learner, students: (learner,), "a test", "a test"))

    gkd_plugin.register_plugin(Plugin(), "me")
    assert members_of("me", 2, 3) == ("self",) and is_within("me", 3)
    gkd_plugin.unregister_plugin("me")


def test_every_answer_tells_what_it_is() -> None:
    for name in axes.sources:
        assert axes.sources[name].summary and axes.sources[name].reference
