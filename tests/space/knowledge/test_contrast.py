"""Knowledge ``contrast`` against loops written from its equation, in float64."""

from __future__ import annotations

import math
from types import MappingProxyType

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.contrast import ContrastTerm, info_nce
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

NODES = 7


def seen(*widths: int, nodes: int = NODES, grad: bool = False) -> Observation:
    states = tuple(torch.randn(nodes, width, dtype=torch.float64, requires_grad=grad) for width in widths)
    graph = Graph(torch.empty(2, 0, dtype=torch.long), nodes)
    return Observation(torch.randn(nodes, 2, dtype=torch.float64, requires_grad=grad), {"layer": states}, graph)


def build(learner: Observation, source: Observation, /, **values: object) -> ContrastTerm:
    keys = {key.name: key.default for key in ContrastTerm.keys}
    keys |= {"tap": "layer", "layer_map": "uniform", "layer_reduction": "sum", "source": "teacher", "dim": 3} | values
    learned = {"subspace": keys.pop("subspace")} if "subspace" in keys else {}
    learned = learned if keys["layer_map"] == "attention" else {}
    outlines = [Outline.of(side, len(side.hidden["layer"])) for side in (learner, source)]
    return ContrastTerm(
        GroupPlan("contrast", MappingProxyType(keys), map_values=learned), *outlines, Task("node", "multiclass")
    ).double()


def oracle(x: list[list[float]], y: list[list[float]], tau: float) -> float:
    """-1/n sum_v log of the softmax over the source's rows, at v, of rows of length 1."""
    x, y = ([[a / (math.sqrt(sum(b * b for b in row)) or 1) for a in row] for row in rows] for rows in (x, y))
    total = 0.0
    for v, row in enumerate(x):
        scores = [sum(a * b for a, b in zip(row, other, strict=True)) / tau for other in y]
        total += math.log(sum(math.exp(s) for s in scores)) - scores[v]
    return total / len(x)


def unit(*shape: int) -> Tensor:
    return functional.normalize(torch.randn(*shape, dtype=torch.float64), dim=-1)


@pytest.mark.parametrize("tau", [0.075, 1.0])
def test_unprojected_rows_agree_with_loops(tau: float) -> None:
    learner, source = seen(4, 4), seen(4)
    weights = torch.tensor([[0.3], [2.0]], dtype=torch.float64)
    value = build(learner, source, projector="none", temperature=tau)(learner, source, weights)
    (goal,) = source.hidden["layer"]
    expected = sum(
        w * oracle(x.tolist(), goal.tolist(), tau) for w, x in zip((0.3, 2.0), learner.hidden["layer"], strict=True)
    )
    assert value.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("projector", ["linear", "linear_bn_relu"])
def test_both_sides_are_projected(projector: str) -> None:
    learner, source = seen(4), seen(6)
    term = build(learner, source, projector=projector)
    sides = []
    for module, side in ((term.projectors.learner["1"], learner), (term.projectors.source["1"], source)):
        rows = side.hidden["layer"][0] @ module.linear.weight.T + module.linear.bias
        if projector == "linear_bn_relu":
            rows = ((rows - rows.mean(0)) / (rows.var(0, unbiased=False) + 1e-5).sqrt()).clamp(min=0)
        sides.append(rows.tolist())
    assert term(learner, source, torch.ones(1, 1)).item() == pytest.approx(oracle(*sides, 0.075), rel=1e-8)


def test_subspace_map_of_a_learned_layer_map() -> None:
    learner, source = seen(4), seen(6)
    term = build(learner, source, projector="linear", layer_map="attention", subspace=True)
    assert term.subspace is not None
    assert tuple(term.subspace.weight.shape) == (3, 3)
    sides = [
        (module.linear(side.hidden["layer"][0]) @ term.subspace.weight.T).tolist()
        for module, side in ((term.projectors.learner["1"], learner), (term.projectors.source["1"], source))
    ]
    assert term(learner, source, torch.ones(1, 1)).item() == pytest.approx(oracle(*sides, 0.075), rel=1e-8)


@pytest.mark.parametrize("block", [1, 9, 10, 30, 10**6])
def test_blocks_equal_the_dense_matrix_in_value_and_gradient(block: int) -> None:
    rows, targets = (unit(10, 4).requires_grad_() for _ in range(2))
    dense = functional.cross_entropy(rows @ targets.T / 0.1, torch.arange(10))
    expected = torch.autograd.grad(dense, (rows, targets))
    value = info_nce(rows, targets[None], 0.1, block).squeeze(0)
    torch.testing.assert_close(value, dense)
    for found, goal in zip(torch.autograd.grad(value, (rows, targets)), expected, strict=True):
        torch.testing.assert_close(found, goal)


@pytest.mark.parametrize("block", [1, 30, 200, 10**6])
def test_several_sources_at_once_equal_each_alone(block: int) -> None:
    rows, targets = unit(10, 4).requires_grad_(), unit(30, 4).view(3, 10, 4).requires_grad_()
    alone = torch.stack([functional.cross_entropy(rows @ t.T / 0.1, torch.arange(10)) for t in targets])
    weights = torch.tensor([1.0, -2.0, 0.5], dtype=rows.dtype)
    expected = torch.autograd.grad(alone @ weights, (rows, targets))
    together = info_nce(rows, targets, 0.1, block)
    torch.testing.assert_close(together, alone)
    for found, goal in zip(torch.autograd.grad(together @ weights, (rows, targets)), expected, strict=True):
        torch.testing.assert_close(found, goal)


def saved(compute: object, *inputs: Tensor) -> int:
    """The largest tensor that autograd keeps for the backward pass."""
    sizes = [0]

    def pack(tensor: Tensor) -> Tensor:
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        compute(*inputs)
    return max(sizes)


def test_memory_does_not_grow_with_the_square_of_the_nodes() -> None:
    rows, targets = (unit(64, 4).requires_grad_() for _ in range(2))
    assert saved(lambda x, y: functional.cross_entropy(x @ y.T / 0.1, torch.arange(64)), rows, targets) == 64 * 64
    for count in (1, 5):
        several = targets.detach().expand(count, -1, -1).clone().requires_grad_()
        assert saved(lambda x, y: info_nce(x, y, 0.1, 16 * 64), rows, several) <= count * 64 * 4


def test_gradcheck() -> None:
    source = seen(4)
    term = build(seen(4), source, temperature=0.5)

    def value(states: Tensor) -> Tensor:
        return term(Observation(states, {"layer": (states,)}, source.graph), source, torch.ones(1, 1))

    assert torch.autograd.gradcheck(value, [torch.randn(NODES, 4, dtype=torch.float64, requires_grad=True)])


def test_no_gradient_reaches_the_source() -> None:
    learner, source = seen(4, grad=True), seen(5, grad=True)
    term = build(learner, source)
    term(learner, source, torch.ones(1, 1)).backward()
    assert source.hidden["layer"][0].grad is None
    assert learner.hidden["layer"][0].grad.any()
    assert all(parameter.grad.any() for name, parameter in term.named_parameters() if "bias" not in name)


def test_a_network_teaches_itself_without_moving_its_last_layer() -> None:
    learner = seen(4, 4, grad=True)
    term = build(learner, learner, source="self", layer_map="last")
    term(learner, learner, torch.tensor([[0.0, 1], [0, 0]])).backward()
    assert learner.hidden["layer"][0].grad.any()
    assert learner.hidden["layer"][1].grad is None


def test_one_draw_for_both_sides_and_all_layer_pairs() -> None:
    learner, source = seen(4, 4), seen(4, 4)
    term = build(learner, source, projector="none", samples=3)
    weights = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
    value = term(learner, source, weights)
    index = term.draw(learner)
    assert index is not None
    assert len(set(index.tolist())) == 3
    expected = sum(
        weights[i, j].item()
        * oracle(learner.layer("layer", i + 1)[index].tolist(), source.layer("layer", j + 1)[index].tolist(), 0.075)
        for i, j in ((0, 0), (0, 1), (1, 1))
    )
    assert value.item() == pytest.approx(expected, rel=1e-8)
    other = build(learner, source, projector="none", samples=3)  # another peer, the same step
    assert torch.equal(other.draw(learner), index)


def test_every_step_draws_anew_and_every_node_is_drawn() -> None:
    term = build(seen(4), seen(4), samples=3)
    draws = [frozenset(term.draw(seen(4)).tolist()) for _ in range(60)]
    assert len(set(draws)) > 1
    assert frozenset().union(*draws) == frozenset(range(NODES))
    assert build(seen(4), seen(4), samples=NODES).draw(seen(4)) is None


def test_permuting_nodes_changes_nothing_and_inputs_stay() -> None:
    learner, source = seen(4), seen(5)
    before = [h.clone() for side in (learner, source) for h in side.hidden["layer"]]
    term = build(learner, source)
    value = term(learner, source, torch.ones(1, 1))
    assert all(
        torch.equal(a, b) for a, b in zip(before, (learner.layer("layer", 1), source.layer("layer", 1)), strict=True)
    )
    order = torch.randperm(NODES)
    moved = [Observation(s.logits[order], {"layer": (s.layer("layer", 1)[order],)}, s.graph) for s in (learner, source)]
    torch.testing.assert_close(term(*moved, torch.ones(1, 1)), value)


def test_rows_that_find_themselves_cost_less_than_rows_that_do_not() -> None:
    rows = unit(NODES, 16)
    assert info_nce(rows, rows[None], 0.075) < 0.1 < math.log(NODES) < info_nce(rows, rows.roll(1, 0)[None], 0.075)
    same = unit(1, 16).expand(NODES, 16)
    assert info_nce(same, same[None], 0.075).item() == pytest.approx(math.log(NODES))


@pytest.mark.parametrize("projector", ["none", "linear", "linear_bn_relu"])
def test_one_node_is_zero(projector: str) -> None:
    learner, source = seen(4, nodes=1, grad=True), seen(4, nodes=1)
    value = build(learner, source, projector=projector)(learner, source, torch.ones(1, 1))
    value.backward()
    assert value.item() == 0


@given(
    st.integers(1, 4),
    st.integers(1, 2),
    st.sampled_from(["none", "linear", "linear_bn_relu"]),
    st.integers(1, 4),
    st.booleans(),
)
def test_odd_graphs_give_finite_values_and_gradients(
    nodes: int, width: int, projector: str, samples: int, zero: bool
) -> None:
    learner, source = seen(width, nodes=nodes, grad=True), seen(width, nodes=nodes)
    if zero:
        learner.hidden["layer"][0].data.zero_()
    value = build(learner, source, projector=projector, samples=samples)(learner, source, torch.ones(1, 1))
    (value + learner.hidden["layer"][0].sum()).backward()
    assert torch.isfinite(value)
    assert value >= -1e-12
    assert torch.isfinite(learner.hidden["layer"][0].grad).all()


def test_unequal_widths_without_projector() -> None:
    with pytest.raises(
        UserError, match=r"kd_contrast\.projector: none.*learner layer 1 has width 4 and source layer 1 has 5"
    ):
        build(seen(4), seen(5), projector="none")


def test_dim_needs_a_projector() -> None:
    (key,) = [key for key in ContrastTerm.keys if key.name == "dim"]
    assert key.unless is not None
    assert key.unless({"projector": "none"})
    assert key.unless({"projector": "linear"}) is None
    assert key.unless({}) is None


def test_ten_steps_bring_the_sides_together() -> None:
    learner, source = seen(4, grad=True), seen(4)
    term = build(learner, source, projector="linear")
    states = learner.hidden["layer"][0]
    optimizer = torch.optim.Adam([states, *term.parameters()], lr=0.05)
    values = []
    for _ in range(10):
        fresh = Observation(learner.logits, {"layer": (states,)}, learner.graph)
        value = term(fresh, source, torch.ones(1, 1))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < 0.8 * values[0]


@pytest.mark.parametrize(("ours", "theirs"), [(9, 12), (12, 9)])
@pytest.mark.parametrize("samples", [4, 100])
def test_a_source_of_other_nodes_is_refused(ours: int, theirs: int, samples: int) -> None:
    learner, source = seen(4, nodes=ours), seen(4, nodes=theirs)
    with pytest.raises(UserError, match=f"hidden states of {theirs} nodes, the student of {ours}"):
        build(learner, source, samples=samples)(learner, source, torch.ones(1, 1))
