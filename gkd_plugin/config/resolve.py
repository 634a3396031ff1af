"""Decides every key of the scheme and the groups, and finds all mistakes at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from gkd_plugin.config import kd_keys
from gkd_plugin.config.depths import depth_of, layer_problems, marks_layers
from gkd_plugin.config.draft import DEFAULT, GroupDraft, drafts, fill, part, show
from gkd_plugin.config.warnings import advice
from gkd_plugin.errors import ConfigError, Problem
from gkd_plugin.plan import MARKED, GroupPlan, Plan
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Preset
from gkd_plugin.space.knowledge.response import LOSS_BY_TASK
from gkd_plugin.space.observation import Task

MARKED_WEIGHT = 0.3
BY_TASK = "the task"


def resolve(cfg: Mapping[str, Any], *, where: str | None = None) -> Plan:
    """The plan that a configuration describes: your value, else the preset's, else the table's.

    Args:
        cfg (mapping): The host's ``cfg``, or nested plain values, with ``kd`` groups; ``None`` is undecided. Host
            groups that are absent are not looked at.
        where (str, optional): What an error calls the configuration.

    Raises:
        ConfigError: With every mistake.
    """
    plan, problems = examine(cfg)
    if problems:
        raise ConfigError(problems, where)
    return plan


def examine(cfg: Mapping[str, Any]) -> tuple[Plan, list[Problem]]:
    """The plan as far as it goes, and what is wrong with it."""
    found, problems = drafts(cfg)
    resolution = _Resolution(cfg, found)
    problems += resolution.problems()
    problems.sort(key=lambda problem: _place(problem.key))
    plan = resolution.plan()
    return (plan if problems else _advised(plan, cfg)), problems


def _place(name: str) -> tuple[int, int]:
    """Where a key stands in the table; unknown keys open their group, unknown groups come last."""
    group, _, leaf = name.partition(".")
    known = kd_keys.groups()
    if group not in known:
        return len(known), 0
    leaves = [key.name for key in known[group]]
    return list(known).index(group), leaves.index(leaf) if leaf in leaves else -1


def _advised(plan: Plan, cfg: Mapping[str, Any]) -> Plan:
    return Plan(plan.kd, plan.groups, plan.attention, tuple(advice(plan, cfg)), plan.origins)


def tasks_of(cfg: Mapping[str, Any]) -> tuple[Task, ...]:
    """What may be predicted: two tasks where only the data tell (classes, or one logit), none without ``dataset``."""
    dataset, share = part(cfg, "dataset"), part(cfg, "share")
    if "task" not in dataset or "task_type" not in dataset:
        return ()
    level = {"link_pred": "edge"}.get(dataset["task"], dataset["task"])
    kind = str(dataset["task_type"])
    if kind == "classification":
        classes = share.get("dim_out", 1)  # 1 until a data set is loaded
        kinds = ("multiclass", "binary") if classes < 2 else ("binary",) if classes == 2 else ("multiclass",)
        return tuple(Task(level, each) for each in kinds)
    kind = {"multi": "multiclass"}.get(kind.removeprefix("classification_"), kind.removeprefix("classification_"))
    return (Task(level, kind),) if kind in LOSS_BY_TASK else ()


class _Resolution:
    """One pass over all groups; ``problems`` decides as it goes and must run before ``plan``."""

    def __init__(self, cfg: Mapping[str, Any], found: dict[str, GroupDraft]) -> None:
        self.cfg, self.found = cfg, found
        self.kd, self.attention = found[kd_keys.SCHEME], found[kd_keys.ATTENTION]
        self.knowledge = {name: draft for name, draft in found.items() if draft not in (self.kd, self.attention)}
        self.tasks = tasks_of(cfg)
        self.depth = depth_of(cfg)

    # --------------------------------------------------------------------------------------------------- deciding
    def problems(self) -> Iterator[Problem]:
        """Fills in what the user left open and yields what is wrong."""
        yield from self._preset()
        self._marks()
        self._sources()
        self._losses()
        yield from self._teacher()
        yield from self._self_sources()
        yield from self._maps()
        yield from self._students()
        for draft in self.found.values():
            yield from draft.applicable()
        yield from self._attention()
        yield from self._terms()
        yield from self._labels()

    @property
    def named(self) -> dict[str, GroupDraft]:
        """The knowledge groups that somebody says anything of."""
        return {name: draft for name, draft in self.knowledge.items() if draft.named}

    def _preset(self) -> Iterator[Problem]:
        name = self.kd.values["preset"]
        if name == "none":
            return
        preset: Preset = axes.presets[name]
        origin = f"preset {name}"
        contents = [preset.groups]
        if any(task.kind == "multilabel" for task in self.tasks):
            contents.insert(0, preset.multilabel)
        if preset.teacher:
            contents.append({group: {"source": "teacher"} for group in preset.groups if self._is_sourced(group)})
        for content in reversed(contents):  # later values stand above earlier ones
            yield from fill(self.found, content, origin)

    def _is_sourced(self, group: str) -> bool:
        return group in self.knowledge and "source" in self.knowledge[group].values

    def _marks(self) -> None:
        """Layers marked by ``layer_type: aux_*`` carry heads unless the user's ``layers`` says otherwise."""
        draft = self.knowledge.get("kd_auxiliary")
        if draft is None or not marks_layers(self.cfg):
            return
        if not draft.wrote("layers"):
            draft.put("layers", MARKED, "marked layers")
        if draft.origins["weight"] == DEFAULT:
            draft.put("weight", MARKED_WEIGHT, "marked layers")

    def _sources(self) -> None:
        taught = self.kd.values["teacher"] is not None or self.kd.values["teacher_cfg"] is not None
        for draft in self.knowledge.values():
            if "source" in draft.values and draft.values["source"] is None:
                draft.put("source", "teacher" if taught else "peers", DEFAULT)

    def _losses(self) -> None:
        draft = self.knowledge.get("kd_response")
        if draft is not None and draft.values["loss"] is None and len(self.tasks) == 1:
            draft.values["loss"] = LOSS_BY_TASK[self.tasks[0].kind]
            draft.origins["loss"] = BY_TASK if draft.named else DEFAULT

    def _teacher(self) -> Iterator[Problem]:
        if self.kd.values["teacher"] is not None or self.kd.values["teacher_cfg"] is not None:
            return
        if self.kd.broken & {"teacher", "teacher_cfg"}:
            return
        listening = [name for name, draft in self.named.items() if draft.values.get("source") == "teacher"]
        if listening:
            by = sorted({self.named[name].origins["source"] for name in listening})
            yield self.kd.problem(
                "teacher",
                f"none is named, and {', '.join(listening)} listen{'s' if len(listening) == 1 else ''} to one "
                f"(source: teacher, from {', '.join(by)})",
                "Write kd.teacher: <a run, or a file of logits>, or kd.teacher_cfg: <the YAML that trains it>; "
                f"or {listening[0]}.source: peers.",
            )

    def _self_sources(self) -> Iterator[Problem]:
        for draft in self.named.values():
            if draft.values.get("source") != "self" or "source" in draft.broken:
                continue
            if "layer_map" not in draft.values:
                allowed = [source for source in axes.sources if source != "self"]
                yield draft.problem("source", "self, and a network's logits cannot teach themselves", _allowed(allowed))
            elif "layer_map" not in draft.broken and not axes.layer_maps[draft.values["layer_map"]].allows_self:
                allowed = [word for word in axes.layer_maps if axes.layer_maps[word].allows_self]
                found = f"{draft.values['layer_map']} has no meaning within one network (source: self)"
                yield draft.problem("layer_map", found, _allowed(allowed))
            elif draft.values["layer_map"] == "shift" and draft.values["shift"] < 1:
                found = f"{draft.values['shift']} teaches from no deeper layer (source: self)"
                yield draft.problem("shift", found, "Allowed: a whole number of at least 1.")

    def _maps(self) -> Iterator[Problem]:
        """A map that reads a key needs its value."""
        for draft in self.named.values():
            if "layer_map" not in draft.values or "layer_map" in draft.broken:
                continue
            for key in axes.layer_maps[draft.values["layer_map"]].keys:
                if draft.values.get(key) is None and key not in draft.broken:
                    kind = next(k.kind for k in draft.keys if k.name == key)
                    found = f"missing for layer_map {draft.values['layer_map']}"
                    yield draft.problem(key, found, f"Write {kind.describe()}.")
                    draft.broken.add(key)

    def _students(self) -> Iterator[Problem]:
        cohort, kd = self.kd.values["cohort"], self.kd
        if cohort:
            if kd.wrote("students") and "students" not in kd.broken and kd.values["students"] != len(cohort) + 1:
                found = f"{kd.values['students']}, and kd.cohort names {len(cohort)} besides the first"
                yield kd.problem("students", found, f"Write {len(cohort) + 1} or leave the key out.")
            else:
                kd.put("students", len(cohort) + 1, "kd.cohort")
            if kd.values["init"] == "same":
                if kd.wrote("init"):
                    found = "same, and kd.cohort makes students unlike the first"
                    yield kd.problem("init", found, "Copies need like students: leave out init or cohort.")
                kd.put("init", "independent", "kd.cohort")
        elif kd.values["students"] is None:
            words = [draft.values.get(key) for draft in self.named.values() for key in ("source", "soft_source")]
            kd.put("students", max([1, *map(_needs, words)]), DEFAULT)

    # --------------------------------------------------------------------------------------------------- checking
    def _attention(self) -> Iterator[Problem]:
        listening = {name: d for name, d in self.named.items() if d.values.get("layer_map") == "attention"}
        taps = {name: draft.values["tap"] for name, draft in listening.items() if "tap" not in draft.broken}
        if len(set(taps.values())) > 1:
            first, *others = taps
            for other in others:
                if taps[other] != taps[first]:
                    yield listening[other].problem(
                        "tap",
                        f"{taps[other]}, and {first}.tap is {taps[first]}: layer_map attention means one shared map",
                        f"Write one tap for {', '.join(taps)}.",
                    )
        if not listening and not any("layer_map" in draft.broken for draft in self.named.values()):
            for key, value in self.attention.values.items():
                if self.attention.wrote(key) and key not in self.attention.broken:
                    found = f"{show(value)} does not apply: no group has layer_map: attention"
                    yield self.attention.problem(key, found, "Remove the key, or choose that map.")

    def _terms(self) -> Iterator[Problem]:
        """What several keys show together: each knowledge's own checks, and layers that do not exist."""
        depths = [self.depth] * int(self.kd.values["students"] or 1)
        for name, draft in self.named.items():
            yield from self._own_checks(name, draft)
            if "layer_map" not in draft.values or self.kd.values["cohort"]:
                continue  # a cohort's depths are known when its files are read
            said = {"layer_map", "source", "shift", "pairs"} & draft.broken
            own = draft.values["source"] == "self"
            allowed = not own or axes.layer_maps[draft.values["layer_map"]].allows_self
            if not said and allowed and not (own and draft.values.get("shift", 1) < 1):
                yield from layer_problems(name, draft.values, depths)

    def _own_checks(self, name: str, draft: GroupDraft) -> Iterator[Problem]:
        check = axes.knowledge[name.removeprefix("kd_")].check
        first, *others = self.tasks or (None,)
        said = list(draft.ask(lambda values: check(values, first)))
        for task in others:  # only what is wrong whatever the data set turns out to be
            also = {str(problem) for problem in draft.ask(lambda values, task=task: check(values, task))}  # type: ignore[misc]
            said = [problem for problem in said if str(problem) in also]
        yield from said

    def _labels(self) -> Iterator[Problem]:
        if self.kd.values["label_weight"] != 0 or "label_weight" in self.kd.broken:
            return
        if not any(self._teaches(draft) for draft in self.knowledge.values()):
            found = f"0 ({self.kd.origins['label_weight']}), and no term is active: there is nothing to learn from"
            yield self.kd.problem("label_weight", found, "Write kd.label_weight: 1, or a weight above 0 in some group.")

    def _teaches(self, draft: GroupDraft) -> bool:
        """Whether a term counts and somebody teaches in it."""
        if draft.broken & {"weight", "soft_weight"}:
            return True  # that has been said
        students = self.kd.values["students"] or 1
        parts = (("weight", "source"), ("soft_weight", "soft_source"))
        for weight, source in parts:
            if (draft.values.get(weight) or 0) > 0 and students >= _needs(draft.values.get(source)):
                return True
        return False

    # ------------------------------------------------------------------------------------------------------- plan
    def plan(self) -> Plan:
        """All groups as they stand."""
        groups, origins = {}, {}
        for name, draft in self.found.items():
            origins.update({f"{name}.{key}": origin for key, origin in draft.origins.items()})
        for name, draft in self.knowledge.items():
            values = dict(draft.values)
            if values.get("layer_map") == "attention":
                values["subspace"] = self.attention.values["subspace"]
                values["attention_dim"] = self.attention.values["dim"]
            short = name.removeprefix("kd_")
            groups[short] = GroupPlan(short, MappingProxyType(values), draft.named)
        return Plan(
            MappingProxyType(dict(self.kd.values)),
            MappingProxyType(groups),
            MappingProxyType(dict(self.attention.values)),
            (),
            MappingProxyType(origins),
        )


def _needs(source: str | None) -> int:
    """The smallest number of students with which somebody teaches."""
    return axes.sources[source].needs_students if source is not None else 1


def _allowed(words: list[str]) -> str:
    return f"Allowed: {', '.join(words)}."
