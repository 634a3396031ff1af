"""What would make a run of the host's part fail once it has begun: names, devices, packages, keys that do not go together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec

import torch
from torch_geometric.graphgym import register
from torch_geometric.nn import SplineConv
from torch_geometric.nn.resolver import aggregation_resolver
from yacs.config import CfgNode

from gkd_plugin.data.samplers import SAMPLERS, find_sampler_problem, serves_one_graph
from gkd_plugin.errors import OF_YOUR_OWN, Problem, describe_error, nearest, quote
from gkd_plugin.models.aux_layers import PREFIX, check_layer
from gkd_plugin.models.networks import NETWORKS

TASKS = ("node", "edge", "graph", "link_pred")
TASK_TYPES = (
    "classification",
    "classification_binary",
    "classification_multi",
    "classification_multilabel",
    "regression",
)
MODES = ("standard", "distill")
LOSSES = ("cross_entropy", "mse")
DECODINGS = ("concat", "cosine_similarity", "dot")
GENERAL_LAYERS = ("generalconv", "generaledgeconv", "generalsampleedgeconv")
AGGREGATIONS = ("add", "sum", "mean", "max", "min", "mul", "median", "std", "var", "softmax")
METRICS = {"regression": ("mae", "mse", "rmse"), "classification": ("accuracy", "precision", "recall", "f1", "auc")}
FROM_OGB = {"node_encoder": "Atom", "edge_encoder": "Bond"}
BYTES_OF_LAYER = 20_000  # of the objects of a layer, whatever its width
UNKNOWN_MEMORY = 2**40


def find_problems(own: CfgNode) -> Iterator[Problem]:
    """The mistakes in the host's keys whose values are allowed one by one.

    Args:
        own (CfgNode): A configuration of the host.
    """
    yield from check_names(own)
    yield from _check_metrics(own)
    if own.model.type == "gnn":
        yield from _check_network(own)
    yield from _check_device(own)
    yield from _check_packages(own)
    yield from _check_samplers(own)


def check_names(own: CfgNode) -> Iterator[Problem]:
    """Names that must be known or registered; the host looks them up only when it builds.

    Args:
        own (CfgNode): A configuration of the host.
    """
    task, data, net = own.dataset.task, own.dataset, own.model.type == "gnn"
    wanted: list[tuple[str, str, Iterable[str]]] = [
        ("model.type", own.model.type, register.network_dict),
        ("optim.optimizer", own.optim.optimizer, register.optimizer_dict),
        ("optim.scheduler", own.optim.scheduler, register.scheduler_dict),
        ("model.size_average", own.model.size_average, ("mean", "sum")),
        ("train.mode", own.train.mode, {*MODES, *register.train_dict}),
        ("train.sampler", own.train.sampler, SAMPLERS),
        ("val.sampler", own.val.sampler, SAMPLERS),
        *(("custom_metrics", word, register.metric_dict) for word in own.custom_metrics),
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
        if own.gnn.layer_type.removeprefix(PREFIX) in GENERAL_LAYERS:  # the only ones that read these keys
            wanted.append(("gnn.self_msg", own.gnn.self_msg, ("none", "add", "concat")))
            wanted.append(("gnn.msg_direction", own.gnn.msg_direction, ("single", "both")))
    for key, word, known in wanted:
        if word not in known:
            words = ", ".join(sorted(map(str, known))) or "none (nothing is registered)"
            allowed = f"{nearest(word, known)}Allowed: {words}."
            yield Problem(key, quote(word), f"{allowed} {OF_YOUR_OWN}" if isinstance(known, dict) else allowed)


def _check_metrics(own: CfgNode) -> Iterator[Problem]:
    kind = own.dataset.task_type.partition("_")[0]
    known = own.custom_metrics or METRICS.get(kind)
    if known and own.metric_best not in ("auto", *known):
        allowed = f"{nearest(own.metric_best, known)}Allowed: auto, {', '.join(known)}."
        yield Problem("metric_best", f"{quote(own.metric_best)} is not measured", allowed)


def _check_network(own: CfgNode) -> Iterator[Problem]:
    """The parts of which the host's own network is built."""
    gnn = own.gnn
    wrong = None if _is_layer(gnn.layer_type) else check_layer(gnn.layer_type)
    if wrong:
        yield Problem("gnn.layer_type", quote(gnn.layer_type), wrong)
    yield from _check_head(own)
    yield from _check_aggregation(own)
    if gnn.layers_mp == 0 and gnn.layers_pre_mp == 0:
        allowed = "The host's read-out then gets the wrong width: one of the two must be at least 1."
        yield Problem("gnn.layers_mp", "0, with gnn.layers_pre_mp 0", allowed)


def _is_layer(word: str) -> bool:
    return word in register.layer_dict or word.removeprefix(PREFIX) in register.layer_dict


def _check_head(own: CfgNode) -> Iterator[Problem]:
    """One of the host's heads for another task would break only once the run has begun."""
    task, head = own.dataset.task, own.gnn.head
    fitting = ("edge", "link_pred") if task in ("edge", "link_pred") else (task,)
    if task in TASKS and head in TASKS and head not in fitting:
        found = f"{head!r} answers for another task than dataset.task {task}"
        yield Problem("gnn.head", found, f"Allowed: {', '.join(fitting)}, or a registered head of your own.")


def _check_aggregation(own: CfgNode) -> Iterator[Problem]:
    """Only the host's general layers read ``gnn.agg``, and hand it to PyG."""
    if own.gnn.layer_type.removeprefix(PREFIX) not in GENERAL_LAYERS:
        return
    try:
        aggregation_resolver(own.gnn.agg)
    except (TypeError, ValueError):  # unknown, or one that wants arguments
        allowed = f"{nearest(own.gnn.agg, AGGREGATIONS)}Allowed: {', '.join(AGGREGATIONS)}."
        yield Problem("gnn.agg", quote(own.gnn.agg), allowed)


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
        found = f"{quote(word)} is not a device"
        yield Problem("accelerator", found, f"{hint}Allowed on this machine: {', '.join(here)}.")
        return
    if known in ("cpu", "cuda", "mps"):  # what else PyTorch knows is for PyTorch to judge
        found = f"{word!r} is not on this machine"
        yield Problem("accelerator", found, f"Allowed here: {', '.join(here)}; auto takes a GPU where there is one.")


def _check_packages(own: CfgNode) -> Iterator[Problem]:
    """What needs a package that is not installed, or a key that this host has no more."""
    if own.tensorboard_each_run and find_spec("tensorboardX") is None:
        allowed = "Install it: pip install tensorboardX; or write tensorboard_each_run: False."
        yield Problem("tensorboard_each_run", "True needs the package tensorboardX", allowed)
    if own.gpu_mem and "device" not in own:
        found = "True makes the host read a key 'device' that it has no more"
        yield Problem("gpu_mem", found, "Allowed: False.")
    for key, word in FROM_OGB.items():
        if own.model.type == "gnn" and own.dataset[key] and own.dataset[f"{key}_name"] == word and _lacks_ogb():
            allowed = f"Install it: pip install ogb; or write dataset.{key}: False."
            yield Problem(f"dataset.{key}_name", f"{word!r} needs the package ogb", allowed)
    if own.model.type == "gnn" and own.gnn.layer_type.removeprefix(PREFIX) == "splineconv":
        try:
            SplineConv(1, 1, dim=1, kernel_size=2)
        except ImportError as error:
            found = f"{own.gnn.layer_type!r} needs a compiled package ({describe_error(error)})"
            yield Problem("gnn.layer_type", found, "Install it, or choose another layer, such as gcnconv.")


def _check_samplers(own: CfgNode) -> Iterator[Problem]:
    for part in ("train", "val"):
        word = own[part].sampler
        wrong = find_sampler_problem(word, own) if word in SAMPLERS and serves_one_graph(own) else None
        if wrong is not None:
            yield Problem(f"{part}.sampler", f"{quote(word)} {wrong[0]}", wrong[1])


def _lacks_ogb() -> bool:
    return find_spec("ogb") is None


def find_size_problem(own: CfgNode, students: int) -> Problem | None:
    """Networks of which already the weights do not fit into this machine's memory.

    Args:
        own (CfgNode): A configuration of the host.
        students (int): Number of students.
    """
    gnn = own.gnn
    if own.model.type not in ("gnn", *NETWORKS):  # a user's own need not read these keys
        return None
    layers = gnn.layers_pre_mp + gnn.layers_mp + gnn.layers_post_mp
    needed = students * layers * (4 * gnn.dim_inner**2 + BYTES_OF_LAYER)
    there = _read_memory()
    if needed <= there:
        return None
    found = f"{students} student{'s' if students > 1 else ''} with {layers} layers of width {gnn.dim_inner}"
    allowed = "Write a smaller gnn.dim_inner, fewer layers, or fewer kd.students."
    size = f"about {needed / 1e9:,.0f} GB for the networks alone, but this machine has {there / 1e9:,.0f} GB"
    return Problem("gnn.dim_inner", f"{found} need {size}", allowed)


def _read_memory() -> int:
    """The machine's memory in bytes."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # not a POSIX system
        return UNKNOWN_MEMORY
