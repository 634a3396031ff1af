"""Pairs of nodes, distributions over the pairs of each node, reductions: against loops."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.ops import edges
from gkd_plugin.ops.edges import EdgeSet, relational_edges, within


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[tuple[int, int]], int]:
    """Any edges on 1 to 6 nodes: none, loops, repeated ones, isolated nodes."""
    nodes = draw(st.integers(1, 6))
    node = st.integers(0, nodes - 1)
    return draw(st.lists(st.tuples(node, node), max_size=14)), nodes


def index_of(pairs: list[tuple[int, int]]) -> Tensor:
    return torch.tensor(pairs, dtype=torch.long).view(-1, 2).t().contiguous()


def pairs_of(index: Tensor) -> list[tuple[int, int]]:
    return [(u, v) for u, v in index.t().tolist()]


@given(graphs(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_exactly_one_loop_per_node_or_none(graph: tuple[list[tuple[int, int]], int], loops: bool) -> None:
    pairs, nodes = graph
    index = index_of(pairs)
    before = index.clone()
    found = edges.edges(index, nodes, loops)
    wanted = Counter((u, v) for u, v in pairs if u != v)
    if loops:
        wanted.update((v, v) for v in range(nodes))
    assert Counter(pairs_of(found.index)) == wanted
    assert found.num_pairs == sum(wanted.values())
    assert torch.equal(index, before)
    assert found.not_loops.tolist() == [u != v for u, v in pairs_of(found.index)]


@given(graphs(), st.data())
@settings(deadline=None, max_examples=60)
def test_union_holds_each_pair_once(graph: tuple[list[tuple[int, int]], int], data: st.DataObject) -> None:
    pairs, nodes = graph
    node = st.integers(0, nodes - 1)
    others = data.draw(st.lists(st.tuples(node, node), max_size=8))
    found = edges.union(edges.EdgeSet(index_of(pairs), nodes), edges.EdgeSet(index_of(others), nodes))
    assert Counter(pairs_of(found.index)) == Counter(set(pairs) | set(others))


@given(graphs(), st.data())
@settings(deadline=None, max_examples=60)
def test_within_keeps_pairs_with_both_ends_inside(
    graph: tuple[list[tuple[int, int]], int], data: st.DataObject
) -> None:
    pairs, nodes = graph
    mask = data.draw(st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    found = edges.within(edges.EdgeSet(index_of(pairs), nodes), torch.tensor(mask))
    assert pairs_of(found.index) == [(u, v) for u, v in pairs if mask[u] and mask[v]]


@given(graphs())
@settings(deadline=None, max_examples=60)
def test_unordered_pairs_stand_once_and_find_their_edges(graph: tuple[list[tuple[int, int]], int]) -> None:
    pairs, nodes = graph
    unordered, place = edges.EdgeSet(index_of(pairs), nodes).unordered
    assert len(set(pairs_of(unordered.index))) == unordered.num_pairs == len({frozenset(pair) for pair in pairs})
    assert [set(pairs_of(unordered.index)[p]) for p in place.tolist()] == [set(pair) for pair in pairs]


def test_equal_edges_are_one_key_and_others_are_not() -> None:
    first, second = (edges.EdgeSet(index_of([(0, 1), (1, 2)]), 3) for _ in range(2))
    memo = {first: "seen"}
    assert memo[second] == "seen"
    assert edges.EdgeSet(index_of([(0, 1), (2, 1)]), 3) not in memo
    assert edges.EdgeSet(first.index, 4) not in memo
    assert first != "seen"


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_counted_pairs_are_the_matrix_without_its_diagonal(nodes: int, loops: bool) -> None:
    domain = edges.all_pairs(nodes, loops, None)
    matrix = torch.arange(nodes * nodes).view(nodes, nodes)
    wanted = [[int(matrix[u, v]) for v in range(nodes) if loops or u != v] for u in range(nodes)]
    assert domain.counted(matrix).tolist() == wanted
    assert domain.num_pairs == sum(len(row) for row in wanted)
    assert not domain.is_draw


def test_a_draw_is_without_replacement_and_from_the_current_stream() -> None:
    torch.manual_seed(3)
    first = edges.all_pairs(50, False, 20)
    torch.manual_seed(3)
    second = edges.all_pairs(50, False, 20)
    third = edges.all_pairs(50, False, 20)
    assert first.nodes is not None
    assert second.nodes is not None
    assert third.nodes is not None
    assert first.nodes.tolist() == second.nodes.tolist() != third.nodes.tolist()
    assert len(set(first.nodes.tolist())) == first.size == 20
    assert set(first.nodes.tolist()) <= set(range(50))
    assert first.is_draw
    state = torch.get_rng_state()
    assert edges.all_pairs(50, False, 50) == edges.all_pairs(50, False, None) == edges.AllPairs(None, 50, False)
    assert torch.equal(state, torch.get_rng_state())  # nothing is drawn where all nodes count


def test_each_node_is_drawn_equally_often() -> None:
    counts = torch.zeros(10)
    for _ in range(400):
        counts[edges.all_pairs(10, False, 3).nodes] += 1
    assert (counts - 120).abs().max() < 50  # 5 standard deviations of a binomial(400, 0.3) are 46


@given(graphs(), st.booleans(), st.data())
@settings(deadline=None, max_examples=60)
def test_edge_factors(graph: tuple[list[tuple[int, int]], int], loops: bool, data: st.DataObject) -> None:
    pairs, nodes = graph
    chosen = data.draw(st.none() | st.lists(st.integers(0, nodes - 1), min_size=1, unique=True))
    domain = edges.AllPairs(None if chosen is None else torch.tensor(chosen), nodes, loops)
    names = list(range(nodes)) if chosen is None else chosen
    wanted = [[1.0 if u == v or (u, v) in pairs else 0.5 for v in names if loops or u != v] for u in names]
    assert domain.edge_factors(index_of(pairs), 0.5, torch.zeros(1)).tolist() == wanted


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(-800, 800)), max_size=12))
@settings(deadline=None, max_examples=80)
def test_log_softmax_of_groups(entries: list[tuple[int, float]]) -> None:
    group = torch.tensor([g for g, _ in entries], dtype=torch.long)
    values = torch.tensor([x for _, x in entries], dtype=torch.float64)
    found = edges.log_softmax(values, group, 5).tolist()
    for (g, x), log_probability in zip(entries, found, strict=True):
        others = [math.exp(max(-700.0, min(700.0, y - x))) for h, y in entries if h == g]
        if max(others) < math.exp(600):  # beyond it the sum of the oracle itself overflows
            assert log_probability == pytest.approx(-math.log(sum(others)), abs=1e-10)
    for g in {g for g, _ in entries}:
        assert sum(math.exp(p) for (h, _), p in zip(entries, found, strict=True) if h == g) == pytest.approx(1.0)


@pytest.mark.filterwarnings("ignore:Anomaly Detection")
def test_log_softmax_gradient_with_empty_groups() -> None:
    group = torch.tensor([3, 0, 3, 3])
    values = torch.randn(4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: edges.log_softmax(x, group, 5), (values,))
    with torch.autograd.detect_anomaly(check_nan=True):
        edges.log_softmax(values, group, 5).square().sum().backward()
    assert values.grad is not None
    assert values.grad[1] == 0  # one neighbour: the distribution is 1 whatever the value


def test_direction_of_the_softmax() -> None:
    pairs = edges.EdgeSet(index_of([(0, 1), (0, 2), (1, 2)]), 3)
    values = torch.tensor([1.0, 2.0, 3.0])
    inward, outward = pairs.log_softmax(values, "in_edges").exp(), pairs.log_softmax(values, "out_edges").exp()
    share = math.e / (1 + math.e)
    torch.testing.assert_close(inward, torch.tensor([1.0, 1 - share, share]))
    torch.testing.assert_close(outward, torch.tensor([1 - share, share, 1.0]))


@pytest.mark.parametrize(("how", "wanted"), [("node_mean", 10 / 8), ("pair_mean", 10 / 4), ("sum", 10.0)])
def test_reductions(how: str, wanted: float) -> None:
    shares = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert edges.reduce(shares, how, 8).item() == wanted
    assert edges.reduce(shares.view(2, 2), how, 8).item() == wanted
    assert edges.reduce(shares[:0], how, 8).item() == 0


def test_relations_have_groups_of_their_own_and_loops_where_they_lead() -> None:
    index, kinds = torch.tensor([[0, 2, 3, 0, 1], [1, 1, 1, 0, 2]]), torch.tensor([4, 4, 9, 4, 9])
    bare = relational_edges(index, kinds, 5, False)
    assert bare.index.tolist() == [[0, 2, 3, 1], [1, 1, 1, 2]] and bare.kinds is not None
    assert bare.kinds.tolist() == [4, 4, 9, 9]
    with_loops = relational_edges(index, kinds, 5, True)
    assert with_loops.kinds is not None
    loops = zip(
        with_loops.index[0, 4:].tolist(), with_loops.index[1, 4:].tolist(), with_loops.kinds[4:].tolist(), strict=True
    )
    assert sorted(loops) == [(0, 0, 4), (1, 1, 4), (1, 1, 9), (2, 2, 4), (2, 2, 9), (3, 3, 9)]
    values = torch.tensor([0.0, 0.0, 5.0, -3.0])
    half = math.log(0.5)
    torch.testing.assert_close(bare.log_softmax(values, "in_edges"), torch.tensor([half, half, 0.0, 0.0]))
    torch.testing.assert_close(bare.log_softmax(values, "out_edges"), torch.zeros(4))
    shares = torch.tensor([1.0, 2.0, 4.0, 8.0])
    found = [float(bare.reduce(shares, how)) for how in ("sum", "pair_mean", "node_mean")]
    assert found == [15 / 2, (3 / 2 + 12 / 2) / 2, pytest.approx(15 / 5 / 2)]
    inside = within(bare, torch.tensor([True, True, True, False, True]))
    assert inside.kinds is not None and inside.kinds.tolist() == [4, 4, 9]
    assert bare == relational_edges(index.clone(), kinds.clone(), 5, False)
    assert bare != relational_edges(index, kinds.flip(0), 5, False)
    assert bare != EdgeSet(bare.index, 5) and EdgeSet(bare.index, 5) != bare


def test_a_graph_without_edges_has_no_relation() -> None:
    nothing = relational_edges(torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.long), 3, True)
    assert nothing.num_pairs == 0
    assert float(nothing.reduce(nothing.log_softmax(torch.empty(0), "in_edges"), "pair_mean")) == 0
