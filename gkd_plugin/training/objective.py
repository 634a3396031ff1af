"""One learner's sum: ``label_weight`` · task loss + Σ weight · schedule(epoch) · term(learner, source)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor, nn

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan, Part, Plan
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.answers import Member, Schedule
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.layer_maps import require_weights, weigh_layers
from gkd_plugin.space.observation import Observation, Outline, Task
from gkd_plugin.space.sources import members_of

LEARNER = "learner"  # in the place of a source for what needs none
MEAN = "mean_of_"  # before a source's name: the mean of its members' logits, as one source


class Behind(Protocol):
    """What an objective asks of the models behind its members."""

    def expand(self, members: Iterable[Member], layered: bool) -> tuple[Member, ...]:
        """Members with those in the place of a name that it stands for."""

    def is_within(self, member: Member) -> bool:
        """Whether a member is the learner's own forward pass."""


def list_taps(plan: Plan) -> tuple[str, ...]:
    """The taps at which active groups read their learners."""
    return tuple(sorted({tap for group in plan.active for tap in axes.knowledge[group.name].taps(group)}))


@dataclass(frozen=True, eq=False)
class _Weighed:
    """One part of a group with its members: who is read, and what is compared with.

    Args:
        part (Part): The part.
        members (tuple of Member): Who is read.
        compared (tuple): Members, a mean of them, or ``LEARNER``: the sides that the term is called with.
    """

    part: Part
    members: tuple[Member, ...]
    compared: tuple[Member, ...]


@dataclass(frozen=True, eq=False)
class _Group:
    """One group of one learner: its parts, and how layers are weighed."""

    group: GroupPlan
    parts: tuple[_Weighed, ...]
    matrices: Mapping[Member, Tensor]

    @property
    def sides(self) -> tuple[Member, ...]:
        """What the term is called with: a part without a source is computed along with one that has one."""
        return _sides(self.parts)

    @cached_property
    def _schedule(self) -> tuple[Schedule, tuple[int, ...]]:
        return schedules.parse(str(self.group["schedule"]))  # once: it is asked several times in every step

    def factor(self, epoch: int) -> float:
        schedule, numbers = self._schedule
        try:
            return schedule.measure(epoch, numbers)
        except UserError as error:
            raise UserError(f"kd_{self.group.name}.schedule {self.group['schedule']}: {error}.") from error


class Objective(nn.Module):
    """The terms of one learner with everything they own; its parameters belong to the learner's optimizer.

    Args:
        plan (Plan): The resolved plan.
        learner (int): Number of the student (from 1).
        outlines (mapping): Outline of every model that teaches, and of the learner itself.
        task (Task): What is predicted.
        behind (Behind): The models behind the members.

    Raises:
        UserError: If a layer map does not fit the depths.
    """

    def __init__(
        self, plan: Plan, learner: int, outlines: Mapping[Member, Outline], task: Task, behind: Behind
    ) -> None:
        super().__init__()
        self.plan, self.learner, self.behind = plan, learner, behind
        self.terms = nn.ModuleDict()
        self.maps = nn.ModuleDict()
        self.groups: list[_Group] = []
        self.last_weights: dict[tuple[str, str], Tensor] = {}  # of learned maps, for logs
        self._taps = list_taps(plan)
        for group in plan.active:
            kind = axes.knowledge[group.name]
            parts = tuple(weighed for part in group.active_parts if (weighed := self._weigh(group, part, kind)))
            if len(parts) < len(group.active_parts):  # a part without a source is not computed
                group = group.with_values(**{part.weight: 0.0 for part in group.parts if part not in _parts(parts)})
            matrices: dict[Member, Tensor] = {}
            for member in _sides(parts):
                source = outlines.get(member, outlines[learner])
                key = self._key(group, member)
                if key not in self.terms:
                    self.terms[key] = kind(group, outlines[learner], source, task)
                if kind.layered:
                    self._place_map(group, member, outlines[learner], source, matrices)
            self.groups.append(_Group(group, parts, matrices))

    def _weigh(self, group: GroupPlan, part: Part, kind: type[Term]) -> _Weighed | None:
        """A part with its members; ``None`` where it needs a source and has none."""
        if part.source is None:
            return _Weighed(part, (), (LEARNER,))
        name = str(group[part.source])
        named = members_of(name, self.learner, self.plan.students)
        members = self.behind.expand(named, kind.layered)
        if not members:
            return None
        together = not kind.layered and len(members) > 1 and self.plan["peer_target"] == "ensemble_mean"
        return _Weighed(part, members, (MEAN + name,) if together else members)

    def _key(self, group: GroupPlan, member: Member) -> str:
        return f"{group.name}_{member}" if axes.knowledge[group.name].per_source else group.name

    def _place_map(
        self, group: GroupPlan, member: Member, own: Outline, source: Outline, matrices: dict[Member, Tensor]
    ) -> None:
        word = str(group["layer_map"])
        layer_map = axes.layer_maps[word]
        within = self.behind.is_within(member)
        if layer_map.weights is not None:
            try:
                matrices[member] = weigh_layers(word, own.depth, source.depth, group.values, within)
            except UserError:
                raise
            except ValueError as error:
                raise UserError(
                    f"kd_{group.name}.{layer_map.key}: student {self.learner} listening to {member}: {error}"
                ) from None
        elif layer_map.module is not None and f"{word}_{member}" not in self.maps:
            tap = str(group["tap"])
            self.maps[f"{word}_{member}"] = layer_map.module(group.map_values, own, source, tap, within)

    # --------------------------------------------------------------------------------------------------- what is read
    def taps(self, epoch: int) -> tuple[str, ...]:
        """The taps that terms read in this epoch."""
        return self._taps if any(group.factor(epoch) > 0 for group in self.groups) else ()

    @property
    def evaluated_taps(self) -> frozenset[str]:
        """The taps that terms measure at validation, in every epoch."""
        return frozenset(tap for term in self.each_term() for tap in term.evaluated_taps)

    def members(self, epoch: int) -> tuple[Member, ...]:
        """Who must be read in this epoch: nobody for weights of 0."""
        parts = [weighed for group in self.groups if group.factor(epoch) > 0 for weighed in group.parts]
        return tuple(dict.fromkeys(member for weighed in parts for member in weighed.members))

    def each_term(self) -> list[Term]:
        """The terms."""
        return [term for term in self.terms.values() if isinstance(term, Term)]

    def learned_maps(self) -> dict[tuple[str, str], nn.Module]:
        """The learned layer maps by their name and the member that they listen to."""
        names = [name for name in axes.layer_maps if axes.layer_maps[name].learned]
        found = {}
        for key, module in self.maps.items():
            name = next(name for name in sorted(names, key=len, reverse=True) if key.startswith(f"{name}_"))
            found[name, key.removeprefix(f"{name}_")] = module
        return found

    @property
    def value_names(self) -> list[str]:
        """The names under which numbers are reported, whether a schedule lets them count now or not."""
        names = [weighed.part.label(group.group.name) for group in self.groups for weighed in group.parts]
        kinds = [(group.group, axes.knowledge[group.group.name]) for group in self.groups]
        return [*names, *(f"kd_{group.name}_{name}" for group, kind in kinds for name in kind.reports(group.values))]

    # ------------------------------------------------------------------------------------------------------ the value
    def forward(
        self, label_loss: Tensor, learner: Observation, sources: Mapping[Member, Observation], epoch: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The objective, every number that is reported by its name, and the terms with their weight and gradient."""
        label_weight = float(self.plan["label_weight"])
        total = label_loss if label_weight == 1 else label_weight * label_loss
        values: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for group in self.groups:
            factor = group.factor(epoch)
            if factor == 0:
                continue
            found = self._compare(group, learner, sources, weights)
            for weighed in group.parts:
                each = [found[member][weighed.part.weight] for member in weighed.compared]
                mean = each[0] if len(each) == 1 else torch.stack(each).mean()
                label = weighed.part.label(group.group.name)
                values[label] = mean.detach()
                weighted[label] = group.group.weigh(weighed.part) * factor * mean
                total = total + weighted[label]
            values |= self._collect_reports(group)
        return total, values, weighted

    def _compare(
        self, group: _Group, learner: Observation, sources: Mapping[Member, Observation], weights: dict[str, Tensor]
    ) -> dict[Member, Mapping[str, Tensor]]:
        """The value of every part against every side that it is compared with."""
        found: dict[Member, Mapping[str, Tensor]] = {}
        for member in group.sides:
            source = self._read_side(group, member, learner, sources)
            matrix = self._weigh_layers(group, member, learner, source, weights)
            term = self.terms[self._key(group.group, member)]
            with _leaving_untouched(group.group.name, learner, source):
                value = term(learner, source, matrix)
            found[member] = value if isinstance(value, Mapping) else {group.parts[0].part.weight: value}
            self._require_values(group, found[member])
        return {**found, LEARNER: next(iter(found.values()))} if found else found

    def _require_values(self, group: _Group, found: Mapping[str, Tensor]) -> None:
        for weighed in group.parts:
            value = found.get(weighed.part.weight)
            if not isinstance(value, Tensor) or value.dim() != 0:
                what = "no value" if value is None else f"the shape {list(getattr(value, 'shape', ()))}"
                raise UserError(
                    f"knowledge '{group.group.name}': forward gives {what} for its part '{weighed.part.weight}'. It must "
                    "give a scalar, or a mapping from the weight key of each part to a scalar."
                )

    def _read_side(
        self, group: _Group, member: Member, learner: Observation, sources: Mapping[Member, Observation]
    ) -> Observation:
        if member == LEARNER:
            return learner.detached()
        together = [weighed.members for weighed in group.parts if weighed.compared == (member,) != weighed.members]
        return mean_logits([sources[each] for each in together[0]]) if together else sources[member]

    def _weigh_layers(
        self, group: _Group, member: Member, learner: Observation, source: Observation, weights: dict[str, Tensor]
    ) -> Tensor | None:
        """The layer map's matrix; a learned one is computed once for all groups."""
        key = f"{group.group.get('layer_map')}_{member}"
        if key in self.maps:
            if key not in weights:
                weights[key] = self.maps[key](learner, source)
                tap, word = str(group.group["tap"]), str(group.group["layer_map"])
                require_weights(word, weights[key], len(learner.hidden[tap]), len(source.hidden[tap]))
                self.last_weights[str(group.group["layer_map"]), str(member)] = weights[key].detach()
            return weights[key]
        return group.matrices.get(member)

    def _collect_reports(self, group: _Group) -> dict[str, Tensor]:
        """Further numbers of a group's terms: the mean over its members."""
        name = group.group.name
        keys = dict.fromkeys(self._key(group.group, side) for side in group.sides)
        terms = [term for key in keys if isinstance(term := self.terms[key], Term)]
        numbers = axes.knowledge[name].reports(group.group.values)
        missing = [number for number in numbers for term in terms if number not in term.reported]
        if missing:
            raise UserError(f"knowledge '{name}': reports names '{missing[0]}', but forward leaves no such number.")
        return {f"kd_{name}_{n}": torch.stack([term.reported[n].detach() for term in terms]).mean() for n in numbers}


@contextmanager
def _leaving_untouched(name: str, learner: Observation, source: Observation) -> Iterator[None]:
    """Refuses a term of a plugin that writes into what it is given, or leaves torch's gradients switched.

    Raises:
        UserError: With the term, and what it has written into.
    """
    if axes.knowledge.origin(name) == "gkd_plugin":
        yield
        return
    sides = {"student's": learner, "source's": source}
    before = {side: seen.count_writes() for side, seen in sides.items()}
    enabled = torch.is_grad_enabled()
    yield
    if torch.is_grad_enabled() != enabled:
        torch.set_grad_enabled(enabled)
        raise UserError(
            f"knowledge '{name}': forward leaves torch.set_grad_enabled({not enabled}) behind. Use `with torch.no_grad():`."
        )
    for side, seen in sides.items():
        written = [what for what, count in seen.count_writes().items() if before[side].get(what, count) != count]
        if written:
            raise UserError(
                f"knowledge '{name}': forward writes into the {side} {', '.join(written)} (such as x.mul_(2)), which others read, "
                "too. Compute new tensors: x = x * 2."
            )


def _sides(parts: Iterable[_Weighed]) -> tuple[Member, ...]:
    sides = dict.fromkeys(member for weighed in parts for member in weighed.compared)
    return tuple(member for member in sides if member != LEARNER) or tuple(sides)


def _parts(weighed: Iterable[_Weighed]) -> list[Part]:
    return [each.part for each in weighed]


def mean_logits(seen: Sequence[Observation]) -> Observation:
    """The mean of several models' logits as one source."""
    return Observation(torch.stack([each.logits for each in seen]).mean(0), {}, seen[0].graph, seen[0].labels)
