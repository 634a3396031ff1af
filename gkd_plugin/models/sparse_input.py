"""Sparse features (bag-of-words): layers that apply a linear map to them read only the entries that are not 0.

The layers stay the host's. While a network runs, those in ``LAYERS`` compute their result by a sparse product where they are
given the features themselves; the numbers equal the dense ones up to rounding. Layers that apply a linear layer first, such
as GAT's, need nothing of their own. GCN layers also propagate by a sparse product, whichever layer of the network they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
import torch_geometric.nn as pyg_nn
from torch import Tensor, nn

from gkd_plugin.ops.sparse import SparseMatrix

MOST_FULL = 0.2  # share of entries that are not 0; measured: above it the dense product is as fast


class SparseFeatures:
    """The features of one graph and their entries.

    Args:
        dense (Tensor): ``[N, F]``, as the network is given them.
        sparse (bool): Whether only the entries that are not 0 are read.
    """

    def __init__(self, dense: Tensor, sparse: bool = True) -> None:
        self.dense = dense
        self.matrix = SparseMatrix.of(dense) if sparse else SparseMatrix(dense, dense.t())
        self._normalised: dict[int, tuple[Tensor, SparseMatrix]] = {}

    def map(self, linear: nn.Module) -> Tensor:
        """A linear layer's map of the features, without its bias."""
        weight: Any = linear.weight
        return self.matrix.product(weight.t())

    def normalise(self, edges: Tensor, weights: Tensor) -> SparseMatrix:
        """The matrix of normalised edges (``[2, E]``, from and to), made once."""
        if id(weights) not in self._normalised:  # they are kept beside it, so that no other tensor gets their id
            nodes = len(self.dense)
            self._normalised[id(weights)] = (weights, SparseMatrix.of_entries(edges.flip(0), weights, (nodes, nodes)))
        return self._normalised[id(weights)][1]


def is_table(x: Any) -> bool:
    """Whether features are a dense table of numbers.

    Args:
        x: What a batch has as ``x``.
    """
    return isinstance(x, Tensor) and x.layout == torch.strided and x.dim() == 2 and x.is_floating_point()


def explain_refusal(x: Any) -> str | None:
    """Why features are better read as they are, or ``None``.

    Args:
        x: What a batch has as ``x``.
    """
    if not is_table(x):
        return "the data have no table of features"
    full = float((x != 0).sum()) / max(x.numel(), 1)
    if full > MOST_FULL:
        return f"{full:.0%} of the features are not 0 (allowed: up to {MOST_FULL:.0%}; above, the dense product is as fast)"
    return None


def _map(linear: Any, features: SparseFeatures, x: Any = None, **_: Any) -> Tensor | None:
    """``x W + b``."""
    if x is not features.dense:
        return None
    out: Tensor = features.map(linear)
    return out if linear.bias is None else out + linear.bias


def _aggregate(
    conv: Any, near: Any, own: nn.Module | None, features: SparseFeatures, edge_index: Any, **further: Any
) -> Tensor:
    """Neighbours summed (or averaged) after the map instead of before it, which is the same for a linear map."""
    mapped = features.map(near)
    out: Tensor = conv.propagate(edge_index, x=(mapped, mapped), size=None, **further)
    if near.bias is not None:
        out = out + near.bias
    return out if own is None else out + features.map(own)


def _sage(conv: Any, features: SparseFeatures, x: Any, edge_index: Any, size: Any = None) -> Tensor | None:
    if x is not features.dense or size is not None or conv.project or conv.aggr not in ("mean", "sum", "add"):
        return None
    out = _aggregate(conv, conv.lin_l, conv.lin_r if conv.root_weight else None, features, edge_index)
    return F.normalize(out, p=2.0, dim=-1) if conv.normalize else out


def _graph_conv(
    conv: Any, features: SparseFeatures, x: Any, edge_index: Any, edge_weight: Any = None, size: Any = None
) -> Tensor | None:
    if x is not features.dense or size is not None or conv.aggr not in ("mean", "sum", "add"):
        return None
    return _aggregate(conv, conv.lin_rel, conv.lin_root, features, edge_index, edge_weight=edge_weight)


def _gcn(conv: Any, features: SparseFeatures, x: Any, edge_index: Any, edge_weight: Any = None) -> Tensor | None:
    """Where the layer was given the normalisation of a fixed graph (:func:`~gkd_plugin.models.normalisation.normalised_once`)."""
    if (
        conv.cached
        or conv._cached_edge_index is None
        or conv.flow != "source_to_target"
        or conv.aggr not in ("add", "sum")
    ):
        return None
    out: Tensor = features.normalise(*conv._cached_edge_index).product(conv.lin(x))
    return out if conv.bias is None else out + conv.bias


# by their exact class: what overrides one of them may compute something else
LAYERS: dict[type[nn.Module], Callable[..., Tensor | None]] = {
    nn.Linear: _map,
    pyg_nn.Linear: _map,
    pyg_nn.GCNConv: _gcn,
    pyg_nn.SAGEConv: _sage,
    pyg_nn.GraphConv: _graph_conv,
}


def find_layers(network: nn.Module) -> list[nn.Module]:
    """The layers of a network that can read sparse features."""
    return [module for module in network.modules() if type(module) in LAYERS and "forward" not in vars(module)]


@contextmanager
def reading(layers: Sequence[nn.Module], features: SparseFeatures) -> Iterator[list[nn.Module]]:
    """Within, layers that are given the features themselves read their entries; all else runs as ever.

    Args:
        layers (sequence of nn.Module): What :func:`find_layers` gave.
        features (SparseFeatures): The features of the batch that the network runs on.

    Returns:
        list: Fills with the layers that have read them.
    """
    readers: list[nn.Module] = []

    def forward(layer: nn.Module, *args: Any, **kwargs: Any) -> Any:
        out = LAYERS[type(layer)](layer, features, *args, **kwargs)
        if out is None:
            return type(layer).forward(layer, *args, **kwargs)
        if (args[0] if args else kwargs.get("x")) is features.dense:
            readers.append(layer)
        return out

    try:
        for layer in layers:
            layer.forward = partial(forward, layer)
        yield readers
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
