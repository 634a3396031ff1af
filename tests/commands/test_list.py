from __future__ import annotations

from typing import Any

import pytest

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.commands.list import list_answers
from gkd_plugin.errors import UserError
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Schedule


def test_every_answer_of_every_axis():
    rows = {(row.section, row.name) for row in list_answers().rows}
    assert rows == {(axis.name, name) for axis in axes.ALL for name in axis}
    assert all(row.meaning and row.source for row in list_answers().rows)
    text = str(list_answers())
    assert "laplacian" in text and "who teaches?" in text and len(repr(list_answers())) < 100


def test_the_python_door():
    assert gkd_plugin.list().rows == list_answers().rows
    kernels = gkd_plugin.list("kernel")
    assert str(kernels) == str(list_answers("kernel")) and len(repr(kernels).splitlines()) == 1
    assert "laplacian" in kernels._repr_html_() and "<pre" in kernels._repr_html_()
    with pytest.raises(UserError, match="Did you mean 'kernels'"):
        gkd_plugin.list("kernls")


def test_one_axis_in_either_number():
    assert list_answers("kernel").rows == list_answers("kernels").rows
    assert {row.section for row in list_answers("kernels").rows} == {"kernels"}


def test_the_keys_of_a_group():
    rows = {row.name: row for row in list_answers("kd_structure").rows}
    assert "laplacian" in rows["kernel"].source and "(default: laplacian)" in rows["kernel"].source
    assert rows["weight"].source == "a number of at least 0 (default: 0)"
    assert "preset" in [row.name for row in list_answers("kd").rows]


def test_what_is_not_there():
    with pytest.raises(UserError, match="Did you mean 'kernels'"):
        list_answers("kernls")


class Plugin:
    @hookimpl
    def gkd_register_schedules(self, register: Any) -> None:
        register("never", Schedule("never", lambda epoch: 0.0, "not once", "a test"))


def test_a_third_partys_answer_names_its_plugin():
    gkd_plugin.register_plugin(Plugin(), "pessimist")
    row = next(row for row in list_answers("schedules").rows if row.name == "never")
    assert row.source == "a test  [plugin pessimist]"
    assert "[plugin pessimist]" in str(list_answers("schedules"))
    gkd_plugin.unregister_plugin("pessimist")
