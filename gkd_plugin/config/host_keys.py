"""The host's own keys: plain values put into a ``cfg`` of its defaults, of the type they were meant to have."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import assert_cfg, set_cfg
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.config import kd_keys
from gkd_plugin.config.kd_keys import SCHEME, set_cfg_kd
from gkd_plugin.data.keys import METRIC_KEYS, METRICS, SPLIT_KEYS, SPLITS
from gkd_plugin.data.trust import check_names
from gkd_plugin.errors import Problem, nearest
from gkd_plugin.models import networks
from gkd_plugin.models.aux_layers import PREFIX, check_layer

TASKS = ("node", "edge", "graph", "link_pred")
BESIDE = {SPLITS: SPLIT_KEYS, METRICS: METRIC_KEYS}  # groups of ours that describe data, not distillation
DROPPED = ("run_dir",)  # the host writes it into config.yaml and cannot read it back


class _Mismatch(ValueError):
    """A value of another type than the host's default; the text says what is allowed."""


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
            yield Problem(name, "unknown key", _hint(name, prefix, node, root))
        elif isinstance(node[key], CfgNode):
            if raw is None:
                continue
            if isinstance(raw, Mapping):
                yield from _place(raw, node[key], root, f"{name}.")
            else:
                yield Problem(name, f"{raw!r} is not a group", f"Write {name}: {{key: value, ...}}.")
        else:
            try:
                node[key] = coerce(node[key], raw)
            except _Mismatch as error:
                yield Problem(name, f"{raw!r} is not allowed", str(error))


def is_kd(name: str) -> bool:
    """Whether a top-level name is one of our groups."""
    return name == SCHEME or name.startswith(f"{SCHEME}_")


def _hint(name: str, prefix: str, node: CfgNode, root: CfgNode) -> str:
    key = name.removeprefix(prefix)
    leaves = {f"{group}.{leaf}": leaf for group, part in root.items() if isinstance(part, CfgNode) for leaf in part}
    same = [full for full, leaf in leaves.items() if leaf == key]
    if same:
        return f"There is {', '.join(same)}."
    hint = nearest(key, node) or nearest(key, leaves.values())
    if prefix:
        return f"{hint}Allowed in {prefix.removesuffix('.')}: {', '.join(map(str, node))}."
    kd = nearest(key, kd_keys.groups())
    return hint or kd or f"Allowed: {', '.join(map(str, node))}."


def coerce(default: Any, raw: Any) -> Any:
    """``raw`` as the type of the host's default: ``10`` for a float, ``1e-3`` and ``true`` as text, tuples for lists.

    Raises:
        ValueError: If it cannot be meant so.
    """
    if default is None or raw is None:
        return raw
    if isinstance(default, bool):
        return _truth(raw)
    if isinstance(default, (int, float)):
        return _number(default, raw)
    if isinstance(default, str):
        if isinstance(raw, bool):
            raise _Mismatch("Allowed: text. YAML reads on, off, yes, no, true, false as truth values; quote the word.")
        if isinstance(raw, (int, float, str)):
            return str(raw)
        raise _Mismatch(f"Allowed: text, such as {default!r}.")
    if isinstance(default, (list, tuple)):
        if isinstance(raw, (list, tuple)):
            return type(default)(raw)
        raise _Mismatch(f"Allowed: a list, such as {list(default)!r}.")
    if isinstance(raw, type(default)):
        return raw
    raise _Mismatch(f"Allowed: {type(default).__name__}, such as {default!r}.")


def _truth(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    if isinstance(raw, str) and raw.lower() in ("true", "false"):
        return raw.lower() == "true"
    raise _Mismatch("Allowed: true or false.")


def _number(default: int | float, raw: Any) -> int | float:
    whole = isinstance(default, int)
    refused = _Mismatch(f"Allowed: a {'whole ' if whole else ''}number, such as {default!r}.")
    if isinstance(raw, bool) or not isinstance(raw, (int, float, str)):
        raise refused
    try:
        value = float(raw)
    except ValueError:
        raise refused from None
    if math.isnan(value) or (whole and value != math.floor(value)):
        raise refused
    if not whole:
        return value
    return int(raw) if isinstance(raw, (int, str)) and str(raw).lstrip("+-").isdigit() else int(value)


def finish(own: CfgNode) -> list[Problem]:
    """The host's own post-processing, and what would make a run fail once it has begun."""
    found = []
    if own.dataset.task in TASKS:
        _settle(own)
        assert_cfg(own)
    else:
        found.append(Problem("dataset.task", f"{own.dataset.task!r}", f"Allowed: {', '.join(TASKS)}."))
    beside = [problem for name, keys in BESIDE.items() for problem in groups.problems(own, name, keys)]
    return [*found, *check_names(own.dataset), *_names(own), *_ranges(own), *networks.check(own), *beside]


def _settle(own: CfgNode) -> None:
    """What the host is about to change of its own defaults, with a log line for each that tells the user nothing."""
    own.gnn.layers_post_mp = max(1, own.gnn.layers_post_mp)
    if own.dataset.task == "graph":
        own.dataset.transductive = False
    if own.dataset.task_type == "regression" and own.model.loss_fun == "cross_entropy":
        own.model.loss_fun = "mse"


def _names(own: CfgNode) -> Iterator[Problem]:
    """Names that must be registered; the host looks them up only when it builds."""
    wanted = [
        ("model.type", own.model.type, register.network_dict),
        ("optim.optimizer", own.optim.optimizer, register.optimizer_dict),
        ("optim.scheduler", own.optim.scheduler, register.scheduler_dict),
    ]
    if own.model.type == "gnn":
        wanted += [
            ("gnn.act", own.gnn.act, register.act_dict),
            ("gnn.stage_type", own.gnn.stage_type, register.stage_dict),
        ]
        if own.dataset.task in TASKS:  # the default head is the task's
            wanted.append(("gnn.head", own.gnn.head, register.head_dict))
        wrong = None if _is_layer(own.gnn.layer_type) else check_layer(own.gnn.layer_type)
        if wrong:
            yield Problem("gnn.layer_type", f"{own.gnn.layer_type!r}", wrong)
    for key, word, known in wanted:
        if word not in known:
            allowed = f"{nearest(word, known)}Allowed: {', '.join(sorted(map(str, known)))}."
            yield Problem(key, f"{word!r}", allowed)
    yield from _head(own)


def _head(own: CfgNode) -> Iterator[Problem]:
    """One of the host's heads for another task would break only once the run has begun."""
    task, head = own.dataset.task, own.gnn.head
    fitting = ("edge", "link_pred") if task in ("edge", "link_pred") else (task,)
    if own.model.type == "gnn" and task in TASKS and head in TASKS and head not in fitting:
        found = f"{head!r} answers for another task than dataset.task {task}"
        yield Problem("gnn.head", found, f"Allowed: {', '.join(fitting)}, or a registered head of your own.")


def _is_layer(word: str) -> bool:
    return word in register.layer_dict or word.removeprefix(PREFIX) in register.layer_dict


def _ranges(own: CfgNode) -> Iterator[Problem]:
    at_least = {
        "optim.max_epoch": 1,
        "train.eval_period": 1,
        "train.batch_size": 1,
        "gnn.dim_inner": 1,
        "gnn.layers_mp": 0,
        "gnn.layers_pre_mp": 0,
        "num_threads": 1,
    }
    for name, low in at_least.items():
        group, _, leaf = name.rpartition(".")
        value = (own[group] if group else own)[leaf]
        if value < low:
            yield Problem(name, f"{value}", f"Allowed: a whole number of at least {low}.")
    if not 0 <= own.gnn.dropout < 1:
        yield Problem("gnn.dropout", f"{own.gnn.dropout:g}", "Allowed: a number of at least 0 and below 1.")
    if own.model.type == "gnn" and own.gnn.layers_mp == 0 and own.gnn.layers_pre_mp == 0:
        allowed = "The host's read-out then gets the wrong width: one of the two must be at least 1."
        yield Problem("gnn.layers_mp", "0, with gnn.layers_pre_mp 0", allowed)
