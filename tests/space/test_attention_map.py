"""The learned layer map, against loops written from its equation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from gkd_plugin.errors import UserError
from gkd_plugin.space.attention_map import ATTENTION_KEYS, AttentionMap
from gkd_plugin.space.observation import Graph, Observation, Outline

NODES = 5


def seen(*widths: int, grad: bool = False) -> Observation:
    """An observation of random states with the given widths at tap ``layer``."""
    states = tuple(torch.randn(NODES, width, dtype=torch.float64, requires_grad=grad) for width in widths)
    return Observation(torch.randn(NODES, 2, dtype=torch.float64), {"layer": states}, empty())


def empty() -> Graph:
    return Graph(torch.empty(2, 0, dtype=torch.long), NODES)


def build(learner: Observation, source: Observation, own: bool = False, **values: object) -> AttentionMap:
    keys = {key.name: key.default for key in ATTENTION_KEYS} | {"dim": 4} | values
    outlines = [Outline.of(side, len(side.hidden["layer"])) for side in (learner, source)]
    return AttentionMap(keys, *outlines, "layer", own).double()


def oracle(module: AttentionMap, learner: Observation, source: Observation, over: str, own: bool) -> list[list[float]]:
    """alpha / mass by loops over layers, from the printed equation."""

    def project(side: Observation, weights: Tensor) -> list[list[float]]:
        out = []
        for number, states in enumerate(side.hidden["layer"]):
            weight = weights[number if len(weights) > 1 else 0]
            mean = [sum(states[v, c].item() for v in range(NODES)) / NODES for c in range(states.size(1))]
            out.append([sum(weight[a, c].item() * m for c, m in enumerate(mean)) for a in range(weight.size(0))])
        return out

    left = project(learner, module.learner_projection.weight)
    right = project(source, module.source_projection.weight)
    depths = range(len(left)), range(len(right))
    score = {
        (i, j): sum(a * b for a, b in zip(left[i], right[j], strict=True)) / math.sqrt(len(left[i]))
        for i in depths[0]
        for j in depths[1]
        if not own or j > i
    }
    rows = {"learner": lambda pair: pair[1], "source": lambda pair: pair[0], "all": lambda pair: 0}[over]
    alpha = {}
    for pair, value in score.items():
        same = [other for other in score if rows(other) == rows(pair)]
        alpha[pair] = math.exp(value) / sum(math.exp(score[other]) for other in same)
    mass = sum(alpha.values())
    return [[alpha.get((i, j), 0.0) / mass for j in depths[1]] for i in depths[0]]


@pytest.mark.parametrize("projection", ["per_layer", "shared"])
@pytest.mark.parametrize("over", ["learner", "source", "all"])
def test_agrees_with_loops(over: str, projection: str) -> None:
    learner, source = seen(3, 3), seen(6, 6, 6)
    module = build(learner, source, softmax_over=over, projection=projection)
    weights = module(learner, source)
    torch.testing.assert_close(weights, torch.tensor(oracle(module, learner, source, over, False), dtype=torch.float64))
    assert sum(p.numel() for p in module.parameters()) == (4 * (6 + 18) if projection == "per_layer" else 4 * (3 + 6))


@pytest.mark.parametrize("over", ["learner", "source", "all"])
def test_within_one_network_shallower_layers_are_masked_before_the_softmax(over: str) -> None:
    learner = seen(3, 3, 3)
    module = build(learner, learner, own=True, softmax_over=over)
    weights = module(learner, learner)
    torch.testing.assert_close(weights, torch.tensor(oracle(module, learner, learner, over, True), dtype=torch.float64))
    assert not weights.tril().any()


def test_layers_of_unequal_width() -> None:
    learner, source = seen(2, 5), seen(7, 3)
    module = build(learner, source)
    expected = oracle(module, learner, source, "learner", False)
    torch.testing.assert_close(module(learner, source), torch.tensor(expected, dtype=torch.float64))
    assert not module.learner_projection.weight[0, :, 2:].any()  # what a narrow layer does not have stays out


def test_one_projection_cannot_serve_unequal_widths() -> None:
    with pytest.raises(UserError, match=r"kd_attention\.projection: shared.*learner's.*2, 5.*per_layer"):
        build(seen(2, 5), seen(3, 3), projection="shared")


@pytest.mark.parametrize("over", ["learner", "source", "all"])
def test_weights_sum_to_one_and_spread_as_named(over: str) -> None:
    learner, source = seen(3, 3), seen(3, 3, 3)
    weights = build(learner, source, softmax_over=over)(learner, source)
    torch.testing.assert_close(weights.sum().item(), 1.0)
    if over == "learner":  # each source layer spreads a mass of 1, of K together
        torch.testing.assert_close(weights.sum(0), torch.full((3,), 1 / 3, dtype=torch.float64))
    if over == "source":
        torch.testing.assert_close(weights.sum(1), torch.full((2,), 1 / 2, dtype=torch.float64))


def test_one_layer_has_nothing_to_learn_from_itself() -> None:
    learner = seen(3, grad=True)
    weights = build(learner, learner, own=True)(learner, learner)
    assert weights.tolist() == [[0.0]]
    weights.sum().backward()
    assert torch.isfinite(learner.hidden["layer"][0].grad).all()


def test_gradcheck() -> None:
    source = seen(3, 3, 3)
    module = build(seen(4, 4), source)

    def value(first: Tensor, second: Tensor) -> Tensor:
        return module(Observation(first, {"layer": (first, second)}, empty()), source)

    states = [torch.randn(NODES, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(value, states)


def test_no_gradient_reaches_the_source() -> None:
    learner, source = seen(3, 3, grad=True), seen(3, 3, grad=True)
    module = build(learner, source)
    module(learner, source)[0, 0].backward()
    assert all(states.grad is None for states in source.hidden["layer"])
    assert all(states.grad is not None and states.grad.any() for states in learner.hidden["layer"])
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_detached_map_is_trained_but_does_not_steer() -> None:
    learner, source = seen(3, 3, grad=True), seen(3, 3)
    module = build(learner, source, detach=True)
    module(learner, source)[0, 0].backward()
    assert all(states.grad is None for states in learner.hidden["layer"])
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_frozen_map_keeps_its_projections_and_still_steers() -> None:
    learner, source = seen(3, 3, grad=True), seen(3, 3)
    module = build(learner, source, frozen=True)
    module(learner, source)[0, 0].backward()
    assert not any(p.requires_grad for p in module.parameters())
    assert all(states.grad.any() for states in learner.hidden["layer"])


def test_permuting_nodes_changes_nothing() -> None:
    learner, source = seen(3, 3), seen(3, 3, 3)
    module = build(learner, source)
    order = torch.randperm(NODES)
    moved = [
        Observation(side.logits[order], {"layer": tuple(h[order] for h in side.hidden["layer"])}, empty())
        for side in (learner, source)
    ]
    torch.testing.assert_close(module(*moved), module(learner, source))


def test_a_frozen_teachers_observation_does_not_keep_trained_projections() -> None:
    source = seen(3, 3)
    module = build(seen(3, 3), source)
    learner = seen(3, 3)
    module(learner, source)
    with torch.no_grad():
        module.source_projection.weight.mul_(-3)
    again = Observation(learner.logits, learner.hidden, learner.graph)
    expected = torch.tensor(oracle(module, learner, source, "learner", False), dtype=torch.float64)
    torch.testing.assert_close(module(again, source), expected)


def test_entropy_of_uniform_and_settled_maps() -> None:
    learner, source = seen(3, 3, 3, 3), seen(3, 3)
    module = build(learner, source)
    with pytest.raises(RuntimeError, match="not been computed"):
        module.entropy()
    with torch.no_grad():
        module.learner_projection.weight.zero_()
    module(learner, source)
    assert module.entropy() == pytest.approx(math.log(4))
    module = build(learner, source, softmax_over="all")
    with torch.no_grad():
        module.learner_projection.weight.zero_()
    module(learner, source)
    assert module.entropy() == pytest.approx(math.log(8))
    module = build(learner, learner, own=True, softmax_over="source")
    with torch.no_grad():
        module.learner_projection.weight.zero_()
    module(learner, learner)
    assert module.entropy() == pytest.approx((math.log(3) + math.log(2) + math.log(1)) / 3)
    with torch.no_grad():
        module.learner_projection.weight.normal_(std=1e6)
    module(Observation(learner.logits, learner.hidden, learner.graph), learner)
    assert module.entropy() == pytest.approx(0.0, abs=1e-6)


def test_deep_teacher_of_64_layers() -> None:
    learner, source = seen(*[4] * 4, grad=True), seen(*[8] * 64)
    weights = build(learner, source)(learner, source)
    assert weights.shape == (4, 64)
    weights.square().sum().backward()
    assert all(torch.isfinite(states.grad).all() for states in learner.hidden["layer"])


def test_projections_begin_as_linear_layers_of_their_width() -> None:
    weight = build(seen(100, 4), seen(4), dim=2000).learner_projection.weight
    for layer, width in ((0, 100), (1, 4)):
        own = weight[layer, :, :width]
        assert own.abs().max() <= 1 / math.sqrt(width)
        assert own.std().item() == pytest.approx(1 / math.sqrt(3 * width), rel=0.05)
