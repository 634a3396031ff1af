"""The objective: label_weight times the task loss plus, for every term, weight times schedule times value."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import gkd_plugin  # noqa: F401
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import UserError
from gkd_plugin.space.answers import Member
from gkd_plugin.space.knowledge.auxiliary import AuxiliaryTerm
from gkd_plugin.space.observation import Graph, Observation, Outline, Task
from gkd_plugin.training.objective import Objective, list_taps, mean_logits

N, C, TASK = 9, 4, Task("node", "multiclass")
MASK = torch.arange(N) % 3 == 0
EDGES = torch.tensor([[0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 2], [1, 2, 3, 4, 5, 6, 7, 8, 0, 5, 7]])
BASE = {"dataset": {"task": "node", "task_type": "classification_multi"}}


class Behind:
    """No member stands for several, and ``self`` is the learner's own forward pass."""

    def expand(self, members: Iterable[Member], layered: bool) -> tuple[Member, ...]:
        return tuple(members)

    def is_within(self, member: Member) -> bool:
        return member == "self"


def heads_of(ours: Objective) -> AuxiliaryTerm:
    term = ours.terms["auxiliary"]
    assert isinstance(term, AuxiliaryTerm)
    return term


def seen(seed: int, widths: tuple[int, ...] = (5, 5)) -> Observation:
    random = torch.Generator().manual_seed(seed)
    states = {
        tap: tuple(torch.randn(N, width, generator=random, dtype=torch.float64, requires_grad=True) for width in widths)
        for tap in ("conv", "layer")
    }
    logits = torch.randn(N, C, generator=random, dtype=torch.float64, requires_grad=True)
    graph = Graph(EDGES, N, train_mask=MASK)
    return Observation(logits, states, graph, torch.arange(N) % C)


def objective(learner: int = 1, students: int = 2, **groups: dict[str, Any]) -> Objective:
    kd = {"students": students, **groups.pop("kd", {})}
    plan = resolve({**BASE, "kd": kd, **groups})
    outlines: dict[Any, Outline] = {n: Outline.of(seen(n), 2) for n in range(1, students + 1)}
    torch.manual_seed(0)
    return Objective(plan, learner, outlines, TASK, Behind()).double()


def task_loss(own: Observation) -> Tensor:
    return functional.cross_entropy(own.logits[MASK], own.labels[MASK])  # type: ignore[index]


def kl(own: Observation, other: Tensor) -> Tensor:
    p, q = own.logits.log_softmax(-1), other.detach().softmax(-1)
    return (q * (q.log() - p)).sum(-1).mean()


def test_terms_times_weights_times_schedules_sum_up() -> None:
    ours = objective(
        kd={"students": 3, "label_weight": 0.7},
        students=3,
        kd_response={"weight": 0.4, "nodes": "all", "schedule": "linear_2_6"},
        kd_feature={"weight": 0.2, "tap": "layer", "layer_map": "one_to_one", "schedule": "window_0_5"},
        kd_auxiliary={"weight": 0.3, "growth": "increasing"},
    )
    own, peers = seen(1), {n: seen(n) for n in (2, 3)}
    heads = heads_of(ours)
    for epoch in range(8):
        own = seen(1)
        total, values, weighted = ours(task_loss(own), own, peers | {"self": own.detached()}, epoch)
        response = sum(kl(own, peer.logits) for peer in peers.values()) / 2
        feature = torch.zeros((), dtype=torch.float64)
        for peer in peers.values():
            for layer in (0, 1):
                feature = (
                    feature + functional.mse_loss(own.hidden["layer"][layer], peer.hidden["layer"][layer].detach()) / 2
                )
        labels = torch.zeros((), dtype=torch.float64)
        for number, growth in ((1, 2 / 3), (2, 4 / 3)):
            head = heads.heads[str(number)].map
            logits = functional.linear(own.hidden["layer"][number - 1], head.weight, head.bias)
            labels = labels + growth * functional.cross_entropy(logits[MASK], own.labels[MASK])  # type: ignore[index]
        ramp = min(max((epoch - 2) / 4, 0.0), 1.0)
        expected = 0.7 * task_loss(own) + 0.4 * ramp * response + 0.2 * (epoch < 5) * feature + 0.3 * labels
        torch.testing.assert_close(total, expected)
        named = {"kd_auxiliary": labels}
        named |= {"kd_response": response} if ramp else {}
        named |= {"kd_feature": feature} if epoch < 5 else {}
        assert values.keys() == weighted.keys() == named.keys()
        for name, value in named.items():
            torch.testing.assert_close(values[name], value.detach())
        torch.testing.assert_close(sum(weighted.values()) + 0.7 * task_loss(own), total)
    assert sorted(ours.value_names) == ["kd_auxiliary", "kd_feature", "kd_response"]


def test_nothing_flows_into_a_peer_or_the_own_soft_target() -> None:
    ours = objective(
        kd_feature={"weight": 1.0, "tap": "layer", "layer_map": "one_to_one"},
        kd_response={"weight": 1.0},
        kd_structure={"weight": 1.0, "tap": "layer", "layer_map": "shift"},
        kd_auxiliary={"weight": 1.0, "soft_weight": 1.0, "soft_source": "peers"},
    )
    own, peer = seen(1), seen(2)
    total, _, _ = ours(task_loss(own), own, {2: peer}, 0)
    total.backward()
    assert own.logits.grad is not None and all(h.grad is not None for h in own.hidden["layer"])
    assert peer.logits.grad is None and all(h.grad is None for h in peer.hidden["layer"])


def test_label_weight_zero_leaves_soft_labels_only() -> None:
    ours = objective(kd={"label_weight": 0}, kd_response={"weight": 1.0, "nodes": "all"})
    own, peer = seen(1), seen(2)
    total, _, _ = ours(task_loss(own), own, {2: peer}, 0)
    torch.testing.assert_close(total, kl(own, peer.logits))


def test_ensemble_mean_teaches_with_the_mean_of_the_others_logits_and_layers_stay_per_peer() -> None:
    groups = {
        "kd_response": {"weight": 1.0, "nodes": "all"},
        "kd_feature": {"weight": 1.0, "tap": "layer", "layer_map": "one_to_one"},
        "kd_auxiliary": {"soft_weight": 1.0, "soft_source": "peers"},
    }
    ours = objective(learner=2, students=4, kd={"peer_target": "ensemble_mean"}, **groups)
    assert ours.members(0) == (1, 3, 4)
    own, peers = seen(2), {n: seen(n) for n in (1, 3, 4)}
    mean = torch.stack([peer.logits for peer in peers.values()]).mean(0)
    together = mean_logits([peers[n] for n in (1, 3, 4)])
    torch.testing.assert_close(together.logits, mean)
    _, values, _ = ours(task_loss(own), own, peers, 0)
    torch.testing.assert_close(values["kd_response"], kl(own, mean).detach())
    feature = sum(
        functional.mse_loss(own.hidden["layer"][layer], peer.hidden["layer"][layer])
        for peer in peers.values()
        for layer in (0, 1)
    )
    torch.testing.assert_close(values["kd_feature"], feature.detach() / 3)  # type: ignore[union-attr]
    heads = heads_of(ours).logits(own)
    q = mean.softmax(-1)
    soft = sum((q * (q.log() - z.log_softmax(-1))).sum(-1).mean() for z in heads.values())
    torch.testing.assert_close(values["kd_auxiliary_soft"], soft.detach())  # type: ignore[union-attr]
    each = objective(learner=2, students=4, kd={"peer_target": "each"}, **groups)
    _, values, _ = each(task_loss(own), own, peers, 0)
    per_peer = sum(kl(own, peer.logits) for peer in peers.values()) / 3
    torch.testing.assert_close(values["kd_response"], per_peer.detach())  # type: ignore[union-attr]
    assert not torch.allclose(per_peer, kl(own, mean))


def test_weight_zero_builds_nothing() -> None:
    ours = objective(kd_feature={"weight": 0, "projector": "linear"}, kd_auxiliary={"weight": 0})
    assert list(ours.parameters()) == [] and ours.groups == [] and list(ours.terms) == []
    assert ours.taps(0) == () and ours.members(0) == () and ours.value_names == []


def test_taps_and_sources_follow_the_schedule() -> None:
    ours = objective(kd_feature={"weight": 1, "tap": "conv", "layer_map": "last", "schedule": "warmup_3"})
    assert [ours.taps(epoch) for epoch in (2, 3)] == [(), ("conv",)]
    assert [ours.members(epoch) for epoch in (2, 3)] == [(), (2,)]
    total, values, weighted = ours(task_loss(seen(1)), seen(1), {}, 0)
    assert values == weighted == {}
    torch.testing.assert_close(total, task_loss(seen(1)))
    assert list_taps(ours.plan) == ("conv",)


def test_heads_without_peers_keep_their_labels() -> None:
    groups = {"kd_auxiliary": {"weight": 0.3, "soft_weight": 0.5, "soft_source": "peers"}}
    alone = objective(students=1, **groups)
    plain = objective(students=1, kd_auxiliary={"weight": 0.3})
    own = seen(1)
    sources = {"self": own.detached()}
    torch.testing.assert_close(alone(task_loss(own), own, sources, 0)[0], plain(task_loss(own), own, sources, 0)[0])
    assert alone.value_names == ["kd_auxiliary"]
    nobody = objective(students=1, kd_auxiliary={"soft_weight": 0.5, "soft_source": "peers"})
    assert nobody(task_loss(own), own, {}, 0)[1] == {}


def test_projections_are_shared_by_peers_for_heads_only() -> None:
    """A projector for each source model; the heads are the learner's own whoever gives the soft targets."""
    feature = {"weight": 1, "projector": "linear", "layer_map": "last", "tap": "layer"}
    ours = objective(students=3, kd_feature=feature, kd_auxiliary={"soft_weight": 1, "soft_source": "peers"})
    assert sorted(ours.terms) == ["auxiliary", "feature_2", "feature_3"]


def test_a_map_that_does_not_fit_names_both_sides() -> None:
    plan = resolve(
        {**BASE, "kd": {"students": 2}, "kd_feature": {"weight": 1, "tap": "layer", "layer_map": "one_to_one"}}
    )
    outlines: dict[Any, Outline] = {1: Outline.of(seen(1), 2), 2: Outline.of(seen(2, (5, 5, 5)), 3)}
    with pytest.raises(UserError, match=r"kd_feature\.layer_map: .*2 layers, the source 3"):
        Objective(plan, 1, outlines, TASK, Behind())
