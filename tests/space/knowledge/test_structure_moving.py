"""The structure term where graphs move: each pair of layers on its own edges, against loops; nothing outlives a step."""

from __future__ import annotations

import gc
from typing import Any
from weakref import ref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin import plugins
from gkd_plugin.ops.neighbours import nearest_graph
from gkd_plugin.space.knowledge.auxiliary import Head, measure_smoothing
from gkd_plugin.space.observation import Graph, Observation
from tests.space.knowledge.structure_oracle import graph_of, oracle, seen, term

plugins.load()

Rows = list[Tensor]


def slow_graph(rows: Tensor, k: int, cloud: list[int]) -> Graph:
    """The k nearest others of each point's cloud, by loops."""
    pairs = []
    for v in range(len(rows)):
        others = [u for u in range(len(rows)) if u != v and cloud[u] == cloud[v]]
        near = sorted(others, key=lambda u: (float((rows[u] - rows[v]).square().sum()), u))
        pairs += [(u, v) for u in near[:k]]
    return graph_of(pairs, len(rows))


def moving(inputs: Rows, states: Rows, k: int, batch: Tensor) -> Observation:
    """As a network leaves it: the graph of layer l is that of its input."""
    graph = Graph(torch.zeros(2, 0, dtype=torch.long), len(batch), batch=batch)
    graphs = tuple(graph.moved(nearest_graph(rows, k, batch)) for rows in inputs)
    return Observation(torch.zeros(len(batch), 2), {"conv": tuple(states)}, graph, graphs=graphs)


def draw_side(depth: int, width: int, nodes: int, first: Tensor) -> tuple[Rows, Rows]:
    states = [torch.randn(nodes, width, dtype=torch.float64) for _ in range(depth)]
    return [first, *states[:-1]], states


def expected(
    one: Any, weights: Tensor, sides: tuple[tuple[Rows, Rows, int], tuple[Rows, Rows, int]], cloud: list[int]
) -> float:
    """The sum over pairs of layers, each on the edges of its own two layers."""
    (inputs, states, k), (their_inputs, their_states, their_k) = sides
    total = 0.0
    for i, j in weights.nonzero().tolist():
        ours = states[i].tolist(), slow_graph(inputs[i], k, cloud)
        theirs = their_states[j].tolist(), slow_graph(their_inputs[j], their_k, cloud)
        total += float(weights[i, j]) * oracle(one.group, ours, theirs)
    return total


CASES = [
    {"domain": "union"},
    {"domain": "edges"},
    {"domain": "train_edges"},
    {"domain": "union", "kernel": "rbf", "kernel_scale": "median", "self_loops": True},
    {"domain": "edges", "kernel": "linear", "divergence": "kl_learner_source", "softmax_over": "out_edges"},
    {"domain": "union", "distribution": "none", "divergence": "mse", "kernel": "euclidean"},
    {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "non_edge_weight": 0.25, "kernel": "rbf"},
    {"domain": "all_pairs"},
]


@pytest.mark.parametrize("keys", CASES, ids=str)
def test_every_pair_of_layers_is_compared_on_its_own_edges(keys: dict[str, Any]) -> None:
    """Both graphs move; k, depth and width differ; two clouds of different sizes."""
    torch.manual_seed(4)
    batch = torch.tensor([0] * 6 + [1] * 4)
    first = torch.randn(10, 3, dtype=torch.float64)
    student, teacher = draw_side(2, 4, 10, first), draw_side(3, 5, 10, first)
    one, weights = term(**keys), torch.tensor([[1.0, 0.0, 0.5], [0.0, 2.0, 1.0]], dtype=torch.float64)
    learner, source = moving(*student, 2, batch), moving(*teacher, 4, batch)
    found = one(learner, source, weights)
    wanted = expected(one, weights, ((*student, 2), (*teacher, 4)), batch.tolist())
    assert float(found) == pytest.approx(wanted, rel=1e-6)
    assert wanted > 0


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_one_side_may_move_alone(side: str) -> None:
    torch.manual_seed(5)
    batch = torch.zeros(7, dtype=torch.long)
    first = torch.randn(7, 3, dtype=torch.float64)
    pairs = [(0, 1), (1, 2), (3, 2), (6, 0)]
    inputs, states = draw_side(2, 4, 7, first)
    (other,) = draw_side(1, 3, 7, first)[1]
    moved, fixed = moving(inputs, states, 2, batch), seen(graph_of(pairs, 7), other)
    one, graph = term(domain="union", kernel="linear"), slow_graph(inputs[1], 2, batch.tolist())
    ours, theirs = (states[1].tolist(), graph), (other.tolist(), graph_of(pairs, 7))
    if side == "student":
        assert float(one.distance(moved, fixed, 2, 1)) == pytest.approx(oracle(one.group, ours, theirs))
    else:
        assert float(one.distance(fixed, moved, 1, 2)) == pytest.approx(oracle(one.group, theirs, ours))
        assert not any(key[0] == "union" for key in fixed.graph.memo), "a graph that lasts would gather one a step"


def test_a_source_without_graphs_of_its_own_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    first = torch.randn(5, 3)
    learner = moving([first], [torch.randn(5, 2)], 2, torch.zeros(5, dtype=torch.long))
    source = seen(graph_of([(0, 4)], 5), torch.randn(5, 3))
    for domain in ("edges", "union", "union"):
        term(domain=domain).distance(learner, source, 1, 1)
    (line,) = capsys.readouterr().err.splitlines()
    assert "kd_structure.domain: union" in line and "The edges of the data stand for it" in line


@given(st.lists(st.integers(1, 5), min_size=1, max_size=3), st.integers(1, 4), st.integers(1, 6), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_odd_clouds_equal_loops(sizes: list[int], k: int, their_k: int, seed: int) -> None:
    """One point, fewer points than k, clouds of different sizes, and points that coincide."""
    torch.manual_seed(seed)
    nodes, batch = sum(sizes), torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))

    def rows(width: int) -> Tensor:
        return torch.randint(0, 3, (nodes, width)).double().requires_grad_()

    first = rows(2).detach()
    own, theirs = [rows(2), rows(2)], [rows(3), rows(3), rows(3)]
    student, teacher = ([first, own[0]], own), ([first, *theirs[:2]], theirs)
    one, weights = term(domain="union", kernel_scale=1.0), torch.ones(2, 3, dtype=torch.float64)
    found = one(moving(*student, k, batch), moving(*teacher, their_k, batch), weights)
    plain = [[[each.detach() for each in part] for part in side] for side in (student, teacher)]
    wanted = expected(one, weights, ((*plain[0], k), (*plain[1], their_k)), batch.tolist())  # type: ignore[arg-type]
    assert found.item() == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    if found.requires_grad:
        found.backward()
    assert all(each.grad is None or bool(each.grad.isfinite().all()) for each in own)
    assert all(each.grad is None for each in theirs), "the source learns nothing"


def test_gradients_are_those_of_the_values() -> None:
    torch.manual_seed(6)
    batch = torch.tensor([0] * 5 + [1] * 3)
    first = torch.randn(8, 2, dtype=torch.float64)
    (inputs, states), source = draw_side(2, 3, 8, first), moving(*draw_side(2, 4, 8, first), 3, batch)
    one, learner = term(domain="union", kernel="rbf", kernel_scale=2.0), moving(inputs, states, 2, batch)

    def value(last: Tensor) -> Tensor:
        again = Observation(learner.logits, {"conv": (states[0], last)}, learner.graph, graphs=learner.graphs)
        return one.distance(again, source, 2, 2)

    assert torch.autograd.gradcheck(value, states[1].clone().requires_grad_())


@pytest.mark.parametrize("domain", ["edges", "union"])
def test_a_frozen_source_remembers_nothing_of_a_learner_and_other_edges_give_other_numbers(domain: str) -> None:
    torch.manual_seed(7)
    batch = torch.zeros(8, dtype=torch.long)
    first = torch.randn(8, 2, dtype=torch.float64)
    inputs, states = draw_side(2, 4, 8, first)
    kept: list[Any] = []
    source = moving(inputs, states, 3, batch)
    source = Observation(source.logits, source.hidden, source.graph, keep=_refuse, graphs=source.graphs)
    one, found, old = term(domain=domain, kernel="linear"), [], []
    same = torch.randn(8, 3, dtype=torch.float64)
    for _ in range(3):  # three steps of a learner whose states stay and whose edges move
        edges_from = torch.randn(8, 3, dtype=torch.float64)
        learner = moving([edges_from], [same], 2, batch)
        found.append(float(one.distance(learner, source, 1, 2)))
        wanted = oracle(
            one.group,
            (same.tolist(), slow_graph(edges_from, 2, [0] * 8)),
            (states[1].tolist(), slow_graph(inputs[1], 3, [0] * 8)),
        )
        assert found[-1] == pytest.approx(wanted)
        old.append(ref(learner))
        kept.append([len(source.memo), *(len(graph.memo) for graph in (source.graph, *source.graphs))])
        del learner
    gc.collect()
    assert len(set(found)) == 3
    assert kept[0] == kept[1] == kept[2]
    assert kept[0][0] == 0, "distributions on edges of one step belong to that step"
    assert not any(each() for each in old)


def _refuse(_parts: Any, _compute: Any) -> Tensor:
    raise AssertionError("a file of the store for each step")


def test_two_layers_of_one_model_share_nothing_but_their_nodes() -> None:
    torch.manual_seed(8)
    batch = torch.zeros(9, dtype=torch.long)
    inputs, states = draw_side(2, 3, 9, torch.randn(9, 3, dtype=torch.float64))
    states[1] = states[0]  # the same states on the edges of two layers
    learner = moving(inputs, states, 2, batch)
    source = moving(*draw_side(1, 3, 9, inputs[0]), 2, batch)
    one = term(domain="edges", kernel="linear")
    first, second = (float(one.distance(learner, source, row, 1)) for row in (1, 2))
    assert first != second


def test_a_head_that_convolves_and_measures_of_smoothing_take_the_layers_edges() -> None:
    torch.manual_seed(9)
    batch, first = torch.zeros(6, dtype=torch.long), torch.randn(6, 3)
    states = [torch.randn(6, 3), torch.randn(6, 3)]
    learner = moving([first, states[0]], states, 2, batch)
    learner = Observation(learner.logits, {"layer": tuple(states)}, learner.graph, graphs=learner.graphs)
    head = Head("gnn", 3, 2, "node")
    convolution = head.convolution
    assert convolution is not None
    for layer in (1, 2):
        edges = learner.graph_of(layer).edge_index
        torch.testing.assert_close(head(states[layer - 1], learner, layer), convolution(states[layer - 1], edges))
    found = measure_smoothing(learner)
    for layer in (1, 2):
        alone = seen(learner.graph_of(layer), states[layer - 1])
        alone = Observation(alone.logits, {"layer": alone.hidden["conv"]}, alone.graph)
        assert found[f"layer{layer}_mad"] == measure_smoothing(alone)["layer1_mad"]
