"""The structure term by loops over nodes and pairs in float64, and what its tests need to build one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import torch
from torch import Tensor

from gkd_plugin.plan import GroupPlan
from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.structure import StructureTerm
from gkd_plugin.space.observation import Graph, Observation, Outline, Task
from tests.space.kernel_oracles import distance, formula_of

DIVERGENCES = ("kl_source_learner", "kl_learner_source", "js", "mse")
REDUCTIONS = ("node_mean", "pair_mean", "sum")
DOMAINS = ("edges", "union", "all_pairs", "train_edges")
ODD_PAIRS = [(0, 1), (1, 0), (1, 2), (2, 1), (3, 1), (3, 1), (2, 2), (0, 3), (1, 3), (4, 4)]  # node 5 is isolated
OTHER_PAIRS = [(1, 0), (5, 2), (4, 2), (4, 2), (0, 1), (3, 3)]
MASK = [True, True, False, True, True, False]
OUTLINE = Outline(1, {"conv": (3,)}, 2)
TASK = Task("node", "multiclass")
Matrix = list[list[float]]


def term(**keys: Any) -> StructureTerm:
    """The term under the given keys, the others decided as the configuration does."""
    values: dict[str, Any] = {key.name: key.default for key in StructureTerm.keys}
    values.update(
        {"weight": 1.0, "source": "peers", "layer_map": "one_to_one", "layer_reduction": "sum", "tap": "conv"}
    )
    values.update(keys)
    dropped = [key.name for key in StructureTerm.keys if key.unless and key.unless(values)]
    assert not set(dropped) & set(keys), dropped
    kept = {name: value for name, value in values.items() if name not in dropped}
    return StructureTerm(GroupPlan("structure", kept), OUTLINE, OUTLINE, TASK)


def seen(graph: Graph, *layers: Tensor) -> Observation:
    return Observation(torch.zeros(graph.num_nodes, 2, dtype=layers[0].dtype), {"conv": tuple(layers)}, graph)


def graph_of(pairs: Sequence[tuple[int, int]], nodes: int, mask: Sequence[bool] | None = None) -> Graph:
    index = torch.tensor(list(pairs), dtype=torch.long).view(-1, 2).t().contiguous()
    return Graph(index, nodes, None if mask is None else torch.tensor(mask))


def unsymmetric(x: Tensor, y: Tensor, scale: Any) -> Tensor:
    return torch.sin(2 * x[:, 0] - y.sum(-1))


def kernel_value(name: str, x: list[float], y: list[float], s: float | None) -> float:
    """Ours by their formulas, and the one that only tests have."""
    return math.sin(2 * x[0] - sum(y)) if name == "unsymmetric" else formula_of(name)(x, y, s)


def normalized(rows: Matrix, how: str) -> Matrix:
    if how == "l2":
        lengths = [math.sqrt(sum(a * a for a in row)) or 1.0 for row in rows]
        return [[a / length for a in row] for row, length in zip(rows, lengths, strict=True)]
    if how == "batchnorm":
        columns = []
        for column in zip(*rows, strict=True):
            mean = sum(column) / len(column)
            deviation = math.sqrt(sum((a - mean) ** 2 for a in column) / len(column) + 1e-5)
            columns.append([(a - mean) / deviation for a in column])
        return [list(row) for row in zip(*columns, strict=True)]
    return rows


def compared_pairs(
    keys: Mapping[str, Any], learner: Graph, source: Graph, nodes: Sequence[int] | None
) -> list[tuple[int, int]]:
    """The directed pairs u -> v of the domain, as a plain list."""
    loops = keys["self_loops"]
    own, theirs = ([(u, v) for u, v in g.edge_index.t().tolist() if u != v] for g in (learner, source))
    every = [(v, v) for v in range(learner.num_nodes)] if loops else []
    if keys["domain"] == "union":
        return sorted(set(own) | set(theirs)) + every
    if keys["domain"] == "train_edges":
        mask = [True] * learner.num_nodes if learner.train_mask is None else learner.train_mask.tolist()
        return [(u, v) for u, v in own + every if mask[u] and mask[v]]
    if keys["domain"] == "all_pairs":
        names = range(learner.num_nodes) if nodes is None else nodes
        return [(u, v) for u in names for v in names if loops or u != v]
    return own + every


def oracle(
    group: GroupPlan,
    learner: tuple[Matrix, Graph],
    source: tuple[Matrix, Graph],
    nodes: Sequence[int] | None = None,
) -> float:
    """The distance of two layers by loops over nodes and pairs."""
    keys, count = group.values, learner[1].num_nodes
    pairs = compared_pairs(keys, learner[1], source[1], nodes)
    sides: list[list[float]] = []
    for rows in (normalized(learner[0], keys["normalize"]), normalized(source[0], keys["normalize"])):
        s = keys.get("kernel_scale")
        if s == "median":
            norm = axes.kernels[keys["kernel"]].norm
            apart = [distance(rows[u], rows[v], norm) for u, v in pairs if u != v]
            s = (median(apart) or 1.0) if apart else 1.0
        values = [kernel_value(keys["kernel"], rows[u], rows[v], s) for u, v in pairs]
        if keys["distribution"] == "softmax":
            end = 1 if keys["softmax_over"] == "in_edges" else 0
            largest = {
                v: max(x for x, pair in zip(values, pairs, strict=True) if pair[end] == v)
                for v in {p[end] for p in pairs}
            }
            total = {v: 0.0 for v in largest}
            for x, pair in zip(values, pairs, strict=True):
                total[pair[end]] += math.exp(x - largest[pair[end]])
            values = [x - largest[p[end]] - math.log(total[p[end]]) for x, p in zip(values, pairs, strict=True)]
        sides.append(values)
    edges = set(map(tuple, learner[1].edge_index.t().tolist()))
    shares = [share(keys, a, b, pair in edges or pair[0] == pair[1]) for a, b, pair in zip(*sides, pairs, strict=True)]
    divisor = {"node_mean": count, "pair_mean": len(pairs), "sum": 1}[keys["reduction"]]
    return sum(shares) / max(divisor, 1)


def share(keys: Mapping[str, Any], own: float, target: float, is_edge: bool) -> float:
    """What one pair adds; arguments are logarithms of probabilities, or kernel values."""
    if keys["distribution"] == "none":
        factor = 1.0 if is_edge else keys.get("non_edge_weight", 1.0)
        return float((factor * (own - target)) ** 2)
    p, q = math.exp(own), math.exp(target)
    if keys["divergence"] == "mse":
        return (p - q) ** 2
    if keys["divergence"] == "kl_source_learner":
        return q * (target - own)
    if keys["divergence"] == "kl_learner_source":
        return p * (own - target)
    middle = (p + q) / 2
    return sum(0.5 * x * (math.log(x) - math.log(middle)) for x in (p, q) if x > 0)


def relational_oracle(group: GroupPlan, learner: tuple[Matrix, Graph], source: tuple[Matrix, Graph]) -> float:
    """``relations: each`` by loops: every relation as a graph of its own, the mean over those with a pair.

    With self-loops, a relation's nodes are those that take part in it. The median distance is that of all pairs.
    """
    keys, graph = group.values, learner[1]
    assert graph.edge_type is not None
    mask = [True] * graph.num_nodes if graph.train_mask is None else graph.train_mask.tolist()
    relations: dict[int, list[tuple[int, int]]] = {}
    for (u, v), kind in zip(graph.edge_index.t().tolist(), graph.edge_type.tolist(), strict=True):
        if u != v:
            relations.setdefault(kind, []).append((u, v))
    found = []
    for pairs in relations.values():
        loops = [(v, v) for v in sorted({v for pair in pairs for v in pair})] if keys["self_loops"] else []
        kept = [(u, v) for u, v in pairs + loops if keys["domain"] != "train_edges" or (mask[u] and mask[v])]
        if kept:
            alone = {**keys, "self_loops": False}
            # loops would be taken for self-loops of the graph, so each pair's value is computed here
            found.append(_one_relation(alone, kept, learner[0], source[0], graph.num_nodes))
    return sum(found) / max(len(found), 1)


def _one_relation(
    keys: Mapping[str, Any], pairs: list[tuple[int, int]], own: Matrix, theirs: Matrix, nodes: int
) -> float:
    end = 1 if keys.get("softmax_over") == "in_edges" else 0
    sides = []
    for rows in (normalized(own, keys["normalize"]), normalized(theirs, keys["normalize"])):
        values = [kernel_value(keys["kernel"], rows[u], rows[v], keys.get("kernel_scale")) for u, v in pairs]
        if keys["distribution"] == "softmax":
            total = {
                v: sum(math.exp(x) for x, p in zip(values, pairs, strict=True) if p[end] == v)
                for v in {p[end] for p in pairs}
            }
            values = [x - math.log(total[p[end]]) for x, p in zip(values, pairs, strict=True)]
        sides.append(values)
    shares = [share(keys, a, b, True) for a, b in zip(*sides, strict=True)]
    return sum(shares) / max({"node_mean": nodes, "pair_mean": len(pairs), "sum": 1}[keys["reduction"]], 1)
