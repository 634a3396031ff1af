"""Every configuration key with its default: what ``kd``, each ``kd_<knowledge>`` and ``kd_attention`` may hold.

Keys that only one knowledge reads are declared by its :class:`~gkd_plugin.space.knowledge.base.Term`, third-party ones included;
here stand the scheme and what groups have in common. In ``cfg`` every key is ``None`` until the user writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from yacs.config import CfgNode

from gkd_plugin.schema import Choice, Key, Kind, Name, Names, Number, Pairs
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.attention_map import ATTENTION_KEYS
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.observation import TAPS

SCHEME = "kd"
ATTENTION = "kd_attention"

# Words that the reference documents and this version does not build, by key (``groups`` for whole groups): a clear
# refusal instead of "unknown". Empty when everything is built.
PLANNED: dict[str, tuple[str, ...]] = {}


class ScheduleWord(Kind):
    """A schedule with its numbers, such as ``window_0_30``."""

    def describe(self) -> str:
        return "one of " + ", ".join(axes.schedules) + " with whole numbers in place of n, a, b"

    def parse(self, raw: Any) -> str:
        schedules.parse(str(raw))
        return str(raw)


def _without_teacher(values: Mapping[str, Any]) -> str | None:
    named = values["teacher"] is not None or values["teacher_cfg"] is not None
    return None if named else "no teacher is named (kd.teacher, kd.teacher_cfg)"


SCHEME_KEYS = (
    Key("preset", "none", Choice(lambda: ("none", *axes.presets)), "a published method; what you write wins"),
    Key("students", None, Number(1, integer=True), "how many are trained; 2 where peers teach, else 1"),
    Key("cohort", (), Names("a YAML name per further student"), "files of further students, unlike the first"),
    Key("init", "independent", Choice(("independent", "same")), "same: all students begin as copies of student 1"),
    Key(
        "update",
        "epoch_alternate",
        Choice(("epoch_alternate", "step_alternate", "joint")),
        "who moves when; joint: all targets are read before any step",
    ),
    Key("peer_mode", "eval", Choice(("eval", "train")), "whether a peer is read with dropout and batch statistics"),
    Key("peer_target", "each", Choice(("each", "ensemble_mean")), "every peer's logits, or their mean"),
    Key("label_weight", 1.0, Number(0), "weight of the label loss; 0: soft labels only"),
    Key("teacher", None, Name("a run's or file's name", path=True), "a trained model that is frozen and listened to"),
    Key("teacher_cfg", None, Name("a YAML name", path=True), "trained first, once, where the teacher is missing"),
    Key(
        "teacher_seed",
        "match",
        Number(0, integer=True, words=("match", "best")),
        "which of the teacher's seeds teaches",
        _without_teacher,
    ),
    Key("layers", None, Name("a pattern of module names, such as layers.*"), "the layers of a network without 'mp'"),
    Key("hide_edges", 0.0, Number(0, below=1), "share of edges that students never see; the teacher sees all"),
    Key("clip_grad_norm", None, Number(0, above=True, words=("none",)), "largest norm of a student's gradient"),
    Key("patience", None, Number(1, integer=True, words=("none",)), "evaluations without a better validation score"),
    Key("predict", "best", Choice(("best", "first", "ensemble")), "which student answers; best: by validation"),
)


def _unless_map_reads(key: str) -> Callable[[Mapping[str, Any]], str | None]:
    def reason(values: Mapping[str, Any]) -> str | None:
        if key in axes.layer_maps[values["layer_map"]].keys:
            return None
        readers = [name for name in axes.layer_maps if key in axes.layer_maps[name].keys]
        return f"layer_map {values['layer_map']} has none (only: {', '.join(readers)})"

    return reason


WEIGHT = Key("weight", 0.0, Number(0), "factor in the loss; 0: nothing is built or computed")
SOURCE = Key("source", None, Choice(lambda: tuple(axes.sources)), "who teaches: teacher if one is named, else peers")
SCHEDULE = Key("schedule", "constant", ScheduleWord(), "how the weight moves with the epoch, from 0")
LAYER_KEYS = (
    Key("layer_map", "last", Choice(lambda: tuple(axes.layer_maps)), "which layer listens to which of the source"),
    Key("layer_reduction", "sum", Choice(("sum", "mean")), "mean: divided by the sum of the map's weights"),
    Key("shift", 1, Number(None, integer=True), "layer l listens to l + shift, cyclic", _unless_map_reads("shift")),
    Key("pairs", None, Pairs(), "learner~source pairs, such as 3~2+4~2", _unless_map_reads("pairs")),
    Key("tap", "conv", Choice(TAPS), "where a layer is read: before or after activation and norm, or after the skip"),
)


def keys_of(knowledge: type[Term]) -> tuple[Key, ...]:
    """The keys of a knowledge's group: the common ones, then its own (which win where names agree)."""
    common = [WEIGHT, *([SOURCE] if knowledge.sourced else []), SCHEDULE, *(LAYER_KEYS if knowledge.layered else ())]
    own = {key.name for key in knowledge.keys}
    return (*(key for key in common if key.name not in own), *knowledge.keys)


def groups() -> dict[str, tuple[Key, ...]]:
    """The keys of every group as YAML names it; grows and shrinks with the plugins."""
    of_knowledge = {f"kd_{name}": keys_of(axes.knowledge[name]) for name in axes.knowledge}
    return {SCHEME: SCHEME_KEYS, **of_knowledge, ATTENTION: ATTENTION_KEYS}


def set_cfg_kd(cfg: CfgNode) -> None:
    """Puts all groups into ``cfg`` with every key undecided, whatever stood there: the host calls it to reset."""
    for name, keys in groups().items():
        cfg[name] = CfgNode({key.name: None for key in keys})


def extend_cfg_kd(cfg: CfgNode) -> None:
    """Adds the groups and keys that ``cfg`` lacks (of plugins that came later) and leaves what stands there."""
    for name, keys in groups().items():
        cfg[name] = CfgNode({**{key.name: None for key in keys}, **(cfg.get(name) or {})})
