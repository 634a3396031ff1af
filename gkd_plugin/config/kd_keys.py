"""Every configuration key with its default: what ``kd`` and each group ``kd_<knowledge>`` and ``kd_<learned map>`` may hold.

Keys that only one knowledge, layer map or source reads are declared by it, third-party ones included; this file has the
scheme and what groups share. In ``cfg`` every key is ``None`` until the user writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from yacs.config import CfgNode

from gkd_plugin.schema import Choice, Flag, Key, Kind, Name, Names, Number
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.observation import TAPS
from gkd_plugin.space.sources import stand_ins

SCHEME = "kd"
PREDICT = ("best", "first", "ensemble")


class ScheduleWord(Kind):
    """A schedule with its numbers, such as ``window_0_30``."""

    def describe(self) -> str:
        return "one of " + ", ".join(axes.schedules) + " with whole numbers in place of n, a, b"

    def parse(self, raw: Any) -> str:
        schedules.parse(str(raw))
        return str(raw)


SCHEME_KEYS = (
    Key("preset", "none", Choice(lambda: ("none", *axes.presets)), "a published method; your values win"),
    Key("students", None, Number(1, high=10_000, integer=True), "how many are trained; 2 where peers teach, else 1"),
    Key("cohort", (), Names("a YAML name per further student"), "files of further students, unlike the first"),
    Key("init", "independent", Choice(("independent", "same")), "same: all students begin as copies of student 1"),
    Key(
        "update",
        "epoch_alternate",
        Choice(("epoch_alternate", "step_alternate", "joint")),
        "who steps when; joint: all targets are read before any step",
    ),
    Key("peer_mode", "eval", Choice(("eval", "train")), "whether a peer is read with dropout and batch statistics"),
    Key("peer_target", "each", Choice(("each", "ensemble_mean")), "every peer's logits, or their mean"),
    Key("shuffle_sources", False, Flag(), "a placebo: each item is taught by what the sources say of another item"),
    Key("label_weight", 1.0, Number(0), "weight of the label loss; 0: soft labels only"),
    Key("layers", None, Name("a pattern of module names, such as layers.*"), "the layers of a network without 'mp'"),
    Key("hide_edges", 0.0, Number(0, below=1), "share of edges that students never see; the teacher sees all"),
    Key(
        "sparse_input",
        False,
        Flag(),
        "whether students read mostly empty features, and GCN layers their edges, by sparse products: faster, equal up to rounding",
    ),
    Key("stack", False, Flag(), "like students, and the seeds of a run, in one pass; equal up to rounding and dropout"),
    Key("clip_grad_norm", None, Number(0, above=True, words=("none",)), "largest norm of a student's gradient"),
    Key("patience", None, Number(1, integer=True, words=("none",)), "evaluations without a better validation score"),
    Key(
        "predict",
        "best",
        Choice(lambda: (*PREDICT, *stand_ins())),
        "which student answers; best: by validation",
    ),
    Key(
        "measure_period",
        1,
        Number(1, integer=True),
        "epochs between measurements of heads and over-smoothing; rows between repeat the last and name its epoch",
    ),
    Key(
        "eval_memory",
        1.0,
        Number(0, above=True),
        "GiB that a layer's messages may take in evaluation; where all would take more, they are sent in parts, same result",
    ),
    Key("tracker", "none", Choice(lambda: ("none", *axes.trackers)), "where the numbers are shown, too; changes none"),
)


WEIGHT = Key("weight", 0.0, Number(0), "factor in the loss; 0: nothing is built or computed")
SOURCE = Key("source", None, Choice(lambda: tuple(axes.sources)), "who teaches: teacher if one is named, else peers")
SCHEDULE = Key("schedule", "constant", ScheduleWord(), "how the weight moves with the epoch, from 0")
LAYER_MAP = Key(
    "layer_map", "last", Choice(lambda: tuple(axes.layer_maps)), "which layer listens to which of the source"
)
LAYER_REDUCTION = Key(
    "layer_reduction", "sum", Choice(("sum", "mean")), "mean: divided by the sum of the map's weights"
)
TAP = Key("tap", "conv", Choice(TAPS), "where a layer is read: before or after activation and norm, or after the skip")


COMMON = (WEIGHT, SOURCE, SCHEDULE, LAYER_MAP, LAYER_REDUCTION, TAP)


def scheme_keys() -> tuple[Key, ...]:
    """The keys of the group ``kd``: those of the scheme, then those that sources declare."""
    keys = {key.name: key for key in SCHEME_KEYS}
    for name in axes.sources:
        keys |= {key.name: key for key in axes.sources[name].keys}
    return tuple(keys.values())


def map_keys() -> tuple[Key, ...]:
    """The keys of fixed layer maps; each applies where its map is chosen."""
    found: dict[str, Key] = {}
    for name in axes.layer_maps:
        if not axes.layer_maps[name].learned:
            found |= {key.name: key for key in axes.layer_maps[name].keys}
    return tuple(replace(key, unless=_unless_map_reads(key)) for key in found.values())


def _unless_map_reads(key: Key) -> Callable[[Mapping[str, Any]], str | None]:
    def find_reason(values: Mapping[str, Any]) -> str | None:
        readers = [name for name in axes.layer_maps if key.name in (each.name for each in axes.layer_maps[name].keys)]
        if values["layer_map"] in readers:
            return key.unless(values) if key.unless else None
        return f"layer_map {values['layer_map']} has none (only: {', '.join(readers)})"

    return find_reason


def layer_keys() -> tuple[Key, ...]:
    """What all groups have in common that compare layers."""
    return LAYER_MAP, LAYER_REDUCTION, *map_keys(), TAP


def is_sourced(knowledge: type[Term]) -> bool:
    """Whether a knowledge's group has the key ``source``."""
    return any(part.source == SOURCE.name for part in knowledge.parts)


def keys_of(knowledge: type[Term]) -> tuple[Key, ...]:
    """The keys of a knowledge's group: the common ones, then its own (which win where names agree)."""
    common = [
        WEIGHT,
        *([SOURCE] if is_sourced(knowledge) else []),
        SCHEDULE,
        *(layer_keys() if knowledge.layered else ()),
    ]
    own = {key.name for key in knowledge.keys}
    return (*(key for key in common if key.name not in own), *knowledge.keys)


def learned_maps() -> dict[str, tuple[Key, ...]]:
    """The learned layer maps by name, each with the keys of its group ``kd_<name>``."""
    return {name: axes.layer_maps[name].keys for name in axes.layer_maps if axes.layer_maps[name].learned}


def groups() -> dict[str, tuple[Key, ...]]:
    """The keys of every group as YAML names it; grows and shrinks with the plugins."""
    of_knowledge = {f"kd_{name}": keys_of(axes.knowledge[name]) for name in axes.knowledge}
    of_maps = {f"kd_{name}": keys for name, keys in learned_maps().items()}
    return {SCHEME: scheme_keys(), **of_knowledge, **of_maps}


def set_cfg_kd(cfg: CfgNode) -> None:
    """Puts all groups into ``cfg`` with every key undecided; the host calls it to reset."""
    for name, keys in groups().items():
        cfg[name] = CfgNode({key.name: None for key in keys})


def extend_cfg_kd(cfg: CfgNode) -> None:
    """Adds the groups and keys that ``cfg`` lacks (of plugins that were loaded later) and keeps the others."""
    for name, keys in groups().items():
        cfg[name] = CfgNode({**{key.name: None for key in keys}, **(cfg.get(name) or {})})
