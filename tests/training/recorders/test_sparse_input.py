"""A run says where it was to read features sparsely and did not."""

from __future__ import annotations

import pytest

from gkd_plugin.commands.run import run
from tests import toy
from tests.running import result

pytestmark = pytest.mark.usefixtures("toy_data")


def words(width: float = 1.2):
    data = toy.community(0)
    data.x = (data.x > width).float()
    return [data]


CASES = {
    "reads": ("words", {}, None),
    "full": ("nodes", {}, "kd.sparse_input: features were read as they are: 100% of the features are not 0"),
    "many": ("many_words", {}, "kd.sparse_input: features were read as they are: the data are several graphs"),
    "first_dropout": (
        "words",
        {"model": {"type": "gcn"}, "gkd_model": {"input_dropout": 0.5}},
        "kd.sparse_input: student 1 (gcn) read its features as they are: its first layer applies no linear map",
    ),
    "one_of_two": (
        "words",
        {"model": {"type": "gcn"}, "gkd_model": {"input_dropout": 0.5}, "kd": {"students": 2}},
        "student 1 (gcn), 2 (gcn) read",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_run_warns_of(name, tmp_path, monkeypatch):
    monkeypatch.setitem(toy.SETS, "words", words)
    monkeypatch.setitem(toy.SETS, "many_words", lambda: words() * 3)
    data, groups, text = CASES[name]
    groups = toy.merge(groups, {"kd": {"sparse_input": True}, "dataset": {"name": data}, "optim": {"max_epoch": 1}})
    found = [w for w in result(run(toy.config(tmp_path, **groups), quiet=True).folder)["warnings"] if "sparse" in w]
    assert len(found) == (text is not None)
    assert text is None or text in found[0]
