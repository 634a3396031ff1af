"""Settings that a fork of the host adds to ``train`` and ``optim``: honoured, refused or warned of, never dropped in silence."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from torch_geometric.graphgym import register

from gkd_plugin.config.draft import get_group
from gkd_plugin.config.host_keys import fresh
from gkd_plugin.errors import Problem
from gkd_plugin.groups import GroupDraft

CLIP, LARGEST, ACCUMULATE = "clip_grad_norm", "clip_grad_norm_value", "batch_accumulation"
# the host's own keys, and ours
_KNOWN = {
    "train": (
        "batch_size sampler sample_node node_per_graph radius eval_period skip_train_eval ckpt_period enable_ckpt "
        "auto_resume epoch_resume ckpt_clean iter_per_epoch walk_length neighbor_sizes mode train_parts"
    ).split(),
    "optim": "optimizer base_lr weight_decay momentum scheduler steps lr_decay max_epoch".split(),
}


def settle(cfg: Mapping[str, Any], kd: GroupDraft) -> Iterator[Problem]:
    """Clips gradients where a fork's ``optim`` says so and ``kd.clip_grad_norm`` does not; yields what cannot be honoured.

    Args:
        cfg (mapping): The configuration.
        kd (GroupDraft): The group ``kd``.
    """
    optim = get_group(cfg, "optim")
    steps = optim.get(ACCUMULATE, 1)
    if steps != 1:
        allowed = "Allowed: 1, as distillation steps after every batch. For larger steps raise train.batch_size."
        yield Problem(f"optim.{ACCUMULATE}", f"{steps!r}", allowed)
    if not _clips(optim) or kd.wrote(CLIP):
        return
    value = optim[LARGEST]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf"):
        kd.put(CLIP, float(value), f"optim.{CLIP}")
    else:
        yield Problem(f"optim.{LARGEST}", f"{value!r}", f"Allowed: a number above 0, or optim.{CLIP}: False.")


def find_unread(cfg: Mapping[str, Any]) -> Iterator[str]:
    """Warns of a fork's other keys that were changed, unless the optimizer or the scheduler in use takes them."""
    optim = get_group(cfg, "optim")
    read = {ACCUMULATE, *((CLIP, LARGEST) if _clips(optim) else (LARGEST,))}
    for registry, key in ((register.optimizer_dict, "optimizer"), (register.scheduler_dict, "scheduler")):
        read |= _list_parameters(registry.get(optim.get(key)))
    defaults: Mapping[str, Any] | None = None
    for name, known in _KNOWN.items():
        for key, value in get_group(cfg, name).items():
            if key in known or (name == "optim" and key in read):
                continue
            defaults = fresh() if defaults is None else defaults
            default = get_group(defaults, name).get(key)
            if value != default:
                yield (
                    f"{name}.{key} {value!r} (default {default!r}): distillation does not read this key of your program, so "
                    "it has no effect here."
                )


def _clips(optim: Mapping[str, Any]) -> bool:
    return optim.get(CLIP) is True and LARGEST in optim


def _list_parameters(function: Any) -> set[str]:
    """The names by which the host hands keys of ``optim`` to a registered function."""
    return set(inspect.signature(function).parameters) if callable(function) else set()
