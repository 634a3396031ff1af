"""Knowledge ``response`` against loops written from its equations, in float64."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.response import ALLOWED, LOSS_BY_TASK, ResponseTerm, response_loss
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

CLASSES = Task("node", "multiclass")
TRAIN = [True, False, True, False, False]
LOSSES = ("kl", "bce_soft", "bce_hard", "mse")


def seen(logits: Tensor, train: list[bool] | None = TRAIN, node_id: Tensor | None = None) -> Observation:
    mask = None if train is None else torch.tensor(train, dtype=torch.bool)
    graph = Graph(torch.empty(2, 0, dtype=torch.long), logits.size(0), mask, node_id=node_id)
    return Observation(logits, {}, graph)


def build(learner: Observation, source: Observation, task: Task = CLASSES, **values: object) -> ResponseTerm:
    keys = {key.name: key.default for key in ResponseTerm.keys} | {"nodes": "all"} | values
    group = GroupPlan("response", MappingProxyType(keys))
    return ResponseTerm(group, Outline.of(learner, 1), Outline.of(source, 1), task)


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def oracle(logits: Tensor, target: Tensor, loss: str, tau: float, kept: list[int]) -> float:
    """The printed equations, one item at a time."""
    total = 0.0
    for v in kept:
        z, t = logits[v].reshape(-1).tolist(), target[v].reshape(-1).tolist()
        if loss == "kl":
            p, q = ([math.exp(x / tau) / sum(math.exp(y / tau) for y in row) for x in row] for row in (z, t))
            total += tau**2 * sum(b * math.log(b / a) for a, b in zip(p, q, strict=True))
        elif loss == "mse":
            total += sum((a - b) ** 2 for a, b in zip(z, t, strict=True)) / len(z)
        else:
            soft = loss == "bce_soft"
            scale = tau if soft else 1.0
            for a, b in zip(z, t, strict=True):
                p, q = sigmoid(a / scale), sigmoid(b / scale) if soft else float(b > 0)
                total -= scale**2 * (q * math.log(p) + (1 - q) * math.log(1 - p)) / len(z)
    return total / len(kept)


@pytest.mark.parametrize("nodes", ["all", "train", "unlabeled"])
@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_agree_with_loops(loss: str, tau: float, nodes: str) -> None:
    learner, source = (seen(torch.randn(5, 3, dtype=torch.float64) * 2) for _ in range(2))
    kept = {"all": [0, 1, 2, 3, 4], "train": [0, 2], "unlabeled": [1, 3, 4]}[nodes]
    value = build(learner, source, loss=loss, temperature=tau, nodes=nodes)(learner, source)
    assert value.item() == pytest.approx(oracle(learner.logits, source.logits, loss, tau, kept), rel=1e-10)


@pytest.mark.parametrize(
    ("kind", "loss"), [("multiclass", "kl"), ("binary", "bce_soft"), ("multilabel", "bce_soft"), ("regression", "mse")]
)
def test_the_task_decides_where_nobody_else_does(kind: str, loss: str) -> None:
    shape = (5,) if kind in ("binary", "regression") else (5, 3)
    learner, source = (seen(torch.randn(shape, dtype=torch.float64)) for _ in range(2))
    term = build(learner, source, Task("node", kind), temperature=2.0)
    assert term.loss == loss == LOSS_BY_TASK[kind]
    expected = oracle(learner.logits, source.logits, loss, 2.0, list(range(5)))
    assert term(learner, source).item() == pytest.approx(expected)


def test_one_logit_as_column_or_as_vector() -> None:
    learner, source = seen(torch.randn(5)), seen(torch.randn(5, 1))
    task = Task("node", "binary")
    flat = seen(source.logits.view(-1))
    torch.testing.assert_close(build(learner, source, task)(learner, source), build(learner, flat, task)(learner, flat))


def test_hand_computed_values() -> None:
    logits, target = torch.zeros(1, 2), torch.tensor([[math.log(3.0), 0.0]])
    assert response_loss(logits, target, "kl", 1.0).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert response_loss(logits, target, "bce_soft", 1.0).item() == pytest.approx(math.log(2))
    assert response_loss(torch.tensor([[1.0]]), torch.tensor([[5.0]]), "bce_hard", 1.0).item() == pytest.approx(
        math.log(1 + math.exp(-1))
    )


@pytest.mark.parametrize("loss", ["kl", "mse"])
def test_equal_logits_give_zero(loss: str) -> None:
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    value = build(seen(logits), seen(logits), loss=loss, temperature=3.0)(seen(logits), seen(logits.detach()))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("loss", LOSSES)
def test_gradcheck_and_no_gradient_into_the_source(loss: str) -> None:
    target = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    source = seen(target)
    term = build(source, source, loss=loss, temperature=2.0, nodes="unlabeled")
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: term(seen(z), source), [logits])
    term(seen(logits), source).backward()
    assert target.grad is None
    assert not logits.grad[[0, 2]].any()
    assert logits.grad[[1, 3, 4]].any()


def test_temperature_keeps_the_size_of_the_gradient() -> None:
    """tau^2 balances the 1/tau^2 of softened gradients: for small logits the two agree in the limit."""
    logits, target = torch.randn(5, 3, dtype=torch.float64) * 1e-4, torch.randn(5, 3, dtype=torch.float64) * 1e-4
    one, ten = (response_loss(logits, target, "kl", tau).item() for tau in (1.0, 10.0))
    assert ten == pytest.approx(one, rel=1e-3)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    for loss in LOSSES:
        value = response_loss(logits, -logits.detach(), loss, 1.0)
        assert torch.isfinite(value), loss
        assert torch.isfinite(torch.autograd.grad(value, logits)[0]).all(), loss


def test_permuting_nodes_changes_nothing_and_inputs_stay() -> None:
    learner, source = seen(torch.randn(5, 3)), seen(torch.randn(5, 3))
    before = learner.logits.clone(), source.logits.clone()
    term = build(learner, source, nodes="train", temperature=2.0)
    value = term(learner, source)
    assert torch.equal(before[0], learner.logits)
    assert torch.equal(before[1], source.logits)
    order = torch.tensor([3, 0, 4, 2, 1])
    train = [TRAIN[v] for v in order.tolist()]
    torch.testing.assert_close(term(seen(learner.logits[order], train), seen(source.logits[order], train)), value)


@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from(LOSSES), st.lists(st.booleans(), min_size=3, max_size=3))
def test_odd_shapes_give_finite_values(nodes: int, classes: int, loss: str, train: list[bool]) -> None:
    logits = torch.randn(nodes, classes, requires_grad=True)
    learner, source = seen(logits, train[:nodes]), seen(torch.randn(nodes, classes), train[:nodes])
    value = build(learner, source, loss=loss, nodes="train")(learner, source)
    value.backward()
    assert torch.isfinite(value)
    assert value >= -1e-6
    assert torch.isfinite(logits.grad).all()
    assert any(train[:nodes]) or value == 0


def test_unlabelled_nodes_where_there_are_none() -> None:
    for train, text in ((None, "no training mask"), ([True] * 5, "all 5 nodes are in the training mask")):
        learner = seen(torch.randn(5, 3), train)
        with pytest.raises(UserError, match=rf"kd_response\.nodes: unlabeled.*{text}.*train, all"):
            build(learner, learner, nodes="unlabeled")(learner, learner)
    part = seen(torch.randn(5, 3), [True] * 5, node_id=torch.arange(5))
    assert build(part, part, nodes="unlabeled")(part, part).item() == 0


def test_graphs_without_masks_count_as_training_nodes() -> None:
    learner, source = seen(torch.randn(5, 3), None), seen(torch.randn(5, 3), None)
    every = build(learner, source)(learner, source)
    torch.testing.assert_close(build(learner, source, nodes="train")(learner, source), every)


@pytest.mark.parametrize("level", ["graph", "edge"])
def test_items_of_graph_and_edge_tasks_are_all_compared(level: str) -> None:
    graph = Graph(torch.empty(2, 0, dtype=torch.long), 5, torch.tensor(TRAIN))
    learner, source = (Observation(torch.randn(2, 3), {}, graph) for _ in range(2))  # two items on five nodes
    value = build(learner, source, Task(level, "multiclass"), nodes="train")(learner, source)
    assert value.item() == pytest.approx(oracle(learner.logits, source.logits, "kl", 1.0, [0, 1]), rel=1e-5)


def test_different_classes_are_refused() -> None:
    with pytest.raises(UserError, match=r"learner predicts 3 values per item, the source 4"):
        build(seen(torch.randn(5, 3)), seen(torch.randn(5, 4)))


@pytest.mark.parametrize("kind", list(LOSS_BY_TASK))
def test_losses_without_meaning_for_the_task_are_refused(kind: str) -> None:
    for loss in LOSSES:
        problems = list(ResponseTerm.check({"loss": loss, "nodes": "all"}, Task("node", kind)))
        assert bool(problems) == (loss not in ALLOWED[kind]), loss
        assert all(problem.key == "kd_response.loss" for problem in problems)
    assert not list(ResponseTerm.check({"loss": None}, Task("node", kind)))
    assert LOSS_BY_TASK[kind] in ALLOWED[kind]


def test_unlabeled_is_refused_where_items_are_no_nodes() -> None:
    for level in ("edge", "graph"):
        (problem,) = ResponseTerm.check({"nodes": "unlabeled"}, Task(level, "multiclass"))
        assert problem.key == "kd_response.nodes"
    assert not list(ResponseTerm.check({"nodes": "unlabeled"}, CLASSES))
    assert not list(ResponseTerm.check({"nodes": "unlabeled", "loss": "kl"}, None))


def test_losses_without_temperature() -> None:
    (key,) = [key for key in ResponseTerm.keys if key.name == "temperature"]
    assert key.unless is not None
    applies = {loss: key.unless({"loss": loss}) is None for loss in (*LOSSES, None)}
    assert applies == {"kl": True, "bce_soft": True, "bce_hard": False, "mse": False, None: True}
