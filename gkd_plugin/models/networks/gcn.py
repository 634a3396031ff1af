"""``model.type: gcn``."""

from __future__ import annotations

from torch import nn
from torch_geometric.nn import GCNConv

from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import Network
from gkd_plugin.models.networks.parts import OnNodes


class GCN(Network):
    r"""The network of the `"Semi-Supervised Classification with Graph Convolutional Networks"
    <https://arxiv.org/abs/1609.02907>`_ paper: it ends in a convolution, not in an MLP as the host's ``gnn`` does.

    .. math::
        h^l = \sigma(\hat A h^{l-1} W^l + b^l), \quad l = 1, \dots, L, \qquad z = \hat A h^L W^{L+1} + b^{L+1}

    with :math:`\hat A = D^{-1/2} (A + I) D^{-1/2}` and L = ``gnn.layers_mp``.

    The networks of `"Geometric Knowledge Distillation" <https://arxiv.org/abs/2210.13014>`_ are this one with
    ``gnn.batchnorm: true`` and ``gkd_model.batchnorm: plain``: no bias (the normalisation would take it away again), no
    affine map, no running statistics.

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: gcn}
        gnn: {layers_mp: 2, dim_inner: 64, act: relu, dropout: 0.0, batchnorm: true, l2norm: false}
        gkd_model: {batchnorm: plain}
    """

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return OnNodes(GCNConv(dim_in, width, bias=not cfg.gnn.batchnorm))

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return OnNodes(GCNConv(dim_in, dim_out))
