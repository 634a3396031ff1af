"""Decides every key of the scheme and the groups, and finds all mistakes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from gkd_plugin.config import fork_keys, kd_keys
from gkd_plugin.config.depths import find_layer_problems, has_marked_layers, infer_depth
from gkd_plugin.config.draft import fill, get_group, read_drafts
from gkd_plugin.config.warnings import find_warnings
from gkd_plugin.errors import ConfigError, Problem, UserError
from gkd_plugin.groups import DEFAULT, GroupDraft
from gkd_plugin.plan import MARKED, GroupPlan, Part, Plan
from gkd_plugin.schema import show
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Preset
from gkd_plugin.space.observation import KINDS, Task
from gkd_plugin.space.sources import (
    default_source,
    everybody,
    find_misuse,
    has_layers,
    is_within,
    stand_ins,
    survey,
)

BY_TASK, BY_MARKS = "the task", "marked layers"


def resolve(cfg: Mapping[str, Any], *, where: str | None = None) -> Plan:
    """The plan that a configuration describes: your value, else the preset's, else the default.

    Args:
        cfg (mapping): The host's ``cfg``, or nested plain values, with ``kd`` groups; ``None`` is undecided. Host
            groups that are absent are not checked.
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
    found, problems = read_drafts(cfg)
    resolution = _Resolution(cfg, found)
    problems += resolution.find_problems()
    problems.sort(key=lambda problem: _rank(problem.key))
    plan = resolution.make_plan()
    return (plan if problems else replace(plan, warnings=tuple(find_warnings(plan, cfg)))), problems


def _rank(name: str) -> tuple[int, int]:
    """A key's position in the table; unknown keys come first in their group, unknown groups last."""
    group, _, leaf = name.partition(".")
    known = kd_keys.groups()
    if group not in known:
        return len(known), 0
    leaves = [key.name for key in known[group]]
    return list(known).index(group), leaves.index(leaf) if leaf in leaves else -1


def infer_tasks(cfg: Mapping[str, Any]) -> tuple[Task, ...]:
    """What may be predicted: two tasks where only the data decide (classes, or one logit), none without ``dataset``."""
    dataset, share = get_group(cfg, "dataset"), get_group(cfg, "share")
    if "task" not in dataset or "task_type" not in dataset:
        return ()
    level = {"link_pred": "edge"}.get(dataset["task"], dataset["task"])
    kind = str(dataset["task_type"])
    if kind == "classification":
        classes = share.get("dim_out", 1)  # 1 until a data set is loaded
        kinds = ("multiclass", "binary") if classes < 2 else ("binary",) if classes == 2 else ("multiclass",)
        return tuple(Task(level, each) for each in kinds)
    kind = {"multi": "multiclass"}.get(kind.removeprefix("classification_"), kind.removeprefix("classification_"))
    return (Task(level, kind),) if kind in KINDS else ()


class _Resolution:
    """One pass over all groups; ``find_problems`` decides as it goes and must run before ``make_plan``."""

    def __init__(self, cfg: Mapping[str, Any], found: dict[str, GroupDraft]) -> None:
        self.cfg, self.found = cfg, found
        self.kd = found[kd_keys.SCHEME]
        self.maps = {name: found[f"kd_{name}"] for name in kd_keys.learned_maps()}
        self.knowledge = {name: found[f"kd_{name}"] for name in axes.knowledge}
        self.tasks = infer_tasks(cfg)
        self.depth = infer_depth(cfg)

    @property
    def named(self) -> dict[str, GroupDraft]:
        """The knowledge groups that the user or a preset mentions."""
        return {name: draft for name, draft in self.knowledge.items() if draft.named}

    @property
    def layered(self) -> Iterator[tuple[str, GroupDraft]]:
        """Those of them that compare layers, where the layer map is a sound one."""
        for name, draft in self.named.items():
            if "layer_map" in draft.values and "layer_map" not in draft.broken:
                yield name, draft

    def _list_sources(self, name: str, draft: GroupDraft) -> Iterator[tuple[Part, str]]:
        """The parts of a group that have a source, each with that source where it is valid."""
        for each in axes.knowledge[name].parts:
            if each.source is not None and each.source in draft.values and each.source not in draft.broken:
                yield each, str(draft.values[each.source])

    # --------------------------------------------------------------------------------------------------- deciding
    def find_problems(self) -> Iterator[Problem]:
        """Fills in what the user left open and yields the mistakes."""
        yield from self._fill_preset()
        yield from fork_keys.settle(self.cfg, self.kd)
        self._fill_marks()
        self._fill_sources()
        self._fill_by_task()
        yield from self._require_maps_keys()
        yield from self._fill_students()
        yield from self._check_sources()
        for draft in self.found.values():
            yield from draft.drop_inapplicable()
        yield from self._check_source_keys()
        yield from self._check_learned_maps()
        yield from self._check_terms()
        yield from self._check_labels()

    def _fill_preset(self) -> Iterator[Problem]:
        name = self.kd.values["preset"]
        if name == "none":
            return
        preset: Preset = axes.presets[name]
        contents = [preset.groups]
        if any(task.kind == "multilabel" for task in self.tasks):
            contents.insert(0, preset.multilabel)
        if preset.source is not None:
            sourced = [group for group in preset.groups if self._is_sourced(group)]
            contents.append({group: {"source": preset.source} for group in sourced})
        for content in reversed(contents):  # later values stand above earlier ones
            yield from fill(self.found, content, f"preset {name}")

    def _is_sourced(self, group: str) -> bool:
        short = group.removeprefix("kd_")
        return short in self.knowledge and "source" in self.knowledge[short].values

    def _fill_marks(self) -> None:
        """Layers marked by ``layer_type: aux_*`` switch heads on unless the user says otherwise."""
        if not has_marked_layers(self.cfg):
            return
        for name, draft in self.knowledge.items():
            for key, value in axes.knowledge[name].marked.items():
                if draft.origins[key] == DEFAULT or (value == MARKED and not draft.wrote(key)):
                    draft.put(key, value, BY_MARKS)

    def _fill_sources(self) -> None:
        for name, draft in self.knowledge.items():
            for each in axes.knowledge[name].parts:
                if each.source in draft.values and draft.values[each.source] is None:
                    draft.put(each.source, default_source(self.kd.values), DEFAULT)

    def _fill_by_task(self) -> None:
        """What the task decides where the user wrote nothing; of two possible tasks, only what both decide alike."""
        for name, draft in self.knowledge.items():
            found = [axes.knowledge[name].settle(draft.values, task) for task in self.tasks]
            for key, value in (found[0] if found else {}).items():
                if not draft.wrote(key) and all(each.get(key) == value for each in found):
                    draft.put(key, value, BY_TASK if draft.named else DEFAULT)

    def _require_maps_keys(self) -> Iterator[Problem]:
        """A fixed map that reads a key needs its value."""
        for _, draft in self.layered:
            answer = axes.layer_maps[draft.values["layer_map"]]
            for key in () if answer.learned else answer.keys:
                if draft.values.get(key.name) is None and key.name not in draft.broken:
                    found = f"missing, but layer_map {draft.values['layer_map']} needs it"
                    yield draft.problem(key.name, found, f"Write {key.kind.describe()}.")
                    draft.broken.add(key.name)

    def _fill_students(self) -> Iterator[Problem]:
        cohort, kd = self.kd.values["cohort"], self.kd
        if cohort:
            if kd.wrote("students") and "students" not in kd.broken and kd.values["students"] != len(cohort) + 1:
                found = f"{kd.values['students']}, but kd.cohort names {len(cohort)} further students"
                yield kd.problem("students", found, f"Write {len(cohort) + 1} or remove the key.")
            elif kd.values["students"] != len(cohort) + 1:
                kd.put("students", len(cohort) + 1, "kd.cohort")
            if kd.values["init"] == "same":
                if kd.wrote("init"):
                    found = "same, but kd.cohort describes different students"
                    yield kd.problem("init", found, "Copies need equal students: remove kd.init or kd.cohort.")
                kd.put("init", "independent", "kd.cohort")
        elif kd.values["students"] is None:
            needed = [
                axes.sources[source].needs_students
                for name, draft in self.named.items()
                for _, source in self._list_sources(name, draft)
            ]
            kd.put("students", max([1, *needed]), DEFAULT)

    @property
    def students(self) -> int:
        return int(self.kd.values["students"] or 1)

    # --------------------------------------------------------------------------------------------------- checking
    def _check_sources(self) -> Iterator[Problem]:
        """Sources that are not named, have too few students or wrong members, or cannot be used here."""
        unnamed: dict[str, list[tuple[str, str]]] = {}
        for name, draft in self.named.items():
            for each, source in self._list_sources(name, draft):
                found = self._find_source_problem(name, draft, each, source)
                if found is not None:
                    yield found
                    draft.broken.add(str(each.source))
                elif each.source == "source" or draft.values.get(each.weight):
                    for member in self._find_unnamed(source):
                        unnamed.setdefault(member, []).append((name, str(each.source)))
        for source, listeners in unnamed.items():
            yield self._report_unnamed(source, listeners)

    def _find_source_problem(self, name: str, draft: GroupDraft, each: Part, source: str) -> Problem | None:
        answer, key = axes.sources[source], str(each.source)
        if self.students < answer.needs_students:
            alone = f"{source} with {self.students} student{'s' if self.students > 1 else ''}"
            return draft.problem(key, alone, answer.advice) if answer.advice and answer.named is None else None
        try:
            taught = survey(source, self.students)
            if not taught.most:
                allowed = self._list_allowed(self._find_sources(lambda word: word != source))
                return draft.problem(key, f"{source}, which names no teacher", allowed)
            within, layers = is_within(source, self.students), has_layers(source, self.students)
        except UserError as error:
            return draft.problem(key, str(error).rstrip("."), "Fix the plugin, or choose another source.")
        if within and taught.most > 1:
            return draft.problem(
                key, f"{source}, which names the learner together with others", "Use one group for each."
            )
        if not axes.knowledge[name].layered:
            if not within or each.source != "source":
                return None
            changes, wrong = axes.knowledge[name].learns_from_itself, self._report_itself(name, draft, source)
            return next(draft.ask(lambda values: () if changes(values) else (wrong,)), None)
        if not layers:
            found = f"{source}, which gives logits only, but kd_{name} compares layers"
            return draft.problem(
                key, found, self._list_allowed(self._find_sources(lambda word: has_layers(word, self.students)))
            )
        return self._find_own_map_problem(draft) if within else None

    def _find_sources(self, fits: Callable[[str], bool]) -> Iterator[str]:
        """The sources that fit; one that is broken fits nowhere."""
        for word in axes.sources:
            with suppress(UserError):
                everybody(word, self.students)
                if fits(word):
                    yield word

    def _report_itself(self, name: str, draft: GroupDraft, source: str) -> Problem:
        others = self._find_sources(lambda word: not is_within(word, self.students))
        found = f"{source}, but a network's logits cannot teach themselves"
        allowed = f"{self._list_allowed(others)} {axes.knowledge[name].changes}".strip()
        return draft.problem("source", found, allowed)

    def _find_own_map_problem(self, draft: GroupDraft) -> Problem | None:
        """The mistake of a layer map that cannot be used where a network's own deeper layers teach."""
        word = draft.values["layer_map"]
        if "layer_map" in draft.broken or axes.layer_maps[word].allows_self:
            return None
        draft.broken.add("layer_map")
        allowed = [name for name in axes.layer_maps if axes.layer_maps[name].allows_self]
        found = f"{word} cannot be used within one network (source: {draft.values['source']})"
        return draft.problem("layer_map", found, self._list_allowed(allowed))

    def _find_unnamed(self, source: str) -> list[str]:
        """The sources behind a source's members that the scheme's keys must name and do not."""
        members = everybody(source, self.students)
        rules = {m: axes.sources[m].named for m in members if isinstance(m, str)}
        return [m for m, rule in rules.items() if rule is not None and not rule(self.kd.values)]

    def _report_unnamed(self, source: str, listeners: list[tuple[str, str]]) -> Problem:
        """A source that the scheme's keys must name.

        Args:
            source (str): The source.
            listeners (list): Each group that listens to it, and under which key.
        """
        words = dict.fromkeys(str(self.named[name].values[key]) for name, key in listeners)
        by = sorted({self.named[name].origins[key] for name, key in listeners})
        names = list(dict.fromkeys(f"kd_{name}" for name, _ in listeners))
        (name, key), *_ = listeners
        return self.kd.problem(
            axes.sources[source].keys[0].name,
            f"not set, but {', '.join(names)} listen{'s' if len(names) == 1 else ''} to it "
            f"(source: {', '.join(words)}, from {', '.join(by)})",
            f"{axes.sources[source].advice}; or kd_{name}.{key}: {next(iter(axes.sources))}.",
        )

    def _list_allowed(self, words: Iterable[str]) -> str:
        return f"Allowed: {', '.join(words)}."

    def _listens(self, source: str) -> bool:
        """Whether a group listens to a source's model, or it is evaluated in its student's place."""
        if self.kd.values["predict"] == source:
            return True
        found = [word for name, draft in self.named.items() for _, word in self._list_sources(name, draft)]
        return any(source == word or source in everybody(word, self.students) for word in found)

    def _check_source_keys(self) -> Iterator[Problem]:
        """Keys of a source that no group listens to; where keys name their source, that is only a warning."""
        readers: dict[str, list[str]] = {}
        for source in axes.sources:
            for key in axes.sources[source].keys:
                readers.setdefault(key.name, []).append(source)
        for name, sources in readers.items():
            if any(axes.sources[source].named is not None or self._listens(source) for source in sources):
                continue
            if self.kd.wrote(name) and name not in self.kd.broken:
                found = f"{show(self.kd.values[name])} does not apply: no group has source: {', '.join(sources)}"
                found += "".join(f", and kd.predict is not {word}" for word in sources if word in stand_ins())
                yield self.kd.problem(name, found, "Remove the key, or choose that source.")
            self.kd.values.pop(name, None)
            self.kd.origins.pop(name, None)

    def _check_learned_maps(self) -> Iterator[Problem]:
        unclear = any("layer_map" in draft.broken for draft in self.named.values())
        for word, own in self.maps.items():
            listening = {f"kd_{name}": draft for name, draft in self.layered if draft.values["layer_map"] == word}
            taps = {name: draft.values["tap"] for name, draft in listening.items() if "tap" not in draft.broken}
            if len(set(taps.values())) > 1:
                first, *others = taps
                for other in others:
                    if taps[other] != taps[first]:
                        yield listening[other].problem(
                            "tap",
                            f"{taps[other]}, but {first}.tap is {taps[first]}: groups with layer_map {word} share one map",
                            f"Write one tap for {', '.join(taps)}.",
                        )
            if listening or unclear:
                continue
            for key, value in own.values.items():
                if own.wrote(key) and key not in own.broken:
                    found = f"{show(value)} does not apply: no group has layer_map: {word}"
                    yield own.problem(key, found, "Remove the key, or choose that map.")

    def _check_terms(self) -> Iterator[Problem]:
        """What several keys show together: each knowledge's own checks, and layers that do not exist."""
        for name, draft in self.named.items():
            yield from self._ask_knowledge(name, draft)
        for name, draft in self.layered:
            if draft.broken & {"source", *(key.name for key in kd_keys.map_keys())}:
                continue
            answer = axes.layer_maps[draft.values["layer_map"]]
            wrong = (
                answer.check(draft.values, is_within(draft.values["source"], self.students)) if answer.check else None
            )
            if wrong is not None:
                yield draft.problem(answer.key, *wrong)
            elif not self.kd.values["cohort"]:  # a cohort's depths are known when its files are read
                yield from find_layer_problems(f"kd_{name}", draft.values, [self.depth] * self.students)

    def _ask_knowledge(self, name: str, draft: GroupDraft) -> Iterator[Problem]:
        """What a knowledge and its sources find wrong; of two tasks that are possible, only what is wrong in both."""

        def check(values: Mapping[str, Any], task: Task | None) -> Iterator[Problem]:
            yield from axes.knowledge[name].check(values, task)
            for each, source in self._list_sources(name, draft):
                for found, allowed in find_misuse(source, self.students, values, task):
                    yield draft.problem(str(each.source), f"{source}: {found}", allowed)

        found = [list(draft.ask(partial(check, task=task))) for task in self.tasks or (None,)]
        common = set.intersection(*({str(problem) for problem in each} for each in found))
        yield from (problem for problem in found[0] if str(problem) in common)

    def _check_labels(self) -> Iterator[Problem]:
        if self.kd.values["label_weight"] != 0 or "label_weight" in self.kd.broken:
            return
        if not any(self._teaches(name, draft) for name, draft in self.knowledge.items()):
            found = f"0 ({self.kd.origins['label_weight']}), but no term is active: there is nothing to learn from"
            yield self.kd.problem("label_weight", found, "Write kd.label_weight: 1, or a weight above 0 in some group.")

    def _teaches(self, name: str, draft: GroupDraft) -> bool:
        """Whether a term counts and has a source."""
        for each in axes.knowledge[name].parts:
            if draft.broken & {each.weight, str(each.source)}:
                return True  # already reported
            source = draft.values.get(str(each.source))
            enough = source is None or self.students >= axes.sources[source].needs_students
            if (draft.values.get(each.weight) or 0) > 0 and enough:
                return True
        return False

    # ------------------------------------------------------------------------------------------------------- plan
    def make_plan(self) -> Plan:
        """All groups as they stand."""
        maps = {name: dict(draft.values) for name, draft in self.maps.items()}
        groups = {
            name: GroupPlan(
                name,
                dict(draft.values),
                draft.named,
                axes.knowledge[name].parts,
                maps.get(str(draft.values.get("layer_map")), {}),
            )
            for name, draft in self.knowledge.items()
        }
        origins = {f"{name}.{key}": o for name, draft in self.found.items() for key, o in draft.origins.items()}
        return Plan(dict(self.kd.values), groups, maps, (), origins)
