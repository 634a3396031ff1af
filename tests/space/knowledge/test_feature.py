"""Knowledge ``feature`` against loops written from its equations, in float64."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.errors import UserError
from gkd_plugin.ops import rowwise
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.feature import FeatureTerm
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

TASK = Task("node", "multiclass")
EDGES = [(0, 1), (1, 0), (1, 2), (3, 1), (4, 4), (5, 0)]
TRAIN = [True, False, True, True, False, False]
Rows = list[list[float]]


def graph(nodes: int = 6, edges: list[tuple[int, int]] = EDGES, train: list[bool] | None = TRAIN) -> Graph:
    index = torch.tensor(edges, dtype=torch.long).view(-1, 2).T
    return Graph(index, nodes, None if train is None else torch.tensor(train[:nodes], dtype=torch.bool))


def seen(where: Graph, *widths: int, grad: bool = False) -> Observation:
    states = tuple(torch.randn(where.num_nodes, w, dtype=torch.float64, requires_grad=grad) for w in widths)
    return Observation(torch.randn(where.num_nodes, 2, dtype=torch.float64), {"layer": states}, where)


def build(learner: Observation, source: Observation, /, **values: object) -> FeatureTerm:
    keys = {key.name: key.default for key in FeatureTerm.keys}
    keys |= {"tap": "layer", "layer_map": "uniform", "layer_reduction": "sum", "source": "teacher", "dim": 3} | values
    learned = {"subspace": keys.pop("subspace")} if "subspace" in keys else {}
    learned = learned if keys["layer_map"] == "attention" else {}
    outlines = [Outline.of(side, len(side.hidden["layer"])) for side in (learner, source)]
    return FeatureTerm(GroupPlan("feature", MappingProxyType(keys), map_values=learned), *outlines, TASK).double()


# The equations, by loops.


def l2(rows: Rows) -> Rows:
    lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
    return [[x / n if n else 0.0 for x in row] for row, n in zip(rows, lengths, strict=True)]


def standardise(rows: Rows) -> Rows:
    columns = list(zip(*rows, strict=True))
    means = [sum(c) / len(c) for c in columns]
    spreads = [math.sqrt(sum((x - m) ** 2 for x in c) / len(c) + 1e-5) for c, m in zip(columns, means, strict=True)]
    return [[(x - m) / s for x, m, s in zip(row, means, spreads, strict=True)] for row in rows]


def affine(rows: Rows, weight: Rows, bias: list[float]) -> Rows:
    return [
        [sum(w * x for w, x in zip(ws, row, strict=True)) + b for ws, b in zip(weight, bias, strict=True)]
        for row in rows
    ]


def convolve(rows: Rows, edges: list[tuple[int, int]], weight: Rows, bias: list[float]) -> Rows:
    """D^-1/2 (A + I) D^-1/2 X W + b over incoming edges, one loop per node."""
    flat = affine(rows, weight, [0.0] * len(weight))
    pairs = [(u, v) for u, v in edges if u != v] + [(v, v) for v in range(len(rows))]
    degree = [sum(v == w for _, v in pairs) for w in range(len(rows))]
    out = [list(bias) for _ in rows]
    for u, v in pairs:
        for c in range(len(bias)):
            out[v][c] += flat[u][c] / math.sqrt(degree[u] * degree[v])
    return out


def distance(x: Rows, y: Rows, loss: str, reduction: str) -> float:
    pairs = list(zip(x, y, strict=True))
    if loss == "cosine":
        parts = [1 - sum(a * b for a, b in zip(p, q, strict=True)) for p, q in zip(l2(x), l2(y), strict=True)]
    elif loss == "attention":
        energies = [[sum(a * a for a in row) for row in rows] for rows in (x, y)]
        left, right = l2(energies)
        parts = [(a - b) ** 2 for a, b in zip(left, right, strict=True)]
    else:
        gaps = [a - b for p, q in pairs for a, b in zip(p, q, strict=True)]
        huber = loss == "smooth_l1"
        parts = [(0.5 * g * g if abs(g) < 1 else abs(g) - 0.5) if huber else g * g for g in gaps]
    return sum(parts) / (len(parts) if reduction == "mean" else 1)


def project(term: FeatureTerm, module: object, rows: Rows, edges: list[tuple[int, int]]) -> Rows:
    kind = type(module).__name__
    if kind == "NoProjection":
        return rows
    if kind == "GraphProjection":
        return convolve(rows, edges, module.conv.lin.weight.tolist(), module.conv.bias.tolist())
    rows = affine(rows, module.linear.weight.tolist(), module.linear.bias.tolist())
    if module.activated:
        scale, offset = module.scale.tolist(), module.offset.tolist()
        rows = [[max(0.0, a * s + b) for a, s, b in zip(r, scale, offset, strict=True)] for r in standardise(rows)]
    return rows


def oracle(term: FeatureTerm, learner: Observation, source: Observation, weights: Tensor) -> float:
    """Tap, nodes, pool, projector, subspace map, normalise, distance: for each pair with a weight."""
    values = term.group.values
    train = (
        learner.graph.train_mask.tolist() if learner.graph.train_mask is not None else [True] * learner.graph.num_nodes
    )
    wanted = {"all": lambda v: True, "train": lambda v: train[v], "unlabeled": lambda v: not train[v]}[values["nodes"]]
    kept = [v for v in range(learner.graph.num_nodes) if wanted(v)]
    total = 0.0
    for i, j in itertools.product(range(weights.size(0)), range(weights.size(1))):
        if weights[i, j] == 0:
            continue
        sides = []
        for module, side, layer in zip(term.projectors(i + 1, j + 1), (learner, source), (i, j), strict=True):
            rows = [side.hidden["layer"][layer][v].tolist() for v in kept]
            if values["pool"] == "mean":
                rows = [[sum(c) / len(c) for c in zip(*rows, strict=True)]]
            edges = [
                (kept.index(u), kept.index(v)) for u, v in side.graph.edge_index.T.tolist() if u in kept and v in kept
            ]
            rows = project(term, module, rows, edges)
            if term.subspace is not None:
                rows = affine(rows, term.subspace.weight.tolist(), [0.0] * len(term.subspace.weight))
            sides.append({"none": lambda r: r, "l2": l2, "batchnorm": standardise}[values["normalize"]](rows))
        total += weights[i, j].item() * distance(*sides, values["loss"], values["reduction"])
    return total


def compare(learner: Observation, source: Observation, **values: object) -> None:
    term = build(learner, source, **values)
    for parameter in term.parameters():  # also those that begin as 0 or 1
        torch.nn.init.normal_(parameter)
    weights = torch.rand(len(learner.hidden["layer"]), len(source.hidden["layer"]), dtype=torch.float64)
    weights[0, 0] = 0
    torch.testing.assert_close(term(learner, source, weights).item(), oracle(term, learner, source, weights))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("normalize", ["none", "l2", "batchnorm"])
@pytest.mark.parametrize("loss", ["mse", "cosine", "smooth_l1", "attention"])
def test_losses_agree_with_loops(loss: str, normalize: str, reduction: str) -> None:
    where = graph()
    compare(seen(where, 4, 4), seen(where, 4, 4, 4), loss=loss, normalize=normalize, reduction=reduction)


@pytest.mark.parametrize("projector", ["linear", "linear_bn_relu"])
@pytest.mark.parametrize("side", ["both", "learner"])
@pytest.mark.parametrize("loss", ["mse", "cosine", "smooth_l1"])
@pytest.mark.parametrize("normalize", ["none", "l2"])
def test_blocks_of_rows_give_what_all_of_them_give(
    projector: str, side: str, loss: str, normalize: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner, source = seen(graph(), 4, grad=True), seen(graph(), 3)
    keys = {"projector": projector, "projector_side": side, "loss": loss, "normalize": normalize}
    term, weights = build(learner, source, **keys), torch.ones(1, 1, dtype=torch.float64)
    found = []
    for rows in (100, 2):
        monkeypatch.setattr(rowwise, "ROWS", rows)
        value = term(learner, source, weights)
        parts = [learner.hidden["layer"][0], *term.parameters()]
        found.append((value, torch.autograd.grad(value, parts, allow_unused=True, materialize_grads=True)))
    torch.testing.assert_close(found[1], found[0])
    assert found[0][0].item() == pytest.approx(oracle(term, learner, source, weights))


@pytest.mark.parametrize("side", ["learner", "both"])
@pytest.mark.parametrize("projector", ["linear", "linear_bn_relu", "gnn"])
def test_projectors_agree_with_loops(projector: str, side: str) -> None:
    where, other = graph(), graph(edges=[(0, 2), (2, 3), (1, 5)])  # each side's convolution has that side's edges
    for nodes in ("all", "train"):
        compare(seen(where, 4, 2), seen(other, 3, 5), projector=projector, projector_side=side, nodes=nodes)


@pytest.mark.parametrize("nodes", ["all", "train", "unlabeled"])
@pytest.mark.parametrize("pool", ["none", "mean"])
def test_nodes_and_pool_agree_with_loops(pool: str, nodes: str) -> None:
    where = graph()
    compare(seen(where, 4, 2), seen(where, 3, 5), pool=pool, nodes=nodes, projector_side="both", normalize="l2")
    compare(seen(where, 4), seen(where, 4), pool=pool, nodes=nodes)


@pytest.mark.parametrize("values", [{}, {"projector": "linear", "projector_side": "both", "normalize": "l2"}])
def test_subspace_map_comes_after_the_projector(values: dict[str, object]) -> None:
    where = graph()
    values = {**values, "layer_map": "attention", "subspace": True}
    compare(seen(where, 4, 4), seen(where, 4, 4), **values)
    term = build(seen(where, 4, 4), seen(where, 4, 4), **values)
    assert term.subspace is not None
    assert term.subspace.bias is None
    assert tuple(term.subspace.weight.shape) == ((3, 3) if values.get("projector") else (4, 4))


def test_without_attention_or_subspace_there_is_no_such_map() -> None:
    where = graph()
    assert build(seen(where, 4), seen(where, 4), subspace=True).subspace is None
    assert build(seen(where, 4), seen(where, 4), layer_map="attention", subspace=False).subspace is None
    learner = seen(where, 4)  # one layer has nothing to learn from itself
    term = build(learner, learner, source="self", layer_map="attention", subspace=True)
    assert not list(term.parameters())
    assert term(learner, learner, torch.zeros(1, 1)).item() == 0


def test_subspace_map_needs_one_width() -> None:
    where = graph()
    with pytest.raises(UserError, match=r"kd_attention\.subspace.*3, 5.*both sides"):
        build(seen(where, 4), seen(where, 3, 5), layer_map="attention", subspace=True)


def test_auto_projects_only_where_widths_differ() -> None:
    where = graph()
    learner, source = seen(where, 4, 2), seen(where, 4, 5)
    assert set(build(learner, source).projectors.learner) == {"1~2", "2~1", "2~2"}
    for layer_map in ("uniform", "one_to_one"):  # both sides meet in one space, or none does
        both = build(learner, source, projector_side="both", layer_map=layer_map).projectors
        assert (set(both.learner), set(both.source)) == ({"1", "2"}, {"1", "2"})
    assert not list(build(seen(where, 4), seen(where, 4), projector_side="both").parameters())
    assert not list(build(learner, source, loss="attention").parameters())


def test_projectors_are_built_for_the_pairs_of_the_map_only() -> None:
    where = graph()
    term = build(seen(where, 2, 2, 2), seen(where, 3, 3), layer_map="shift", shift=1)
    assert set(term.projectors.learner) == {"1~2", "2~1", "3~1"}
    term = build(seen(where, 2, 2, 2), seen(where, 3, 3), layer_map="last", projector="linear", projector_side="both")
    assert (set(term.projectors.learner), set(term.projectors.source)) == ({"3"}, {"2"})


def test_unequal_widths_without_projector() -> None:
    where = graph()
    with pytest.raises(
        UserError, match=r"kd_feature\.projector: none.*learner layer 1 has width 4 and source layer 2 has 5.*linear"
    ):
        build(seen(where, 4), seen(where, 4, 5), projector="none")


def test_hand_computed_values() -> None:
    where = graph(2, [], None)
    learner = Observation(torch.zeros(2, 1), {"layer": (torch.tensor([[1.0, 2.0], [3.0, 4.0]]).double(),)}, where)
    source = Observation(torch.zeros(2, 1), {"layer": (torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double(),)}, where)
    one = torch.ones(1, 1)
    assert build(learner, source)(learner, source, one).item() == pytest.approx((0 + 4 + 9 + 4) / 4)
    assert build(learner, source, reduction="sum")(learner, source, one).item() == pytest.approx(17)
    energy = (5 / math.sqrt(650) - 1 / math.sqrt(17)) ** 2 + (25 / math.sqrt(650) - 4 / math.sqrt(17)) ** 2
    assert build(learner, source, loss="attention")(learner, source, one).item() == pytest.approx(energy / 2)
    pooled = build(learner, source, pool="mean")(learner, source, one)
    assert pooled.item() == pytest.approx(((2 - 0.5) ** 2 + (3 - 1) ** 2) / 2)


@pytest.mark.parametrize(
    "values",
    [
        {"loss": "cosine"},
        {"loss": "attention"},
        {"loss": "smooth_l1", "normalize": "batchnorm"},
        {"projector": "linear_bn_relu", "projector_side": "both", "normalize": "l2"},
        {"projector": "gnn", "nodes": "unlabeled"},
        {"pool": "mean", "projector": "linear"},
    ],
)
def test_gradcheck(values: dict[str, object]) -> None:
    where = graph()
    source = seen(where, 4, 4)
    term = build(seen(where, 4, 4), source, **values)
    weights = torch.rand(2, 2, dtype=torch.float64)

    def value(first: Tensor, second: Tensor) -> Tensor:
        return term(Observation(first, {"layer": (first, second)}, where), source, weights)

    assert torch.autograd.gradcheck(value, [s.requires_grad_() for s in seen(where, 4, 4).hidden["layer"]])


@pytest.mark.parametrize("values", [{}, {"projector": "linear", "projector_side": "both", "pool": "mean"}])
def test_no_gradient_reaches_the_source(values: dict[str, object]) -> None:
    where = graph()
    learner, source = seen(where, 4, grad=True), seen(where, 4, grad=True)
    term = build(learner, source, **values)
    term(learner, source, torch.ones(1, 1)).backward()
    assert source.hidden["layer"][0].grad is None
    assert learner.hidden["layer"][0].grad.any()
    assert all(p.grad.any() for p in term.parameters())


@pytest.mark.parametrize("pool", ["none", "mean"])
def test_a_networks_own_last_layer_teaches_and_does_not_move(pool: str) -> None:
    learner = seen(graph(), 4, 4, 4, grad=True)
    term = build(learner, learner, source="self", layer_map="last", pool=pool)
    term(learner, learner, torch.tensor([[0.0, 0, 1], [0, 0, 1], [0, 0, 0]])).backward()
    first, second, last = learner.hidden["layer"]
    assert first.grad.any()
    assert second.grad.any()
    assert last.grad is None


def test_weights_of_a_learned_map_get_a_gradient_and_mean_divides() -> None:
    where = graph()
    learner, source = seen(where, 4, 4), seen(where, 4, 4)
    weights = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    value = build(learner, source)(learner, source, weights)
    value.backward()
    parts = [[torch.nn.functional.mse_loss(x, y) for y in source.hidden["layer"]] for x in learner.hidden["layer"]]
    torch.testing.assert_close(weights.grad, torch.tensor(parts, dtype=torch.float64))
    mean = build(learner, source, layer_reduction="mean")(learner, source, weights)
    torch.testing.assert_close(mean, value / weights.sum())


@pytest.mark.parametrize("projector", ["none", "linear_bn_relu", "gnn"])
@pytest.mark.parametrize("loss", ["mse", "attention"])
def test_permuting_nodes_changes_nothing(loss: str, projector: str) -> None:
    where = graph()
    learner, source = seen(where, 4, 4), seen(where, 4)
    term = build(learner, source, loss=loss, projector=projector, nodes="unlabeled")
    order = torch.randperm(6)
    place = torch.argsort(order)  # where each node went
    other = Graph(place[where.edge_index], 6, where.train_mask[order])
    moved = [
        Observation(s.logits[order], {"layer": tuple(h[order] for h in s.hidden["layer"])}, other)
        for s in (learner, source)
    ]
    weights = torch.ones(2, 1)
    torch.testing.assert_close(term(*moved, weights), term(learner, source, weights))


def test_inputs_are_not_modified() -> None:
    where = graph()
    learner, source = seen(where, 4, 4), seen(where, 5)
    before = [h.clone() for side in (learner, source) for h in (*side.hidden["layer"], side.logits)]
    edges = where.edge_index.clone()
    term = build(learner, source, projector="gnn", normalize="batchnorm", nodes="train")
    term(learner, source, torch.ones(2, 1))
    after = [h for side in (learner, source) for h in (*side.hidden["layer"], side.logits)]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert torch.equal(edges, where.edge_index)


@pytest.mark.parametrize("pool", ["none", "mean"])
def test_trained_projections_are_not_kept_in_a_frozen_teachers_observation(pool: str) -> None:
    where = graph()
    source = seen(where, 5)
    learner = seen(where, 4, grad=True)
    term = build(learner, source, projector="linear", projector_side="both", pool=pool)
    term(learner, source, torch.ones(1, 1)).backward()
    with torch.no_grad():
        for parameter in term.parameters():
            parameter.add_(1)
    fresh = seen(where, 4, grad=True)
    value = term(fresh, source, torch.ones(1, 1))
    torch.testing.assert_close(value.item(), oracle(term, fresh, source, torch.ones(1, 1)))
    value.backward()  # nothing of the first step is needed


def test_zero_rows_and_equal_rows_have_gradient_zero() -> None:
    where = graph()
    for values in ({"loss": "cosine"}, {"normalize": "l2"}, {"loss": "attention"}, {}):
        states = torch.zeros(6, 4, dtype=torch.float64, requires_grad=True)
        learner = Observation(torch.zeros(6, 2), {"layer": (states,)}, where)
        source = seen(where, 4) if values else learner.detached()
        build(learner, source, **values)(learner, source, torch.ones(1, 1)).backward()
        assert not states.grad.any(), values


ODD = {
    "loss": st.sampled_from(["mse", "cosine", "smooth_l1", "attention"]),
    "projector": st.sampled_from(["auto", "linear", "linear_bn_relu", "gnn"]),
    "projector_side": st.sampled_from(["learner", "both"]),
    "normalize": st.sampled_from(["none", "l2", "batchnorm"]),
    "nodes": st.sampled_from(["all", "train"]),
}


@given(
    nodes=st.integers(1, 4),
    width=st.integers(1, 2),
    edges=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=4),
    train=st.lists(st.booleans(), min_size=4, max_size=4),
    zero=st.booleans(),
    values=st.fixed_dictionaries(ODD),
)
def test_odd_graphs_give_finite_values_and_gradients(
    nodes: int, width: int, edges: list[tuple[int, int]], train: list[bool], zero: bool, values: dict[str, str]
) -> None:
    where = graph(nodes, [(u, v) for u, v in edges if max(u, v) < nodes], train)
    learner, source = seen(where, width, grad=True), seen(where, 2)
    if zero:
        learner.hidden["layer"][0].data.zero_()
    value = build(learner, source, **values)(learner, source, torch.ones(1, 1))
    (value + learner.hidden["layer"][0].sum()).backward()
    assert torch.isfinite(value)
    assert value >= -1e-12
    assert torch.isfinite(learner.hidden["layer"][0].grad).all()


def test_unlabelled_nodes_where_there_are_none() -> None:
    learner = seen(graph(train=None), 4)
    with pytest.raises(UserError, match=r"kd_feature\.nodes: unlabeled.*no training mask.*train, all"):
        build(learner, learner, nodes="unlabeled")(learner, learner, torch.ones(1, 1))
    learner = seen(graph(train=[True] * 6), 4)
    with pytest.raises(UserError, match="all 6 nodes are in the training mask"):
        build(learner, learner, nodes="unlabeled")(learner, learner, torch.ones(1, 1))


def test_a_sampled_part_without_such_nodes_adds_nothing() -> None:
    where = graph(train=[True] * 6)
    part = Graph(where.edge_index, 6, where.train_mask, node_id=torch.arange(6))
    learner, source = seen(part, 4, grad=True), seen(part, 4)
    learner = Observation(learner.hidden["layer"][0], learner.hidden, part)
    value = build(learner, source, nodes="unlabeled")(learner, source, torch.ones(1, 1))
    value.backward()
    assert value.item() == 0
    assert not learner.hidden["layer"][0].grad.any()


def test_graphs_without_masks_count_as_training_nodes() -> None:
    where = graph(train=None)
    learner, source = seen(where, 4), seen(where, 4)
    one = torch.ones(1, 1)
    every = build(learner, source)(learner, source, one)
    torch.testing.assert_close(build(learner, source, nodes="train")(learner, source, one), every)


@pytest.mark.parametrize(
    ("values", "keys"),
    [
        ({"loss": "attention", "pool": "mean"}, ["kd_feature.pool"]),
        ({"loss": "attention", "normalize": "l2"}, ["kd_feature.normalize"]),
        ({"normalize": "batchnorm", "pool": "mean"}, ["kd_feature.normalize"]),
        ({"projector": "linear_bn_relu", "pool": "mean"}, ["kd_feature.projector"]),
        ({"projector": "gnn", "pool": "mean"}, ["kd_feature.projector"]),
        ({"loss": "attention", "normalize": "batchnorm"}, []),
        ({"normalize": "l2", "pool": "mean", "projector": "linear"}, []),
        ({}, []),
    ],
)
def test_mistakes_that_several_keys_show_together(values: dict[str, object], keys: list[str]) -> None:
    resolved = {key.name: key.default for key in FeatureTerm.keys} | values
    assert [problem.key for problem in FeatureTerm.check(resolved, None)] == keys
    assert [problem.key for problem in FeatureTerm.check(values, TASK)] == keys


def test_unlabeled_is_refused_where_items_are_no_nodes() -> None:
    values = {"nodes": "unlabeled"}
    assert not list(FeatureTerm.check(values, TASK))
    for level in ("edge", "graph"):
        assert [problem.key for problem in FeatureTerm.check(values, Task(level, "binary"))] == ["kd_feature.nodes"]


@pytest.mark.parametrize(
    ("key", "values", "applies"),
    [
        ("projector_side", {"projector": "none"}, False),
        ("projector_side", {"projector": "auto", "loss": "attention"}, False),
        ("projector_side", {"projector": "linear", "loss": "attention"}, True),
        ("projector_side", {"projector": "auto", "loss": "mse"}, True),
        ("dim", {"projector": "linear", "projector_side": "learner"}, False),
        ("dim", {"projector": "none", "projector_side": "both"}, False),
        ("dim", {"projector": "auto", "projector_side": "both"}, True),
        ("dim", {}, False),
    ],
)
def test_keys_that_do_not_apply(key: str, values: dict[str, object], applies: bool) -> None:
    (found,) = [k for k in FeatureTerm.keys if k.name == key]
    assert found.unless is not None
    assert (found.unless(values) is None) == applies


@pytest.mark.parametrize("nodes", ["all", "train"])
def test_a_projector_that_convolves_takes_the_edges_of_its_layer_where_graphs_move(nodes: str) -> None:
    """As if each pair of layers stood alone on two graphs that do not move."""
    mask = torch.tensor([True, True, True, False, True])
    where = Graph(torch.zeros(2, 0, dtype=torch.long), 5, train_mask=mask)
    links = [torch.randint(0, 5, (2, 9)) for _ in range(4)]
    learner, source = seen(where, 3, 3), seen(where, 4, 4)
    moved = [where.moved(each) for each in links]
    learner, source = replace(learner, graphs=tuple(moved[:2])), replace(source, graphs=tuple(moved[2:]))
    term = build(learner, source, projector="gnn", nodes=nodes)
    for row, column in ((1, 1), (2, 1), (1, 2)):
        weights = torch.zeros(2, 2)
        weights[row - 1, column - 1] = 1.0
        ours, theirs = (
            replace(learner, graph=moved[row - 1], graphs=()),
            replace(source, graph=moved[column + 1], graphs=()),
        )
        assert torch.equal(term(learner, source, weights), term(ours, theirs, weights))
        assert not torch.equal(term(learner, source, weights), term(replace(ours, graph=where), theirs, weights))


def test_a_source_of_other_nodes_is_refused_unless_only_means_are_compared() -> None:
    learner, source = seen(graph(6), 4), seen(graph(5), 4)
    with pytest.raises(UserError, match="hidden states of 5 nodes, the student of 6"):
        build(learner, source)(learner, source, torch.ones(1, 1))
    assert build(learner, source, pool="mean")(learner, source, torch.ones(1, 1)).isfinite()


def test_a_mean_that_was_taken_without_gradient_is_not_kept_for_one_with() -> None:
    learner, source = seen(graph(), 4, grad=True), seen(graph(), 4)
    term = build(learner, source, pool="mean")
    with torch.no_grad():
        value = term(learner, source, torch.ones(1, 1))
    again = term(learner, source, torch.ones(1, 1))
    assert torch.equal(value, again) and torch.autograd.grad(again, learner.hidden["layer"])[0].any()


def test_a_variance_that_rounding_makes_negative_counts_as_0() -> None:
    torch.manual_seed(0)
    far = torch.zeros(1, 16).index_fill_(1, torch.tensor([0]), 1.0)
    rows = torch.randn(rowwise.ROWS + 1, 16) + 1e6 * torch.randn(rowwise.ROWS + 1, 1) * (far + 0.3)
    side = Observation(torch.zeros(len(rows), 2), {"layer": (rows,)}, graph(len(rows), train=None))
    term = build(side, side, projector="linear_bn_relu", projector_side="both", dim=64, normalize="l2").float()
    along = far + 0.3
    with torch.no_grad():  # weights across the direction in which all rows differ
        for projector in (*term.projectors.learner.values(), *term.projectors.source.values()):
            weight = projector.linear.weight
            weight -= weight @ along.t() @ along / along.square().sum()
    assert term(side, side, torch.ones(1, 1)).isfinite()


def test_layers_behind_a_pooling_are_compared_row_by_row() -> None:
    """On graphs, whose layers may have a row for each graph and not for each node."""
    rows = [torch.randn(3, 4, dtype=torch.float64) for _ in range(2)]
    learner, source = (replace(seen(graph(6), 4), hidden={"layer": (each,)}) for each in rows)
    term = build(learner, source, loss="mse", projector="none", normalize="none")
    assert term(learner, source, torch.ones(1, 1)).item() == pytest.approx((rows[0] - rows[1]).square().mean().item())
