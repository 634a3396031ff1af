"""GCN's symmetric normalisation, computed once for each graph instead of in every layer of every forward pass."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch_geometric.nn import GCNConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

Remember = Callable[[Hashable, Callable[[], Any]], Any]


def find_convolutions(network: nn.Module) -> list[GCNConv]:
    """PyG's GCN layers that normalise in every forward pass; those with ``cached`` keep their own."""
    found = [module for module in network.modules() if isinstance(module, GCNConv)]
    return [conv for conv in found if type(conv).forward is GCNConv.forward and conv.normalize and not conv.cached]


@contextmanager
def normalised_once(convolutions: Sequence[GCNConv], edge_index: Tensor, remember: Remember) -> Iterator[None]:
    """Within, layers that are given ``edge_index`` itself, without weights, take the remembered normalisation.

    It is what they would compute, bit for bit. Layers that are given other edges (sampled or dropped ones) or edge weights
    compute their own. Afterwards no layer knows anything of the graph.

    Args:
        convolutions (sequence of GCNConv): Layers of a network that runs within.
        edge_index (Tensor): The edges of the batch.
        remember (callable): ``remember(key, compute)`` of whoever lives as long as the batch.
    """

    def serve(conv: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        named = dict(zip(("x", "edge_index", "edge_weight"), args, strict=False)) | kwargs
        conv._cached_edge_index = None
        if named.get("edge_index") is not edge_index or named.get("edge_weight") is not None:
            return
        x = named["x"]
        how = (x.size(-2), conv.improved, conv.add_self_loops, conv.flow, x.dtype)
        key = ("gcn_norm", edge_index._version, *how)
        conv._cached_edge_index = remember(key, lambda: gcn_norm(edge_index, None, *how))

    handles = [conv.register_forward_pre_hook(serve, with_kwargs=True) for conv in convolutions]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for conv in convolutions:
            conv._cached_edge_index = None
