"""Knowledge ``energy``: how rough the states of a layer are over the edges."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from gkd_plugin.schema import Flag, Key
from gkd_plugin.space.knowledge.base import LayerTerm
from gkd_plugin.space.knowledge.rows import normalize
from gkd_plugin.space.observation import Observation


class EnergyTerm(LayerTerm):
    r"""The Dirichlet energy of hidden states, which the `"A Note on Over-Smoothing for Graph Neural Networks"
    <https://arxiv.org/abs/2006.13318>`_ paper measures, as something to learn: neither too rough nor too smooth.

    With the rows :math:`\mathbf{h}_v` of a layer, without the degrees of the paper,

    .. math::
        E = \frac{1}{N} \sum_{(u, v) \in \mathcal{E}} \| \mathbf{h}_u - \mathbf{h}_v \|_2^2, \qquad
        D = \left( \log (1 + E) - \log (1 + E^{\mathrm{source}}) \right)^2 .

    Widths may differ. The term is :math:`\sum_{lk} w_{lk} D_{lk}` over the layer map's weights.

    Args:
        group (GroupPlan): The resolved ``kd_energy`` group.
        learner (Outline): Depth and widths of the learner.
        source (Outline): The same of the source.
        task (Task): What is predicted.

    Shapes:
        - **input:** two observations of the same nodes and the weights :math:`(L, K)`
        - **output:** a scalar

    .. code-block:: yaml

        kd_energy: {weight: 0.1, source: peers, tap: layer, layer_map: one_to_one, normalize: true}
    """

    name: ClassVar[str] = "energy"
    summary: ClassVar[str] = "how rough a layer is over the edges"
    reference: ClassVar[str] = "after Cai and Wang (arXiv 2006.13318)"
    keys: ClassVar[tuple[Key, ...]] = (Key("normalize", False, Flag(), "rows are divided by their length first"),)

    def distance(self, learner: Observation, source: Observation, row: int, column: int) -> Tensor:
        """The squared difference of two layers' energies, as logarithms."""
        return (self.energy(learner, row).log1p() - self.energy(source, column).detach().log1p()).square()

    def energy(self, seen: Observation, layer: int) -> Tensor:
        """The energy of one layer."""
        rows = normalize(seen.layer(self.tap, layer), "l2" if self.group["normalize"] else "none")
        ends = rows[seen.graph.edge_index]
        return (ends[0] - ends[1]).square().sum() / seen.graph.num_nodes
