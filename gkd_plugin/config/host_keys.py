"""The host's own keys: plain values put into a ``cfg`` of its defaults, of the type they were meant to have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch_geometric.graphgym import register
from torch_geometric.graphgym.config import assert_cfg, set_cfg
from torch_geometric.nn.resolver import aggregation_resolver
from yacs.config import CfgNode

from gkd_plugin import groups
from gkd_plugin.config import kd_keys
from gkd_plugin.config.kd_keys import SCHEME, set_cfg_kd
from gkd_plugin.data.keys import METRIC_KEYS, METRICS, SPLIT_KEYS, SPLITS
from gkd_plugin.data.trust import check_names
from gkd_plugin.errors import OF_YOUR_OWN, Problem, nearest
from gkd_plugin.models import networks
from gkd_plugin.models.aux_layers import PREFIX, check_layer
from gkd_plugin.schema import BadValue, Flag, Kind, Number

TASKS = ("node", "edge", "graph", "link_pred")
BESIDE = {SPLITS: SPLIT_KEYS, METRICS: METRIC_KEYS}  # groups of ours that describe data, not distillation
TASK_TYPES = (
    "classification",
    "classification_binary",
    "classification_multi",
    "classification_multilabel",
    "regression",
)
LOSSES = ("cross_entropy", "mse")
DECODINGS = ("concat", "cosine_similarity", "dot")
SAMPLERS = ("full_batch", "neighbor", "random_node", "saint_rw", "saint_node", "saint_edge", "cluster")
GENERAL_LAYERS = ("generalconv", "generaledgeconv", "generalsampleedgeconv")
AGGREGATIONS = ("add", "sum", "mean", "max", "min", "mul", "median", "std", "var", "softmax")
MAX_SEED = 2**32 - 2  # NumPy takes one more, but the host counts one up before it seeds a run
DROPPED = ("run_dir",)  # the host writes it into config.yaml and cannot read it back


class Text(Kind):
    """Text as it stands; a number is the text that it looks like."""

    def describe(self) -> str:
        return "text"

    def parse(self, raw: Any) -> str:
        if isinstance(raw, bool):
            raise BadValue("Allowed: text. YAML reads on, off, yes, no, true, false as truth values; quote the word.")
        if not isinstance(raw, (int, float, str)):
            raise BadValue("Allowed: text.")
        return str(raw)


class Like(Kind):
    """A value of the default's own type; lists and tuples stand for each other."""

    def __init__(self, default: Any) -> None:
        self.type = type(default)

    def describe(self) -> str:
        return "a list" if self.type in (list, tuple) else self.type.__name__

    def parse(self, raw: Any) -> Any:
        if self.type in (list, tuple) and isinstance(raw, (list, tuple)):
            return self.type(raw)
        if not isinstance(raw, self.type):
            raise BadValue(f"Allowed: {self.describe()}.")
        return raw


def kind_of(default: Any) -> Kind:
    """What a key of the host may hold, told by its default."""
    if isinstance(default, bool):
        return Flag()
    if isinstance(default, (int, float)):
        return Number(None, integer=isinstance(default, int))
    return Text() if isinstance(default, str) else Like(default)


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
            yield Problem(name, "unknown key", _suggest(name, prefix, node, root))
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
            except BadValue as error:
                yield Problem(name, f"{raw!r} is not allowed", str(error))


def is_kd(name: str) -> bool:
    """Whether a top-level name is one of our groups."""
    return name == SCHEME or name.startswith(f"{SCHEME}_")


def _suggest(name: str, prefix: str, node: CfgNode, root: CfgNode) -> str:
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
        BadValue: If it cannot be meant so; the text gives the default as an example.
    """
    if default is None or raw is None:
        return raw
    try:
        return kind_of(default).parse(raw)
    except BadValue as error:
        example = list(default) if isinstance(default, tuple) else default
        raise BadValue(f"{error} The default is {example!r}.") from None


def finish(own: CfgNode) -> list[Problem]:
    """The host's own post-processing, and what would make a run fail once it has begun."""
    found = []
    if own.dataset.task in TASKS:
        _settle(own)
        assert_cfg(own)
    else:
        found.append(Problem("dataset.task", f"{own.dataset.task!r}", f"Allowed: {', '.join(TASKS)}."))
    beside = [problem for name, keys in BESIDE.items() for problem in groups.find_problems(own, name, keys)]
    return [*found, *check_names(own.dataset), *_check_names(own), *_check_ranges(own), *networks.check(own), *beside]


def _settle(own: CfgNode) -> None:
    """What the host is about to change of its own defaults, with a log line for each that tells the user nothing."""
    own.gnn.layers_post_mp = max(1, own.gnn.layers_post_mp)
    if own.dataset.task == "graph":
        own.dataset.transductive = False
    if own.dataset.task_type == "regression" and own.model.loss_fun == "cross_entropy":
        own.model.loss_fun = "mse"


def _check_names(own: CfgNode) -> Iterator[Problem]:
    """Names that must be known or registered; the host looks them up only when it builds."""
    task, data, net = own.dataset.task, own.dataset, own.model.type == "gnn"
    wanted: list[tuple[str, str, Iterable[str]]] = [
        ("model.type", own.model.type, register.network_dict),
        ("optim.optimizer", own.optim.optimizer, register.optimizer_dict),
        ("optim.scheduler", own.optim.scheduler, register.scheduler_dict),
        ("model.size_average", own.model.size_average, ("mean", "sum")),
        ("train.sampler", own.train.sampler, SAMPLERS),
        ("val.sampler", own.val.sampler, SAMPLERS),
    ]
    if not register.loss_dict:  # a registered loss may answer to any word
        wanted += [("model.loss_fun", own.model.loss_fun, LOSSES), ("dataset.task_type", data.task_type, TASK_TYPES)]
    if net:
        wanted += [
            ("gnn.act", own.gnn.act, register.act_dict),
            ("gnn.stage_type", own.gnn.stage_type, register.stage_dict),
        ]
        if task in TASKS:  # the default head is the task's
            wanted.append(("gnn.head", own.gnn.head, register.head_dict))
        if own.gnn.head == "graph":
            wanted.append(("model.graph_pooling", own.model.graph_pooling, register.pooling_dict))
        if own.gnn.head in ("edge", "link_pred"):
            wanted.append(("model.edge_decoding", own.model.edge_decoding, DECODINGS))
        if data.node_encoder:
            wanted.append(("dataset.node_encoder_name", data.node_encoder_name, register.node_encoder_dict))
        if data.edge_encoder:
            wanted.append(("dataset.edge_encoder_name", data.edge_encoder_name, register.edge_encoder_dict))
        wrong = None if _is_layer(own.gnn.layer_type) else check_layer(own.gnn.layer_type)
        if wrong:
            yield Problem("gnn.layer_type", f"{own.gnn.layer_type!r}", wrong)
    for key, word, known in wanted:
        if word not in known:
            allowed = f"{nearest(word, known)}Allowed: {', '.join(sorted(map(str, known)))}."
            yield Problem(key, f"{word!r}", f"{allowed} {OF_YOUR_OWN}" if isinstance(known, dict) else allowed)
    yield from _check_head(own)
    yield from _check_aggregation(own)
    yield from _check_device(own)


def _check_aggregation(own: CfgNode) -> Iterator[Problem]:
    """Only the host's general layers read ``gnn.agg``, and hand it to PyG."""
    if own.model.type != "gnn" or own.gnn.layer_type.removeprefix(PREFIX) not in GENERAL_LAYERS:
        return
    try:
        aggregation_resolver(own.gnn.agg)
    except (TypeError, ValueError):  # unknown, or one that wants arguments
        allowed = f"{nearest(own.gnn.agg, AGGREGATIONS)}Allowed: {', '.join(AGGREGATIONS)}."
        yield Problem("gnn.agg", f"{own.gnn.agg!r}", allowed)


def _check_device(own: CfgNode) -> Iterator[Problem]:
    word = own.accelerator
    here = ["auto", "cpu"]
    if torch.cuda.is_available():
        here += ["cuda", *(f"cuda:{number}" for number in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        here.append("mps")
    if word in here:
        return
    try:
        known = torch.device(word).type
    except RuntimeError:
        hint = "Write cuda for a GPU. " if word == "gpu" else nearest(word, here)
        yield Problem("accelerator", f"{word!r} is no device", f"{hint}Allowed on this machine: {', '.join(here)}.")
        return
    if known in ("cpu", "cuda", "mps"):  # what else PyTorch knows is for PyTorch to judge
        found = f"{word!r} is not on this machine"
        yield Problem("accelerator", found, f"Allowed here: {', '.join(here)}; auto takes a GPU where there is one.")


def _check_head(own: CfgNode) -> Iterator[Problem]:
    """One of the host's heads for another task would break only once the run has begun."""
    task, head = own.dataset.task, own.gnn.head
    fitting = ("edge", "link_pred") if task in ("edge", "link_pred") else (task,)
    if own.model.type == "gnn" and task in TASKS and head in TASKS and head not in fitting:
        found = f"{head!r} answers for another task than dataset.task {task}"
        yield Problem("gnn.head", found, f"Allowed: {', '.join(fitting)}, or a registered head of your own.")


def _is_layer(word: str) -> bool:
    return word in register.layer_dict or word.removeprefix(PREFIX) in register.layer_dict


def _check_ranges(own: CfgNode) -> Iterator[Problem]:
    at_least = {
        "optim.max_epoch": 1,
        "train.eval_period": 1,
        "train.batch_size": 1,
        "gnn.dim_inner": 1,
        "gnn.layers_mp": 0,
        "gnn.layers_pre_mp": 0,
        "num_threads": 1,
        "num_workers": 0,
        "optim.base_lr": 0,
        "optim.weight_decay": 0,
        "optim.momentum": 0,
    }
    for name, low in at_least.items():
        group, _, leaf = name.rpartition(".")
        value = (own[group] if group else own)[leaf]
        if value < low:
            kind = Number(low, integer=isinstance(value, int))
            yield Problem(name, f"{value:g}", f"Allowed: {kind.describe()}.")
    if not 0 <= own.seed <= MAX_SEED:
        yield Problem("seed", f"{own.seed}", f"Allowed: a whole number from 0 to {MAX_SEED}.")
    if not 0 <= own.gnn.dropout < 1:
        yield Problem("gnn.dropout", f"{own.gnn.dropout:g}", "Allowed: a number of at least 0 and below 1.")
    if own.model.type == "gnn" and own.gnn.layers_mp == 0 and own.gnn.layers_pre_mp == 0:
        allowed = "The host's read-out then gets the wrong width: one of the two must be at least 1."
        yield Problem("gnn.layers_mp", "0, with gnn.layers_pre_mp 0", allowed)
