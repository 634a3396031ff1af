"""The structure term against loops over nodes in float64, the golden values, gradients, invariants."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from statistics import median
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gkd_plugin import plugins
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Kernel
from gkd_plugin.space.kernels import KERNELS
from gkd_plugin.space.knowledge import structure
from gkd_plugin.space.presets import PRESETS
from tests.space.knowledge.structure_oracle import (
    DIVERGENCES,
    DOMAINS,
    MASK,
    ODD_PAIRS,
    OTHER_PAIRS,
    REDUCTIONS,
    graph_of,
    oracle,
    seen,
    term,
    unsymmetric,
)

plugins.load()


@pytest.fixture(autouse=True, scope="module")
def _unsymmetric_kernel() -> Iterator[None]:
    """The direction of pairs shows with a kernel that is not symmetric, and the way without ``dense``."""
    axes.kernels.add("unsymmetric", Kernel(unsymmetric, "for tests", "-"), "test_structure")
    yield
    axes.kernels.discard("test_structure")


# -------------------------------------------------------------------------------------------- against the oracle
def choices() -> Iterator[dict[str, Any]]:
    """Every combination of the keys that do not say which kernel and which pairs."""
    for loops, over, divergence, reduction in itertools.product(
        (False, True), ("in_edges", "out_edges"), DIVERGENCES, REDUCTIONS
    ):
        yield {"self_loops": loops, "softmax_over": over, "divergence": divergence, "reduction": reduction}
    for loops, reduction in itertools.product((False, True), REDUCTIONS):
        yield {"self_loops": loops, "distribution": "none", "divergence": "mse", "reduction": reduction}


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kernel", [*KERNELS, "unsymmetric"])
def test_every_combination_equals_loops(kernel: str, domain: str) -> None:
    torch.manual_seed(1)
    own, theirs = torch.randn(6, 3, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)  # unlike widths
    own[2], own[3] = own[1], 0
    learner, source = graph_of(ODD_PAIRS, 6, MASK), graph_of(OTHER_PAIRS, 6)
    scale = {"kernel_scale": 1.3} if axes.kernels[kernel].scaled else {}
    for keys in choices():
        one = term(kernel=kernel, domain=domain, **scale, **keys)
        found = one.distance(seen(learner, own), seen(source, theirs), 1, 1)
        wanted = oracle(one.group, (own.tolist(), learner), (theirs.tolist(), source))
        assert found.item() == pytest.approx(wanted, rel=1e-9, abs=1e-12), keys
        assert found.shape == ()


@st.composite
def problems(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]], list[tuple[int, int]], list[bool] | None, int]:
    nodes = draw(st.integers(1, 6))
    node = st.integers(0, nodes - 1)
    pairs = st.lists(st.tuples(node, node), max_size=12)
    mask = draw(st.none() | st.lists(st.booleans(), min_size=nodes, max_size=nodes))
    return nodes, draw(pairs), draw(pairs), mask, draw(st.integers(0, 10**6))


@given(
    problems(),
    st.sampled_from([*KERNELS, "unsymmetric"]),
    st.sampled_from(DOMAINS),
    st.sampled_from(list(choices())),
    st.sampled_from(["none", "l2", "batchnorm"]),
    st.sampled_from([0.5, 10.0, "median"]),
    st.sampled_from([1.0, 0.1, 0.0]),
    st.booleans(),
)
@settings(deadline=None, max_examples=250)
def test_odd_graphs_equal_loops(
    problem: tuple[int, list[tuple[int, int]], list[tuple[int, int]], list[bool] | None, int],
    kernel: str,
    domain: str,
    keys: dict[str, Any],
    normalize: str,
    scale: float | str,
    non_edge_weight: float,
    duplicates: bool,
) -> None:
    nodes, pairs, others, mask, seed = problem
    generator = torch.Generator().manual_seed(seed)
    own, theirs = (torch.randn(nodes, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    if duplicates:  # equal rows, and zero ones
        own, theirs = own.round().requires_grad_(), theirs.round()
    own = own.detach().requires_grad_()
    keys = {**keys, "kernel": kernel, "domain": domain, "normalize": normalize}
    if axes.kernels[kernel].scaled:
        keys["kernel_scale"] = scale
    if domain == "all_pairs" and keys.get("distribution") == "none":
        keys["non_edge_weight"] = non_edge_weight
    learner, source = graph_of(pairs, nodes, mask), graph_of(others, nodes)
    one = term(**keys)
    found = one.distance(seen(learner, own), seen(source, theirs), 1, 1)
    wanted = oracle(one.group, (own.tolist(), learner), (theirs.tolist(), source))
    assert found.item() == pytest.approx(wanted, rel=1e-7, abs=1e-8)
    if found.requires_grad:
        found.backward()
        assert own.grad is not None
        assert own.grad.isfinite().all()


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("kernel", ["cosine", "linear"])
def test_nearly_equal_structures_do_not_drown_in_rounding(kernel: str, loops: bool) -> None:
    torch.manual_seed(1)
    own = torch.randn(40, 3, dtype=torch.float64)
    theirs = own + 1e-4 * torch.randn(40, 3, dtype=torch.float64)
    where = graph_of([], 40)
    keys = {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "self_loops": loops}
    one = term(kernel=kernel, reduction="pair_mean", **keys)
    found = one.distance(seen(where, own.float()), seen(where, theirs.float()), 1, 1)
    wanted = oracle(one.group, (own.float().tolist(), where), (theirs.float().tolist(), where))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize("keys", [{}, {"distribution": "none", "divergence": "mse", "non_edge_weight": 0.3}])
@pytest.mark.parametrize("kernel", ["laplacian", "cosine", "unsymmetric"])
def test_sampled_pairs_equal_loops(kernel: str, keys: dict[str, Any]) -> None:
    torch.manual_seed(5)
    own, theirs = torch.randn(2, 6, 3, dtype=torch.float64)
    learner, source = graph_of(ODD_PAIRS, 6), graph_of(OTHER_PAIRS, 6)
    one = term(kernel=kernel, domain="all_pairs", samples=4, **keys)
    torch.manual_seed(7)
    nodes = torch.randperm(6)[:4].tolist()  # the draw that the term will make
    torch.manual_seed(7)
    found = one.distance(seen(learner, own), seen(source, theirs), 1, 1)
    wanted = oracle(one.group, (own.tolist(), learner), (theirs.tolist(), source), nodes)
    assert found.item() == pytest.approx(wanted, rel=1e-9)
    whole = oracle(one.group, (own.tolist(), learner), (theirs.tolist(), source))
    assert found.item() != pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kernel", [name for name in KERNELS if KERNELS[name].scaled])
def test_the_median_scale_equals_loops(kernel: str, domain: str, loops: bool) -> None:
    """Loops are no distances; where most nodes are equal the median is 0 and counts as 1."""
    torch.manual_seed(3)
    learner, source = graph_of(ODD_PAIRS, 6, MASK), graph_of(OTHER_PAIRS, 6)
    far, near = 5 * torch.randn(6, 3, dtype=torch.float64), torch.zeros(6, 3, dtype=torch.float64)
    near[0] = 0.7
    for own, theirs in ((far, near), (near, far)):
        one = term(kernel=kernel, kernel_scale="median", domain=domain, self_loops=loops)
        found = one.distance(seen(learner, own), seen(source, theirs), 1, 1)
        wanted = oracle(one.group, (own.tolist(), learner), (theirs.tolist(), source))
        assert found.item() == pytest.approx(wanted, rel=1e-9)


# ------------------------------------------------------------------------------------------------- golden values
COMPLETE = [(u, v) for u in range(3) for v in range(3) if u != v]
A = torch.tensor([[0, 0], [30, 40], [60, -20]], dtype=torch.float64)
B = torch.tensor([[0, 0], [10, 0], [0, 50]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("keys", "with_loops", "without"),
    [
        ({}, 0.01114983, 0.00549682),
        ({"divergence": "kl_learner_source"}, 0.01088966, 0.00554413),
        ({"reduction": "pair_mean"}, 0.00371661, 0.00274841),
        ({"kernel": "rbf"}, 0.00096003, 0.00015428),
        ({"kernel": "cosine"}, 0.00590361, 0.00829884),
        ({"kernel": "rbf", "kernel_scale": 1, "normalize": "l2"}, 0.00116801, 0.00154537),
    ],
)
def test_golden_values(keys: dict[str, Any], with_loops: float, without: float) -> None:
    graph = graph_of(COMPLETE, 3)
    for domain in ("edges", "union", "all_pairs", "train_edges"):  # all the same pairs on a complete graph
        for loops, wanted in ((True, with_loops), (False, without)):
            found = term(self_loops=loops, domain=domain, **keys).distance(seen(graph, A), seen(graph, B), 1, 1)
            assert found.item() == pytest.approx(wanted, abs=6e-9)


def test_golden_distributions_of_node_0() -> None:
    graph = graph_of(COMPLETE, 3)
    for loops, wanted in ((True, {0: 0.458500, 1: 0.277146, 2: 0.264354}), (False, {1: 0.511812, 2: 0.488188})):
        observation = seen(graph, A)
        one = term(self_loops=loops)
        domain = one._domain(observation, observation, 1, 1)
        found = one._structure(observation, observation, 1, domain).exp()
        assert isinstance(domain, structure.EdgeSet)
        incoming = {int(u): p for (u, v), p in zip(domain.index.t().tolist(), found.tolist(), strict=True) if v == 0}
        assert incoming == pytest.approx(wanted, abs=6e-7)


def test_golden_ratio_of_the_two_rbf_conventions() -> None:
    """METHODS 0.4: scale 10 (2 sigma = 200) differs from scale 100 by a factor of about 26 on this example."""
    graph = graph_of(COMPLETE, 3)
    ten, hundred = (
        term(kernel="rbf", kernel_scale=s, self_loops=True).distance(seen(graph, A), seen(graph, B), 1, 1)
        for s in (10, 100)
    )
    assert 25 < (ten / hundred).item() < 27


# ----------------------------------------------------------------------------------------------------- gradients
@pytest.mark.parametrize(
    "keys", [{}, {"divergence": "js", "self_loops": True}, {"distribution": "none", "divergence": "mse"}]
)
@pytest.mark.parametrize("domain", ["edges", "all_pairs"])
@pytest.mark.parametrize("kernel", KERNELS)
def test_gradcheck(kernel: str, domain: str, keys: dict[str, Any]) -> None:
    torch.manual_seed(2)
    graph = graph_of(ODD_PAIRS, 6)
    theirs = torch.randn(6, 2, dtype=torch.float64)
    scale = {"kernel_scale": 2.0} if KERNELS[kernel].scaled else {}
    one = term(kernel=kernel, domain=domain, **scale, **keys)
    own = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: one.distance(seen(graph, x), seen(graph, theirs), 1, 1), (own,))


@pytest.mark.parametrize("normalize", ["l2", "batchnorm"])
def test_gradcheck_of_normalized_rows(normalize: str) -> None:
    graph = graph_of(ODD_PAIRS, 6)
    own, theirs = torch.randn(2, 6, 3, dtype=torch.float64)
    one = term(normalize=normalize, kernel="rbf", kernel_scale=1.0)
    assert torch.autograd.gradcheck(
        lambda x: one.distance(seen(graph, x), seen(graph, theirs), 1, 1), (own.requires_grad_(),)
    )


def test_the_median_scale_is_a_constant_of_each_side() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    own, theirs = torch.randn(2, 6, 3, dtype=torch.float64)
    apart = [(own[u] - own[v]).abs().sum().item() for u, v in ODD_PAIRS if u != v]
    by_median, by_number = own.clone().requires_grad_(), own.clone().requires_grad_()
    target = seen(graph, theirs)
    term(kernel_scale="median").distance(seen(graph, by_median), target, 1, 1).backward()
    # the same target, the learner's own median written as a number
    one = term(kernel_scale="median")
    domain = one._domain(target, target, 1, 1)
    log_q = one._structure(target, target, 1, domain)
    number = term(kernel_scale=median(apart))
    observation = seen(graph, by_number)
    log_p = number._structure(observation, observation, 1, domain)
    ((log_q.exp() * (log_q - log_p)).sum() / 6).backward()
    torch.testing.assert_close(by_median.grad, by_number.grad)


@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("kernel", KERNELS)
def test_equal_rows_and_zero_rows_pull_nothing_infinite(kernel: str, domain: str) -> None:
    graph = graph_of(ODD_PAIRS, 6, MASK)
    theirs = torch.randn(6, 3)
    for normalize in ("none", "l2", "batchnorm"):
        own = torch.zeros(6, 3, requires_grad=True)
        value = term(kernel=kernel, domain=domain, normalize=normalize, self_loops=True).distance(
            seen(graph, own), seen(graph, theirs), 1, 1
        )
        value.backward()
        assert value.isfinite()
        assert own.grad is not None
        assert not own.grad.any(), (kernel, normalize)


def test_nothing_flows_into_the_source() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    for domain in DOMAINS:
        own, theirs = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
        term(domain=domain).distance(seen(graph, own), seen(graph, theirs), 1, 1).backward()
        assert own.grad is not None
        assert own.grad.abs().max() > 0
        assert theirs.grad is None


def test_nothing_flows_into_own_later_layers() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    first, second = (torch.randn(6, 3, requires_grad=True) for _ in range(2))
    observation = seen(graph, first, second)
    term(source="self").distance(observation, observation, 1, 2).backward()
    assert first.grad is not None
    assert second.grad is None


def test_a_source_first_read_without_gradient_can_learn_later() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    own, theirs = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
    observation = seen(graph, own)
    with torch.no_grad():
        term().distance(observation, seen(graph, theirs), 1, 1)
    assert term().distance(observation, seen(graph, theirs), 1, 1).requires_grad


# ---------------------------------------------------------------------------------------------------- invariants
@pytest.mark.parametrize("domain", DOMAINS)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equal_sides_are_0_apart(divergence: str, domain: str) -> None:
    graph, x = graph_of(ODD_PAIRS, 6), torch.randn(6, 3)
    assert term(divergence=divergence, domain=domain).distance(seen(graph, x), seen(graph, x.clone()), 1, 1).item() == (
        pytest.approx(0, abs=1e-7)
    )


@pytest.mark.parametrize("pairs", [[], [(0, 1)], [(0, 1), (2, 2)]])
def test_nodes_with_one_neighbour_or_none_add_0(pairs: list[tuple[int, int]]) -> None:
    graph = graph_of(pairs, 3)
    for domain in ("edges", "union", "train_edges"):
        for reduction in REDUCTIONS:
            own = torch.randn(3, 3, requires_grad=True)
            value = term(domain=domain, reduction=reduction).distance(
                seen(graph, own), seen(graph, torch.randn(3, 3)), 1, 1
            )
            value.backward()
            assert value.item() == 0
            assert own.grad is not None
            assert own.grad.abs().max() < 1e-7


@pytest.mark.parametrize("loops", [False, True])
@pytest.mark.parametrize("domain", DOMAINS)
def test_one_node(domain: str, loops: bool) -> None:
    graph = graph_of([(0, 0)], 1)
    own = torch.randn(1, 3, requires_grad=True)
    value = term(domain=domain, self_loops=loops).distance(seen(graph, own), seen(graph, torch.randn(1, 3)), 1, 1)
    value.backward()
    assert value.item() == 0
    assert own.grad is not None
    assert not own.grad.any()


@pytest.mark.parametrize("domain", DOMAINS)
def test_names_of_nodes_do_not_matter(domain: str) -> None:
    torch.manual_seed(4)
    own, theirs = torch.randn(2, 6, 3, dtype=torch.float64)
    order = torch.randperm(6)  # new name of each old node
    place = order.argsort()
    values = []
    for rename in (False, True):
        graphs = [
            graph_of([(int(order[u]), int(order[v])) for u, v in reversed(pairs)] if rename else pairs, 6, mask)
            for pairs, mask in (
                (ODD_PAIRS, torch.tensor(MASK)[place].tolist() if rename else MASK),
                (OTHER_PAIRS, None),
            )
        ]
        x, y = (own[place], theirs[place]) if rename else (own, theirs)
        values.append(term(domain=domain).distance(seen(graphs[0], x), seen(graphs[1], y), 1, 1))
    assert values[0].item() > 0
    torch.testing.assert_close(values[0], values[1])


def test_inputs_are_not_modified() -> None:
    for domain in DOMAINS:
        for keys in ({}, {"distribution": "none", "divergence": "mse"}):
            graph, other = graph_of(ODD_PAIRS, 6, MASK), graph_of(OTHER_PAIRS, 6)
            own, theirs = torch.randn(6, 3, requires_grad=True), torch.randn(6, 3)
            given_tensors = [own, theirs, graph.edge_index, other.edge_index, graph.train_mask]
            copies = [x.detach().clone() for x in given_tensors if x is not None]
            term(domain=domain, **keys).distance(seen(graph, own), seen(other, theirs), 1, 1).backward()
            for x, copy in zip(given_tensors, copies, strict=True):
                assert x is not None
                assert torch.equal(x, copy)
                assert x._version == 0


def test_sums_in_the_learners_precision() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    own, theirs = torch.randn(6, 3, dtype=torch.float32), torch.randn(6, 3, dtype=torch.float64)
    one = term(kernel_scale=2.0)
    value = one.distance(seen(graph, own), seen(graph, theirs), 1, 1)
    assert value.dtype == torch.float32
    wanted = oracle(one.group, (own.tolist(), graph), (theirs.tolist(), graph))
    assert value.item() == pytest.approx(wanted, rel=1e-4)


def test_layers_are_weighed_by_the_map() -> None:
    graph = graph_of(ODD_PAIRS, 6)
    own, theirs = torch.randn(2, 2, 6, 3, dtype=torch.float64)
    weights = torch.tensor([[0.5, 0.0], [2.0, 1.0]])
    for layer_reduction, divisor in (("sum", 1.0), ("mean", 3.5)):
        one = term(layer_reduction=layer_reduction)
        found = one(seen(graph, *own), seen(graph, *theirs), weights)
        wanted = sum(
            float(weights[i, j]) * oracle(one.group, (own[i].tolist(), graph), (theirs[j].tolist(), graph))
            for i in range(2)
            for j in range(2)
        )
        assert found.item() == pytest.approx(wanted / divisor, rel=1e-9)


# ------------------------------------------------------------------------------- published methods, as matrices say
@pytest.mark.parametrize("name", ["gkd", "gsp"])
def test_whole_matrices_are_compared_with_their_diagonal(name: str) -> None:
    torch.manual_seed(6)
    own, theirs = torch.randn(2, 6, 3, dtype=torch.float64)
    keys = dict(PRESETS[name].groups["kd_structure"])
    for key in ("weight", "source", "tap", "layer_map", "layer_reduction", "samples"):
        keys.pop(key, None)
    graph = graph_of(ODD_PAIRS, 6)
    found = term(**keys).distance(seen(graph, own), seen(graph, theirs), 1, 1)
    if name == "gkd":  # || (K_t - K_s) o W ||_F^2, W = 1 on edges and on the diagonal, 0.1 elsewhere
        x, y = ((h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt() for h in (own, theirs))
        weights = torch.full((6, 6), 0.1, dtype=torch.float64)
        for u, v in ODD_PAIRS:
            weights[u, v] = 1.0
        weights += torch.eye(6) * (1 - weights)
        wanted = (((x @ x.T).tanh() - (y @ y.T).tanh()) * weights).norm() ** 2
    else:  # the mean over all N^2 entries
        cosines = [h / h.norm(dim=1, keepdim=True) for h in (own, theirs)]
        wanted = (cosines[0] @ cosines[0].T - cosines[1] @ cosines[1].T).square().mean()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-9)
