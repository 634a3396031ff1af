"""What terms remember in an observation or a graph is told apart by everything that decides it.

Two groups of one configuration, two students and every layer read the same observations: a value must not depend on
who asked before.
"""

from __future__ import annotations

import itertools
from types import MappingProxyType
from typing import Any

import pytest
import torch

from gkd_plugin import plugins
from gkd_plugin.plan import GroupPlan
from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.knowledge.rows import node_mean, select
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

plugins.load()

NODES, TASK = ("all", "train", "unlabeled"), Task("node", "multiclass")
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "response": [{"nodes": nodes} for nodes in NODES],
    "feature": [
        {"tap": tap, "nodes": nodes, "pool": pool, "normalize": normalize}
        for tap, nodes, pool, normalize in itertools.product(("conv", "layer"), NODES, ("none", "mean"), ("none", "l2"))
    ],
    "structure": [
        {"tap": tap, "domain": domain, "self_loops": loops, **keys}
        for tap, domain, loops, keys in itertools.product(
            ("conv", "layer"),
            ("edges", "union", "train_edges", "all_pairs"),
            (False, True),
            (
                {},
                {"kernel_scale": 2.0},
                {"kernel_scale": "median"},
                {"kernel": "rbf", "kernel_scale": 2.0},
                {"normalize": "l2"},
                {"softmax_over": "out_edges"},
                {"distribution": "none", "divergence": "mse"},
            ),
        )
    ]
    + [
        {"domain": "all_pairs", "distribution": "none", "divergence": "mse", "non_edge_weight": factor}
        for factor in (0.0, 0.5)
    ],
}


def two_sides() -> tuple[Observation, Observation]:
    """A learner and a source on graphs of their own edges; equal numbers at every call."""
    random = torch.Generator().manual_seed(1)
    sides = []
    for _ in range(2):
        edges = torch.randint(0, 8, (2, 20), generator=random).unique(dim=1)
        graph = Graph(edges, 8, torch.tensor([True, True, False, True, False, False, True, False]))

        def states() -> tuple[torch.Tensor, ...]:
            return tuple(torch.randn(8, 3, generator=random, dtype=torch.float64) for _ in range(2))

        logits = torch.randn(8, 3, generator=random, dtype=torch.float64)
        sides.append(Observation(logits, {tap: states() for tap in ("conv", "layer")}, graph))
    return sides[0], sides[1]


def build(name: str, learner: Observation, source: Observation, keys: dict[str, Any]) -> Term:
    kind = axes.knowledge[name]
    values: dict[str, Any] = {key.name: key.default for key in kind.keys}
    values |= {"tap": "layer", "layer_map": "uniform", "layer_reduction": "sum", "source": "teacher"}
    values |= {"dim": 3} if name == "feature" else {}
    values |= keys
    if values.get("distribution") == "none":
        values.pop("softmax_over", None)
    group = GroupPlan(name, MappingProxyType(values))
    return kind(group, Outline.of(learner, 2), Outline.of(source, 2), TASK).double()


@pytest.mark.parametrize("name", VARIANTS)
def test_a_term_s_value_does_not_depend_on_who_read_the_observations_before(name: str) -> None:
    variants, weights = VARIANTS[name], torch.tensor([[0.2, 0.3], [0.1, 0.4]], dtype=torch.float64)

    def value(keys: dict[str, Any], learner: Observation, source: Observation) -> torch.Tensor:
        found = build(name, learner, source, keys)(learner, source, weights)
        assert isinstance(found, torch.Tensor)
        return found

    alone = [value(keys, *two_sides()) for keys in variants]
    assert len({round(float(each), 9) for each in alone}) > len(variants) / 2, "these keys decide nothing"
    for order in (range(len(variants)), range(len(variants) - 1, -1, -1)):
        learner, source = two_sides()
        for index in order:
            found = value(variants[index], learner, source)
            assert torch.equal(found, alone[index]), (variants[index], "after another")


def test_means_of_rows_are_those_of_their_tap_layer_and_nodes() -> None:
    seen, _ = two_sides()
    for _ in range(2):
        for tap, layer, nodes in itertools.product(("conv", "layer"), (1, 2), NODES):
            index = select(seen.graph, nodes, "kd_feature.nodes")
            mask = seen.graph.train_mask
            assert mask is not None
            wanted = {"all": range(8), "train": mask.nonzero().view(-1), "unlabeled": (~mask).nonzero().view(-1)}
            rows = [seen.hidden[tap][layer - 1][int(node)].tolist() for node in wanted[nodes]]
            by_hand = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
            assert node_mean(seen, tap, layer, nodes, index).tolist() == pytest.approx(by_hand)
