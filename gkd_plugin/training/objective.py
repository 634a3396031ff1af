"""One learner's sum: ``label_weight`` · task loss + Σ weight · schedule(epoch) · term(learner, source)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gkd_plugin.errors import UserError
from gkd_plugin.plan import GroupPlan, Plan
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.knowledge.auxiliary import AuxiliaryTerm
from gkd_plugin.space.knowledge.base import Term
from gkd_plugin.space.observation import Observation, Outline, Task

Member = int | str


def teacher_taps(plan: Plan) -> tuple[str, ...]:
    """The taps that active groups read off a teacher."""
    listening = [group for group in plan.active if group.get("source") == "teacher"]
    return tuple(sorted({str(group["tap"]) for group in listening if axes.knowledge[group.name].layered}))


def taps_of(plan: Plan) -> tuple[str, ...]:
    """The taps that the active groups read."""
    wanted = {str(group["tap"]) for group in plan.active if axes.knowledge[group.name].layered}
    if any(group.name == "auxiliary" for group in plan.active):
        wanted.add("layer")
    return tuple(sorted(wanted))


@dataclass(frozen=True, eq=False)
class _Part:
    """One group of one learner: its members and how their layers are weighed."""

    group: GroupPlan
    members: tuple[Member, ...]
    matrices: Mapping[Member, Tensor]

    def factor(self, epoch: int) -> float:
        return schedules.factor(str(self.group["schedule"]), epoch)


class Objective(nn.Module):
    """The terms of one learner with everything they own; its parameters belong to the learner's optimizer.

    Args:
        plan (Plan): The resolved plan.
        learner (int): Number of the student (from 1).
        outlines (mapping): Outline of every model: students by number, ``"teacher"``.
        task (Task): What is predicted.

    Raises:
        UserError: If a layer map does not fit the depths.
    """

    def __init__(self, plan: Plan, learner: int, outlines: Mapping[Member, Outline], task: Task) -> None:
        super().__init__()
        self.plan, self.learner = plan, learner
        self.terms = nn.ModuleDict()
        self.maps = nn.ModuleDict()
        self.parts: list[_Part] = []
        self._taps = taps_of(plan)
        for group in plan.active:
            own = outlines[learner]
            kind = axes.knowledge[group.name]
            members = self._members(group, kind)
            if not members and group.get("soft_weight") and group.get("weight"):
                # nobody gives soft targets; the labels of the heads ask nobody
                group, members = group.with_values(soft_weight=0.0), ("self",)
            matrices: dict[Member, Tensor] = {}
            for member in members:
                source = own if member in ("self", "ensemble") else outlines[member]
                key = self._key(group, member)
                if key not in self.terms:
                    self.terms[key] = kind(group, own, source, task)
                if kind.layered:
                    self._place_map(group, member, own, source, matrices)
            self.parts.append(_Part(group, members, matrices))

    def _members(self, group: GroupPlan, kind: type[Term]) -> tuple[Member, ...]:
        source = str(
            group.get("source") or (group.get("soft_source") if group.get("soft_weight") else "self") or "self"
        )
        members = axes.sources[source].members(self.learner, self.plan.students)
        if source == "peers" and members and not kind.layered and self.plan["peer_target"] == "ensemble_mean":
            return ("ensemble",)
        return tuple(members)

    def _key(self, group: GroupPlan, member: Member) -> str:
        kind = axes.knowledge[group.name]
        return f"{group.name}_{member}" if kind.per_source else group.name

    def _place_map(
        self, group: GroupPlan, member: Member, own: Outline, source: Outline, matrices: dict[Member, Tensor]
    ) -> None:
        word = str(group["layer_map"])
        layer_map = axes.layer_maps[word]
        same = member == "self"
        if layer_map.weights is not None:
            try:
                matrices[member] = layer_map.weights(own.depth, source.depth, group.values, same)
            except ValueError as error:
                raise UserError(
                    f"kd_{group.name}.{layer_map.key}: student {self.learner} listening to {member}: {error}"
                ) from None
        elif layer_map.module is not None and f"{word}_{member}" not in self.maps:
            self.maps[f"{word}_{member}"] = layer_map.module(self.plan.attention, own, source, str(group["tap"]), same)

    def taps(self, epoch: int) -> tuple[str, ...]:
        """The taps that terms read in this epoch."""
        return self._taps if any(part.factor(epoch) > 0 for part in self.parts) else ()

    @property
    def heads(self) -> AuxiliaryTerm | None:
        """The auxiliary heads, if there are any."""
        term = self.terms["auxiliary"] if "auxiliary" in self.terms else None
        return term if isinstance(term, AuxiliaryTerm) else None

    @property
    def value_names(self) -> list[str]:
        """The names under which values are reported, whether a schedule lets them count now or not."""
        return [
            _value_name(part.group.name, key)
            for part in self.parts
            for key in ("weight", "soft_weight")
            if part.group.get(key)
        ]

    def sources(self, epoch: int) -> set[Member]:
        """The models that must be read in this epoch: none for weights of 0."""
        return {member for part in self.parts if part.factor(epoch) > 0 for member in part.members}

    def forward(
        self, label_loss: Tensor, learner: Observation, sources: Mapping[Member, Observation], epoch: int
    ) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The objective, the value of every term by name, and the same with its weight and gradient."""
        label_weight = float(self.plan["label_weight"])
        total = label_loss if label_weight == 1 else label_weight * label_loss
        values: dict[str, Tensor] = {}
        weighted: dict[str, Tensor] = {}
        alphas: dict[str, Tensor] = {}
        for part in self.parts:
            factor = part.factor(epoch)
            if factor == 0 or not part.members:
                continue
            sums: dict[str, list[Tensor]] = {}
            for member in part.members:
                source = sources[member]
                for name, value in self._values(part, member, learner, source, alphas):
                    sums.setdefault(name, []).append(value)
            for name, found in sums.items():
                mean = found[0] if len(found) == 1 else torch.stack(found).mean()
                weight = float(part.group[name]) * factor
                if weight:
                    label = _value_name(part.group.name, name)
                    values[label], weighted[label] = mean.detach(), weight * mean
                    total = total + weighted[label]
        return total, values, weighted

    def _values(
        self, part: _Part, member: Member, learner: Observation, source: Observation, alphas: dict[str, Tensor]
    ) -> Iterator[tuple[str, Tensor]]:
        matrix = part.matrices.get(member)
        word = str(part.group.get("layer_map"))
        if matrix is None and f"{word}_{member}" in self.maps:
            key = f"{word}_{member}"
            if key not in alphas:  # one map for all groups
                alphas[key] = self.maps[key](learner, source)
            matrix = alphas[key]
        value = self.terms[self._key(part.group, member)](learner, source, matrix)
        yield from value.items() if isinstance(value, dict) else (("weight", value),)


def _value_name(group: str, key: str) -> str:
    return f"kd_{group}" if key == "weight" else f"kd_{group}_{key.removesuffix('_weight')}"


def ensemble_target(peers: Sequence[Observation]) -> Observation:
    """The mean of the other students' logits as one source."""
    return Observation(torch.stack([p.logits for p in peers]).mean(0), {}, peers[0].graph, peers[0].labels)
