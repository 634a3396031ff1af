"""Knowledge ``auxiliary``: classifiers on hidden layers, supervised by labels and, if wanted, by soft targets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch_geometric.graphgym import register
from torch_geometric.nn import GCNConv

from gkd_plugin import host
from gkd_plugin.ops.oversmoothing import Links, dirichlet_energy, mad
from gkd_plugin.plan import MARKED, GroupPlan, Part
from gkd_plugin.schema import Choice, Key, Number, show
from gkd_plugin.space import axes
from gkd_plugin.space.knowledge.base import Judged, Symbols, Term
from gkd_plugin.space.knowledge.response import LOSS_BY_TASK, make_goal, response_loss
from gkd_plugin.space.knowledge.rows import select
from gkd_plugin.space.observation import Graph, Observation, Outline, Task


class Head(nn.Module):
    """One auxiliary classifier, ending in the host's read-out of the task.

    Args:
        kind (str): ``linear``; ``mlp`` (one hidden layer of the same width, ReLU); ``gnn`` (one GCN convolution).
        width (int): Width of the layer it reads.
        dim_out (int): Logits per item.
        level (str): ``node``, ``graph`` (pooled before the last map, unless the network itself answers for nodes) or
            ``edge`` (dot product of both ends).
    """

    def __init__(self, kind: str, width: int, dim_out: int, level: str) -> None:
        super().__init__()
        self.level = level
        out = width if level == "edge" else dim_out
        self.convolution = GCNConv(width, width if level == "graph" else out) if kind == "gnn" else None
        self.map: nn.Module = nn.Identity()
        if kind == "linear":
            self.map = nn.Linear(width, out)
        elif kind == "mlp":
            self.map = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))
        elif level == "graph":
            self.map = nn.Linear(width, out)

    def forward(self, states: Tensor, seen: Observation, layer: int) -> Tensor:
        """The head's logits for every item of the observation, from one layer's states, in the shape of the network's own."""
        if self.convolution is not None:
            states = self.convolution(states, seen.graph_of(layer).edge_index)
        # node labels on many graphs are a task on graphs to the host, under a head that answers for every node
        if self.level == "graph" and len(seen.logits) != seen.graph.num_nodes:
            pool = register.pooling_dict[host.cfg.model.graph_pooling]
            states = pool(states, seen.graph.batch)
        rows: Tensor = self.map(states)
        if self.level == "edge":
            assert seen.graph.pairs is not None
            ends = rows[seen.graph.pairs]
            rows = (ends[0] * ends[1]).sum(-1)
        return rows.view(seen.logits.shape)


class AuxiliaryTerm(Term):
    r"""Deep supervision by auxiliary classifiers, from the `"Alignahead++" <https://arxiv.org/abs/2210.13743>`_ and
    `"Be Your Own Teacher" <https://arxiv.org/abs/1905.08094>`_ papers.

    With :math:`H` heads :math:`c_l` on layers :math:`\mathbf{h}_l` (tap ``layer``) and factors :math:`g_l` (1, or
    :math:`2l/(H+1)` where ``growth: increasing``, :math:`l` counting the heads), the two parts are

    .. math::
        \sum_{l} g_l \, \mathcal{L}_{\mathrm{task}}(c_l(\mathbf{h}_l), y) \qquad \text{and} \qquad
        \sum_{l} g_l \, \mathcal{L}_{\mathrm{resp}}(c_l(\mathbf{h}_l), \mathbf{z}),

    the first on labelled items with ``weight``, the second on all items with ``soft_weight``, where :math:`\mathbf{z}`
    are the learner's own final logits (detached) or another source's, compared as in ``kd_response``.
    ``layer_reduction: mean`` divides both by :math:`\sum_l g_l`, so that a weight means the same at every depth; ``sum``
    is as published. Heads stand outside the
    network: its parameters, budget and state dict are the plain ones, and heads are dropped at inference.

    Args:
        group (GroupPlan): The resolved ``kd_auxiliary`` group; ``layers`` may also be a tuple of marked layers.
        learner (Outline): Depth and widths of the learner.
        source (Outline): Unused; heads have the learner's own classes.
        task (Task): Decides the read-out and the loss.

    Shapes:
        - **input:** two observations of the same items
        - **output:** ``{"weight": scalar, "soft_weight": scalar}``, the second only where ``soft_weight`` is above 0

    .. code-block:: yaml

        kd_auxiliary: {weight: 0.3, head: linear, layers: all_but_last, growth: increasing}
    """

    name: ClassVar[str] = "auxiliary"
    summary: ClassVar[str] = "label loss (and soft targets) of heads on hidden layers: deep supervision"
    reference: ClassVar[str] = "Alignahead++ (arXiv 2210.13743), BYOT (arXiv 1905.08094)"
    keys: ClassVar[tuple[Key, ...]] = (
        Key("head", "linear", Choice(("linear", "mlp", "gnn")), "what a head is made of"),
        Key("layers", "all", Choice(("all", "all_but_last")), "which layers carry a head; wins over marks"),
        Key("layer_reduction", "sum", Choice(("sum", "mean")), "mean: a weight means the same at every depth"),
        Key("growth", "uniform", Choice(("uniform", "increasing")), "weights equal, or growing with depth (mean 1)"),
        Key("soft_weight", 0.0, Number(), "absolute weight of soft targets, on all nodes"),
        Key(
            "soft_source",
            "self",
            Choice(lambda: tuple(axes.sources)),
            "own final logits (detached), or another source's",
        ),
        Key("temperature", 1.0, Number(above=True), "softens the soft targets"),
    )
    parts: ClassVar[tuple[Part, ...]] = (Part("weight", None), Part("soft_weight", "soft_source"))
    per_source: ClassVar[bool] = False
    evaluated_taps: ClassVar[tuple[str, ...]] = ("layer",)
    marked: ClassVar[Mapping[str, Any]] = {"layers": MARKED, "weight": 0.3}

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__(group, learner, source, task)
        chosen = group["layers"]
        last = {"all": learner.depth, MARKED: learner.depth, "all_but_last": learner.depth - 1}
        self.layers = tuple(range(1, last[chosen] + 1)) if isinstance(chosen, str) else tuple(chosen)
        widths = learner.widths["layer"]
        self.heads = nn.ModuleDict(
            {str(n): Head(str(group["head"]), widths[n - 1], learner.dim_out, task.level) for n in self.layers}
        )
        count = len(self.layers)
        growing = group["growth"] == "increasing"
        self.factors = {n: 2 * i / (count + 1) if growing else 1.0 for i, n in enumerate(self.layers, 1)}
        self.mass = sum(self.factors.values()) if group.get("layer_reduction") == "mean" and self.layers else 1.0

    @classmethod
    def source_taps(cls, group: GroupPlan) -> tuple[str, ...]:
        return ()  # soft targets are logits

    @classmethod
    def taps(cls, group: GroupPlan) -> tuple[str, ...]:
        return ("layer",)

    @classmethod
    def write(cls, group: GroupPlan, part: Part, symbols: Symbols) -> str:
        over, number = f"   for heads on {str(group['layers']).replace('_', ' ')} layers", "(number of heads)"
        if symbols.depth is not None and group["layers"] != MARKED:
            last = symbols.depth if group["layers"] == "all" else symbols.depth - 1
            over, number = f"   for heads on l = {', '.join(map(str, range(1, last + 1)))}", str(last)
            if last == 0:
                over = "   (no layer has a head)"
        front = "Σ " if group["layer_reduction"] == "sum" else f"1/{number} Σ "
        front += "g_l " if group["growth"] == "increasing" else ""
        if part.source is None:
            return f"{front}{symbols.label}(c_l(h{symbols.me}[l]), y){over}"
        return f"{symbols.mean}{front}D_soft(c_l(h{symbols.me}[l]), z{symbols.other}){over}"

    @classmethod
    def explain(cls, group: GroupPlan, label: str) -> Iterator[tuple[str, str]]:
        yield "c_l", f"{group['head']} head on layer l (tap layer), dropped after training"
        if group["growth"] == "increasing":
            yield "g_l", "2l / (number of heads + 1)"
        if group.get("soft_weight"):
            yield "D_soft", f"as in kd_response, temperature {show(group['temperature'])}, all nodes"

    def logits(self, seen: Observation) -> dict[int, Tensor]:
        """Every head's logits by layer; computed once per observation."""

        def compute() -> dict[int, Tensor]:
            return {n: self.heads[str(n)](seen.layer("layer", n), seen, n) for n in self.layers}

        return seen.remember(("auxiliary", id(self), torch.is_grad_enabled()), compute)

    def forward(
        self, learner: Observation, source: Observation, weights: Tensor | None = None
    ) -> Tensor | dict[str, Tensor]:
        logits = self.logits(learner)
        zero = learner.logits.new_zeros(())
        label: Tensor = zero
        if self.group["weight"]:
            for number, rows in logits.items():
                label = label + self.factors[number] * self._label_loss(rows, learner)
        if not self.group.get("soft_weight"):
            return {"weight": label / self.mass}
        soft: Tensor = zero
        target = source.logits.detach().to(learner.logits)
        loss, temperature = LOSS_BY_TASK[self.task.kind], float(self.group.get("temperature", 1.0))
        index = select(learner.graph, "all", "kd_auxiliary", answers=True) if self.task.level == "node" else None
        goal = make_goal(_take(target, index), loss, temperature)
        for number, rows in logits.items():
            soft = soft + self.factors[number] * response_loss(_take(rows, index), goal, loss, temperature)
        return {"weight": label / self.mass, "soft_weight": soft / self.mass}

    def measure(
        self, seen: Observation, judge: Callable[[Tensor], Mapping[str, Judged]]
    ) -> Mapping[str, float | Judged]:
        """Each head's score, and how alike the nodes of each layer have become."""
        found: dict[str, float | Judged] = {**measure_smoothing(seen)}
        self.eval()
        for number, logits in self.logits(seen).items():
            found |= {f"aux{number}_{name}": value for name, value in judge(logits).items()}
        self.train()
        return found

    def _label_loss(self, rows: Tensor, learner: Observation) -> Tensor:
        assert learner.labels is not None
        mask = learner.graph.train_mask if self.task.level == "node" else None
        pred, true = (rows, learner.labels) if mask is None else (rows[mask], learner.labels[mask])
        return host.task_loss(pred, true)[0]


def _take(logits: Tensor, index: Tensor | None) -> Tensor:
    """A table of the logits that mean something."""
    table = logits.view(logits.size(0), -1)
    return table if index is None else table[index]


def measure_smoothing(seen: Observation) -> dict[str, float]:
    """How alike the nodes of each layer have become: MAD to neighbours, MADGap and Dirichlet energy by layer."""
    found = {}
    for number, states in enumerate(seen.hidden["layer"], 1):
        graph = seen.graph_of(number)
        links = _link(graph, states.dtype)
        near, _, gap = mad(states, graph.edge_index, links)
        found[f"layer{number}_mad"] = float(near)
        found[f"layer{number}_madgap"] = float(gap)
        found[f"layer{number}_dirichlet"] = float(dirichlet_energy(states, graph.edge_index, links))
    return found


def _link(graph: Graph, dtype: torch.dtype) -> Links:
    return graph.remember(("links", dtype), lambda: Links.of(graph.edge_index, graph.num_nodes, dtype))
