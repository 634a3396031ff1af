"""A grid file as a space: which values are proposed under which conditions, their names, what cannot be searched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gkd_plugin.errors import UserError
from gkd_plugin.study.expand import expand
from gkd_plugin.study.grid_file import Grid, parse_grid
from gkd_plugin.study.space import Space, describe_changes

TEXT = """\
kd.preset preset [supervised, mutual, lsp]
gnn.dim_inner width 8~32
when preset mutual, lsp
    kd_response.weight weight 0.01~10 log
    when preset lsp
        kd_structure.kernel kernel [rbf, linear]
gnn.layers_mp depth 2
"""


class Drawn:
    """A trial that draws at random and remembers what it was asked for."""

    def __init__(self, seed: int) -> None:
        self.random, self.asked = random.Random(seed), dict[str, Any]()

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.asked[name] = tuple(choices)
        return self.random.choice(choices)

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked[name] = (low, high, log)
        return self.random.randint(low, high)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked[name] = (low, high, log)
        return self.random.uniform(low, high)


def read(text: str) -> Grid:
    return parse_grid(text, Path("space.txt"), ranges=True)


def make(text: str = TEXT, base: dict[str, Any] | None = None) -> Space:
    return Space(base or {}, "base", read(text))


def test_conditions_decide_what_is_asked() -> None:
    seen = set()
    for seed in range(60):
        trial = Drawn(seed)
        choices = make().suggest(trial)
        preset = choices["preset"]
        seen.add(preset)
        expected = {"preset", "width", "depth"} | {"mutual": {"weight"}, "lsp": {"weight", "kernel"}}.get(preset, set())
        assert set(choices) == expected
        assert set(trial.asked) == expected - {"depth"}, "a single value is no parameter"
        assert trial.asked["preset"] == ("'supervised'", "'mutual'", "'lsp'")
        assert trial.asked["width"] == (8, 32, False) and type(choices["width"]) is int
        assert choices["depth"] == 2
        if "weight" in choices:
            assert trial.asked["weight"] == (0.01, 10.0, True) and 0.01 <= choices["weight"] <= 10
            assert float(f"{choices['weight']:.6g}") == choices["weight"]
    assert seen == {"supervised", "mutual", "lsp"}


def test_a_block_is_chosen_first_and_parameters_have_one_set_of_values() -> None:
    text = (
        "gnn.act act [relu, prelu]\ngnn.dim_inner width [8, 16]\n\ngnn.act act [relu, prelu]\ngnn.dim_inner width 2~4\n"
    )
    names = set()
    for seed in range(20):
        trial = Drawn(seed)
        choices = make(text).suggest(trial)
        assert next(iter(trial.asked)) == "block"
        assert set(choices) == {"act", "width"}
        names |= set(trial.asked)
    assert names == {"block", "act", "width (1)", "width (2)"}


def test_points_are_those_of_a_grid() -> None:
    text = "kd.preset preset [supervised, oc]\ngnn.dim_inner width [8, 16, '16', true, 1, 1.0]\nwhen preset oc\n  kd.layers layers [[a, [b]], c]\n"
    base = {"gnn": {"dim_inner": 4, "act": "relu"}, "kd": {"students": 2}}
    points = {point.name: point for point in expand(base, "base", read(text)).points}
    space = make(text, base)
    assert space.size == len(points) == 6 + 12
    found = {}
    for seed in range(400):
        point = space.make_point(space.suggest(Drawn(seed)))
        found[point.name] = point
    assert found == points
    assert base == {"gnn": {"dim_inner": 4, "act": "relu"}, "kd": {"students": 2}}


def test_numbers_of_a_range_keep_their_names_and_ends() -> None:
    text = "optim.base_lr lr 0.12345678~0.12345679\ngnn.dim_inner width [8, 16]\n"
    space = make(text)
    choices = space.suggest(Drawn(1))
    assert 0.12345678 <= choices["lr"] <= 0.12345679
    assert space.make_point(choices) == make(text).make_point(choices)
    ends = space.list_ends({"lr": 0.123456785, "width": 8})
    assert ends == [{"lr": 0.12345678, "width": 8}, {"lr": 0.12345679, "width": 8}]
    assert space.size is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gnn.dim_inner width 8\n", "a single point"),
        ("gnn.dim_inner width [8, 8]\n", "a single point"),
        ("dataset.name data [Cora, CiteSeer]\ngnn.dim_inner width 2~4\n", "line 1: dataset.name cannot be searched"),
        ("gnn.dim_inner width 2~4\nmetric_best metric [accuracy, auc]\n", "line 2: metric_best cannot be searched"),
        ("gnn.dim_inner width 4~2\n", "Write the smaller number first"),
        ("optim.base_lr lr 0~1 log\n", "Begin above 0"),
    ],
)
def test_what_cannot_be_searched(text: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        make(text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("kd.preset", "# said otherwise\nkd.preset", ""),
        ("8~32", "8~64", "width: was gnn.dim_inner 8~32, now gnn.dim_inner 8~64"),
        (
            "log",
            "",
            "weight: was kd_response.weight 0.01~10 log when preset mutual, lsp, now kd_response.weight 0.01~10 when",
        ),
        ("depth 2", "depth [2, 3]", "depth: was gnn.layers_mp [2], now gnn.layers_mp [2, 3]"),
        (
            "gnn.layers_mp",
            "\ngnn.layers_mp",
            "depth (block 1): was gnn.layers_mp [2], now nothing; depth (block 2): was nothing",
        ),
    ],
)
def test_a_changed_space_is_described(old: str, new: str, said: str) -> None:
    changes = describe_changes(read(TEXT), read(TEXT.replace(old, new)))
    assert changes.startswith(said) and bool(changes) == bool(said)
