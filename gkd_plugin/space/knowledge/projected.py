"""What the terms share that compare projected rows: reduce, project, map into the subspace, normalise."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch_geometric.utils import subgraph

from gkd_plugin.plan import GroupPlan
from gkd_plugin.space.knowledge.base import LayerTerm
from gkd_plugin.space.knowledge.projectors import Projectors
from gkd_plugin.space.knowledge.rows import normalize
from gkd_plugin.space.layer_maps import layer_pairs
from gkd_plugin.space.observation import Graph, Observation, Outline, Task


class ProjectedTerm(LayerTerm):
    """A :class:`LayerTerm` with projectors, and a subspace map where the layer map is learned.

    Args:
        group (GroupPlan): The resolved group.
        learner (Outline): Depth, widths and logits of the learner.
        source (Outline): The same of the source.
        task (Task): What is predicted.
        projector (str): See :class:`Projectors`.
        side (str): See :class:`Projectors`.
        dim (int, optional): See :class:`Projectors`.
        normalization (str): ``none``, ``l2`` or ``batchnorm``.
    """

    def __init__(
        self,
        group: GroupPlan,
        learner: Outline,
        source: Outline,
        task: Task,
        projector: str,
        side: str,
        dim: int | None,
        normalization: str,
    ) -> None:
        super().__init__(group, learner, source, task)
        self.pairs = layer_pairs(group, learner.depth, source.depth)
        self.projectors = Projectors(
            projector, side, self.pairs, learner.widths[self.tap], source.widths[self.tap], dim
        )
        self.normalization = normalization
        self.subspace: nn.Linear | None = None
        if self.pairs and group.map_values.get("subspace", False):
            width = self.projectors.common_width(group.name)
            self.subspace = nn.Linear(width, width, bias=False)

    def replace_rows(self, seen: Observation, rows: Mapping[int, Tensor], index: Tensor | None) -> Observation:
        """The observation with the rows that are compared in place of the states of some layers.

        It lives for one forward only, and so does what is remembered on it: projected rows depend on weights that are
        trained, and a frozen teacher's own observation outlives many steps.

        Args:
            seen (Observation): One side.
            rows (mapping): The compared rows by layer, from 1.
            index (Tensor, optional): The nodes that the rows stand for, where a projector needs the edges between them.
        """
        states = seen.hidden[self.tap]
        compared = tuple(rows.get(layer, state) for layer, state in enumerate(states, start=1))
        graph, graphs = seen.graph, seen.graphs
        if index is not None and self.projectors.kind == "gnn":
            graph, graphs = _take_nodes(graph, index), tuple(_take_nodes(each, index) for each in graphs)
        return Observation(seen.logits, {self.tap: compared}, graph, graphs=graphs)

    def projected(self, learner: Observation, source: Observation, row: int, column: int) -> tuple[Tensor, Tensor]:
        """The rows of both sides as they are compared; each side's are computed once for all its pairs."""
        left, right = self.projectors(row, column)
        return self._project(learner, row, left), self._project(source, column, right)

    def _project(self, seen: Observation, layer: int, projector: nn.Module) -> Tensor:
        def compute() -> Tensor:
            rows: Tensor = projector(seen.layer(self.tap, layer), seen.graph_of(layer).edge_index)
            if self.subspace is not None:
                rows = self.subspace(rows)
            return normalize(rows, self.normalization)

        return seen.remember((layer, id(projector)), compute)


def _take_nodes(graph: Graph, index: Tensor) -> Graph:
    edges, _ = subgraph(index, graph.edge_index, relabel_nodes=True, num_nodes=graph.num_nodes)
    return Graph(edges, index.numel())
