"""What is legal, but probably a mistake: warnings for ``check`` and for the start of a run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from gkd_plugin.config.draft import get_group
from gkd_plugin.config.fork_keys import find_unread
from gkd_plugin.groups import YOU
from gkd_plugin.plan import GroupPlan, Plan
from gkd_plugin.schema import show
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.sources import everybody, is_within, listening, survey

_MANY_EPOCHS = 1000  # a window that only this run does not leave is no mistake
FLAT = 0.2  # kernel values this close together give a distribution over neighbours that is uniform up to a factor e^0.2


def find_warnings(plan: Plan, cfg: Mapping[str, Any]) -> Iterator[str]:
    """Warnings that the configuration alone can give.

    Args:
        plan (Plan): A plan without mistakes.
        cfg (mapping): What it was resolved from.
    """
    gnn, train, optim = (get_group(cfg, group) for group in ("gnn", "train", "optim"))
    for group in plan.active:
        yield from _warn_of_uniform_rows(group, gnn)
        yield from _warn_of_shrinking(group)
        yield from _warn_of_single(group)
        yield from _warn_of_schedule(group, optim)
        yield from _warn_of_no_source(group, plan)
        within = "source" in group.values and is_within(str(group["source"]), plan.students)
        yield from axes.knowledge[group.name].warn(group, within)
    yield from _warn_of_skips(cfg, gnn)
    yield from _warn_of_unused(plan)
    yield from _warn_of_peer_keys(plan)
    yield from _warn_of_no_edges(plan, cfg)
    yield from _warn_of_samplers(cfg, train)
    yield from _warn_of_machine(cfg, train)
    yield from find_unread(cfg)


def _find_cause_of_unit_rows(group: GroupPlan, gnn: Mapping[str, Any]) -> str | None:
    """What makes all rows that a group compares have length 1."""
    if group.get("normalize") == "l2":
        return f"kd_{group.name}.normalize: l2"
    if group.get("normalize") != "none" or not gnn.get("l2norm"):
        return None
    tap = group.get("tap")
    plain = tap == "layer" or (tap == "stage" and gnn.get("stage_type") == "stack")
    return f"gnn.l2norm: true at tap {tap}" if plain else None


def _warn_of_uniform_rows(group: GroupPlan, gnn: Mapping[str, Any]) -> Iterator[str]:
    cause = _find_cause_of_unit_rows(group, gnn)
    if cause is None:
        return
    if group.name == "feature" and group.get("loss") == "attention":
        yield (
            f"kd_feature.loss attention compares the lengths of rows, but {cause} makes all of them 1: "
            "the term has no effect. Set gnn.l2norm: false or tap: conv."
        )
    scale = group.get("kernel_scale")
    if group.get("distribution") == "softmax" and isinstance(scale, float):
        kernel = axes.kernels[str(group["kernel"])]
        width = int(gnn.get("dim_inner") or 64)
        row = torch.ones(1, width, dtype=torch.float64) / width**0.5
        spread = abs(float(kernel.function(row, row, scale)) - float(kernel.function(row, -row, scale)))
        if spread < FLAT:
            yield (
                f"kd_{group.name}.kernel_scale {scale:g} is too wide: {cause}, so kernel {group['kernel']} varies by "
                f"at most {spread:.2g} between any two nodes and every distribution is nearly uniform. "
                "Set gnn.l2norm: false, a smaller scale, or kernel_scale: median."
            )


def _warn_of_shrinking(group: GroupPlan) -> Iterator[str]:
    if group.get("projector_side") == "both" and group.get("normalize") == "none":
        yield (
            f"kd_{group.name}.projector_side both without normalize: both projections are trained and can bring the "
            "distance to 0 by shrinking. Set normalize: l2."
        )


def _warn_of_single(group: GroupPlan) -> Iterator[str]:
    unit = group.name == "contrast" or group.get("normalize") == "l2" or group.get("loss") == "cosine"
    if group.get("dim") == 1 and unit:
        yield (
            f"kd_{group.name}.dim 1: a projected row is one number, of which only the sign is left at length 1: the term teaches "
            "next to nothing. Set a larger dim."
        )
    if group.name == "contrast" and group.get("samples") == 1:
        yield "kd_contrast.samples 1: a single node always finds itself, so the term is 0. Set at least 2."


def _warn_of_schedule(group: GroupPlan, optim: Mapping[str, Any]) -> Iterator[str]:
    epochs, word = optim.get("max_epoch"), str(group["schedule"])
    if isinstance(epochs, int) and not any(schedules.factor(word, epoch) > 0 for epoch in range(epochs)):
        yield f"kd_{group.name}.schedule {word} is 0 in all {epochs} epochs (optim.max_epoch): the term has no effect."
    if word != "constant" and all(schedules.factor(word, epoch) == 1 for epoch in range(_MANY_EPOCHS)):
        yield f"kd_{group.name}.schedule {word} is 1 in every epoch, as constant is: it has no effect. Write constant, or a larger number."


def _warn_of_no_source(group: GroupPlan, plan: Plan) -> Iterator[str]:
    for each in group.active_parts:
        word = group.get(str(each.source))
        if word is not None and plan.students < axes.sources[word].needs_students:
            yield f"kd_{group.name}.{each.source} {word} with kd.students {plan.students}: no student teaches, so the term is 0."


def _warn_of_unused(plan: Plan) -> Iterator[str]:
    if plan["preset"] == "supervised" and plan.active:
        names = ", ".join(f"kd_{group.name}.weight" for group in plan.active)
        yield f"kd.preset supervised, but {names} is above 0: your values override the preset."
    off = not plan.active and any(group.named for group in plan.groups.values())  # a control
    sourced = any(part.source is not None for group in plan.active for part in group.active_parts)
    if plan["shuffle_sources"] and not sourced and not off:
        yield "kd.shuffle_sources true, but no term with a weight above 0 has a source: nothing is shuffled."
    yield from (text for name in axes.sources if not off and (text := describe_unused(plan, name)))


def describe_unused(plan: Plan, name: str) -> str:
    """A warning that a source, such as a teacher, is named and no term listens to it; empty where that is not so.

    Args:
        plan (Plan): The plan.
        name (str): The source.
    """
    named = axes.sources[name].named
    if named is None or not named(plan.kd) or any(listening(plan, name)):
        return ""
    value = next(show(plan[key.name]) for key in axes.sources[name].keys if plan[key.name])
    return f"kd: the {name} {value} is set but unused: no term with a weight above 0 has source: {name}."


def _warn_of_no_edges(plan: Plan, cfg: Mapping[str, Any]) -> Iterator[str]:
    word = get_group(cfg, "model").get("type")
    if float(plan["hide_edges"]) > 0 and word in ("mlp", "edgeconv"):
        yield f"kd.hide_edges {plan['hide_edges']:g} has no effect on student 1: model.type {word} reads no edges of the data."


def _warn_of_samplers(cfg: Mapping[str, Any], train: Mapping[str, Any]) -> Iterator[str]:
    word = train.get("sampler", "full_batch")
    if word != "full_batch" and get_group(cfg, "dataset").get("task") == "graph":
        yield (
            f"train.sampler {word} has no effect on whole graphs (dataset.task graph): they come in batches of train.batch_size. "
            "Write full_batch."
        )


def _warn_of_peer_keys(plan: Plan) -> Iterator[str]:
    """``kd.peer_mode`` without other students that teach, ``kd.peer_target`` without several members that give logits."""
    if not plan.active:  # a control
        return
    sources = [(group, str(group[part.source])) for group in plan.active for part in group.active_parts if part.source]
    students = any(isinstance(member, int) for _, word in sources for member in everybody(word, plan.students))
    members = [survey(word, plan.students).most for group, word in sources if not axes.knowledge[group.name].layered]
    several = isinstance(plan.get("teacher"), tuple) and plan.get("teacher_target") == "each"
    if plan["peer_mode"] != "eval" and not students and plan.origins.get("kd.peer_mode") == YOU:
        yield f"kd.peer_mode {plan['peer_mode']} has no effect: no term with a weight above 0 listens to other students."
    if (
        plan["peer_target"] != "each"
        and max(members, default=0) < 2
        and not several
        and plan.origins.get("kd.peer_target") == YOU
    ):
        yield (
            f"kd.peer_target {plan['peer_target']} has no effect: no term with a weight above 0 compares the logits of "
            "several members at once."
        )


def _warn_of_skips(cfg: Mapping[str, Any], gnn: Mapping[str, Any]) -> Iterator[str]:
    """The host adds what enters a layer to what leaves it: in the first layer without ``layers_pre_mp`` the features."""
    encoded = get_group(cfg, "dataset").get("node_encoder")
    plain = get_group(cfg, "model").get("type", "gnn") == "gnn"  # networks of ours find this out themselves
    if plain and gnn.get("stage_type") == "skipsum" and gnn.get("layers_pre_mp", 0) == 0 and not encoded:
        yield (
            "gnn.stage_type skipsum with gnn.layers_pre_mp 0 adds the data's features to the output of the first layer: "
            "that fails unless there are as many of them as gnn.dim_inner. Set gnn.layers_pre_mp: 1."
        )


def _warn_of_machine(cfg: Mapping[str, Any], train: Mapping[str, Any]) -> Iterator[str]:
    period = train.get("eval_period", 1)
    if isinstance(period, int) and period > 1:
        yield (
            f"train.eval_period {period}: validation runs every {period} epochs, and only these can be selected. "
            "Set train.eval_period: 1."
        )
    threads, cores = cfg.get("num_threads", 1), _count_cores()
    if isinstance(threads, int) and threads > cores:
        yield f"num_threads {threads}, but this process may use {cores} core{'s' if cores > 1 else ''}: slower than num_threads: {cores}."


def _count_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
