"""``model.type: sage``."""

from __future__ import annotations

from torch import Tensor, nn
from torch_geometric.nn import Linear, SAGEConv, SimpleConv
from torch_geometric.utils import add_remaining_self_loops

from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import SHARED_KEYS, Network
from gkd_plugin.models.networks.parts import OnNodes
from gkd_plugin.schema import Choice, Key


class MeanWithSelf(nn.Module):
    """GraphSAGE's aggregator ``gcn``: one weight for the mean over a node's neighbours and the node itself."""

    def __init__(self, dim_in: int, dim_out: int, bias: bool) -> None:
        super().__init__()
        self.lin = Linear(dim_in, dim_out, bias=bias)
        self.mean = SimpleConv(aggr="mean")

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        edge_index, _ = add_remaining_self_loops(edge_index, num_nodes=x.size(0))
        out: Tensor = self.mean(self.lin(x), edge_index)  # the map first: features are wide
        return out


class SAGE(Network):
    r"""The network of the `"Inductive Representation Learning on Large Graphs"
    <https://arxiv.org/abs/1706.02216>`_ paper, ending in a convolution.

    .. math::
        h_v^l = \sigma \left( W_1^l h_v^{l-1} + W_2^l \, \mathrm{agg}_{u \in \mathcal{N}(v)} h_u^{l-1} + b^l \right)

    ``gkd_model.aggregator`` is ``mean``, ``pool`` (the maximum of ``relu(W h + b)``, as Alignahead ran it) or ``gcn``
    (:math:`W^l` times the mean over :math:`\mathcal{N}(v) \cup \{v\}`, as GLNN's teacher has it).

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: sage}
        gnn: {layers_mp: 1, dim_inner: 128, act: relu, dropout: 0.0, batchnorm: false, l2norm: false}
        gkd_model: {aggregator: gcn}
    """

    keys = (
        *SHARED_KEYS,
        Key(
            "aggregator",
            "mean",
            Choice(("mean", "pool", "gcn")),
            "sage: mean; pool: the maximum of projected neighbours; gcn: the mean over neighbours and the node, one "
            "weight",
        ),
    )

    def _convolution(self, dim_in: int, dim_out: int, bias: bool) -> nn.Module:
        aggregator = self.values["aggregator"]
        if aggregator == "gcn":
            return OnNodes(MeanWithSelf(dim_in, dim_out, bias))
        pool = aggregator == "pool"
        return OnNodes(SAGEConv(dim_in, dim_out, aggr="max" if pool else "mean", project=pool, bias=bias))

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return self._convolution(dim_in, width, not cfg.gnn.batchnorm)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return self._convolution(dim_in, dim_out, True)
