"""The structure term: memory, what is computed once and forgotten in time, and users' mistakes."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any
from weakref import ref

import pytest
import torch
from torch import Tensor

from gkd_plugin import plugins
from gkd_plugin.errors import UserError
from gkd_plugin.ops import pairwise
from gkd_plugin.schema import BadValue
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Kernel
from gkd_plugin.space.knowledge import structure
from gkd_plugin.space.knowledge.structure import StructureTerm
from tests.space.knowledge.structure_oracle import MASK, ODD_PAIRS, Graph, graph_of, seen, term

plugins.load()


class Counted:
    """A kernel that counts how often it is computed."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, x: Tensor, y: Tensor, scale: Any) -> Tensor:
        self.calls += 1
        return (x - y).square().sum(-1)


@pytest.fixture
def counted() -> Iterator[Counted]:
    kernel = Counted()
    axes.kernels.add("counted", Kernel(kernel, "for tests", "-"), "test_counted")
    yield kernel
    axes.kernels.discard("test_counted")


# ---------------------------------------------------------------------------------------------- memory and reuse
def test_chunks_change_neither_value_nor_gradient(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(6)
    graph = Graph(torch.randint(40, (2, 300)), 40)
    theirs = torch.randn(40, 8, dtype=torch.float64)
    for keys in ({}, {"domain": "all_pairs", "kernel": "counted"}, {"kernel": "cosine", "self_loops": True}):
        results = []
        for elements in (2**22, 8 * 13):
            monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
            torch.manual_seed(8)
            own = torch.randn(40, 8, dtype=torch.float64, requires_grad=True)
            value = term(**keys).distance(seen(graph, own), seen(graph, theirs), 1, 1)
            results.append((value.detach(), torch.autograd.grad(value, own)[0]))
        torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-15)


def test_nothing_of_size_edges_by_width_is_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(torch.randint(40, (2, 2000)), 40)
    own, theirs = torch.randn(40, 16, requires_grad=True), torch.randn(40, 16)
    pairs = term()._domain(seen(graph, own), seen(graph, theirs), 1, 1)
    assert isinstance(pairs, structure.EdgeSet)
    unordered = pairs.unordered[0].num_pairs
    sizes: list[int] = []

    def pack(x: Tensor) -> Tensor:
        sizes.append(x.numel())
        return x

    def largest(elements: int) -> int:
        monkeypatch.setattr(pairwise, "CHUNK_ELEMENTS", elements)
        sizes.clear()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            value = term().distance(seen(graph, own), seen(graph, theirs), 1, 1)
        value.backward()
        return max(sizes)

    assert largest(2**22) >= unordered * 16  # the plain path keeps the differences
    assert largest(16 * 100) <= max(pairs.num_pairs, 40 * 16)


@pytest.mark.parametrize("domain", ["edges", "union", "train_edges", "all_pairs"])
@pytest.mark.parametrize("shared_graph", [True, False])
def test_distributions_are_computed_once_per_observation(counted: Counted, shared_graph: bool, domain: str) -> None:
    """Linear in the number of students, also where every student has a graph object of its own."""
    students, layers = 4, 2
    common = graph_of(ODD_PAIRS, 6, MASK)
    graphs = [common if shared_graph else graph_of(ODD_PAIRS, 6, MASK) for _ in range(students)]
    learners = [seen(g, *torch.randn(layers, 6, 3)) for g in graphs]
    sources = [observation.detached() for observation in learners]
    for m, learner in enumerate(learners):
        for n, source in enumerate(sources):
            if m != n:
                term(kernel="counted", domain=domain)(learner, source, torch.ones(layers, layers))
    assert counted.calls == 2 * students * layers


def test_terms_that_differ_share_nothing() -> None:
    graph = graph_of(ODD_PAIRS, 6, MASK)
    torch.manual_seed(9)
    own, theirs = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64)
    learner, source = seen(graph, own), seen(graph, theirs)
    for keys in (
        {},
        {"kernel": "rbf"},
        {"kernel_scale": 3.0},
        {"kernel_scale": "median"},
        {"normalize": "l2"},
        {"self_loops": True},
        {"softmax_over": "out_edges"},
        {"distribution": "none", "divergence": "mse"},
        {"domain": "union"},
        {"domain": "train_edges"},
        {"domain": "all_pairs"},
        {"domain": "all_pairs", "self_loops": True},
        {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "non_edge_weight": 0.1},
        {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "non_edge_weight": 0.2},
    ):
        used = term(**keys).distance(learner, source, 1, 1)
        fresh_graph = graph_of(ODD_PAIRS, 6, MASK)
        fresh = term(**keys).distance(seen(fresh_graph, own), seen(fresh_graph, theirs), 1, 1)
        assert used.item() == fresh.item(), keys


def test_one_draw_for_all_layers_and_both_sides_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    draws: list[Tensor] = []
    original = structure.edges.all_pairs

    def drawn(*args: Any) -> Any:
        domain = original(*args)
        draws.append(domain.nodes)
        return domain

    monkeypatch.setattr(structure.edges, "all_pairs", drawn)
    graph = graph_of(ODD_PAIRS, 6)
    teacher = seen(graph, *torch.randn(2, 6, 3))
    one = term(domain="all_pairs", samples=3)
    for step in range(1, 6):
        learner = seen(graph, *torch.randn(2, 6, 3))
        one(learner, teacher, torch.ones(2, 2))
        one(learner, seen(graph, *torch.randn(2, 6, 3)), torch.ones(2, 2))
        assert len(draws) == step
    assert len({tuple(nodes.tolist()) for nodes in draws}) > 1
    assert not teacher.memo  # what lasts longer than a step collects no draws
    assert not any(key[0] == "all_pairs" for key in graph.memo)  # type: ignore[index]


def test_a_step_is_forgotten_without_the_garbage_collector() -> None:
    """Matrices of all pairs must not wait for a collection of cycles."""
    graph = graph_of(ODD_PAIRS, 6)
    gc.disable()
    try:
        first, second = (seen(graph, torch.randn(6, 3, requires_grad=True)) for _ in range(2))
        for keys in ({}, {"domain": "all_pairs", "samples": 3}, {"domain": "union"}):
            one = term(**keys)
            (
                one.distance(first, second, 1, 1) + one.distance(second, first, 1, 1) + one.distance(first, first, 1, 1)
            ).backward()
        gone = ref(first), ref(second)
        del first, second
        assert [r() for r in gone] == [None, None]
    finally:
        gc.enable()


# ----------------------------------------------------------------------------------------------- users' mistakes
def test_too_many_pairs_are_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "MATRIX_BYTES", 4 * 5 * 5)
    graph, x = graph_of(ODD_PAIRS, 6), torch.randn(6, 3)
    with pytest.raises(UserError, match=r"kd_structure\.samples: all pairs of 6 nodes.*6 x 6.*samples to 5 or less"):
        term(domain="all_pairs").distance(seen(graph, x), seen(graph, x), 1, 1)
    with pytest.raises(UserError, match=r"kd_structure\.samples"):
        term(domain="all_pairs", samples=6).distance(seen(graph, x), seen(graph, x), 1, 1)
    term(domain="all_pairs", samples=5).distance(seen(graph, x), seen(graph, x), 1, 1)


def test_a_source_with_other_nodes_is_refused() -> None:
    with pytest.raises(UserError, match=r"kd_structure\.source: .* 5 nodes, the student of 6"):
        term().distance(seen(graph_of([], 6), torch.randn(6, 3)), seen(graph_of([], 5), torch.randn(5, 3)), 1, 1)


@pytest.mark.parametrize(
    ("key", "values", "applies"),
    [
        ("kernel_scale", {"kernel": "laplacian"}, True),
        ("kernel_scale", {"kernel": "cosine"}, False),
        ("kernel_scale", {"kernel": "l2"}, False),
        ("samples", {"domain": "all_pairs"}, True),
        ("samples", {"domain": "edges"}, False),
        ("softmax_over", {"distribution": "softmax"}, True),
        ("softmax_over", {"distribution": "none"}, False),
        ("non_edge_weight", {"domain": "all_pairs", "distribution": "none"}, True),
        ("non_edge_weight", {"domain": "all_pairs", "distribution": "softmax"}, False),
        ("non_edge_weight", {"domain": "union", "distribution": "none"}, False),
    ],
)
def test_keys_that_do_not_apply(key: str, values: dict[str, Any], applies: bool) -> None:
    unless = next(k.unless for k in StructureTerm.keys if k.name == key)
    assert unless is not None
    reason = unless(values)
    assert (reason is None) == applies
    assert applies or reason


def test_distribution_none_needs_a_divergence_of_raw_values() -> None:
    problems = list(StructureTerm.check({"distribution": "none", "divergence": "js"}, None))
    assert [problem.key for problem in problems] == ["kd_structure.divergence"]
    assert "mse" in problems[0].allowed
    assert not list(StructureTerm.check({"distribution": "none", "divergence": "mse"}, None))
    assert not list(StructureTerm.check({"distribution": "softmax", "divergence": "js"}, None))


def test_values_of_the_keys(counted: Counted) -> None:
    kinds = {key.name: key.kind for key in StructureTerm.keys}
    assert kinds["kernel_scale"].parse("median") == "median"
    assert kinds["kernel_scale"].parse("10") == 10.0
    assert kinds["samples"].parse("none") is None
    assert kinds["samples"].parse(2048.0) == 2048
    assert kinds["kernel"].parse("counted") == "counted"  # somebody else's kernel
    for key, wrong in (
        ("kernel_scale", 0),
        ("samples", 0),
        ("samples", 1.5),
        ("kernel", "laplace"),
        ("non_edge_weight", -1),
    ):
        with pytest.raises(BadValue):
            kinds[key].parse(wrong)
