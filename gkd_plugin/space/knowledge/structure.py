"""Structure: how alike neighbouring (or sampled) nodes are, compared between learner and source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, ClassVar
from weakref import ref

import torch
from torch import Tensor

from gkd_plugin.errors import Problem, UserError
from gkd_plugin.ops import edges, pairwise
from gkd_plugin.ops.edges import AllPairs, EdgeSet
from gkd_plugin.plan import GroupPlan
from gkd_plugin.printing import tell
from gkd_plugin.schema import Choice, Flag, Key, Number, show
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Divergence, Kernel
from gkd_plugin.space.divergences import DIVERGENCES
from gkd_plugin.space.kernels import all_distances, distances_on
from gkd_plugin.space.knowledge.base import LayerTerm
from gkd_plugin.space.knowledge.rows import normalize
from gkd_plugin.space.observation import Graph, Observation, Outline, Task

MATRIX_BYTES = 2**30
"""The largest matrix of all pairs of nodes; training keeps a handful of them for every layer."""


def _no_scale(values: Mapping[str, Any]) -> str | None:
    word = values.get("kernel")
    unscaled = word in axes.kernels and not axes.kernels[str(word)].scaled
    return f"the kernel {word} has no scale" if unscaled else None


def _no_samples(values: Mapping[str, Any]) -> str | None:
    return None if values.get("domain") == "all_pairs" else "only the domain all_pairs draws nodes"


def _no_softmax(values: Mapping[str, Any]) -> str | None:
    return "the distribution none has no softmax" if values.get("distribution") == "none" else None


def _no_relations(values: Mapping[str, Any]) -> str | None:
    reasons = {
        "all_pairs": "most pairs of the domain all_pairs are no edges, and have no relation",
        "union": "the domain union takes each pair once, whatever its relations",
    }
    return reasons.get(str(values.get("domain")))


def _no_matrix(values: Mapping[str, Any]) -> str | None:
    applies = values.get("domain") == "all_pairs" and values.get("distribution") == "none"
    return None if applies else "it weighs raw kernel values of all_pairs (domain all_pairs, distribution none)"


class StructureTerm(LayerTerm):
    r"""The similarity of nodes from `"Alignahead: Online Cross-Layer Knowledge Extraction on Graph Neural Networks"
    <https://arxiv.org/abs/2205.02468>`_ and `"Distilling Knowledge from Graph Convolutional Networks"
    <https://arxiv.org/abs/2003.10477>`_: a kernel between the ends of every edge becomes a distribution over the
    neighbours of each node.

    .. math::
        S_v(u) = \frac{\exp k(h_u, h_v)}{\sum_{w \in \mathcal{N}(v)} \exp k(h_w, h_v)}, \qquad
        D = \frac{1}{N} \sum_{v} \sum_{u \in \mathcal{N}(v)} Q_v(u) \log \frac{Q_v(u)}{S_v(u)}

    with the learner's :math:`S` and the source's detached :math:`Q`; that is ``divergence: kl_source_learner`` and
    ``reduction: node_mean``, the mean over *all* nodes. ``distribution: none`` compares the kernel values themselves,
    as GSP and GKD do.

    ``relations: each`` has a distribution for every relation :math:`r` of the graph (``edge_type``), over the neighbours
    :math:`\mathcal{N}_r(v)`, and :math:`D = \frac{1}{R} \sum_r D_r` is the mean over the R relations that have a pair at all;
    each :math:`D_r` is reduced as ``reduction`` says, ``pair_mean`` over the pairs of r. With ``self_loops`` a node is its own
    neighbour in every relation that it takes part in.

    Args:
        group (GroupPlan): The resolved ``kd_structure`` group.
        learner, source (Outline): Depths and widths; the widths may differ.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations of the same nodes, hidden states :math:`(N, d_l)`
        - **output:** a scalar

    Raises:
        UserError: If the source has other nodes than the learner, ``domain: all_pairs`` needs too large a matrix, or
            the edges of ``relations: each`` have no types.

    .. code-block:: yaml

        kd_structure: {weight: 10, layer_map: shift, shift: 1, kernel: laplacian, kernel_scale: 100, self_loops: true}
    """

    name: ClassVar[str] = "structure"
    summary: ClassVar[str] = "similarities between nodes, usually as a distribution over each node's neighbours"
    reference: ClassVar[str] = "LSP (arXiv 2003.10477)"
    per_source: ClassVar[bool] = False  # it owns nothing that depends on the source
    keys: ClassVar[tuple[Key, ...]] = (
        Key("kernel", "laplacian", Choice(lambda: axes.kernels), "similarity of two nodes"),
        Key(
            "kernel_scale",
            100.0,
            Number(0, above=True, words=("median",)),
            "s of the kernel; median: of each layer's own distances between different nodes, per side",
            unless=_no_scale,
        ),
        Key("normalize", "none", Choice(("none", "l2", "batchnorm")), "how rows are scaled before the kernel"),
        Key(
            "domain",
            "edges",
            Choice(("edges", "union", "all_pairs", "train_edges")),
            "the learner's edges, learner's and source's, all pairs of sampled nodes, or edges between training nodes",
        ),
        Key(
            "relations",
            "all",
            Choice(("all", "each")),
            "all: one distribution over a node's neighbours, whatever the relation; each: one for every relation "
            "(edge_type), mean over relations",
            unless=_no_relations,
        ),
        Key("self_loops", False, Flag(), "whether each node counts once as its own neighbour"),
        Key(
            "samples",
            None,
            Number(1, integer=True, words=("none",)),
            "number of nodes drawn in each step; none: all",
            unless=_no_samples,
        ),
        Key(
            "distribution",
            "softmax",
            Choice(("softmax", "none")),
            "softmax over the pairs of each node, or raw kernel values",
        ),
        Key(
            "softmax_over",
            "in_edges",
            Choice(("in_edges", "out_edges")),
            "which pairs of a node share one softmax",
            unless=_no_softmax,
        ),
        Key(
            "non_edge_weight",
            1.0,
            Number(0),
            "factor on the difference of a pair that is not an edge of the learner",
            unless=_no_matrix,
        ),
        Key("divergence", "kl_source_learner", Choice(lambda: axes.divergences), "how two structures are compared"),
        Key(
            "reduction",
            "node_mean",
            Choice(("node_mean", "pair_mean", "sum")),
            "mean over all nodes, mean over the compared pairs, or sum",
        ),
    )

    def __init__(self, group: GroupPlan, learner: Outline, source: Outline, task: Task) -> None:
        super().__init__(group, learner, source, task)
        self.kernel: Kernel = axes.kernels[group["kernel"]]
        self.scale: float | Tensor | str | None = group.get("kernel_scale")
        self.normalize: str = group["normalize"]
        self.domain: str = group["domain"]
        self.each: bool = group.get("relations") == "each"
        self.loops: bool = group["self_loops"]
        self.samples: int | None = group.get("samples")
        self.softmax_over: str | None = group.get("softmax_over")  # None: raw kernel values
        self.non_edge_weight: float = group.get("non_edge_weight", 1.0)
        self.divergence: Divergence = axes.divergences[group["divergence"]]
        self.reduction: str = group["reduction"]
        # what decides a structure, by name: they also enter the name of the file that keeps it
        self.recipe = tuple(
            group.get(key) for key in ("kernel", "kernel_scale", "normalize", "distribution", "softmax_over")
        )
        # other people's code may change under its name: what it computes is never kept on disk
        self.built_in = type(self) is StructureTerm and axes.kernels.origin(group["kernel"]) == "gkd_plugin"

    @classmethod
    def check(cls, values: Mapping[str, Any], task: Task | None) -> Iterable[Problem]:
        word = values.get("divergence")
        if values.get("distribution") == "none" and word in axes.divergences and not axes.divergences[str(word)].raw:
            raw = ", ".join(name for name in axes.divergences if axes.divergences[name].raw)
            yield Problem(
                f"kd_{cls.name}.divergence",
                f"{word} compares distributions, but kd_{cls.name}.distribution is none",
                f"Allowed with distribution none: {raw}; or set distribution: softmax.",
            )

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        loops = " and itself" if group["self_loops"] else ""
        direction = "out" if group.get("softmax_over") == "out_edges" else "in"
        neighbours = {
            "edges": f"its {direction}-neighbours{loops}",
            "union": f"its {direction}-neighbours in either graph{loops}",
            "train_edges": f"its {direction}-neighbours among training nodes{loops}",
            "all_pairs": f"{_count_drawn(group)}{'' if loops else ' but itself'}",
        }[group["domain"]]
        gap = axes.divergences[group["divergence"]].summary.split(",")[0]
        over = {"node_mean": "mean over nodes", "pair_mean": "mean over pairs", "sum": "sum over pairs"}[
            group["reduction"]
        ]
        if group.get("relations") == "each":
            neighbours, over = f"{neighbours} within each relation", f"{over}, then over relations"
        text = f"{gap} of each node's softmax over {neighbours}, {over}"
        if group["distribution"] == "none":
            text = f"squared difference of kernel values between each node and {neighbours}, {over}"
        kernel = axes.kernels[group["kernel"]]
        text += f"; {group['kernel']} kernel {kernel.summary.split(';')[0]}"
        if "kernel_scale" in group.values:
            text += f", s = {show(group['kernel_scale'])}"
        text += {"l2": "; rows of length 1", "batchnorm": "; rows batch-normalised"}.get(group["normalize"], "")
        factor = group.get("non_edge_weight", 1.0)
        return text if factor == 1 else f"{text}; differences where there is no edge times {show(factor)}"

    def require(self, graph: Graph) -> None:
        if self.each and graph.edge_type is None:
            raise UserError(
                f"kd_{self.name}.relations: each, but the edges of these data have no types (edge_type), nor have those of "
                "a graph that moves. Allowed here: all; or a data set with relations, such as AIFB and DBLP (dataset.format: gkd)."
            )

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        self.require_same_nodes(learner, source, row, column)
        if (rows := learner.layer(self.tap, row).size(0)) != learner.graph.num_nodes:
            raise UserError(
                f"kd_{self.name}: layer {row} of the student has {rows} rows, but the graph has {learner.graph.num_nodes} nodes. "
                "Structure is that of nodes: name layers before any pooling in kd.layers."
            )
        domain = self._domain(learner, source, row, column)
        if self.kernel.factors is not None and isinstance(domain, AllPairs) and self._is_plain:
            return self._compare_factors(learner, source, row, column, domain)
        own = self._structure(learner, learner, row, domain)
        target = self._structure(source, learner, column, domain).detach().to(own)
        if self.softmax_over and self.divergence.raw:
            own, target = own.exp(), target.exp()
        if isinstance(domain, AllPairs) and self.non_edge_weight != 1:
            factors = self._edge_factors(learner, row, domain, own)
            own, target = factors * own, factors * target
        return domain.reduce(self.divergence.function(own, target), self.reduction)

    @property
    def _is_plain(self) -> bool:
        """Whether raw kernel values of all pairs are compared by their squared difference, every pair alike."""
        plain = self.softmax_over is None and self.divergence is DIVERGENCES["mse"]
        return plain and self.non_edge_weight == 1

    def _compare_factors(
        self, learner: Observation, source: Observation, row: int, column: int, domain: AllPairs
    ) -> Tensor:
        r"""The same for kernels that are inner products, by products of small matrices instead of one for all pairs.

        With rows :math:`X` and :math:`Y`, :math:`\|XX^\top - YY^\top\|^2 = \|X^\top X\|^2 - 2 \|X^\top Y\|^2 +
        \|Y^\top Y\|^2`. In double precision, so that nearly equal structures do not vanish in the rounding of their size.
        """
        x = self._factors(learner, learner, row, domain)
        y = self._factors(source, learner, column, domain).detach()
        total = (x.t() @ x).square().sum() - 2 * (x.t() @ y).square().sum() + (y.t() @ y).square().sum()
        if not domain.loops:
            total = total - (x.square().sum(-1) - y.square().sum(-1)).square().sum()
        count = {"node_mean": learner.graph.num_nodes, "pair_mean": domain.num_pairs, "sum": 1}[self.reduction]
        return (total.clamp_min(0.0) / max(count, 1)).to(learner.logits.dtype)

    def _factors(self, seen: Observation, learner: Observation, layer: int, domain: AllPairs) -> Tensor:
        assert self.kernel.factors is not None
        rows = domain.rows(normalize(seen.layer(self.tap, layer), self.normalize))
        return self.kernel.factors(rows).double()

    def _domain(self, learner: Observation, source: Observation, row: int, column: int) -> EdgeSet | AllPairs:
        """The compared pairs, kept on the graph of the learner's layer; what lasts one step, on its observation."""
        if self.domain == "all_pairs":
            return self._all_pairs(learner)
        graph, loops = learner.graph_of(row), self.loops
        self.require(graph)
        own, mask = _edges(graph, loops, self.each), graph.train_mask
        if self.domain == "union":
            if learner.graphs and not source.graphs:
                tell(
                    f"kd_{self.name}.domain: union: the student's graph moves, but the source has no graph of its layers' own. "
                    "The edges of the data stand for it."
                )
            theirs = _edges(source.graph_of(column), loops)
            holder: Observation | Graph = learner if own.is_draw or theirs.is_draw else graph
            return holder.remember(("union", own, theirs), lambda: edges.union(own, theirs))
        if self.domain == "train_edges" and mask is not None:
            return graph.remember(("train_edges", loops, self.each), lambda: edges.within(own, mask))
        return own

    def _all_pairs(self, learner: Observation) -> AllPairs:
        count, states = learner.graph.num_nodes, learner.layer(self.tap, 1)
        size = count if self.samples is None else min(self.samples, count)
        bytes_needed = size * size * states.element_size()
        if bytes_needed > MATRIX_BYTES:
            raise UserError(
                f"kd_{self.name}.samples: all pairs of {size} nodes are a {size} x {size} matrix of "
                f"{bytes_needed / 2**30:.1f} GiB for every layer and model. "
                f"Set kd_{self.name}.samples to {int((MATRIX_BYTES / states.element_size()) ** 0.5)} or less."
            )
        return learner.remember(
            ("all_pairs", self.name, self.samples, self.loops),
            lambda: edges.all_pairs(count, self.loops, self.samples, states.device),
        )

    def _structure(self, seen: Observation, learner: Observation, layer: int, domain: EdgeSet | AllPairs) -> Tensor:
        """Log-probabilities or kernel values of one layer, computed once for all terms, layers and peers."""
        # What is drawn, or moves, lasts one step, as the learner's observation does; a teacher's may outlive many. The learner
        # knows the source weakly: two peers that held each other would wait for the garbage collector.
        cache, whose = (learner, ref(seen)) if domain.is_draw else (seen, None)
        return cache.remember(
            ("structure", whose, domain, self.tap, layer, self.recipe, torch.is_grad_enabled()),
            lambda: self._load_or_compute(seen, layer, domain),
        )

    def _load_or_compute(self, seen: Observation, layer: int, domain: EdgeSet | AllPairs) -> Tensor:
        """Distributions over edges may lie on disk, from an earlier run with the same teacher."""
        states = seen.layer(self.tap, layer)
        if isinstance(domain, AllPairs) or domain.is_draw or not self.built_in:
            return self._compute(states, domain)
        parts: tuple[Any, ...] = ("structure", self.tap, layer, self.recipe, domain.num_nodes, domain.index)
        if domain.kinds is not None:
            parts = (*parts, domain.kinds)
        return seen.derive(parts, lambda: self._compute(states, domain))

    def _compute(self, states: Tensor, domain: EdgeSet | AllPairs) -> Tensor:
        rows = normalize(states, self.normalize)
        if isinstance(domain, EdgeSet):
            return self._on_edges(rows, domain)
        return self._on_matrix(domain.rows(rows), domain)

    def _on_edges(self, rows: Tensor, domain: EdgeSet) -> Tensor:
        kernel, scale = self.kernel, self.scale
        if scale == "median":
            pairs, place = domain.unordered
            far = distances_on(rows.detach(), pairs, kernel.norm).index_select(0, place)
            scale = _median(far[domain.not_loops])
        values = _compare(rows, domain, kernel, scale)
        return domain.log_softmax(values, self.softmax_over) if self.softmax_over else values

    def _on_matrix(self, rows: Tensor, domain: AllPairs) -> Tensor:
        kernel, scale = self.kernel, self.scale
        if scale == "median":
            far = all_distances(rows.detach(), kernel.norm)
            scale = _median(replace(domain, loops=False).counted(far).flatten())
        if kernel.dense is not None:
            matrix = kernel.dense(rows, scale)
        else:
            matrix = pairwise.matrix_values(lambda x, y: kernel.function(x, y, scale), rows)
        if self.softmax_over == "in_edges" and not kernel.symmetric:
            matrix = matrix.t()  # a row for each node that the pairs lead to
        matrix = domain.counted(matrix)
        return matrix.log_softmax(dim=-1) if self.softmax_over else matrix

    def _edge_factors(self, learner: Observation, row: int, domain: AllPairs, like: Tensor) -> Tensor:
        graph = learner.graph_of(row)
        # a graph that remembered itself would wait for the garbage collector
        holder, whose = (learner, graph) if domain.is_draw else (graph, None)
        return holder.remember(
            ("edge_factors", whose, domain, self.non_edge_weight, like.dtype),
            lambda: domain.edge_factors(graph.edge_index, self.non_edge_weight, like),
        )


def _edges(graph: Graph, loops: bool, each: bool = False) -> EdgeSet:
    """A graph's edges, with their relations where each relation counts alone."""
    kinds = graph.edge_type if each else None

    def make() -> EdgeSet:
        if kinds is None:
            return edges.edges(graph.edge_index, graph.num_nodes, loops, not graph.lasts)
        return edges.relational_edges(graph.edge_index, kinds, graph.num_nodes, loops)

    return graph.remember(("edges", loops, each), make)


def _compare(rows: Tensor, domain: EdgeSet, kernel: Kernel, scale: Any) -> Tensor:
    """A kernel on edges. Undirected graphs hold each pair twice: what is symmetric is computed once."""
    pairs, place = domain.unordered if kernel.symmetric else (domain, None)
    if kernel.on_edges is not None:
        values = kernel.on_edges(rows, pairs, scale)
    else:
        values = pairwise.pair_values(lambda x, y: kernel.function(x, y, scale), rows, pairs)
    return values if place is None else values.index_select(0, place)


def _median(values: Tensor) -> Tensor:
    """The middle value, or the mean of the two middle ones; 1 where that is 0 or there is none."""
    count = values.numel()
    if count == 0:
        return values.new_ones(())
    middle = (values.kthvalue((count + 1) // 2).values + values.kthvalue(count // 2 + 1).values) / 2
    return torch.where(middle > 0, middle, 1.0)


def _count_drawn(group: GroupPlan) -> str:
    return "all nodes" if group.get("samples") is None else f"all of {group['samples']} nodes drawn in each step"
