"""``model.type: gat``."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import GATConv, Linear

from gkd_plugin.host import cfg
from gkd_plugin.models.networks.network import SHARED_KEYS, Network
from gkd_plugin.models.networks.parts import OnNodes
from gkd_plugin.schema import Choice, Key, Number


class Attention(nn.Module):
    """One attention layer with the skip of its convention.

    Args:
        dim_in (int): Width of the input.
        dim_out (int): Width of one head.
        heads (int): Number of heads.
        average (bool): Whether heads are averaged instead of concatenated.
        skip (bool): Whether there is a linear skip.
        bias (bool): Whether the convolution has a bias.
        values (dict): The group ``gkd_model``.
    """

    def __init__(
        self, dim_in: int, dim_out: int, heads: int, average: bool, skip: bool, bias: bool, values: dict[str, Any]
    ) -> None:
        super().__init__()
        # DGL's skip has channels of its own for each head, so heads are averaged after it
        self.late_average = heads if average and values["residual"] == "dgl" else 0
        concat = not average or self.late_average > 0
        self.conv = GATConv(
            dim_in,
            dim_out,
            heads=heads,
            concat=concat,
            negative_slope=values["negative_slope"],
            dropout=values["attention_dropout"],
            bias=bias,
        )
        width = heads * dim_out if concat else dim_out
        self.skip = Linear(dim_in, width, bias=values["residual"] == "pyg") if skip else None

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        out: Tensor = self.conv(x, edge_index)
        if self.skip is not None:
            out = out + self.skip(x)
        return out.view(out.size(0), self.late_average, -1).mean(dim=1) if self.late_average else out


class GAT(Network):
    r"""The network of the `"Graph Attention Networks" <https://arxiv.org/abs/1710.10903>`_ paper with any number of
    heads, ending in a convolution whose ``gkd_model.out_heads`` heads are averaged.

    .. math::
        h_v^l = \sigma \Big( \big\Vert_k \sum_{u \in \mathcal{N}(v) \cup \{v\}} \alpha_{uv}^{lk} W^{lk} h_u^{l-1} +
        s^l(h_v^{l-1}) \Big)

    A hidden layer is ``gkd_model.heads`` x ``gnn.dim_inner`` wide. ``gkd_model.residual`` says what :math:`s^l` is:
    ``none``: 0; ``pyg``: a linear map with bias around every layer; ``dgl``: a linear map (also where widths agree)
    around every layer from the second one on, for each head of the last one, and no bias anywhere, as LSP and
    Alignahead ran it.

    Args:
        dim_in (int): Width of the features.
        dim_out (int): Number of logits.

    .. code-block:: yaml

        model: {type: gat}
        gnn: {layers_mp: 4, dim_inner: 68, act: elu, dropout: 0.0, batchnorm: false, l2norm: false}
        gkd_model: {heads: 2, out_heads: 2, residual: dgl}
    """

    keys = (
        *SHARED_KEYS,
        Key("heads", 1, Number(1, integer=True), "gat: heads of a hidden layer, concatenated (heads x dim_inner wide)"),
        Key("out_heads", 1, Number(1, integer=True), "gat: heads of the last convolution, averaged"),
        Key(
            "residual",
            "none",
            Choice(("none", "dgl", "pyg")),
            "gat: pyg: a linear skip with bias around every layer; dgl: no biases, a linear skip for each head from "
            "the second layer on",
        ),
        Key("negative_slope", 0.2, Number(0), "gat: slope of the leaky rectifier of the attention"),
        Key("attention_dropout", 0.0, Number(0, below=1), "gat: dropout on attention coefficients"),
    )

    def hidden_width(self) -> int:
        return int(cfg.gnn.dim_inner * self.values["heads"])

    def _attention(self, dim_in: int, dim_out: int, heads: int, number: int, average: bool, bias: bool) -> nn.Module:
        residual = self.values["residual"]
        skip = residual == "pyg" or (residual == "dgl" and number > 1)
        return OnNodes(Attention(dim_in, dim_out, heads, average, skip, bias and residual != "dgl", self.values))

    def hidden(self, dim_in: int, width: int, number: int) -> nn.Module:
        heads = self.values["heads"]
        return self._attention(dim_in, width // heads, heads, number, False, not cfg.gnn.batchnorm)

    def last(self, dim_in: int, dim_out: int) -> nn.Module:
        number = cfg.gnn.layers_mp + 1
        return self._attention(dim_in, dim_out, self.values["out_heads"], number, True, True)
