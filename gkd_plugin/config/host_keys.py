"""The host's own keys: plain values put into a ``cfg`` of its defaults, of the type they were meant to have, and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch_geometric.graphgym.config import assert_cfg, set_cfg
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.config import host_checks, kd_keys
from gkd_plugin.config.host_values import coerce
from gkd_plugin.config.kd_keys import SCHEME, set_cfg_kd
from gkd_plugin.data.keys import METRIC_KEYS, METRICS, SPLIT_KEYS, SPLITS
from gkd_plugin.data.known import check_known
from gkd_plugin.data.loaders import FORMAT
from gkd_plugin.data.names import find_name
from gkd_plugin.data.trust import check_names
from gkd_plugin.errors import OF_YOUR_OWN, Problem, nearest, quote
from gkd_plugin.models import networks
from gkd_plugin.schema import BadValue

BESIDE = {SPLITS: SPLIT_KEYS, METRICS: METRIC_KEYS}  # groups of ours that describe data, not distillation
DROPPED = ("run_dir", "params")  # the host writes them into the configuration of a run, and cannot read them back


def fresh() -> CfgNode:
    """The host's defaults, plugins' and users' groups included; the global ``cfg`` is not touched."""
    own = CfgNode()
    set_cfg(own)
    if SCHEME not in own:
        set_cfg_kd(own)
    if "mode" not in own.train:
        own.train.mode = "standard"
    return own


def place(values: Mapping[str, Any], own: CfgNode) -> list[Problem]:
    """Puts the host's keys (all but the ``kd`` groups) into ``own`` and returns what is wrong with them."""
    return list(_place(values, own, own, ""))


def _place(values: Mapping[str, Any], node: CfgNode, root: CfgNode, prefix: str) -> Iterator[Problem]:
    for key, raw in values.items():
        name = f"{prefix}{key}"
        if (not prefix and key in DROPPED) or is_kd(name):
            continue
        if key not in node:
            yield Problem(name, "unknown key", _suggest(name, raw, prefix, node, root))
        elif isinstance(node[key], CfgNode):
            if raw is None:
                continue
            if isinstance(raw, Mapping):
                yield from _place(raw, node[key], root, f"{name}.")
            else:
                yield Problem(name, f"{quote(raw)} is not a group", f"Write {name}: {{key: value, ...}}.")
        else:
            try:
                node[key] = coerce(node[key], raw, name)
            except BadValue as error:
                yield Problem(name, f"{quote(raw)} is not allowed", str(error))


def is_kd(name: str) -> bool:
    """Whether a top-level name is one of our groups."""
    return name == SCHEME or name.startswith(f"{SCHEME}_")


def _suggest(name: str, raw: Any, prefix: str, node: CfgNode, root: CfgNode) -> str:
    key = name.removeprefix(prefix)
    if isinstance(raw, Mapping):
        parts = [each for each, content in node.items() if isinstance(content, CfgNode)]
        return f"{nearest(key, [*parts, *kd_keys.groups()])}{OF_YOUR_OWN}"
    leaves = {f"{group}.{leaf}": leaf for group, part in root.items() if isinstance(part, CfgNode) for leaf in part}
    same = [full for full, leaf in leaves.items() if leaf == key]
    if same:
        return f"There is {', '.join(same)}."
    hint = nearest(key, node) or nearest(key, leaves.values())
    if prefix:
        more = "" if hint else f" {OF_YOUR_OWN}"
        return f"{hint}Allowed in {prefix.removesuffix('.')}: {', '.join(map(str, node))}.{more}"
    kd = nearest(key, kd_keys.groups())
    return hint or kd or f"Allowed: {', '.join(map(str, node))}."


def finish(own: CfgNode) -> list[Problem]:
    """The host's own post-processing, and what would make a run fail once it has begun."""
    found = []
    if own.dataset.task in host_checks.TASKS:
        _settle(own)
        assert_cfg(own)
    else:
        found.append(Problem("dataset.task", quote(own.dataset.task), f"Allowed: {', '.join(host_checks.TASKS)}."))
    beside = [problem for name, keys in BESIDE.items() for problem in groups.find_problems(own, name, keys)]
    found += check_names(own.dataset) or check_known(own.dataset)
    return [*found, *host_checks.find_problems(own), *networks.check(own), *beside]


def _settle(own: CfgNode) -> None:
    """What the host is about to change of its own defaults, with a log line for each that tells the user nothing; and one
    spelling for each data set.
    """
    own.gnn.layers_post_mp = max(1, own.gnn.layers_post_mp)
    if own.dataset.format == FORMAT:
        own.dataset.name = find_name(str(own.dataset.name))
    if own.dataset.task == "graph":
        own.dataset.transductive = False
    if own.dataset.task_type == "regression" and own.model.loss_fun == "cross_entropy":
        own.model.loss_fun = "mse"
