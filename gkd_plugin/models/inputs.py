"""What a trained student is called with: mistakes are said before a layer's own words, or memory of others, are reached."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from gkd_plugin.errors import UserError, nearest

PAIRS = "edge_label_index"
_KNOWN = ("batch", "edge_attr", PAIRS, "edge_type", "edge_weight", "node_type", "pos", "ptr", "split", "y")


def check_names(names: Iterable[str]) -> None:
    """Refuses a misspelt keyword: a graph network answers without its ``batch``, too, and otherwise.

    Args:
        names (iterable of str): What was named. Layers of others may read names that nobody knows here.

    Raises:
        UserError: If one is nearly, and not quite, what PyG calls it.
    """
    for name in names:
        if name not in _KNOWN and (near := nearest(name, _KNOWN)):
            raise UserError(f"a student is called with {name}=, which no network reads. {near}")


def check_graph(data: Data, columns: int | None, dtype: torch.dtype | None) -> None:
    """Refuses tensors that no layer can read rightly. Edges to nodes that are not there may read memory of others.

    Args:
        data (Data): The graph.
        columns (int, optional): The columns of ``x``; ``None`` where an encoder reads it.
        dtype (torch.dtype, optional): The type of the weights, where that is known.

    Raises:
        UserError: With all that is wrong with it.
    """
    if torch.compiler.is_compiling():  # the number of nodes is open in a trace, and values are not known
        return
    if wrong := [*_list_features(data, columns, dtype), *_list_places(data), *_list_graphs(data)]:
        raise UserError("; ".join(wrong) + ".")


def _list_features(data: Data, columns: int | None, dtype: torch.dtype | None) -> Iterator[str]:
    x = data.get("x")
    if x is None:
        return  # nodes of some types learn a vector each
    if not isinstance(x, Tensor):
        yield f"x is a {type(x).__name__}, and must be a tensor (torch.as_tensor)"
    elif columns is not None and (x.ndim != 2 or x.size(1) != columns):
        yield f"x is {list(x.shape)}, and must be [nodes, {columns}]"
    elif (
        columns is not None and dtype is not None and x.dtype != dtype and not torch.is_autocast_enabled(x.device.type)
    ):
        yield f"x is {_name(x.dtype)} and the weights are {_name(dtype)}: take x.to(torch.{_name(dtype)})"


def _list_places(data: Data) -> Iterator[str]:
    count = int(data.num_nodes or 0)
    for name, what in (("edge_index", "edges"), (PAIRS, "pairs")):
        index = data.get(name)
        if index is None or (isinstance(index, Tensor) and index.layout != torch.strided):
            continue
        if not isinstance(index, Tensor) or index.is_floating_point() or index.ndim != 2 or index.size(0) != 2:
            yield f"{name} is {_describe(index)}, and must be [2, {what}] of whole numbers"
        elif index.numel():
            low, high = (int(value) for value in index.aminmax())
            if low < 0 or high >= count:
                yield f"{name} names node {low if low < 0 else high}, and there are nodes 0 to {count - 1}"


def _list_graphs(data: Data) -> Iterator[str]:
    batch, count = data.get("batch"), int(data.num_nodes or 0)
    if batch is None:
        return
    if not isinstance(batch, Tensor) or batch.is_floating_point() or batch.shape != (count,):
        yield f"batch is {_describe(batch)}, and must be [{count}]: the graph of each node, as a whole number"
    elif batch.numel() and int(batch.min()) < 0:
        yield f"batch names graph {int(batch.min())}; graphs are counted from 0"


def _describe(value: Any) -> str:
    return f"{list(value.shape)} of {_name(value.dtype)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
