"""``model.type: edgeconv``."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.nn import Linear
from torch_geometric.utils import scatter

from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import SHARED_KEYS, Network
from gkd_plugin.ops.neighbours import nearest_graph
from gkd_plugin.schema import Flag, Key, Number


class EdgeConvolution(nn.Module):
    """One edge convolution on the nearest neighbours of what it is given; it leaves their edges at ``batch.edge_index``.

    Args:
        dim_in (int): Width of the input.
        dim_out (int): Width of the output.
        bias (bool): Whether the map has a bias.
        k (int): Number of neighbours.
        search (bool): Whether neighbours are searched, or ``batch.edge_index`` is that of the layer before.
    """

    def __init__(self, dim_in: int, dim_out: int, bias: bool, k: int, search: bool) -> None:
        super().__init__()
        self.model = Linear(2 * dim_in, dim_out, bias=bias)
        self.k, self.search = k, search

    def forward(self, batch: Any) -> Any:
        if self.search:
            if batch.x is None:
                raise UserError(
                    "model.type: edgeconv finds neighbours by features, but the data have no x. Give them in the loader; of a "
                    "point cloud they are the positions: data.x = data.pos."
                )
            batch.edge_index = nearest_graph(batch.x, self.k, batch.batch)
        batch.x = self.convolve(batch.x, batch.edge_index)
        return batch

    def convolve(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """The maximum over incoming edges; of one linear map only the neighbour's part differs among them."""
        own, other = self.model.weight.chunk(2, dim=1)
        return F.linear(x, own - other, self.model.bias) + find_largest(F.linear(x, other), edge_index)


def find_largest(sent: Tensor, edge_index: Tensor) -> Tensor:
    """In each channel the largest value that reaches a node, ``[N, d]``; of equal ones the first takes the gradient.

    Args:
        sent (Tensor): What each node sends, ``[N, d]``.
        edge_index (Tensor): The edges, with every node's self-loop, in the order of the nodes that they lead to.
    """
    source, target = edge_index
    if not (torch.is_grad_enabled() and sent.requires_grad):
        largest: Tensor = scatter(sent[source], target, dim_size=len(sent), reduce="max")
        return largest
    with torch.no_grad():  # whose value it is: nothing of edges x width is kept, and the way back is short
        degree = torch.bincount(target, minlength=len(sent))
        rank = torch.arange(len(source), device=sent.device) - (degree.cumsum(0) - degree)[target]
        nodes = torch.arange(len(sent), device=sent.device)
        table = nodes.unsqueeze(1).repeat(
            1, int(degree.max()) if len(sent) else 1
        )  # the node itself, as often as needed
        table[target, rank] = source
        winner = table.gather(1, sent[table].max(dim=1).indices)
    return sent.gather(0, winner)


class EdgeConv(Network):
    r"""The network of the `"Dynamic Graph CNN for Learning on Point Clouds" <https://arxiv.org/abs/1801.07829>`_ paper:
    every layer passes messages on the nearest-neighbour graph of its own input, each cloud of a batch by itself.

    .. math::
        h_v^l = \sigma \Big( \max_{u \in \mathcal{N}_k^l(v) \cup \{v\}} W^l [h_v^{l-1}, \, h_u^{l-1} - h_v^{l-1}] + b^l
        \Big)

    :math:`\mathcal{N}_k^l(v)` are the ``gkd_model.k`` other points nearest to :math:`h_v^{l-1}`, of equally near ones the
    first. The activation (and batch normalisation) follows the maximum. With ``gkd_model.moving: false`` all layers keep
    the graph of the first one, that of positions.

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: edgeconv, graph_pooling: mean}
        gnn: {layers_mp: 3, dim_inner: 64, act: relu, dropout: 0.0, batchnorm: true, l2norm: false}
        gkd_model: {k: 20}
    """

    keys = (
        *SHARED_KEYS,
        Key("k", 20, Number(1, integer=True), "edgeconv: nearest other points that each point listens to"),
        Key(
            "moving",
            True,
            Flag(),
            "edgeconv: whether every layer searches neighbours among its own input; false: the first layer's for all",
        ),
    )
    gkd_moving = True

    def _convolution(self, dim_in: int, dim_out: int, number: int, bias: bool) -> nn.Module:
        return EdgeConvolution(dim_in, dim_out, bias, self.values["k"], self.values["moving"] or number == 1)

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return self._convolution(dim_in, width, number, not cfg.gnn.batchnorm)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return self._convolution(dim_in, dim_out, cfg.gnn.layers_mp + 1, True)
