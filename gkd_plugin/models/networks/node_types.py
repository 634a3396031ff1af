"""The first layer on data whose nodes are of several types, or have no features: one map for each type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gkd_plugin.models.sparse_input import MOST_FULL
from gkd_plugin.ops.kept import derive_once
from gkd_plugin.ops.sparse import SparseMatrix


class NodeTypeInput(nn.Module):
    r"""Gives all nodes features of one width: a linear map of each type's own, and a learned vector for each node of a type
    that has no features, as OGB's R-GCN reads OGBN-Mag.

    .. math::
        h_v^0 = W_{\tau(v)} x_v + b_{\tau(v)} \quad \text{or} \quad h_v^0 = e_v

    Features of which few entries are not 0 are read by a sparse product.

    Args:
        types (sequence): For each type the width of its features (0: none) and its number of nodes (``cfg.share.node_types``).
        width (int): The width of what it gives.
    """

    def __init__(self, types: Sequence[Sequence[int]], width: int) -> None:
        super().__init__()
        self.dim_in = width  # what the layers after it take, by the name that the host's encoder has for it
        layers = [nn.Linear(dim_in, width) if dim_in else nn.Embedding(count, width) for dim_in, count in types]
        for layer in layers:
            nn.init.xavier_uniform_(layer.weight)
        self.types = nn.ModuleList(layers)

    def forward(self, batch: Any) -> Any:
        kinds, rows = batch.node_type, batch.type_row
        tables = [batch.get(f"x_{number}") for number in range(len(self.types))]
        layers: Any = self.types
        sizes = [len(layer.weight if table is None else table) for layer, table in zip(layers, tables, strict=True)]
        chosen, order = derive_once((kinds, rows), ("places", *sizes), lambda: find_places(kinds, rows, sizes))
        mapped = torch.cat([_map(*parts) for parts in zip(self.types, tables, chosen, strict=True)])
        batch.x = mapped if order is None else mapped.index_select(0, order)
        return batch


def find_places(kinds: Tensor, rows: Tensor, sizes: Sequence[int]) -> tuple[list[Tensor | None], Tensor | None]:
    """Which rows of each type's table are read (``None``: all, in order), and where each node finds its own among them (``None``:
    in the order of the types).

    Args:
        kinds, rows (Tensor): Each node's type and its row in the type's table, ``[N]``.
        sizes (sequence of int): Rows of each table.
    """
    nodes = [(kinds == number).nonzero().view(-1) for number in range(len(sizes))]
    chosen: list[Tensor | None] = []
    for number, size in enumerate(sizes):
        own = rows[nodes[number]]
        chosen.append(None if torch.equal(own, torch.arange(size, device=own.device)) else own)
    places = torch.cat(nodes)
    order = torch.empty_like(places)
    order[places] = torch.arange(places.numel(), device=places.device)
    return chosen, None if torch.equal(order, order.sort().values) else order


def _map(layer: Any, table: Tensor | None, rows: Tensor | None) -> Tensor:
    if table is None:
        vectors: Tensor = layer.weight if rows is None else layer(rows)
        return vectors
    entries = derive_once((table,), "entries", lambda: _compress(table)) if rows is None else None
    if entries is not None:
        mapped: Tensor = entries.product(layer.weight.t()) + layer.bias
    else:
        mapped = layer(table if rows is None else table[rows])
    return mapped


def _compress(table: Tensor) -> SparseMatrix | None:
    """The entries of a table that are not 0, where they are few."""
    if float(torch.count_nonzero(table)) > MOST_FULL * table.numel():
        return None
    places = table.nonzero().t()
    return SparseMatrix.of_entries(places, table[places[0], places[1]], (table.size(0), table.size(1)))
