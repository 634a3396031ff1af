"""What a data set is, in numbers: all its graphs are counted as one large graph."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import InMemoryDataset

from gkd_plugin.data.protocol import HELD_OUT
from gkd_plugin.data.split_graphs import PARTS, SplitGraphs


@dataclass(frozen=True)
class Labels:
    """What is to be predicted.

    Args:
        task (str): ``node`` or ``graph``: what has a label.
        task_type (str): The host's word for their kind, such as ``classification``.
        width (int): Classes; labels per item where there are several; numbers per item.
        counts (tuple of int): Items of each class, or with each label; none for numbers.
        missing (int): Labels that are NaN or negative.
    """

    task: str
    task_type: str
    width: int
    counts: tuple[int, ...] = ()
    missing: int = 0


@dataclass(frozen=True)
class DataSummary:
    """Counts of a data set.

    Args:
        graphs, nodes, edges (int): In all; an undirected edge counts twice, as PyG stores it.
        undirected (bool): Whether every edge leads both ways.
        self_loops, repeated_edges, isolated_nodes (int): Edges from a node to itself; edges that are there already; nodes
            without an edge to another one.
        edge_types (int): Relations, 0 where edges have no type.
        features (int): Columns of x, 0 without features.
        by_type (tuple): For each type of nodes its number of nodes and the width of its own table of features (0: none); empty
            where all nodes share x.
        feature_type (str): Their type, ``float32`` say.
        nonzero (float): Share of features that are not 0.
        bad_features (int): NaN or infinite ones.
        repeated_rows (int): Nodes with the same features as one before them.
        labels (Labels, optional): What is to be predicted, of the nodes that are predicted at all.
        splits (dict): Nodes or graphs of each split.
        split_graphs (bool): Whether they are graphs.
        absent (dict): Classes that are in no item of a split, by split.
        homophily (float, optional): Share of edges between nodes of one class (edge homophily, as
            ``torch_geometric.utils.homophily`` counts it), where each node has one class.
        predicted (int, optional): Nodes that are predicted at all, where that is not all of them.
        held_out, seen_edges (int): Nodes that training does not see (``splits.protocol``), and the edges that it sees.
        pairs (dict): Linked pairs of nodes, and pairs that are not, of each split of a task on links.
        along_training (bool): Whether edges are the linked training pairs, and self-loops, alone.
    """

    graphs: int
    nodes: int
    edges: int
    undirected: bool
    self_loops: int
    repeated_edges: int
    isolated_nodes: int
    edge_types: int
    features: int
    feature_type: str
    nonzero: float
    bad_features: int
    repeated_rows: int
    labels: Labels | None
    splits: dict[str, int]
    split_graphs: bool
    absent: dict[str, tuple[int, ...]]
    homophily: float | None
    by_type: tuple[tuple[int, int], ...] = ()
    predicted: int | None = None
    held_out: int = 0
    seen_edges: int = 0
    pairs: dict[str, tuple[int, int]] = field(default_factory=dict)
    along_training: bool = False


def summarize(dataset: InMemoryDataset) -> DataSummary:
    """Counts everything once; takes time and memory in proportion to nodes, features and edges.

    Args:
        dataset (InMemoryDataset): As its loader gave it.
    """
    data, slices = dataset._data, dataset.slices or {}
    graphs = len(dataset)
    sizes = _count_nodes(dataset, graphs)
    edges = _number_nodes(data.get("edge_index"), slices, sizes)
    nodes = int(sizes.sum())
    keys = edges[0] * nodes + edges[1]
    unique = keys.unique()
    loops = edges[0] == edges[1]
    linked = torch.zeros(nodes, dtype=torch.bool)
    linked[edges[:, ~loops].view(-1)] = True
    x = data.get("x")
    x = x if isinstance(x, Tensor) and x.layout == torch.strided and x.numel() else None
    y, predicted = data.get("y"), data.get("predicted")
    if not isinstance(y, Tensor) or not isinstance(predicted, Tensor):
        predicted = None
    labels = _describe_labels(y if predicted is None else y[predicted], nodes, graphs, predicted)
    marks = _mark_splits(dataset, data, graphs)
    one_class = labels is not None and labels.task == "node" and labels.task_type == "classification"
    homophily = None
    if one_class and edges.size(1):
        y = data.y.view(-1)
        ends = edges if predicted is None else edges[:, predicted[edges].all(dim=0)]
        homophily = float((y[ends[0]] == y[ends[1]]).double().mean()) if ends.size(1) else None
    types, late = data.get("edge_type"), data.get(HELD_OUT)
    return DataSummary(
        graphs=graphs,
        nodes=nodes,
        edges=edges.size(1),
        undirected=torch.equal(unique, (edges[1] * nodes + edges[0]).unique()),
        self_loops=int(loops.sum()),
        repeated_edges=edges.size(1) - len(unique) if types is None else _count_repeated(edges, types, nodes),
        isolated_nodes=int((~linked).sum()),
        edge_types=0 if types is None else int(types.unique().numel()),
        features=0 if x is None else x[:1].numel(),
        feature_type="" if x is None else str(x.dtype).removeprefix("torch."),
        nonzero=0.0 if x is None else int(x.count_nonzero()) / x.numel(),
        bad_features=0 if x is None or not x.is_floating_point() else int((~x.isfinite()).sum()),
        repeated_rows=0 if x is None else _count_repeated_rows(x),
        labels=labels,
        splits={part: int(mark.sum()) for part, mark in marks.items()},
        split_graphs=graphs > 1 and all(len(mark) == graphs for mark in marks.values()),
        absent=_find_absent(data.get("y"), labels, marks, predicted),
        homophily=homophily,
        by_type=_describe_types(data),
        predicted=None if predicted is None or bool(predicted.all()) else int(predicted.sum()),
        held_out=0 if late is None else int(late.sum()),
        seen_edges=0 if late is None else int((~late[edges].any(dim=0)).sum()),
        pairs=_count_pairs(data),
        along_training=_passes_along_training(data, edges, nodes),
    )


def _count_pairs(data: Any) -> dict[str, tuple[int, int]]:
    labels = {part: data.get(f"{part}_edge_label") for part in PARTS}
    return {
        part: (int((label == 1).sum()), int((label == 0).sum()))
        for part, label in labels.items()
        if isinstance(label, Tensor)
    }


def _passes_along_training(data: Any, edges: Tensor, nodes: int) -> bool:
    pairs, label = data.get("train_edge_index"), data.get("train_edge_label")
    if not isinstance(pairs, Tensor) or not isinstance(label, Tensor) or pairs.shape != (2, *label.shape):
        return False
    ends = (edges[:, edges[0] != edges[1]], pairs[:, label == 1])
    first, second = ((some.amin(0) * nodes + some.amax(0)).unique() for some in ends)
    return torch.equal(first, second)


def _describe_types(data: Any) -> tuple[tuple[int, int], ...]:
    kinds = data.get("node_type")
    if not isinstance(kinds, Tensor) or "type_row" not in data or "x" in data:
        return ()
    tables = [data.get(f"x_{number}") for number in range(int(kinds.max()) + 1 if kinds.numel() else 0)]
    counts = torch.bincount(kinds, minlength=len(tables)).tolist()
    return tuple((n, 0 if table is None else int(table.size(1))) for n, table in zip(counts, tables, strict=True))


def _count_nodes(dataset: InMemoryDataset, graphs: int) -> Tensor:
    """The number of nodes of each graph."""
    data, slices = dataset._data, dataset.slices or {}
    if graphs == 1:
        return torch.tensor([data.num_nodes])
    if "x" in slices and isinstance(data.get("x"), Tensor):
        return torch.as_tensor(slices["x"]).diff()
    counts = data._store.get("num_nodes") if hasattr(data, "_store") else None
    if isinstance(counts, list):
        return torch.tensor(counts)
    return torch.tensor([int(dataset.get(number).num_nodes) for number in range(graphs)])


def _number_nodes(edge_index: Any, slices: Any, sizes: Tensor) -> Tensor:
    """All edges, with nodes numbered through all graphs."""
    if not isinstance(edge_index, Tensor):
        return torch.empty(2, 0, dtype=torch.long)
    if len(sizes) == 1:
        return edge_index
    first = sizes.cumsum(0) - sizes
    return edge_index + torch.repeat_interleave(first, torch.as_tensor(slices["edge_index"]).diff())


def _count_repeated(edges: Tensor, types: Tensor, nodes: int) -> int:
    """Edges that are there already with the same type."""
    rows = torch.stack([edges[0] * nodes + edges[1], types.view(-1)])
    return int(rows.size(1) - rows.unique(dim=1).size(1))


def _count_repeated_rows(x: Tensor) -> int:
    rows: np.ndarray = x.reshape(len(x), -1).contiguous().numpy()
    return int(len(rows) - len({hash((row + 0).tobytes()) for row in rows}))  # -0.0 is 0.0


def _describe_labels(y: Any, nodes: int, graphs: int, predicted: Tensor | None = None) -> Labels | None:
    nodes = nodes if predicted is None else int(predicted.sum())
    if not isinstance(y, Tensor) or y.dim() not in (1, 2) or not y.numel():
        return None
    if len(y) not in (nodes, graphs) and y.dim() == 1 and y.numel() % graphs == 0:  # rows of numbers, put end to end
        y = y.view(graphs, -1)
    if len(y) not in (nodes, graphs):
        return None
    task = "node" if len(y) == nodes else "graph"
    columns = y.size(1) if y.dim() == 2 else 1
    floats = y.is_floating_point()
    bad = y.isnan() if floats else y < 0
    good = y[~bad]
    whole = not floats or bool((good == good.floor()).all())
    if columns > 1 and whole and bool(((good == 0) | (good == 1)).all()):
        counts = (y == 1).sum(dim=0).tolist()
        return Labels(task, "classification_multilabel", columns, tuple(counts), int(bad.sum()))
    if columns > 1 or not whole or (floats and bool((good > 1).any())):
        return Labels(task, "regression", columns, (), int(y.isnan().sum()) if floats else 0)
    classes, counts = good.long().unique(return_counts=True)
    return Labels(task, "classification", len(classes), tuple(counts.tolist()), int(bad.sum()))


def _mark_splits(dataset: InMemoryDataset, data: Any, graphs: int) -> dict[str, Tensor]:
    """Truth values of the nodes or graphs of each split."""
    marks = {}
    for part in PARTS:
        index, mask = data.get(f"{part}_graph_index"), data.get(f"{part}_mask")
        if isinstance(dataset, SplitGraphs) or not isinstance(mask, Tensor):
            chosen = dataset.members.get(part) if isinstance(dataset, SplitGraphs) else index
            if chosen is not None:
                marks[part] = torch.zeros(graphs, dtype=torch.bool)
                marks[part][torch.as_tensor(chosen)] = True
        elif mask.dim() == 1:
            marks[part] = mask.bool()
    return marks


def _find_absent(
    y: Any, labels: Labels | None, marks: dict[str, Tensor], predicted: Tensor | None
) -> dict[str, tuple[int, ...]]:
    if labels is None or labels.task_type != "classification":
        return {}
    y = y.view(-1).long()
    counted = y if predicted is None else y[predicted]
    classes = set(counted[counted >= 0].unique().tolist())
    absent = {}
    for part, mark in marks.items():
        if len(mark) == len(y) and (lacking := classes - set(y[mark].unique().tolist())):
            absent[part] = tuple(sorted(lacking))
    return absent
