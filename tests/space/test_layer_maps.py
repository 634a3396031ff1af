"""Every layer map at every pair of depths, against a table written out by hand."""

from __future__ import annotations

from types import MappingProxyType

import pytest
import torch

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.layer_maps import LAYER_MAPS, layer_pairs

# Learner depth, source depth: the source layer of learner layers 1, 2, ... under proportional | shift 1 | shift -1.
TABLE = """
1 1: 1         | 1         | 1
1 2: 2         | 1         | 1
1 3: 3         | 1         | 2
1 4: 4         | 1         | 3
1 5: 5         | 1         | 4
2 1: 1 1       | 1 1       | 1 1
2 2: 1 2       | 2 1       | 2 1
2 3: 2 3       | 3 1       | 1 2
2 4: 2 4       | 3 1       | 1 3
2 5: 3 5       | 4 1       | 2 4
3 1: 1 1 1     | 1 1 1     | 1 1 1
3 2: 1 2 2     | 2 1 1     | 2 1 1
3 3: 1 2 3     | 2 3 1     | 3 1 2
3 4: 2 3 4     | 3 4 1     | 1 2 3
3 5: 2 4 5     | 3 5 1     | 1 3 4
4 1: 1 1 1 1   | 1 1 1 1   | 1 1 1 1
4 2: 1 1 2 2   | 2 2 1 1   | 2 2 1 1
4 3: 1 2 3 3   | 2 3 1 1   | 3 1 2 2
4 4: 1 2 3 4   | 2 3 4 1   | 4 1 2 3
4 5: 2 3 4 5   | 3 4 5 1   | 1 2 3 4
5 1: 1 1 1 1 1 | 1 1 1 1 1 | 1 1 1 1 1
5 2: 1 1 2 2 2 | 2 2 1 1 1 | 2 2 1 1 1
5 3: 1 2 2 3 3 | 2 3 3 1 1 | 3 1 1 2 2
5 4: 1 2 3 4 4 | 2 3 4 1 1 | 4 1 2 3 3
5 5: 1 2 3 4 5 | 2 3 4 5 1 | 5 1 2 3 4
"""

# Depth: the layer that teaches layers 1, 2, ... of the same network (never the last) under last | shift 1 | shift 2.
OWN = """
1:         |         |
2: 2       | 2       | 2
3: 3 3     | 2 3     | 3 3
4: 4 4 4   | 2 3 4   | 3 4 4
5: 5 5 5 5 | 2 3 4 5 | 3 4 5 5
"""


def rows(text: str) -> list[tuple[tuple[int, ...], list[list[int]]]]:
    """The lines of a table: depths, then one list of layers for each column."""
    out = []
    for line in text.strip().splitlines():
        depths, columns = line.split(":")
        out.append((tuple(map(int, depths.split())), [list(map(int, c.split())) for c in columns.split("|")]))
    return out


def found(name: str, learner: int, source: int, own: bool = False, **values: object) -> list[list[float]]:
    weights = LAYER_MAPS[name].weights
    assert weights is not None
    return weights(learner, source, values, own).tolist()


def matrix(learner: int, source: int, teachers: list[int]) -> list[list[float]]:
    """Weight 1 where layer ``teachers[i]`` teaches layer ``i + 1``."""
    out = [[0.0] * source for _ in range(learner)]
    for row, teacher in enumerate(teachers):
        out[row][teacher - 1] = 1.0
    return out


CASES = [(*depths, columns) for depths, columns in rows(TABLE)]


def test_the_table_has_every_pair_of_depths() -> None:
    assert [(learner, source) for learner, source, _ in CASES] == [(i, j) for i in range(1, 6) for j in range(1, 6)]


@pytest.mark.parametrize(("learner", "source", "columns"), CASES)
def test_maps_agree_with_the_table(learner: int, source: int, columns: list[list[int]]) -> None:
    proportional, ahead, behind = columns
    assert found("proportional", learner, source) == matrix(learner, source, proportional)
    assert found("shift", learner, source, shift=1) == matrix(learner, source, ahead)
    assert found("shift", learner, source, shift=-1) == matrix(learner, source, behind)
    assert found("shift", learner, source, shift=0) == matrix(learner, source, proportional)
    for turns in (-3, 2):  # cyclic: whole turns change nothing
        assert found("shift", learner, source, shift=1 + turns * source) == matrix(learner, source, ahead)
    last = [[0.0] * source for _ in range(learner)]
    last[-1][-1] = 1.0
    assert found("last", learner, source) == last
    assert found("uniform", learner, source) == [[1 / (learner * source)] * source] * learner
    listed = ((1, source), (-1, -source))
    expected = [[0.0] * source for _ in range(learner)]
    expected[0][source - 1] = expected[learner - 1][0] = 1.0
    assert found("pairs", learner, source, pairs=listed) == expected
    if learner == source:
        assert found("one_to_one", learner, source) == matrix(learner, source, list(range(1, learner + 1)))
    else:
        with pytest.raises(ValueError, match=rf"learner has {learner} layers, the source {source}"):
            found("one_to_one", learner, source)


@pytest.mark.parametrize(("depth", "columns"), [(depths[0], columns) for depths, columns in rows(OWN)])
def test_within_one_network_only_deeper_layers_teach(depth: int, columns: list[list[int]]) -> None:
    last, one, two = columns
    assert found("last", depth, depth, own=True) == matrix(depth, depth, last)
    assert found("shift", depth, depth, own=True, shift=1) == matrix(depth, depth, one)
    assert found("shift", depth, depth, own=True, shift=2) == matrix(depth, depth, two)
    assert found("shift", depth, depth, own=True, shift=9) == matrix(depth, depth, last)
    count = {1: 1, 2: 1, 3: 3, 4: 6, 5: 10}[depth]
    uniform = [[1 / count if column > row else 0.0 for column in range(depth)] for row in range(depth)]
    assert found("uniform", depth, depth, own=True) == uniform
    only = found("pairs", depth, depth, own=True, pairs=((1, -1),))
    assert only == matrix(depth, depth, [depth] if depth > 1 else [])


def test_shifts_that_the_papers_print() -> None:
    assert found("shift", 4, 4, shift=1) == matrix(4, 4, [2, 3, 4, 1])  # Alignahead, figure
    assert found("shift", 4, 4, shift=-1) == matrix(4, 4, [4, 1, 2, 3])  # Alignahead, released code
    assert found("pairs", 4, 2, pairs=((-2, -1),))[2] == [0.0, 1.0]  # LSP, released code: hidden 3 of 4 from the last


@pytest.mark.parametrize("name", ["proportional", "one_to_one"])
def test_maps_without_meaning_within_one_network(name: str) -> None:
    assert not LAYER_MAPS[name].allows_self
    with pytest.raises(ValueError, match="source self"):
        found(name, 3, 3, own=True)


@pytest.mark.parametrize("step", [0, -1])
def test_own_shifts_below_one_are_refused(step: int) -> None:
    with pytest.raises(ValueError, match=rf"shift {step} .*from 1"):
        found("shift", 3, 3, own=True, shift=step)


@pytest.mark.parametrize("pair", [(2, 2), (3, 1), (-1, 3)])
def test_own_pairs_of_no_deeper_layer_are_refused(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="no deeper layer"):
        found("pairs", 3, 3, own=True, pairs=(pair,))


@pytest.mark.parametrize(
    ("pair", "text"),
    [
        ((4, 1), r"learner layer 4 .* has 3 layers.*1 to 3, or -3 to -1"),
        ((-4, 1), r"learner layer -4 .* has 3 layers"),
        ((0, 1), r"learner layer 0 .* has 3 layers"),
        ((1, 2), r"source layer 2 .* has 1 layer\b.*1 to 1, or -1 to -1"),
        ((1, -2), r"source layer -2 .* has 1 layer\b"),
        ((1, 0), r"source layer 0 .* has 1 layer\b"),
    ],
)
def test_layers_beyond_the_depth(pair: tuple[int, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        found("pairs", 3, 1, pairs=(pair,))


@pytest.mark.parametrize("values", [{}, {"pairs": None}])
def test_the_map_pairs_needs_pairs(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="3~2"):
        found("pairs", 3, 3, **values)


def test_only_the_map_that_reads_a_key_names_it() -> None:
    found = {name: [key.name for key in answer.keys] for name, answer in LAYER_MAPS.items() if answer.keys}
    assert found.pop("attention")[0] == "dim"
    assert found == {"shift": ["shift"], "pairs": ["pairs"]}
    for answer in LAYER_MAPS.values():
        assert answer.summary
        assert "\n" not in answer.summary
        assert answer.reference
        assert (answer.weights is None) != (answer.module is None)


def test_matrices_lose_nothing_in_double_precision() -> None:
    weights = LAYER_MAPS["uniform"].weights
    assert weights is not None
    assert weights(3, 1, {}, False).dtype == torch.float64


def group(**values: object) -> GroupPlan:
    return GroupPlan("feature", MappingProxyType(values))


def test_layer_pairs_are_those_with_a_weight() -> None:
    assert layer_pairs(group(layer_map="shift", shift=1), 3, 2) == ((1, 2), (2, 1), (3, 1))
    assert layer_pairs(group(layer_map="attention"), 2, 2) == ((1, 1), (1, 2), (2, 1), (2, 2))
    assert layer_pairs(group(layer_map="attention", source="self"), 3, 3) == ((1, 2), (1, 3), (2, 3))
    assert layer_pairs(group(layer_map="last", source="self"), 1, 1) == ()


def test_layer_pairs_name_the_key_of_a_map_that_does_not_fit() -> None:
    with pytest.raises(UserError, match=r"kd_feature\.layer_map: one_to_one needs equal depths"):
        layer_pairs(group(layer_map="one_to_one"), 3, 2)
