"""Networks that the host lacks: they end in a convolution (or know no graph at all), as the published students do."""

from __future__ import annotations

from yacs.config import CfgNode

from gkd_plugin.errors import Problem
from gkd_plugin.models.networks.gat import GAT
from gkd_plugin.models.networks.gcn import GCN
from gkd_plugin.models.networks.gcnii import GCNII
from gkd_plugin.models.networks.mlp import MLP
from gkd_plugin.models.networks.network import Network, unread
from gkd_plugin.models.networks.sage import SAGE

__all__ = ["NETWORKS", "check"]

NETWORKS: dict[str, type[Network]] = {"gcn": GCN, "gat": GAT, "sage": SAGE, "gcnii": GCNII, "mlp": MLP}


def check(own: CfgNode) -> list[Problem]:
    """What is wrong with the keys that decide a network; every key of ``gkd_model`` is refused for others than ours."""
    network = NETWORKS.get(own.model.type)
    return network.check(own) if network else unread(own, ())
