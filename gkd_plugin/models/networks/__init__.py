"""Networks that the host lacks: they end in a convolution (or know no graph at all), as the published students do."""

from __future__ import annotations

from collections.abc import Iterable

from torch_geometric.graphgym import register
from yacs.config import CfgNode

from gkd_plugin.errors import Problem
from gkd_plugin.models.networks.edgeconv import EdgeConv
from gkd_plugin.models.networks.gat import GAT
from gkd_plugin.models.networks.gcn import GCN
from gkd_plugin.models.networks.gcnii import GCNII
from gkd_plugin.models.networks.mlp import MLP
from gkd_plugin.models.networks.network import GROUP, Network, refuse_unread
from gkd_plugin.models.networks.rgcn import RGCN
from gkd_plugin.models.networks.sage import SAGE
from gkd_plugin.schema import Key

__all__ = ["GROUP", "KEYS", "NETWORKS", "check", "join_keys"]

NETWORKS: dict[str, type[Network]] = {
    "gcn": GCN,
    "gat": GAT,
    "sage": SAGE,
    "gcnii": GCNII,
    "mlp": MLP,
    "rgcn": RGCN,
    "edgeconv": EdgeConv,
}


def join_keys(networks: Iterable[type[Network]]) -> tuple[Key, ...]:
    """The keys of the group ``gkd_model``: what the networks declare, each key once.

    Raises:
        TypeError: If two networks declare different keys under one name.
    """
    found: dict[str, Key] = {}
    for network in networks:
        for key in network.keys:
            if found.setdefault(key.name, key) is not key:
                raise TypeError(
                    f"{network.__name__} declares a key {GROUP}.{key.name}, and so does a network before it: both "
                    "must take one and the same Key object, or one needs another name"
                )
    return tuple(found.values())


KEYS = join_keys(NETWORKS.values())


def check(own: CfgNode) -> list[Problem]:
    """What is wrong with the keys that decide a network; every key of ``gkd_model`` is refused for the host's own."""
    network = register.network_dict.get(own.model.type)  # a user's network may be built like ours, or replace one
    if isinstance(network, type) and issubclass(network, Network):
        return network.check(own)
    return refuse_unread(own, ())
