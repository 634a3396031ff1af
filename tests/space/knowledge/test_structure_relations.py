"""``kd_structure.relations: each`` against loops over relations, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd_plugin import plugins
from gkd_plugin.errors import UserError
from gkd_plugin.space.knowledge.structure import StructureTerm
from gkd_plugin.space.observation import Graph
from tests.space.knowledge.structure_oracle import (
    DIVERGENCES,
    REDUCTIONS,
    graph_of,
    oracle,
    relational_oracle,
    seen,
    term,
)

plugins.load()


def relational(edges: list[tuple[int, int, int]], nodes: int, mask: list[bool] | None = None) -> Graph:
    plain = graph_of([(u, v) for u, v, _ in edges], nodes, mask)
    return replace(plain, edge_type=torch.tensor([kind for _, _, kind in edges], dtype=torch.long))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Graph, int]:
    """Relations that lack edges, repeated edges, self-loops, isolated nodes."""
    nodes = draw(st.integers(1, 6))
    node = st.integers(0, nodes - 1)
    edges = draw(st.lists(st.tuples(node, node, st.sampled_from([0, 1, 2, 7])), max_size=14))
    mask = draw(st.none() | st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    return relational(edges, nodes, mask), draw(st.integers(0, 10**6))


@given(
    problems(),
    st.sampled_from(["laplacian", "linear", "cosine"]),
    st.sampled_from(["edges", "train_edges"]),
    st.sampled_from(["in_edges", "out_edges", "none"]),
    st.sampled_from(DIVERGENCES),
    st.sampled_from(REDUCTIONS),
    st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_each_relation_equals_loops(
    problem: tuple[Graph, int], kernel: str, domain: str, over: str, divergence: str, reduction: str, loops: bool
) -> None:
    graph, seed = problem
    generator = torch.Generator().manual_seed(seed)
    own, theirs = (torch.randn(graph.num_nodes, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    own.requires_grad_()
    keys: dict[str, Any] = {"kernel": kernel, "domain": domain, "reduction": reduction, "self_loops": loops}
    keys |= {"kernel_scale": 1.3} if kernel == "laplacian" else {}
    if over == "none":
        keys |= {"distribution": "none", "divergence": "mse"}
    else:
        keys |= {"softmax_over": over, "divergence": divergence}
    one = term(relations="each", **keys)
    one.require(graph)
    found = one.distance(seen(graph, own), seen(graph, theirs), 1, 1)
    wanted = relational_oracle(one.group, (own.tolist(), graph), (theirs.tolist(), graph))
    assert found.item() == pytest.approx(wanted, rel=1e-8, abs=1e-10)
    if found.requires_grad:
        found.backward()
        assert own.grad is not None and own.grad.isfinite().all()


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_one_relation_is_the_graph_itself(reduction: str) -> None:
    graph = relational([(0, 1, 5), (1, 0, 5), (2, 1, 5), (3, 1, 5)], 4)
    torch.manual_seed(0)
    own, theirs = torch.randn(4, 3, dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
    each, every = (term(relations=word, reduction=reduction) for word in ("each", "all"))
    values = [one.distance(seen(graph, own), seen(graph, theirs), 1, 1).item() for one in (each, every)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)
    assert values[1] == pytest.approx(oracle(every.group, (own.tolist(), graph), (theirs.tolist(), graph)), rel=1e-9)


def test_a_neighbour_of_another_relation_changes_nothing() -> None:
    """By hand: node 1 hears 0 and 2 by relation 0; 3, by relation 1, is alone and its distribution certain."""
    graph = relational([(0, 1, 0), (2, 1, 0), (3, 1, 1)], 4)
    own, theirs = torch.zeros(4, 1).double(), torch.zeros(4, 1).double()
    own[0], own[2] = 1.0, 2.0
    own[1] = theirs[1] = 1.0
    keys = {"kernel": "linear", "reduction": "sum"}
    found = [
        term(relations="each", **keys).distance(
            seen(graph, own.index_fill(0, torch.tensor([3]), far)), seen(graph, theirs), 1, 1
        )
        for far in (0.0, 9.0)
    ]
    assert torch.equal(*found)
    p = torch.tensor([1.0, 2.0]).double().log_softmax(0)  # the teacher sees both alike
    assert found[0].item() == pytest.approx(float((0.5 * (torch.tensor(0.5).log() - p)).sum()) / 2)


def test_a_graph_without_types_is_refused_before_training() -> None:
    one = term(relations="each")
    with pytest.raises(
        UserError, match=r"kd_structure\.relations: each, but the edges of these data have no types.*all"
    ):
        one.require(graph_of([(0, 1)], 2))
    term().require(graph_of([(0, 1)], 2))


def test_a_layer_with_a_graph_of_its_own_has_no_relations() -> None:
    graph = relational([(0, 1, 0)], 2)
    moving = replace(seen(graph, torch.rand(2, 3)), graphs=(graph_of([(1, 0)], 2),))
    with pytest.raises(UserError, match="nor have those of a graph that moves"):
        term(relations="each").distance(moving, seen(graph, torch.rand(2, 3)), 1, 1)


@pytest.mark.parametrize(("domain", "told"), [("all_pairs", "are no edges"), ("union", "takes each pair once")])
def test_relations_mean_nothing_where_pairs_have_none(domain: str, told: str) -> None:
    (key,) = (key for key in StructureTerm.keys if key.name == "relations")
    assert key.unless is not None
    assert told in str(key.unless({"domain": domain}))
    assert key.unless({"domain": "edges"}) is None
