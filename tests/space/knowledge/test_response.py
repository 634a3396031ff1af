"""Knowledge ``response`` against loops written from its equations, in float64."""

from __future__ import annotations

import itertools
import math
from types import MappingProxyType

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.response import (
    ALLOWED,
    LOSS_BY_TASK,
    ResponseTerm,
    make_goal,
    measure_certainty,
    read_distributions,
    response_loss,
    weigh_items,
)
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

CLASSES = Task("node", "multiclass")
TRAIN = [True, False, True, False, False]
LOSSES = ("kl", "bce_soft", "bce_hard", "mse")


def seen(logits: Tensor, train: list[bool] | None = TRAIN, node_id: Tensor | None = None) -> Observation:
    mask = None if train is None else torch.tensor(train, dtype=torch.bool)
    graph = Graph(torch.empty(2, 0, dtype=torch.long), logits.size(0), mask, node_id=node_id)
    return Observation(logits, {}, graph)


def distance(logits: Tensor, target: Tensor, loss: str, temperature: float, hard: bool = False) -> Tensor:
    return response_loss(logits, make_goal(target, loss, temperature, hard=hard), loss, temperature)


def test_a_target_is_made_once_for_all_learners_of_a_graph() -> None:
    learner, source = seen(torch.randn(5, 3)), seen(torch.randn(5, 3))
    soft, sharp = build(learner, source, nodes="train"), build(learner, source, nodes="train", sharpen=0.5)
    values = [soft(learner, source), sharp(learner, source), soft(learner, source)]
    assert torch.equal(values[0], values[2]) and not torch.equal(values[0], values[1])
    assert len(source.memo) == 2
    other = Observation(learner.logits, {}, Graph(learner.graph.edge_index, 5, ~learner.graph.train_mask))
    expected = oracle(learner.logits.double(), source.logits.double(), "kl", 1.0, [1, 3, 4])
    assert soft(other, source).item() == pytest.approx(expected, rel=1e-5)  # another graph has other training nodes


def build(learner: Observation, source: Observation, task: Task = CLASSES, **values: object) -> ResponseTerm:
    keys = {key.name: key.default for key in ResponseTerm.keys} | {"nodes": "all"} | values
    group = GroupPlan("response", MappingProxyType(keys))
    return ResponseTerm(group, Outline.of(learner, 1), Outline.of(source, 1), task)


def sigmoid(x: float) -> float:
    return math.exp(min(x, 0.0)) / (1 + math.exp(-abs(x)))


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


@pytest.mark.parametrize(("nodes", "kept"), [("all", [0, 1, 3]), ("train", [0, 2]), ("unlabeled", [1, 3])])
def test_only_nodes_that_are_predicted_are_asked(nodes: str, kept: list[int]) -> None:
    """Of several types of nodes one is predicted; what the head says of the others means nothing."""
    generator = torch.Generator().manual_seed(4)
    rows, target = (torch.randn(5, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    predicted = torch.tensor([True, True, False, True, False])
    graph = Graph(torch.empty(2, 0, dtype=torch.long), 5, torch.tensor(TRAIN), predicted=predicted)
    learner, source = (Observation(logits, {}, graph) for logits in (rows, target))
    expected = oracle(rows, target, "kl", 1.0, kept)
    assert build(learner, source, nodes=nodes)(learner, source).item() == pytest.approx(expected, rel=1e-9)


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
    assert distance(logits, target, "kl", 1.0).item() == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert distance(logits, target, "bce_soft", 1.0).item() == pytest.approx(math.log(2))
    assert distance(torch.tensor([[1.0]]), torch.tensor([[5.0]]), "bce_hard", 1.0).item() == pytest.approx(
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
    one, ten = (distance(logits, target, "kl", tau).item() for tau in (1.0, 10.0))
    assert ten == pytest.approx(one, rel=1e-3)


def test_extreme_logits_stay_finite() -> None:
    logits = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    for loss in LOSSES:
        value = distance(logits, -logits.detach(), loss, 1.0)
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


# --------------------------------------------------------------------------------------------- what a soft target is
def log_softmax(row: list[float]) -> list[float]:
    most = max(row)
    return [x - most - math.log(sum(math.exp(y - most) for y in row)) for x in row]


def softmax(row: list[float]) -> list[float]:
    return [math.exp(x) for x in log_softmax(row)]


def log_sigmoid(x: float) -> float:
    return min(x, 0.0) - math.log1p(math.exp(-abs(x)))


def entropy(probabilities: list[float]) -> float:
    return -sum(q * math.log(q) for q in probabilities if q > 0)


def certainty(t: list[float], loss: str) -> float:
    if loss == "kl":
        return max(softmax(t))
    return sum(max(sigmoid(b), sigmoid(-b)) for b in t) / len(t)


def raw_weight(t: list[float], loss: str, how: str) -> float:
    if how == "none":
        return 1.0
    if how == "confidence":
        return certainty(t, loss)
    if loss == "kl":
        return 1 - entropy(softmax(t)) / math.log(len(t)) if len(t) > 1 else 1.0
    return 1 - sum(entropy([sigmoid(b), sigmoid(-b)]) for b in t) / len(t) / math.log(2)


def item_loss(z: list[float], t: list[float], loss: str, tau: float, target: str, sharpen: float) -> float:
    if loss == "bce_hard":
        tau, target = 1.0, "hard"
    if loss == "kl":
        log_p = log_softmax([a / tau for a in z])
        if target == "hard":
            return -(tau**2) * log_p[t.index(max(t))]
        log_q = log_softmax([b / (sharpen * tau) for b in t])
        return tau**2 * sum(math.exp(b) * (b - a) for a, b in zip(log_p, log_q, strict=True))
    total = 0.0
    for a, b in zip(z, t, strict=True):
        q = float(b > 0) if target == "hard" else sigmoid(b / (sharpen * tau))
        total -= tau**2 * (q * log_sigmoid(a / tau) + (1 - q) * log_sigmoid(-a / tau))
    return total / len(z)


def mean_over_the_certain(
    logits: Tensor,
    target: Tensor,
    loss: str,
    kept: list[int],
    *,
    temperature: float = 1.0,
    target_is: str = "soft",
    sharpen: float = 1.0,
    confidence: float = 0.0,
    node_weight: str = "none",
) -> tuple[float, float]:
    """The docstring's equations, one item at a time: the value, and the share of items that count."""
    rows = [(logits[v].reshape(-1).tolist(), target[v].reshape(-1).tolist()) for v in kept]
    counted = [(z, t) for z, t in rows if confidence == 0 or certainty(t, loss) >= confidence]
    if not counted:
        return 0.0, 0.0
    raw = [raw_weight(t, loss, node_weight) for _, t in counted]
    if sum(raw) < 1e-12:
        raw = [1.0] * len(raw)
    losses = [item_loss(z, t, loss, temperature, target_is, sharpen) for z, t in counted]
    value = sum(w * part for w, part in zip(raw, losses, strict=True)) / sum(raw)
    return value, len(counted) / len(rows)


KINDS = {"kl": CLASSES, "bce_soft": CLASSES, "bce_hard": CLASSES}  # what a task of several classes allows of these
WAYS = [("soft", 1.0), ("soft", 0.3), ("soft", 2.0), ("hard", 1.0)]


@pytest.mark.parametrize("node_weight", ["none", "confidence", "entropy"])
@pytest.mark.parametrize("confidence", [0.0, 0.6, 0.8, 1.0])
@pytest.mark.parametrize(("target", "sharpen"), WAYS)
@pytest.mark.parametrize("loss", list(KINDS))
def test_every_combination_agrees_with_loops(
    loss: str, target: str, sharpen: float, confidence: float, node_weight: str
) -> None:
    tasks = [(CLASSES, (9, 3))]
    if loss != "kl":
        tasks += [
            (Task("node", "multilabel"), (9, 4)),
            (Task("node", "binary"), (9,)),
            (Task("node", "binary"), (9, 1)),
        ]
    train = [v % 3 > 0 for v in range(9)]
    for (task, shape), tau, nodes in itertools.product(tasks, (1.0, 3.0), ("all", "train")):
        learner, source = (seen(torch.randn(shape, dtype=torch.float64) * 2, train) for _ in range(2))
        keys: dict[str, object] = dict(loss=loss, temperature=tau, nodes=nodes, target=target, sharpen=sharpen)
        term = build(learner, source, task, **keys, confidence=confidence, node_weight=node_weight)
        value, share = mean_over_the_certain(
            learner.logits,
            source.logits,
            loss,
            [v for v in range(9) if nodes == "all" or train[v]],
            temperature=tau,
            target_is=target,
            sharpen=sharpen,
            confidence=confidence,
            node_weight=node_weight,
        )
        assert term(learner, source).item() == pytest.approx(value, rel=1e-10, abs=1e-12)
        assert (term.reported["counted"].item() == pytest.approx(share)) if confidence else not term.reported


LOGITS = st.sampled_from([-1e4, -30.0, -2.0, -0.5, 0.0, 0.5, 1.0, 3.0, 30.0, 1e4])


@st.composite
def two_sides(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]]]:
    items, classes = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows = st.lists(st.lists(LOGITS, min_size=classes, max_size=classes), min_size=items, max_size=items)
    return draw(rows), draw(rows)


@given(
    two_sides(),
    st.sampled_from(list(KINDS)),
    st.sampled_from(WAYS),
    st.sampled_from([0.0, 0.5, 0.75, 1.0]),
    st.sampled_from(["none", "confidence", "entropy"]),
)
@example(([[1.0]], [[0.0]]), "kl", ("hard", 1.0), 1.0, "entropy")  # one class: always certain
@example(([[1.0, 0.0]], [[2.0, 2.0]]), "kl", ("hard", 1.0), 0.0, "entropy")  # no item is surer than another
@example(([[1e4, -1e4]], [[-1e4, 1e4]]), "bce_soft", ("soft", 0.3), 1.0, "confidence")
def test_odd_targets_agree_with_loops(
    sides: tuple[list[list[float]], list[list[float]]],
    loss: str,
    way: tuple[str, float],
    confidence: float,
    node_weight: str,
) -> None:
    z = torch.tensor(sides[0], dtype=torch.float64, requires_grad=True)
    t = torch.tensor(sides[1], dtype=torch.float64)
    (target, sharpen), learner, source = way, seen(z, None), seen(t, None)
    keys: dict[str, object] = dict(loss=loss, target=target, sharpen=sharpen)
    term = build(learner, source, **keys, confidence=confidence, node_weight=node_weight)
    value = term(learner, source)
    value.backward()
    assert torch.isfinite(value) and torch.isfinite(z.grad).all()
    expected, share = mean_over_the_certain(
        z.detach(),
        t,
        loss,
        list(range(len(t))),
        target_is=target,
        sharpen=sharpen,
        confidence=confidence,
        node_weight=node_weight,
    )
    assert value.item() == pytest.approx(expected, rel=1e-8, abs=1e-9)
    assert not confidence or term.reported["counted"].item() == pytest.approx(share)


@pytest.mark.parametrize("tau", [1.0, 4.0])
@pytest.mark.parametrize("loss", LOSSES)
def test_defaults_change_no_digit(loss: str, tau: float) -> None:
    """The operations are those of the first version, in single precision and with the same gradient."""
    for classes in (1, 2, 7):
        logits, target = torch.randn(53, classes, requires_grad=True), torch.randn(53, classes) * 3
        if loss == "mse":
            expected = functional.mse_loss(logits, target)
        elif loss == "bce_hard":
            expected = functional.binary_cross_entropy_with_logits(logits, (target > 0).to(logits.dtype))
        elif loss == "bce_soft":
            goal = (target / tau).sigmoid()
            expected = functional.binary_cross_entropy_with_logits(logits / tau, goal) * tau**2
        else:
            log_p, log_q = (logits / tau).log_softmax(dim=-1), (target / tau).log_softmax(dim=-1)
            expected = functional.kl_div(log_p, log_q, reduction="batchmean", log_target=True) * tau**2
        learner, source = seen(logits, None), seen(target, None)
        value = build(learner, source, loss=loss, temperature=tau)(learner, source)
        assert torch.equal(value, expected)
        pairs = [torch.autograd.grad(each, logits, retain_graph=True)[0] for each in (value, expected)]
        assert torch.equal(*pairs)


def test_hand_computed_targets() -> None:
    logits, target = torch.zeros(2, 2), torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])  # (3/4, 1/4), (1/2, 1/2)
    learner, source = seen(logits, None), seen(target, None)

    def value(**keys: object) -> float:
        return build(learner, source, **keys)(learner, source).item()

    sure = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)  # the other item's target is what the learner says: 0
    assert value() == pytest.approx(sure / 2)
    assert value(confidence=0.7) == pytest.approx(sure)
    assert value(confidence=0.5) == pytest.approx(sure / 2), "a certainty that reaches it counts"
    assert value(node_weight="confidence") == pytest.approx(0.75 / 1.25 * sure)
    assert value(node_weight="entropy") == pytest.approx(sure, rel=1e-5), "the even item weighs nothing"
    assert value(sharpen=0.5) == pytest.approx((0.9 * math.log(1.8) + 0.1 * math.log(0.2)) / 2)  # 9 : 1
    assert value(target="hard") == pytest.approx(math.log(2))
    assert value(target="hard", temperature=3.0) == pytest.approx(9 * math.log(2))
    assert value(target="hard", loss="bce_soft", temperature=3.0) == pytest.approx(9 * math.log(2))


def test_hand_computed_certainties() -> None:
    target = torch.tensor([[math.log(3.0), -math.log(9.0)]])
    torch.testing.assert_close(measure_certainty(read_distributions(target, "kl")), torch.tensor([27 / 28]))
    for loss in ("bce_soft", "bce_hard"):
        certain = measure_certainty(read_distributions(target, loss))
        torch.testing.assert_close(certain, torch.tensor([(0.75 + 0.9) / 2]))
    one = read_distributions(torch.tensor([[-math.log(4.0)], [0.0]]), "bce_soft")
    torch.testing.assert_close(measure_certainty(one), torch.tensor([0.8, 0.5]))
    torch.testing.assert_close(weigh_items(one, "confidence"), torch.tensor([1.6, 1.0]) / 1.3)
    torch.testing.assert_close(weigh_items(one, "entropy"), torch.tensor([2.0, 0.0]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ["kl", "bce_soft"])
def test_equal_weights_where_no_item_is_surer(loss: str, dtype: torch.dtype) -> None:
    """1 - H / log C of even targets is rounding; it must not decide who counts."""
    for classes in (1, 2, 3, 7, 40, 121):
        ones = torch.ones(6, dtype=dtype)
        even = torch.zeros(6, classes, dtype=dtype)
        for how in ("entropy", "confidence"):
            torch.testing.assert_close(weigh_items(read_distributions(even, loss), how), ones)
        nearly = torch.randn(6, classes, dtype=dtype) * math.sqrt(torch.finfo(dtype).eps)
        assert torch.equal(weigh_items(read_distributions(nearly, loss), "entropy"), ones)
        if loss == "kl" and classes == 1:
            continue  # always sure
        nearly[5] = 1e4 * (torch.arange(classes) == 0 if loss == "kl" else 1)
        weights = weigh_items(read_distributions(nearly, loss), "entropy")
        assert (weights >= 0).all() and weights[:5].max() < 1e-4
        assert weights[5].item() == pytest.approx(6, rel=1e-4)


@given(st.integers(1, 6), st.integers(1, 5), st.sampled_from(["kl", "bce_soft"]), st.floats(0, 1e4))
def test_weights_have_mean_1(items: int, classes: int, loss: str, scale: float) -> None:
    distributions = read_distributions(torch.randn(items, classes, dtype=torch.float64) * scale, loss)
    for how in ("confidence", "entropy"):
        weights = weigh_items(distributions, how)
        assert weights.shape == (items,) and (weights >= 0).all()
        assert weights.mean().item() == pytest.approx(1)


@pytest.mark.parametrize("extra", [{}, {"confidence": 0.7}, {"node_weight": "entropy"}])
@pytest.mark.parametrize(("loss", "shape"), [("kl", (6, 3)), ("bce_soft", (6, 3)), ("bce_soft", (6,))])
def test_sharpening_without_end_is_hard(loss: str, shape: tuple[int, ...], extra: dict[str, object]) -> None:
    learner, source = (seen(torch.randn(shape, dtype=torch.float64) * 2, None) for _ in range(2))

    def value(**keys: object) -> float:
        return build(learner, source, loss=loss, temperature=2.0, **keys, **extra)(learner, source).item()

    hard = value(target="hard")
    gaps = [abs(value(sharpen=sharpen) - hard) for sharpen in (1.0, 0.01, 1e-6)]
    assert gaps[0] > 1e-3 and gaps[1] < gaps[0] / 2 and gaps[2] < 1e-9


def test_a_hard_target_is_cross_entropy_with_its_decision() -> None:
    logits, target = torch.randn(6, 3), torch.randn(6, 3)
    expected = functional.cross_entropy(logits, target.argmax(dim=-1))
    torch.testing.assert_close(distance(logits, target, "kl", 1.0, hard=True), expected)
    expected = distance(logits, target, "bce_hard", 1.0)
    assert torch.equal(distance(logits, target, "bce_soft", 1.0, hard=True), expected)
    even = torch.tensor([[1.0, 1.0, 0.0]])
    torch.testing.assert_close(distance(logits[:1], even, "kl", 1.0, hard=True), -logits[:1].log_softmax(dim=-1)[0, 0])


@pytest.mark.parametrize("loss", list(KINDS))
def test_confidence_0_lets_every_item_count(loss: str) -> None:
    learner, source = seen(torch.randn(5, 3), None), seen(torch.zeros(5, 3), None)  # nobody could be less certain
    off = build(learner, source, loss=loss, confidence=0.0)
    nearly = build(learner, source, loss=loss, confidence=1e-6)
    assert torch.equal(off(learner, source), nearly(learner, source))
    assert off.reported == {}
    assert nearly.reported["counted"].item() == 1


@pytest.mark.parametrize("loss", list(KINDS))
def test_certainty_is_that_of_the_source_whatever_is_made_of_it(loss: str) -> None:
    learner, source = seen(torch.randn(50, 3), None), seen(torch.randn(50, 3) * 2, None)
    shares = set()
    for keys in ({}, {"temperature": 9.0}, {"sharpen": 0.01}, {"target": "hard"}):
        term = build(learner, source, loss=loss, confidence=0.75, **keys)
        term(learner, source)
        shares.add(term.reported["counted"].item())
    assert len(shares) == 1 and 0 < shares.pop() < 1


@pytest.mark.parametrize("loss", ["bce_soft", "bce_hard"])
def test_a_logit_of_0_is_a_no(loss: str) -> None:
    """[t > 0] as the page says, for two classes as one logit and for several labels: 0 itself is not above 0."""
    hard: dict[str, object] = {"loss": loss} if loss == "bce_hard" else {"loss": loss, "target": "hard"}
    for target, wanted in ((0.0, 0.0), (-0.0, 0.0), (1e-30, 1.0), (0.4, 1.0), (-1e-30, 0.0)):
        for shape in ((2,), (2, 1), (2, 3)):
            learner, source = seen(torch.full(shape, 2.0), None), seen(torch.full(shape, target), None)
            found = build(learner, source, **hard)(learner, source).item()
            assert found == pytest.approx(math.log1p(math.exp(-2.0)) + (1 - wanted) * 2.0), (target, shape)


@pytest.mark.parametrize("node_weight", ["none", "confidence", "entropy"])
@pytest.mark.parametrize("loss", list(KINDS))
def test_where_nothing_is_certain_the_term_is_0(loss: str, node_weight: str) -> None:
    logits = torch.randn(5, 3, requires_grad=True)
    learner, source = seen(logits), seen(torch.zeros(5, 3))
    term = build(learner, source, loss=loss, confidence=0.9, node_weight=node_weight)
    value = term(learner, source)
    value.backward()
    assert value.item() == 0 and torch.equal(logits.grad, torch.zeros(5, 3))
    share = term.reported["counted"]
    assert (share.item(), share.shape, share.requires_grad) == (0, (), False)
    nobody = seen(logits, [False] * 5)  # a sampled part without training nodes
    term = build(nobody, source, loss=loss, confidence=0.9, node_weight=node_weight, nodes="train")
    assert term(nobody, source).item() == 0 and term.reported["counted"].item() == 0


@pytest.mark.parametrize("loss", list(KINDS))
def test_gradcheck_of_chosen_and_weighted_items(loss: str) -> None:
    target = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    source = seen(target * 2, None)
    certain = measure_certainty(read_distributions(source.logits, loss))
    middle = certain.median().item()
    logits = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    for (way, sharpen), how in itertools.product(WAYS, ("none", "confidence", "entropy")):
        keys: dict[str, object] = dict(loss=loss, temperature=2.0, target=way, sharpen=sharpen, node_weight=how)
        term = build(source, source, **keys, confidence=middle)
        assert torch.autograd.gradcheck(lambda z, term=term: term(seen(z, None), source), [logits])
        logits.grad = None
        term(seen(logits, None), source).backward()
        assert target.grad is None
        assert torch.equal(logits.grad.abs().sum(dim=1) > 0, certain >= middle)


def test_keys_of_the_target_apply_where_they_mean_something() -> None:
    rules = {key.name: key.unless for key in ResponseTerm.keys if key.unless}
    cases = [{"loss": loss, "target": target} for loss in (*LOSSES, None) for target in ("soft", "hard")]
    applies = {name: [case for case in cases if rules[name](case) is None] for name in rules}
    probable = [case for case in cases if case["loss"] != "mse"]
    scaled = [case for case in probable if case["loss"] != "bce_hard"]
    assert applies == {
        "temperature": scaled,
        "target": scaled,
        "sharpen": [case for case in scaled if case["target"] == "soft"],
        "confidence": probable,
        "node_weight": probable,
    }


def test_a_changed_target_may_come_from_the_learner_itself() -> None:
    defaults = {key.name: key.default for key in ResponseTerm.keys}
    for values in (defaults, {}, {"loss": "mse"}, {"temperature": 4.0, "node_weight": "entropy"}):
        assert not ResponseTerm.learns_from_itself(values)
        assert ResponseTerm.reports(values) == ()
    for more in ({"sharpen": 0.5}, {"target": "hard"}, {"confidence": 0.5}):
        assert ResponseTerm.learns_from_itself(more)
        assert ResponseTerm.learns_from_itself(defaults | more)
    assert ResponseTerm.reports({"confidence": 0.5}) == ("counted",)
