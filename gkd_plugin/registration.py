"""The only file that writes to the host's registries. Everything is imported before anything is registered, so that a
failing import leaves nothing half done, and every step may run twice.
"""

from __future__ import annotations

import sys
from functools import wraps
from importlib import import_module
from typing import Any

from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import cfg
from yacs.config import CfgNode

from gkd_plugin import plugins
from gkd_plugin.config.kd_keys import extend_cfg_kd, set_cfg_kd
from gkd_plugin.data import keys as data_keys
from gkd_plugin.data.loaders import LOADERS
from gkd_plugin.data.metrics import METRICS
from gkd_plugin.data.relations import fill_share
from gkd_plugin.models import aux_layers, networks
from gkd_plugin.training.graphgym import MODE, dispatching, distill

GROUPS = {
    networks.GROUP: networks.KEYS,
    data_keys.SPLITS: data_keys.SPLIT_KEYS,
    data_keys.METRICS: data_keys.METRIC_KEYS,
}


def _place(registry: dict[Any, Any], key: str, value: Any) -> None:
    """Registers once; a user's own answer under the same name wins."""
    if key not in registry:
        registry[key] = value


def _place_in_front(registry: dict[Any, Any], ours: dict[str, Any]) -> None:
    """The same before all others: the host asks its loaders one by one, and one may refuse what is not its own."""
    ours = {key: value for key, value in ours.items() if key not in registry}
    if ours:
        others = dict(registry)
        registry.clear()
        registry.update({**ours, **others})


def _set_cfg(node: Any) -> None:
    """Our groups and ``train.mode`` in any configuration that the host passes."""
    set_cfg_kd(node)
    for name, keys in GROUPS.items():
        node[name] = CfgNode({key.name: None for key in keys})
    _complete_train(node)
    node.share.relations, node.share.node_types = 0, []


def _complete_train(node: Any) -> None:
    """Keys of the group ``train`` that the host itself reads and does not have."""
    for key, value in (("mode", "standard"), ("train_parts", 10)):
        if key not in node.train:
            node.train[key] = value


def _extend_cfg() -> None:
    """Gives the global cfg the groups of plugins that came later, leaving what is set."""
    extend_cfg_kd(cfg)
    for name, keys in GROUPS.items():
        if name not in cfg:
            cfg[name] = CfgNode({key.name: None for key in keys})
    _complete_train(cfg)
    if "relations" not in cfg.share:
        cfg.share.relations, cfg.share.node_types = 0, []


def _install_share() -> None:
    """The host notes in ``cfg.share`` what networks must know of the data; types of edges and nodes are noted beside it."""
    module = import_module("torch_geometric.graphgym.loader")
    note = module.set_dataset_info
    if hasattr(note, "gkd_standard"):
        return

    @wraps(note)
    def set_dataset_info(dataset: Any) -> None:
        note(dataset)
        fill_share(dataset)

    set_dataset_info.gkd_standard = note  # type: ignore[attr-defined]
    module.set_dataset_info = set_dataset_info  # type: ignore[attr-defined]


def _install_dispatch() -> None:
    """In the host's module, in the package's binding, and in a main program that bound ``train`` before."""
    module = import_module("torch_geometric.graphgym.train")
    standard = module.train
    if hasattr(standard, "gkd_standard"):
        return
    train = dispatching(standard)
    module.train = train  # type: ignore[attr-defined]
    for name in ("torch_geometric.graphgym", "__main__"):
        holder = sys.modules.get(name)
        if holder is not None and getattr(holder, "train", None) is standard:
            holder.train = train  # type: ignore[attr-defined]


def register_all() -> None:
    """Makes the plugin known to the host. A second call does nothing."""
    plugins.load()
    _place(register.config_dict, "gkd_plugin", _set_cfg)
    _extend_cfg()
    if _extend_cfg not in plugins.listeners:
        plugins.listeners.append(_extend_cfg)
    _place(register.train_dict, MODE, distill)
    for registry, ours in (
        (register.network_dict, networks.NETWORKS),
        (register.metric_dict, METRICS),
    ):
        for name, answer in ours.items():
            _place(registry, name, answer)
    _place_in_front(register.loader_dict, LOADERS)
    aux_layers.install()
    _install_share()
    _install_dispatch()
