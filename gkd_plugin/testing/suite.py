"""The tests that hold for every term; a class of three lines runs them on yours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from gkd_plugin import plugins
from gkd_plugin.config.kd_keys import keys_of
from gkd_plugin.config.resolve import resolve
from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan, Plan
from gkd_plugin.schema import BadValue, show
from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.observation import Observation, Outline, Task
from gkd_plugin.space.sources import is_within
from gkd_plugin.testing.toys import CLASSES, PLAIN, TOYS, Toy, leaf, observe, permuted, permuted_graph, tensors

TASK_TYPES = {"multiclass": "classification", "binary": "classification"}
STEPS = 10


@dataclass
class Comparison:
    """A term with its layer map, built as a run builds them.

    Args:
        term (Term): The term.
        layer_map (nn.Module or Tensor, optional): The learned map, or the weights of a fixed one.
    """

    term: Term
    layer_map: nn.Module | Tensor | None

    def weights(self, learner: Observation, source: Observation) -> Tensor | None:
        """The layer map's matrix for two observations."""
        if isinstance(self.layer_map, nn.Module):
            matrix: Tensor = self.layer_map(learner, source)
            return matrix
        return self.layer_map

    def parts(self, learner: Observation, source: Observation) -> dict[str, Tensor]:
        """The parts that count, by the key that weighs them."""
        found = self.term(learner, source, self.weights(learner, source))
        parts: dict[str, Tensor] = found if isinstance(found, dict) else {"weight": found}
        return {key: part for key, part in parts.items() if self.term.group.get(key)}

    def __call__(self, learner: Observation, source: Observation) -> Tensor:
        return torch.stack(list(self.parts(learner, source).values())).sum()


@contextmanager
def refusals(toy: Toy) -> Iterator[None]:
    """An odd graph may be refused, with a message for the user; a plain one may not."""
    try:
        yield
    except UserError as refusal:
        if toy is PLAIN:
            raise
        pytest.skip(f"refused: {refusal}")


class TermSuite:
    """The contract of a term. Subclass it in a test file, name the term, and run pytest:

    .. code-block:: python

        class TestEnergy(TermSuite):
            term = "energy"
            values = {"power": 2}

    Keys that are not named have their defaults; the configuration is resolved and checked as in a run.

    Attributes:
        term (str): The name of the knowledge.
        values (mapping): Keys of its group ``kd_<term>``; ``weight`` is 1 unless named.
        variants (mapping): Further values by name, each merged over ``values``: every check runs once for each.
        groups (mapping): Other groups of the configuration, such as ``kd`` or ``kd_attention``.
        task (Task): What is predicted.
        widths, source_widths (tuple of int): Width of every layer of the learner and of the source.
        plugin (Any): The plugin that registers the term, where it is not installed.
        zero_at_source (bool): Whether the value is 0 where the learner does what the source does.
        non_negative (bool): Whether the value is never below 0.
        draws (bool): Whether it draws nodes at random, so that their order matters and two values differ.
    """

    term: ClassVar[str]
    values: ClassVar[Mapping[str, Any]] = {}
    variants: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    groups: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    task: ClassVar[Task] = Task("node", "multiclass")
    widths: ClassVar[tuple[int, ...]] = (4, 4, 4)
    source_widths: ClassVar[tuple[int, ...]] = (4, 4, 4)
    plugin: ClassVar[Any] = None
    zero_at_source: ClassVar[bool] = True
    non_negative: ClassVar[bool] = True
    draws: ClassVar[bool] = False

    comparison: Comparison

    def oracle(self, learner: Observation, source: Observation, weights: Tensor | None) -> float:
        """The value from the equation by another way (loops, say), in float64; optional.

        Args:
            learner (Observation): The learner's side.
            source (Observation): The source's side.
            weights (Tensor, optional): The layer map's matrix; ``None`` for terms that compare no layers.

        ``self.comparison.term`` is the term with its parameters and its ``group`` of keys.
        """
        raise NotImplementedError

    # ------------------------------------------------------------------------------------------------------ set-up
    def __init_subclass__(cls) -> None:
        """A check that a class switches off is not one of its tests."""
        void = {
            "test_never_negative": not cls.non_negative,
            "test_the_order_of_nodes_means_nothing": cls.draws,
            "test_it_equals_the_oracle": cls.oracle is TermSuite.oracle,
        }
        for name, gone in void.items():
            if gone or getattr(cls, name) is None:
                setattr(cls, name, None if gone else getattr(TermSuite, name))

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Every check for each variant, and where it has ``toy`` on each graph."""
        if "case" in metafunc.fixturenames:
            cases = {name: {**self.values, **more} for name, more in (self.variants or {"values": {}}).items()}
            metafunc.parametrize("case", cases.values(), ids=list(cases))
        if "toy" in metafunc.fixturenames:
            metafunc.parametrize("toy", TOYS, ids=[toy.name for toy in TOYS])

    @pytest.fixture(autouse=True)
    def _surroundings(self) -> Iterator[None]:
        """Loads plugins and sets one seed; restores everything afterwards."""
        plugins.load()
        mine = self.plugin is not None and not plugins.manager.is_registered(self.plugin)
        name = plugins.register_plugin(self.plugin) if mine else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            yield
        if name is not None:
            plugins.unregister_plugin(name)

    def knowledge(self) -> type[Term]:
        """The registered class."""
        broken = [f"{plugin.name}: {plugin.error}" for plugin in plugins.loaded() if plugin.error]
        if self.term not in axes.knowledge and broken:
            pytest.fail(f"the knowledge '{self.term}' is not registered; disabled plugins: {'; '.join(broken)}")
        return axes.knowledge[self.term]

    def resolved(self, case: Mapping[str, Any]) -> Plan:
        """The plan that these keys make, with the real defaults and checks."""
        host = {
            "dataset": {"task": self.task.level, "task_type": TASK_TYPES.get(self.task.kind, self.task.kind)},
            "share": {"dim_out": 2 if self.task.kind == "binary" else CLASSES},
            "model": {"type": "gnn"},
            "gnn": {"layers_mp": len(self.widths)},
        }
        kd = {"teacher": "teacher", **self.groups.get("kd", {})}
        return resolve({**host, **self.groups, "kd": kd, f"kd_{self.term}": {"weight": 1, **case}})

    def compare(self, case: Mapping[str, Any], learner: Observation, source: Observation) -> Comparison:
        """The term and its layer map, built for two models."""
        knowledge, plan = self.knowledge(), self.resolved(case)
        group = plan.groups[self.term]
        ours, theirs = (Outline.of(seen, len(seen.hidden["layer"])) for seen in (learner, source))
        precision = learner.logits.dtype
        term = knowledge(group, ours, theirs, self.task).to(precision)
        layer_map: nn.Module | Tensor | None = None
        if knowledge.layered:
            answer, own = axes.layer_maps[group["layer_map"]], self.is_within(group)
            if answer.weights is not None:
                layer_map = answer.weights(ours.depth, theirs.depth, group.values, own)
            elif answer.module is not None:
                layer_map = answer.module(group.map_values, ours, theirs, str(group["tap"]), own).to(precision)
        self.comparison = Comparison(term, layer_map)
        return self.comparison

    def is_within(self, group: GroupPlan) -> bool:
        """Whether the learner itself is the source."""
        return "source" in group.values and is_within(str(group["source"]))

    def sides(
        self, case: Mapping[str, Any], toy: Toy = PLAIN, seed: int = 0, dtype: torch.dtype = torch.float64
    ) -> tuple[Observation, Observation]:
        """A learner that takes gradients and a source that does not; with source ``self`` the learner itself."""
        graph = toy.graph(self.task)
        learner = leaf(observe(graph, self.task, self.widths, 2 * seed, dtype))
        if self.is_within(self.resolved(case).groups[self.term]):
            return learner, learner.detached()
        return learner, observe(graph, self.task, self.source_widths, 2 * seed + 1, dtype)

    # ------------------------------------------------------------------------------------------------------ checks
    def test_it_says_what_it_is(self) -> None:
        knowledge = self.knowledge()
        assert issubclass(knowledge, Term)
        assert knowledge.name == self.term, f"name is {knowledge.name!r}; it is registered as {self.term!r}"
        for text in (knowledge.summary, knowledge.reference, knowledge.__doc__):
            assert text, "summary, reference (for gkd list) and a docstring are wanted"

    def test_every_key_is_described_and_accepted_at_its_default(self, case: Mapping[str, Any]) -> None:
        for key in keys_of(self.knowledge()):
            assert key.meaning and key.kind.describe(), f"{key.name}: one line for gkd list is missing"
            if key.default is not None:
                try:
                    found = key.kind.parse(show(key.default))
                except BadValue as refusal:
                    pytest.fail(f"{key.name}: the default {key.default!r} is refused. {refusal}")
                assert found == key.default, f"{key.name}: the default {key.default!r} is read as {found!r}"
        plan = self.resolved(case)
        again = self.resolved(plan.as_dict()[f"kd_{self.term}"])
        assert again.groups[self.term].values == plan.groups[self.term].values, (
            "written out, the keys mean another term"
        )

    def test_scalar_and_finite(self, case: Mapping[str, Any], toy: Toy) -> None:
        learner, source = self.sides(case, toy)
        with refusals(toy):
            parts = self.compare(case, learner, source).parts(learner, source)
        assert parts, "no part with a weight above 0"
        for key, value in parts.items():
            assert value.shape == (), f"{key}: the value has the shape {tuple(value.shape)}"
            assert torch.isfinite(value), f"{key}: the value is {value.item()}"
        self.require_finite_gradients(sum(parts.values(), learner.logits.new_zeros(())), learner)

    def test_single_precision_is_kept(self, case: Mapping[str, Any]) -> None:
        learner, source = self.sides(case, dtype=torch.float32)
        value = self.compare(case, learner, source)(learner, source)
        assert value.dtype == torch.float32 and torch.isfinite(value)

    def test_zero_where_the_learner_equals_the_source(self, case: Mapping[str, Any]) -> None:
        """All layers have the same states, so that it holds under every layer map."""
        learner, _ = self.sides(case)
        same = {tap: tuple(layers[0].detach().clone() for _ in layers) for tap, layers in learner.hidden.items()}
        learner = leaf(Observation(learner.logits, same, learner.graph, learner.labels))
        source = learner.detached()
        value = self.compare(case, learner, source)(learner, source)
        if self.zero_at_source:
            assert abs(value.item()) < 1e-9, f"{value.item()}; declare zero_at_source = False if that is meant"
        self.require_finite_gradients(value, learner)  # where distances are 0, roots have no slope

    def test_never_negative(self, case: Mapping[str, Any]) -> None:
        for seed in range(5):
            learner, source = self.sides(case, seed=seed)
            value = self.compare(case, learner, source)(learner, source).item()
            assert value > -1e-9, f"{value}; declare non_negative = False if that is meant"

    def test_nothing_flows_into_the_source(self, case: Mapping[str, Any]) -> None:
        learner, source = self.sides(case)
        source = leaf(source)
        self.compare(case, learner, source)(learner, source).backward()
        reached = [t for t in tensors(source) if t.grad is not None and bool(t.grad.any())]
        assert not reached, "a gradient reaches the source: detach what is read from it"

    def test_the_order_of_nodes_means_nothing(self, case: Mapping[str, Any]) -> None:
        learner, source = self.sides(case)
        compared = self.compare(case, learner, source)
        for _ in range(2):
            order = torch.randperm(learner.graph.num_nodes)
            graph = permuted_graph(learner.graph, order)
            value = compared(permuted(learner, order, graph), permuted(source, order, graph))
            torch.testing.assert_close(value, compared(learner, source), rtol=1e-9, atol=1e-12)

    def test_inputs_stay_as_they_are(self, case: Mapping[str, Any]) -> None:
        learner, source = self.sides(case)
        graph = learner.graph
        given = [*tensors(learner), *tensors(source), graph.edge_index, graph.train_mask, learner.labels]
        read = [tensor for tensor in given if tensor is not None]
        before = [tensor.detach().clone() for tensor in read]
        compared = self.compare(case, learner, source)
        first = compared(learner, source)
        second = compared(learner, source)
        (first + second).backward()
        for tensor, saved in zip(read, before, strict=True):
            assert torch.equal(tensor, saved), "an input was modified in place"
        if not self.draws:
            assert torch.equal(second, first), f"{first.item()}, then {second.item()}: declare draws = True if it draws"

    def test_ten_steps_lead_down(self, case: Mapping[str, Any]) -> None:
        learner, source = self.sides(case)
        compared = self.compare(case, learner, source)
        optimizer = torch.optim.Adam(tensors(learner), lr=0.05, eps=1e-14)

        def value() -> Tensor:
            torch.manual_seed(0)  # the same draw each time
            now = Observation(learner.logits, learner.hidden, learner.graph, learner.labels)
            return compared(now, source)

        assert value().requires_grad, "no gradient reaches the learner"
        before = value().item()
        for _ in range(STEPS):
            optimizer.zero_grad()
            value().backward()
            optimizer.step()
        after = value().item()
        assert after < before, f"{STEPS} steps lead from {before:g} to {after:g}"

    def test_it_equals_the_oracle(self, case: Mapping[str, Any], toy: Toy) -> None:
        learner, source = self.sides(case, toy)
        compared = self.compare(case, learner, source)
        with torch.no_grad(), refusals(toy):
            found = compared(learner, source).item()
            expected = self.oracle(learner.detached(), source.detached(), compared.weights(learner, source))
        assert found == pytest.approx(expected, rel=1e-8, abs=1e-10)

    def require_finite_gradients(self, value: Tensor, learner: Observation) -> None:
        """Gradients must be finite, also where distances are 0 and neighbours are missing."""
        if value.requires_grad:
            value.backward()
        for tensor in tensors(learner):
            assert tensor.grad is None or bool(torch.isfinite(tensor.grad).all()), "a gradient of the learner is NaN"
