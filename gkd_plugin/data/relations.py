"""Graphs with relations: PyG's heterogeneous data as one graph whose nodes and edges have types."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric import datasets
from torch_geometric.data import Data, HeteroData, InMemoryDataset
from torch_geometric.transforms import ToUndirected

from gkd_plugin.data.entities import StableEntities
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg

PARTS = ("train", "val", "test")
ENTITIES = "Entities"


def load_entities(folder: Path, name: str) -> InMemoryDataset:
    """AIFB or MUTAG with labels and masks for all nodes; there are no features, and no validation split.

    Args:
        folder (Path): Where ``Entities/<name>/raw`` lies, as in PyG's examples.
        name (str): The name.
    """
    dataset = StableEntities(str(folder / ENTITIES), name)
    found = dataset[0]
    nodes = int(found.num_nodes)
    data = Data(edge_index=found.edge_index, edge_type=found.edge_type, num_nodes=nodes)
    data.node_type, data.type_row = torch.zeros(nodes, dtype=torch.long), torch.arange(nodes)
    data.y = torch.zeros(nodes, dtype=torch.long)
    data.predicted = torch.zeros(nodes, dtype=torch.bool)
    for part in ("train", "test"):
        rows = found[f"{part}_idx"]
        data.y[rows] = found[f"{part}_y"]
        data[f"{part}_mask"] = torch.zeros(nodes, dtype=torch.bool).index_fill(0, rows, True)
        data.predicted |= data[f"{part}_mask"]
    dataset.data, dataset.slices = dataset.collate([data])
    return dataset


def load_mag(root: str) -> InMemoryDataset:
    """OGBN-Mag by PyG's own class, every relation beside its reverse and citations both ways, as OGB's R-GCN reads it.

    Args:
        root (str): Where ``mag/raw`` lies.
    """
    dataset = datasets.OGB_MAG(root)
    dataset.data, dataset.slices = dataset.collate([ToUndirected()(dataset[0])])
    return dataset


def flatten(name: str, dataset: InMemoryDataset) -> InMemoryDataset:
    """A data set of one heterogeneous graph as one of :func:`make_homogeneous`; others stay as they are.

    Args:
        name (str): ``dataset.name``, for the message.
        dataset (InMemoryDataset): The data set.
    """
    if not isinstance(dataset._data, HeteroData):
        return dataset
    if len(dataset) != 1:
        raise UserError(
            f"dataset.name: '{name}' is {len(dataset)} heterogeneous graphs. Only a single one can be read as a graph with "
            "relations."
        )
    dataset.data, dataset.slices = InMemoryDataset.collate([make_homogeneous(dataset[0], name)])
    return dataset


def make_homogeneous(graph: HeteroData, name: str = "data") -> Data:
    """One graph of all nodes and edges, in the order of PyG's types.

    Nodes of the type that has labels are ``predicted``; masks are false for all others. Features stay in a table for each
    type, ``x_0``, ``x_1``, ... (none for a type without features), because their widths differ: a node's are row ``type_row``
    of the table of its ``node_type``. A graph of one type has them in ``x``. What edges carry beside their type is left out.

    Args:
        graph (HeteroData): The graph; it is left as it is.
        name (str): What messages call it.

    Returns:
        Data: ``edge_index``, ``edge_type``, ``node_type``, ``type_row``, ``x_<type>``, ``y``, ``predicted`` and the masks.

    Raises:
        UserError: If not exactly one type of nodes has labels.
    """
    labelled = [kind for kind in graph.node_types if "y" in graph[kind]]
    if len(labelled) != 1:
        found = f"{', '.join(labelled)} have labels" if labelled else "none has labels (y)"
        raise UserError(
            f"dataset.name: '{name}': of its node types ({', '.join(graph.node_types)}) {found}. Exactly one is predicted: "
            "delete the others' y in the loader."
        )
    counts = {kind: int(graph[kind].num_nodes) for kind in graph.node_types}
    first = dict(zip(counts, [0, *torch.tensor([*counts.values()]).cumsum(0).tolist()], strict=False))
    nodes = sum(counts.values())
    data = Data(num_nodes=nodes)
    ends, kinds = [], []
    for number, (source, relation, target) in enumerate(graph.edge_types):
        edges = graph[source, relation, target].edge_index
        ends.append(edges + torch.tensor([[first[source]], [first[target]]]))
        kinds.append(torch.full((edges.size(1),), number))
    data.edge_index = torch.cat(ends, dim=1) if ends else torch.empty(2, 0, dtype=torch.long)
    data.edge_type = torch.cat(kinds) if kinds else torch.empty(0, dtype=torch.long)
    data.node_type = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor([*counts.values()]))
    data.type_row = torch.cat([torch.arange(count) for count in counts.values()])
    for number, kind in enumerate(counts):
        if "x" in graph[kind]:
            table = graph[kind].x
            data["x" if len(counts) == 1 else f"x_{number}"] = table if table.dim() > 1 else table.view(-1, 1)
    (target,) = labelled
    own = graph[target]
    rows = slice(first[target], first[target] + counts[target])
    y = own.y.view(-1) if own.y.dim() == 2 and own.y.size(1) == 1 else own.y
    data.y = y.new_zeros(nodes, *y.shape[1:])
    data.y[rows] = y
    data.predicted = torch.zeros(nodes, dtype=torch.bool)
    data.predicted[rows] = True
    for part in PARTS:
        if (mask := own.get(f"{part}_mask")) is not None:
            data[f"{part}_mask"] = mask.new_zeros(nodes, *mask.shape[1:])
            data[f"{part}_mask"][rows] = mask
    return data


def is_type_table(data: Data, key: str) -> bool:
    """Whether an attribute is the features of one type of nodes: its rows are ``type_row``, and neither nodes nor edges."""
    return "type_row" in data and key.startswith("x_")


def fill_share(dataset: Any) -> None:
    """What networks must know of types before they are built, beside ``dim_in`` and ``dim_out`` of the host.

    ``share.relations`` is the number of relations (0: edges have no types); ``share.node_types`` has for each type of nodes
    the width of its features (0: none) and its number of nodes, where there are tables by type.

    Args:
        dataset: What the host loaded.
    """
    cfg.share.relations, cfg.share.node_types = 0, []
    data = getattr(dataset, "_data", None)
    if not isinstance(data, Data):
        return
    kinds, types = data.get("edge_type"), data.get("node_type")
    if isinstance(kinds, Tensor) and kinds.numel():
        cfg.share.relations = int(kinds.max()) + 1
    if isinstance(types, Tensor) and types.numel() and "type_row" in data and "x" not in data:
        rows = torch.zeros(int(types.max()) + 1, dtype=torch.long)
        rows.scatter_reduce_(0, types, data.type_row + 1, "amax")
        tables = [data.get(f"x_{number}") for number in range(len(rows))]
        cfg.share.node_types = [
            [0, count] if table is None else [int(table.size(1)), int(table.size(0))]
            for table, count in zip(tables, rows.tolist(), strict=True)
        ]
