"""Auxiliary heads against loops written out by hand, in double precision."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
import torch
from torch import Tensor

import gkd_plugin  # noqa: F401
from gkd_plugin.host import cfg
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.auxiliary import AuxiliaryTerm
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

N, C, WIDTHS = 7, 3, (4, 5, 4)
EDGES = torch.tensor([[0, 1, 2, 3, 4, 1, 0, 5, 5], [1, 0, 1, 2, 3, 2, 3, 6, 5]])  # node 4 hears nobody; a self-loop
MASK = torch.tensor([1, 0, 1, 0, 0, 1, 0], dtype=torch.bool)
OF_GRAPH = torch.tensor([0, 0, 0, 0, 0, 1, 1])
PAIRS = torch.tensor([[0, 2, 5, 4], [1, 2, 6, 0]])
LABELS = {
    ("node", "multiclass"): torch.tensor([0, 1, 2, 1, 0, 2, 1]),
    ("node", "multilabel"): (torch.arange(N * C).view(N, C) % 2).double(),
    ("node", "binary"): torch.tensor([0, 1, 1, 0, 1, 0, 1]),
    ("node", "regression"): torch.linspace(-1, 1, N, dtype=torch.float64).unsqueeze(-1),
    ("graph", "multiclass"): torch.tensor([2, 0]),
    ("edge", "binary"): torch.tensor([1, 0, 1, 0]),
}


def shape_of(task: Task) -> tuple[int, ...]:
    items = {"node": N, "graph": 2, "edge": PAIRS.size(1)}[task.level]
    if task.level == "edge":
        return (items,)
    return (items, 1) if task.kind in ("binary", "regression") else (items, C)


def observe(task: Task, seed: int, mask: Tensor | None = MASK) -> Observation:
    random = torch.Generator().manual_seed(seed)
    states = tuple(torch.randn(N, d, generator=random, dtype=torch.float64, requires_grad=True) for d in WIDTHS)
    logits = torch.randn(shape_of(task), generator=random, dtype=torch.float64, requires_grad=True)
    graph = Graph(EDGES, N, train_mask=mask if task.level == "node" else None, batch=OF_GRAPH, pairs=PAIRS)
    return Observation(logits, {"layer": states}, graph, LABELS[task.level, task.kind])


def make(task: Task, **keys: Any) -> AuxiliaryTerm:
    values = {"weight": 1.0, "head": "linear", "layers": "all", "growth": "uniform", "soft_weight": 0.0, **keys}
    cfg.model.loss_fun = "mse" if task.kind == "regression" else "cross_entropy"
    cfg.model.graph_pooling = "add"
    outline = Outline.of(observe(task, 0), len(WIDTHS))
    torch.manual_seed(3)
    return AuxiliaryTerm(GroupPlan("auxiliary", MappingProxyType(values)), outline, outline, task).double()


# -- the oracle: loops over nodes, graphs and pairs ---------------------------------------------------------------------


def affine(layer: Any, row: Tensor) -> Tensor:
    return torch.stack(
        [
            sum(w * x for w, x in zip(line, row, strict=True)) + b
            for line, b in zip(layer.weight, layer.bias, strict=True)
        ]
    )


def gcn(convolution: Any, states: Tensor) -> Tensor:
    """Sum over in-neighbours and the node itself of x W / sqrt(d_u d_v), plus a bias."""
    edges = [(int(u), int(v)) for u, v in EDGES.t() if u != v] + [(v, v) for v in range(N)]
    degree = [sum(1 for _, head in edges if head == v) for v in range(N)]
    out = [torch.zeros(convolution.lin.weight.size(0), dtype=torch.float64) for _ in range(N)]
    for u, v in edges:
        out[v] = out[v] + convolution.lin.weight @ states[u] / math.sqrt(degree[u] * degree[v])
    return torch.stack(out) + convolution.bias


def read(term: AuxiliaryTerm, number: int, states: Tensor, task: Task) -> Tensor:
    head, kind = term.heads[str(number)], term.group["head"]
    rows = gcn(head.convolution, states) if kind == "gnn" else states
    if task.level == "graph":
        rows = torch.stack([sum(rows[v] for v in range(N) if OF_GRAPH[v] == g) for g in (0, 1)])  # type: ignore[misc]
    if kind == "linear":
        rows = torch.stack([affine(head.map, row) for row in rows])
    elif kind == "mlp":
        rows = torch.stack([affine(head.map[2], affine(head.map[0], row).clamp(min=0)) for row in rows])
    elif task.level == "graph":
        rows = torch.stack([affine(head.map, row) for row in rows])
    if task.level == "edge":
        return torch.stack([(rows[u] * rows[v]).sum() for u, v in PAIRS.t().tolist()])
    return rows


def item_loss(logits: Tensor, label: Tensor, task: Task) -> Tensor:
    """One item's share of the task loss."""
    if task.kind == "multiclass":
        return torch.log(torch.exp(logits).sum()) - logits[int(label)]
    if task.kind == "regression":
        return ((logits - label) ** 2).mean()
    p = 1 / (1 + torch.exp(-logits))
    return -(label * torch.log(p) + (1 - label) * torch.log(1 - p)).mean()


def soft_loss(logits: Tensor, target: Tensor, task: Task, tau: float) -> Tensor:
    if task.kind == "regression":
        return ((logits - target) ** 2).mean()
    if task.kind == "multiclass":
        p, q = torch.exp(logits / tau), torch.exp(target / tau)
        p, q = p / p.sum(), q / q.sum()
        return tau**2 * (q * (q / p).log()).sum()
    p, q = 1 / (1 + torch.exp(-logits / tau)), 1 / (1 + torch.exp(-target / tau))
    return -(tau**2) * (q * torch.log(p) + (1 - q) * torch.log(1 - p)).mean()


def oracle(term: AuxiliaryTerm, own: Observation, other: Observation, task: Task) -> tuple[Tensor, Tensor]:
    label, soft = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    heads = list(term.layers)
    for position, number in enumerate(heads, 1):
        growth = 2 * position / (len(heads) + 1) if term.group["growth"] == "increasing" else 1.0
        logits = read(term, number, own.hidden["layer"][number - 1], task)
        assert own.labels is not None
        items = [v for v in range(len(logits)) if task.level != "node" or own.graph.train_mask is None or MASK[v]]
        label = label + growth * sum(item_loss(logits[v], own.labels[v], task) for v in items) / len(items)
        target = other.logits.detach()
        each = [soft_loss(logits[v], target[v], task, term.group.get("temperature", 1.0)) for v in range(len(logits))]
        soft = soft + growth * sum(each) / len(each)
    return label, soft


TASKS = [Task(*key) for key in LABELS]


@pytest.mark.parametrize("head", ["linear", "mlp", "gnn"])
@pytest.mark.parametrize("task", TASKS, ids=lambda task: f"{task.level}-{task.kind}")
def test_values_and_gradients_equal_the_loops(task: Task, head: str) -> None:
    term = make(task, head=head, soft_weight=0.5, temperature=2.0, growth="increasing")
    own, other = observe(task, 1), observe(task, 2)
    found = term(own, other)
    label, soft = oracle(term, own, other, task)
    torch.testing.assert_close(found["weight"], label)
    torch.testing.assert_close(found["soft_weight"], soft)
    inputs = [*own.hidden["layer"], *term.parameters()]
    ours = torch.autograd.grad(found["weight"] + 3 * found["soft_weight"], inputs, allow_unused=True)
    again, twice = oracle(term, own, other, task)
    theirs = torch.autograd.grad(again + 3 * twice, inputs, allow_unused=True)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.zeros(()) if a is None else a, torch.zeros(()) if b is None else b)
    assert any(bool(g.abs().sum() > 0) for g in ours if g is not None)


@pytest.mark.parametrize(
    ("layers", "expected"),
    [("all", (1, 2, 3)), ("all_but_last", (1, 2)), ("marked", (1, 2, 3)), ((2,), (2,)), ((1, 3), (1, 3))],
)
@pytest.mark.parametrize("growth", ["uniform", "increasing"])
def test_layers_and_growth(layers: Any, expected: tuple[int, ...], growth: str) -> None:
    task = Task("node", "multiclass")
    term = make(task, layers=layers, growth=growth)
    assert term.layers == expected
    assert sum(term.factors.values()) / len(expected) == pytest.approx(1.0)  # mean 1
    own = observe(task, 1)
    torch.testing.assert_close(term(own, own)["weight"], oracle(term, own, own, task)[0])
    reached = torch.autograd.grad(term(own, own)["weight"], own.hidden["layer"], allow_unused=True)
    assert tuple(n for n, g in enumerate(reached, 1) if g is not None) == expected


def test_all_nodes_count_where_the_graph_has_no_masks() -> None:
    task = Task("node", "multilabel")
    term, own = make(task), observe(task, 1, mask=None)
    torch.testing.assert_close(term(own, own)["weight"], oracle(term, own, own, task)[0])


def test_soft_targets_give_the_source_no_gradient() -> None:
    task = Task("node", "multiclass")
    term = make(task, soft_weight=1.0, temperature=3.0)
    own, peer = observe(task, 1), observe(task, 2)
    sum(term(own, peer).values()).backward()  # type: ignore[union-attr]
    assert peer.logits.grad is None and own.logits.grad is None
    own = observe(task, 1)
    sum(term(own, own).values()).backward()  # type: ignore[union-attr]
    assert own.logits.grad is None  # own final logits teach, and are not taught


def test_only_the_parts_with_a_weight_are_computed() -> None:
    task = Task("node", "multiclass")
    own = observe(task, 1)
    assert make(task)(own, own).keys() == {"weight"}
    only_soft = make(task, weight=0.0, soft_weight=1.0)(own, observe(task, 2))
    assert float(only_soft["weight"]) == 0.0 and not only_soft["weight"].requires_grad
    assert float(only_soft["soft_weight"].detach()) > 0


def test_a_network_of_one_layer_has_no_head_but_on_the_last() -> None:
    task = Task("node", "multiclass")
    own = observe(task, 1)
    one = Observation(own.logits, {"layer": own.hidden["layer"][:1]}, own.graph, own.labels)
    values = {"weight": 1.0, "head": "linear", "layers": "all_but_last", "growth": "increasing", "soft_weight": 0.0}
    outline = Outline.of(one, 1)
    term = AuxiliaryTerm(GroupPlan("auxiliary", MappingProxyType(values)), outline, outline, task)
    assert term.layers == () and float(term(one, one)["weight"]) == 0.0


def test_heads_are_dropped_at_inference_and_read_once_for_each_pass() -> None:
    task = Task("node", "multiclass")
    term, own = make(task, soft_weight=1.0), observe(task, 1)
    calls = []
    for head in term.heads.values():
        head.register_forward_hook(lambda *_: calls.append(1))
    term(own, observe(task, 2))
    term(own, observe(task, 3))  # another peer's soft targets
    assert len(calls) == len(WIDTHS)
    with torch.no_grad():
        assert not term.logits(own)[1].requires_grad  # the pass with gradient is not handed out here


@pytest.mark.parametrize("head", ["linear", "mlp", "gnn"])
def test_a_task_on_graphs_with_labels_of_nodes(head: str) -> None:
    """As PATTERN and CLUSTER reach the host: many graphs, and a network that answers for every node."""
    task = Task("graph", "multiclass")
    term = make(task, head=head)
    node = observe(Task("node", "multiclass"), 1, mask=None)
    seen = Observation(node.logits, node.hidden, Graph(EDGES, N, batch=OF_GRAPH), node.labels)
    found = term.logits(seen)
    assert [rows.shape for rows in found.values()] == [(N, C)] * 3
    if head == "linear":
        for number, rows in found.items():
            for v in range(N):
                torch.testing.assert_close(rows[v], affine(term.heads[str(number)].map, node.layer("layer", number)[v]))
    losses = [-rows.log_softmax(-1)[torch.arange(N), node.labels].mean() for rows in found.values()]
    torch.testing.assert_close(term(seen, seen)["weight"], sum(losses))


def test_soft_targets_are_those_of_nodes_that_are_predicted() -> None:
    task = Task("node", "multiclass")
    learner, source = observe(task, 1), observe(task, 2)
    term = make(task, weight=0.0, soft_weight=1.0, temperature=2.0)
    predicted = torch.tensor([1, 0, 1, 1, 0, 0, 1], dtype=torch.bool)
    graph = replace(learner.graph, predicted=predicted, memo={})
    found = term(replace(learner, graph=graph, memo={}), source)["soft_weight"]
    q = (source.logits[predicted] / 2).log_softmax(-1)
    heads = [(rows[predicted] / 2).log_softmax(-1) for rows in term.logits(learner).values()]
    torch.testing.assert_close(found, sum(4 * (q.exp() * (q - p)).sum() / 4 for p in heads))
