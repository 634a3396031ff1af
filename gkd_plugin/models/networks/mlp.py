"""``model.type: mlp``."""

from __future__ import annotations

from torch import nn
from torch_geometric.nn import Linear

from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import Network
from gkd_plugin.models.networks.parts import OnNodes


class MLP(Network):
    r"""The student of the `"Graph-less Neural Networks: Teaching Old MLPs New Tricks via Distillation"
    <https://arxiv.org/abs/2110.08727>`_ paper: linear layers that never see an edge.

    .. math::
        h^l = \sigma(h^{l-1} W^l + b^l), \quad l = 1, \dots, L, \qquad z = h^L W^{L+1} + b^{L+1}

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: mlp}
        gnn: {layers_mp: 1, dim_inner: 128, act: relu, dropout: 0.6, batchnorm: false, l2norm: false}
        gkd_model: {input_dropout: 0.6}
    """

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return OnNodes(Linear(dim_in, width, bias=not cfg.gnn.batchnorm), edges=False)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return OnNodes(Linear(dim_in, dim_out), edges=False)
