"""The suite finds what it is meant to find: for each check a term that fails this one, and a sound one that passes."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import gkd_plugin
from gkd_plugin import hookimpl, plugins
from gkd_plugin.errors import ConfigError, UserError
from gkd_plugin.schema import Choice, Key, Number
from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.observation import Graph, Observation, Task
from gkd_plugin.testing import TOYS, TermSuite, observe, permuted, tensors
from gkd_plugin.testing.toys import PLAIN, permuted_graph


class Gap(Term):
    """The mean squared gap of first hidden states over edges and nodes: sound."""

    name: ClassVar[str] = "gap"
    summary: ClassVar[str] = "a gap"
    reference: ClassVar[str] = "a test"
    keys: ClassVar[tuple[Key, ...]] = (Key("power", 1.0, Number(above=True), "an exponent"),)

    def rows(self, seen: Observation) -> Tensor:
        return seen.layer("layer", 1)

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return ((self.rows(learner) - self.rows(source).detach()) ** 2).mean()


class GapSuite(TermSuite):
    term = "gap"

    def oracle(self, learner: Observation, source: Observation, weights: Tensor | None) -> float:
        pairs = zip(
            learner.layer("layer", 1).flatten().tolist(), source.layer("layer", 1).flatten().tolist(), strict=True
        )
        gaps = [(x - y) ** 2 for x, y in pairs]
        return sum(gaps) / len(gaps)


@pytest.fixture
def install() -> Iterator[Any]:
    def add(term: type[Term]) -> None:
        axes.knowledge.add("gap", term, "test_suite")

    yield add
    axes.knowledge.discard("test_suite")


def checks(suite: TermSuite) -> dict[str, Any]:
    return {name: check for name, check in inspect.getmembers(suite) if name.startswith("test_") and check is not None}


def failures(suite: TermSuite) -> set[str]:
    """The checks that fail, each on all graphs."""
    failed = set()
    for name, check in checks(suite).items():
        wanted = inspect.signature(check).parameters
        for toy in TOYS if "toy" in wanted else TOYS[:1]:
            arguments = {"case": {}, "toy": toy}
            try:
                check(**{key: arguments[key] for key in wanted})
            except (AssertionError, RuntimeError, UserError, pytest.fail.Exception):
                failed.add(name.removeprefix("test_"))
    return failed


class NoSummary(Gap):
    summary: ClassVar[str] = ""
    __doc__ = "No line for gkd list."


class OtherName(Gap):
    """Registered under another name than it says."""

    name: ClassVar[str] = "gab"


class NoMeaning(Gap):
    """A key that nobody explains."""

    keys: ClassVar[tuple[Key, ...]] = (Key("power", 1.0, Number(), ""),)


class RefusedDefault(Gap):
    """A default that the key's own kind refuses."""

    keys: ClassVar[tuple[Key, ...]] = (Key("mode", "none", Choice(("fast", "slow")), "speed"),)


class Vector(Gap):
    """One value per node."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return ((self.rows(learner) - self.rows(source).detach()) ** 2).sum(-1)


class NanWithoutEdges(Gap):
    """The mean over no edges."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        ends = learner.graph.edge_index[0]
        return ((self.rows(learner) - self.rows(source).detach())[ends] ** 2).mean()


class NanBesideIsolated(Gap):
    """Division by a degree of 0."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        degree = torch.bincount(learner.graph.edge_index[1], minlength=learner.graph.num_nodes)
        return (((self.rows(learner) - self.rows(source).detach()) ** 2).mean(-1) / degree).mean()


class NanWithOneNode(Gap):
    """The variance of one value."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return super().forward(learner, source) * (1 + 0 / (learner.graph.num_nodes - torch.ones(())))


class SteepRoot(Gap):
    """A root without care for its slope at 0."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return (self.rows(learner) - self.rows(source).detach()).square().sum(-1).sqrt().mean()


class Double(Gap):
    """Precision of its own."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return super().forward(learner, source).double()


class Offset(Gap):
    """Not 0 at the source."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return super().forward(learner, source) + 0.1


class Signed(Gap):
    """A difference that may be negative."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return (self.rows(learner) - self.rows(source).detach()).sum()


class Undetached(Gap):
    """The source is pulled as well."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return ((self.rows(learner) - self.rows(source)) ** 2).mean()


class Numbered(Gap):
    """Node numbers count."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        gaps = (self.rows(learner) - self.rows(source).detach()).square().mean(-1)
        return (gaps * torch.arange(1, gaps.numel() + 1)).mean()


class InPlace(Gap):
    """Rows of the source are normalised where they stand."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        with torch.no_grad():
            source.layer("layer", 1).mul_(0.5)
        return super().forward(learner, source)


class EdgesInPlace(Gap):
    """Edges are sorted where they stand."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        learner.graph.edge_index.copy_(learner.graph.edge_index.sort(dim=1).values)
        return super().forward(learner, source)


class Drawn(Gap):
    """Half of the nodes, drawn each time, and not declared."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        count = learner.graph.num_nodes
        index = torch.randperm(count)[: (count + 1) // 2]
        return ((self.rows(learner) - self.rows(source).detach())[index] ** 2).mean()


class WrongSlope(Gap):
    """The right value with the opposite gradient."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        value = super().forward(learner, source)
        return 2 * value.detach() - value


class Unheard(Gap):
    """The learner is detached too."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return super().forward(learner.detached(), source)


class Half(Gap):
    """Another reduction than the equation's."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return super().forward(learner, source) / 2


class UnknownPart(Gap):
    """A part that no key of the group weighs."""

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> Any:
        return {"wieght": super().forward(learner, source)}


NAN, ORACLE, ZERO = "scalar_and_finite", "it_equals_the_oracle", "zero_where_the_learner_equals_the_source"
ORDER, INPUTS, DOWN = "the_order_of_nodes_means_nothing", "inputs_stay_as_they_are", "ten_steps_lead_down"
KEYS, FLOW = "every_key_is_described_and_accepted_at_its_default", "nothing_flows_into_the_source"


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        (OtherName, {"it_says_what_it_is"}),
        (NoMeaning, {KEYS}),
        (RefusedDefault, {KEYS}),
        (NanWithoutEdges, {NAN, ORACLE}),
        (NanBesideIsolated, {NAN, ORACLE}),
        (NanWithOneNode, {NAN, ORACLE}),
        (SteepRoot, {ZERO, ORACLE}),
        (Double, {"single_precision_is_kept"}),
        (Offset, {ZERO, ORACLE}),
        (Signed, {"never_negative", ORACLE}),
        (Undetached, {FLOW}),
        (Numbered, {ORDER, ORACLE}),
        (InPlace, {INPUTS}),
        (EdgesInPlace, {INPUTS}),
        (Drawn, {ORDER, INPUTS, ORACLE}),
        (WrongSlope, {DOWN}),
        (Unheard, {DOWN}),
        (Half, {ORACLE}),
    ],
)
def test_each_mistake_is_found(install: Any, term: type[Term], expected: set[str]) -> None:
    install(term)
    found = failures(GapSuite())
    assert expected <= found
    assert found - expected <= {FLOW, ZERO, INPUTS, DOWN}, "more than what is wrong"


@pytest.mark.parametrize("term", [Vector, UnknownPart])
def test_what_is_no_value_fails(install: Any, term: type[Term]) -> None:
    install(term)
    assert NAN in failures(GapSuite())


def test_a_sound_term_passes_every_check(install: Any) -> None:
    install(Gap)
    assert failures(GapSuite()) == set()
    assert len(checks(GapSuite())) == 11


def test_what_is_declared_is_not_asked_for(install: Any) -> None:
    class Lax(TermSuite):
        term = "gap"
        zero_at_source = non_negative = False
        draws = True

    class Strict(Lax):
        non_negative = True
        draws = False
        oracle = GapSuite.oracle

    assert set(checks(GapSuite())) - set(checks(Lax())) == {
        f"test_{name}" for name in ("never_negative", ORDER, ORACLE)
    }
    assert set(checks(Strict())) == set(checks(GapSuite()))
    install(Drawn)
    assert failures(Lax()) == set()
    axes.knowledge.discard("test_suite")
    install(Offset)
    assert failures(Lax()) == set()


def test_a_wrong_value_is_the_configurations_message(install: Any) -> None:
    install(Gap)
    with pytest.raises(ConfigError, match=r"kd_gap.power: 0 is not allowed.*above 0"):
        GapSuite().test_scalar_and_finite({"power": 0}, PLAIN)


def test_a_term_that_is_not_there_names_the_disabled_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="'gap' is not registered"):
        GapSuite().knowledge()
    monkeypatch.setitem(plugins._loaded, "mine", plugins.Loaded("mine", "gkd-mine", "1", (), "ImportError: numba"))
    with pytest.raises(pytest.fail.Exception, match="disabled plugins: mine: ImportError: numba"):
        GapSuite().knowledge()


class Plugin:
    @hookimpl
    def gkd_register_knowledge(self, register: Any) -> None:
        register("gap", Gap)


class TestOneThatIsNotInstalled(GapSuite):
    """As a third party writes it before its package is installed."""

    plugin = Plugin()
    variants = {"one": {}, "two": {"power": 2, "source": "peers"}}


def test_its_plugin_is_gone_afterwards() -> None:
    assert "gap" not in axes.knowledge


@pytest.fixture(scope="class")
def _installed() -> Iterator[None]:
    name = gkd_plugin.register_plugin(TestOneThatIsNotInstalled.plugin)
    yield
    assert "gap" in axes.knowledge, "what was registered before stays"
    gkd_plugin.unregister_plugin(name)


@pytest.mark.usefixtures("_installed")
class TestOneThatIsInstalled(TestOneThatIsNotInstalled):
    """The suite finds the same plugin registered already."""


# ----------------------------------------------------------------------------------------------------------- toys
def test_toys_are_what_their_names_say() -> None:
    graphs = {toy.name: toy.graph(Task("node", "multiclass")) for toy in TOYS}
    assert all(graph.num_nodes <= 10 for graph in graphs.values())
    assert graphs["no_edges"].edge_index.shape == (2, 0)
    assert 4 not in graphs["isolated_node"].edge_index and graphs["isolated_node"].num_nodes == 5
    assert bool((graphs["self_loops"].edge_index[0] == graphs["self_loops"].edge_index[1]).any())
    assert graphs["one_node"].num_nodes == 1
    assert all(bool(graph.train_mask.any()) for graph in graphs.values())


@pytest.mark.parametrize(
    ("task", "shape"),
    [
        (Task("node", "multiclass"), (8, 3)),
        (Task("node", "binary"), (8,)),
        (Task("node", "regression"), (8, 1)),
        (Task("graph", "multilabel"), (2, 3)),
        (Task("edge", "binary"), (8,)),
    ],
)
def test_observations_have_the_tasks_shape(task: Task, shape: tuple[int, ...]) -> None:
    seen = observe(PLAIN.graph(task), task, (4, 2))
    assert tuple(seen.logits.shape) == shape and len(seen.labels) == shape[0]
    assert [tuple(states.shape) for states in seen.hidden["stage"]] == [(8, 4), (8, 2)]
    again = observe(PLAIN.graph(task), task, (4, 2))
    assert all(torch.equal(a, b) for a, b in zip(tensors(seen), tensors(again), strict=True))


def test_another_order_is_the_same_graph() -> None:
    task = Task("node", "multiclass")
    seen = observe(PLAIN.graph(task), task, (4,))
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    graph = permuted_graph(seen.graph, order)
    other = permuted(seen, order, graph)

    def facts(seen: Observation, graph: Graph) -> set[Any]:
        """Edges as pairs of what the two nodes hold."""
        rows = [tuple(row) for row in torch.cat([seen.layer("conv", 1), seen.logits], dim=1).tolist()]
        marks = [(rows[v], bool(graph.train_mask[v]), int(seen.labels[v])) for v in range(graph.num_nodes)]
        return {(marks[u], marks[v]) for u, v in graph.edge_index.t().tolist()}

    assert facts(other, graph) == facts(seen, seen.graph)
    assert not torch.equal(graph.edge_index, seen.graph.edge_index)
