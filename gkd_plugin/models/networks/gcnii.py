"""``model.type: gcnii``."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.graphgym import register
from torch_geometric.nn import GCN2Conv, Linear
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.utils import to_torch_csr_tensor

from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import SHARED_KEYS, Network
from gkd_plugin.models.networks.parts import OnNodes
from gkd_plugin.schema import Key, Number


class Start(NamedTuple):
    """What every GCNII layer reads again: the first representation and the normalised adjacency matrix, or its entries."""

    x: Tensor
    adjacency: Tensor
    weight: Tensor | None = None


class LinearIn(nn.Module):
    """The linear layer before the convolutions; it leaves :class:`Start` at ``batch.gcnii_start``."""

    def __init__(self, dim_in: int, width: int) -> None:
        super().__init__()
        self.linear = Linear(dim_in, width)
        self.act = register.act_dict[cfg.gnn.act]()
        self.dropout = nn.Dropout(cfg.gnn.dropout)

    def forward(self, batch: Any) -> Any:
        x = self.act(self.linear(batch.x))
        # 64 layers would each normalise the same edges; a sparse product is several times faster than a scatter
        edge_index, weight = gcn_norm(batch.edge_index, num_nodes=x.size(0), dtype=x.dtype)
        if torch.compiler.is_compiling():  # torch.export knows no sorting into compressed rows
            batch.gcnii_start = Start(x, edge_index, weight)
            batch.x = self.dropout(x)
            return batch
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Sparse")
            adjacency = to_torch_csr_tensor(edge_index.flip(0), weight, (x.size(0), x.size(0)))
        batch.gcnii_start = Start(x, adjacency)
        batch.x = self.dropout(x)
        return batch


class InitialResidual(nn.Module):
    """One convolution of GCNII."""

    def __init__(self, width: int, alpha: float, lam: float, number: int) -> None:
        super().__init__()
        self.model = GCN2Conv(width, alpha, lam, number, shared_weights=True, normalize=False)

    def forward(self, batch: Any) -> Any:
        start = batch.gcnii_start
        batch.x = self.model(batch.x, start.x, start.adjacency, start.weight)
        return batch


class GCNII(Network):
    r"""The deep network of the `"Simple and Deep Graph Convolutional Networks" <https://arxiv.org/abs/2007.02133>`_
    paper, the teacher of ABKD and STRIDE on the citation graphs.

    .. math::
        h^l = \sigma \left( \left( (1 - \alpha) \hat A h^{l-1} + \alpha h^0 \right) \left( (1 - \beta_l) I + \beta_l W^l
        \right) \right), \qquad \beta_l = \log (\lambda / l + 1)

    with :math:`h^0 = \sigma(x W^0 + b^0)` and a linear layer at the end; L = ``gnn.layers_mp``, :math:`\alpha` =
    ``gkd_model.alpha``, :math:`\lambda` = ``gkd_model.lam``. It has a residual of its own: ``gnn.stage_type: stack``.

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: gcnii}
        gnn: {layers_mp: 64, dim_inner: 64, act: relu, dropout: 0.6, batchnorm: false, l2norm: false}
        gkd_model: {alpha: 0.1, lam: 0.5, input_dropout: 0.6}
    """

    keys = (
        *SHARED_KEYS,
        Key("alpha", 0.1, Number(0, below=1), "gcnii: share of the initial residual"),
        Key("lam", 0.5, Number(0), "gcnii: layer l maps with log(lam / l + 1) W and is the identity for the rest"),
    )
    stages = ("stack",)
    most_pre_mp = 1

    def before(self, dim_in: int) -> nn.Module:
        return LinearIn(dim_in, cfg.gnn.dim_inner)

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        return InitialResidual(width, self.values["alpha"], self.values["lam"], number)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        return OnNodes(Linear(dim_in, dim_out), edges=False)
