"""Messages of large graphs in evaluation: for some nodes at a time, so that no tensor of edges x width fills the memory."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing

_COPIES = 3  # of a message: gathered, weighted, and on its way into the sum
_BOTH = ("edge_updater", "propagate")


def find_senders(network: nn.Module) -> list[MessagePassing]:
    """Layers whose messages can be sent to some nodes at a time, with the same result to the last bit.

    What a node receives depends on the edges that lead to it alone; a layer of which that is not sure (sparse adjacency
    matrices, an update that reads more than the sum, hooks of a user's) is left as it is.
    """
    found = [module for module in network.modules() if isinstance(module, MessagePassing)]
    return [layer for layer in found if layer.flow == "source_to_target" and len(_names(layer.update)) == 1]


@contextmanager
def sent_in_parts(layers: Sequence[MessagePassing], limit: float) -> Iterator[None]:
    """Within, layers whose messages would take more than ``limit`` bytes send them in parts.

    Args:
        layers (sequence of MessagePassing): From :func:`find_senders`; only they change, and only within.
        limit (float): Bytes for the messages of one part and what is computed of them.
    """
    for layer in layers:
        for name in _BOTH:
            vars(layer)[name] = partial(_send, layer, name, limit)
    try:
        yield
    finally:
        for layer in layers:
            for name in _BOTH:
                del vars(layer)[name]


def _send(layer: MessagePassing, name: str, limit: float, edge_index: Any, size: Any = None, **given: Any) -> Any:
    """``propagate`` or ``edge_updater`` of a layer, in as many parts as it takes."""
    plain = getattr(type(layer), name).__get__(layer)
    parts = _count_parts(edge_index, given, limit)
    if parts < 2:
        return plain(edge_index, size=size, **given)
    functions = (layer.message, layer.aggregate) if name == "propagate" else (layer.edge_update,)
    ends = {word[:-2] for function in functions for word in _names(function) if word[-2:] in ("_i", "_j")}
    by_node = {key: value for key, value in given.items() if key in ends and value is not None}
    sizes = _read_sizes(layer, by_node, size)
    if sizes is None:
        return plain(edge_index, size=size, **given)
    count, target = edge_index.size(1), edge_index[1]
    found: list[Tensor] = []
    places: list[Tensor] = []
    for low, high in _divide(target, sizes[1], parts):
        place = ((target >= low) & (target < high)).nonzero().view(-1)
        edges = edge_index.index_select(1, place)
        edges[1] -= low
        own = {key: _cut(layer, value, low, high) for key, value in by_node.items()}
        for key, value in given.items():
            if key not in own:
                is_of_edges = isinstance(value, Tensor) and value.dim() > 0 and value.size(0) == count
                own[key] = value.index_select(0, place) if is_of_edges else value
        found.append(plain(edges, size=(sizes[0], high - low), **own))
        places.append(place)
    if name == "propagate":
        return torch.cat(found, dim=layer.node_dim)
    whole = found[0].new_empty((count, *found[0].shape[1:]))
    for place, part in zip(places, found, strict=True):
        whole[place] = part
    return whole


def _count_parts(edge_index: Any, given: Mapping[str, Any], limit: float) -> int:
    if not isinstance(edge_index, Tensor) or edge_index.layout != torch.strided or edge_index.dim() != 2:
        return 1
    tensors = [each for value in given.values() for each in (value if isinstance(value, tuple) else (value,))]
    rows = [t[:1].numel() * t.element_size() for t in tensors if isinstance(t, Tensor) and t.dim() > 1]
    count = edge_index.size(1)
    return math.ceil(min(_COPIES * count * max(rows, default=0) / limit, count))


def _read_sizes(layer: MessagePassing, by_node: Mapping[str, Any], size: Any) -> tuple[int, int] | None:
    """The numbers of nodes that send and that receive; ``None`` where they are not told."""
    for value in by_node.values():
        pair = value if isinstance(value, tuple) else (value, value)
        if all(isinstance(each, Tensor) for each in pair):
            return pair[0].size(layer.node_dim), pair[1].size(layer.node_dim)
    return None if size is None or None in size else tuple(size)


def _cut(layer: MessagePassing, value: Any, low: int, high: int) -> tuple[Any, Any]:
    """A value of all nodes for a part: senders as they are, receivers from ``low`` to ``high``."""
    senders, receivers = value if isinstance(value, tuple) else (value, value)
    return senders, None if receivers is None else receivers.narrow(layer.node_dim, low, high - low)


def _divide(target: Tensor, count: int, parts: int) -> Iterator[tuple[int, int]]:
    """Ranges of nodes that receive about as many messages each."""
    received = torch.bincount(target, minlength=count).cumsum(0)
    goals = torch.arange(1, parts, device=target.device) * (target.numel() / parts)
    bounds = [0, *torch.searchsorted(received, goals.to(received.dtype)).tolist(), count]
    for low, high in itertools.pairwise(bounds):
        if low < high:
            yield low, high


def _names(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)
