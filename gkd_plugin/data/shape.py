"""Whether the tensors of a user's graph fit together, told before anything is split or sampled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data, HeteroData

from gkd_plugin.errors import UserError


def require_shape(graph: Data | HeteroData, text: str, by_node: bool) -> None:
    """Refuses a graph whose tensors do not fit together.

    Args:
        graph (Data or HeteroData): The graph.
        text (str): The beginning of the message.
        by_node (bool): Whether ``y`` and masks have a row for each node.

    Raises:
        UserError: With all that is wrong.
    """
    if isinstance(graph, HeteroData):
        found = [*_find_faults_by_type(graph)]
    else:
        count = int(graph.num_nodes)
        found = [*_find_faults_of_nodes(graph, count, by_node), *_find_faults_of_edges(graph, count, count)]
    if found:
        raise UserError(f"{text} a graph that does not fit together: {'; '.join(found)}.")


def _find_faults_by_type(graph: HeteroData) -> Iterator[str]:
    counts: dict[str, int] = {}
    for kind in graph.node_types:
        if graph[kind].num_nodes is None:
            yield f"the number of {kind} is unknown (give it x, or num_nodes)"
            return
        counts[kind] = int(graph[kind].num_nodes)
        yield from (f"{kind}: {text}" for text in _find_faults_of_nodes(graph[kind], counts[kind], True))
    for kind in graph.edge_types:
        if kind[0] not in counts or kind[2] not in counts:
            yield f"edges {' '.join(kind)} join a type of nodes that is not there"
            continue
        faults = _find_faults_of_edges(graph[kind], counts[kind[0]], counts[kind[2]])
        yield from (f"{' '.join(kind)}: {text}" for text in faults)


def _find_faults_of_nodes(part: Mapping[str, Any], count: int, by_node: bool) -> Iterator[str]:
    x, y = part.get("x"), part.get("y")
    if x is not None and (not isinstance(x, Tensor) or x.dim() != 2):
        yield f"x is {_describe(x)}, and must be a tensor [nodes, features]"
    elif x is not None and len(x) != count:
        yield f"x has {len(x)} rows for {count} nodes"
    if y is not None and by_node and (not isinstance(y, Tensor) or y.dim() not in (1, 2)):
        yield f"y is {_describe(y)}, and must be a tensor with a row for each node"
    elif y is not None and by_node and len(y) != count:
        yield f"y has {len(y)} rows for {count} nodes"
    for name in part.keys():
        value = part[name]
        if not name.endswith("_mask") or not by_node:
            continue
        if not isinstance(value, Tensor):
            yield f"{name} is {_describe(value)}, and must be a tensor of truth values"
        elif value.dim() not in (1, 2) or (value.dtype == torch.bool and len(value) != count):
            yield f"{name} is {_describe(value)}, and must have a truth value for each of the {count} nodes"


def _find_faults_of_edges(part: Mapping[str, Any], senders: int, receivers: int) -> Iterator[str]:
    edges, kinds = part.get("edge_index"), part.get("edge_type")
    if not isinstance(edges, Tensor) or edges.dim() != 2 or edges.size(0) != 2 or edges.dtype != torch.long:
        yield f"edge_index is {_describe(edges)}, and must be a tensor [2, edges] of whole numbers (long)"
        return
    limits = torch.tensor([[senders], [receivers]])
    wrong = ((edges < 0) | (edges >= limits)).any(dim=0)
    if wrong.any():
        first = edges[:, int(wrong.nonzero()[0])].tolist()
        yield (
            f"edge_index has {int(wrong.sum())} edge{'s' if int(wrong.sum()) > 1 else ''} to nodes that are not there, the first from "
            f"{first[0]} to {first[1]} (nodes are counted from 0 to the number of rows of x, less 1)"
        )
    if kinds is None:
        return
    if not isinstance(kinds, Tensor) or kinds.dtype != torch.long or kinds.shape != (edges.size(1),):
        yield f"edge_type is {_describe(kinds)}, and must be a whole number (long) for each of the {edges.size(1)} edges"
    elif kinds.numel() and int(kinds.min()) < 0:
        yield f"edge_type holds {int(kinds.min())}; relations are counted from 0"


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    return "not there" if value is None else f"a {type(value).__name__}"
