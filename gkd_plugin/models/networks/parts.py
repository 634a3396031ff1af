"""What our networks consist of: the host's layer, stage and heads, with every choice made at construction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch_geometric.graphgym import register
from torch_geometric.graphgym.models.head import GNNGraphHead, GNNNodeHead
from torch_geometric.graphgym.models.layer import GeneralLayer
from yacs.config import CfgNode

STAGES = ("stack", "skipsum", "skipconcat")


class OnNodes(nn.Module):
    """Lets a module of node features (and edges) work on the host's batches.

    Args:
        model (nn.Module): ``model(x, edge_index)``, or ``model(x)``.
        edges (bool): Whether it takes the edges.
    """

    def __init__(self, model: nn.Module, edges: bool = True) -> None:
        super().__init__()
        self.model, self.edges = model, edges

    def forward(self, batch: Any) -> Any:
        batch.x = self.model(batch.x, batch.edge_index) if self.edges else self.model(batch.x)
        return batch


class HiddenLayer(GeneralLayer):  # type: ignore[misc]
    """The host's layer around a module that its registry lacks: batch normalisation, dropout, activation, l2norm.

    Args:
        layer (nn.Module): Takes a batch, sets ``batch.x``, returns the batch.
        width (int): The width of what it sets.
        own (CfgNode): The host's configuration.
        values (dict): The group ``gkd_model``.
    """

    def __init__(self, layer: nn.Module, width: int, own: CfgNode, values: dict[str, Any]) -> None:
        nn.Module.__init__(self)  # the host's own constructor would build the layer by its name
        self.layer = layer
        self.has_l2norm = own.gnn.l2norm
        steps: list[nn.Module] = [register.act_dict[own.gnn.act]()]
        if own.gnn.dropout > 0:
            dropout = nn.Dropout(own.gnn.dropout, inplace=own.mem.inplace)
            steps.insert(0 if values["dropout_place"] == "before_act" else 1, dropout)
        if own.gnn.batchnorm:
            learned = values["batchnorm"] == "affine"
            norm = nn.BatchNorm1d(
                width, eps=own.bn.eps, momentum=own.bn.mom, affine=learned, track_running_stats=learned
            )
            steps.insert(0, norm)
        self.post_layer = nn.Sequential(*steps)


class Stage(nn.Module):
    """The host's stage, which asks its configuration once instead of in every forward pass.

    Args:
        layers (sequence of nn.Module): The hidden layers, which are its children in this order.
        skip (str): ``stack``, ``skipsum`` or ``skipconcat``.
        l2norm (bool): Whether the rows of its output are normalised.
    """

    def __init__(self, layers: Sequence[nn.Module], skip: str, l2norm: bool) -> None:
        super().__init__()
        self.skip, self.l2norm = skip, l2norm
        for number, layer in enumerate(layers):
            self.add_module(f"layer{number}", layer)

    def forward(self, batch: Any) -> Any:
        layers = list(self.children())
        for layer in layers:
            x = batch.x
            batch = layer(batch)
            if self.skip == "skipsum":
                batch.x = x + batch.x
            elif self.skip == "skipconcat" and layer is not layers[-1]:
                batch.x = torch.cat([x, batch.x], dim=1)
        if self.l2norm:
            batch.x = F.normalize(batch.x, p=2, dim=-1)
        return batch


class NodeReadOut(GNNNodeHead):  # type: ignore[misc]
    """The host's node head around our last layer instead of its MLP; ``batch.x`` keeps the logits of all nodes."""

    def __init__(self, last: nn.Module) -> None:
        nn.Module.__init__(self)
        self.layer_post_mp = last


class GraphReadOut(GNNGraphHead):  # type: ignore[misc]
    """The host's graph head around our last layer, which comes before the pooling because it may need the edges."""

    def __init__(self, last: nn.Module, pooling: str) -> None:
        nn.Module.__init__(self)
        self.layer_post_mp = last
        self.pooling_fun = register.pooling_dict[pooling]

    def forward(self, batch: Any) -> Any:
        batch = self.layer_post_mp(batch)
        batch.graph_feature = self.pooling_fun(batch.x, batch.batch)
        return self._apply_index(batch)
