"""The loss of a plan, written out: one line for each part, and what its symbols stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gkd_plugin.config.depths import infer_depth
from gkd_plugin.config.resolve import infer_tasks
from gkd_plugin.plan import GroupPlan, Part, Plan
from gkd_plugin.schema import show
from gkd_plugin.space import axes, schedules
from gkd_plugin.space.answers import Member
from gkd_plugin.space.knowledge.base import Symbols
from gkd_plugin.space.layer_maps import weigh_layers
from gkd_plugin.space.sources import is_within, members_of, model_of

MANY = 8  # more pairs of layers than this are described, not listed
TAPS = {
    "conv": "output of its convolution, before normalisation and activation",
    "layer": "its output, after normalisation and activation",
    "stage": "what the next layer receives, after any skip connection",
}


@dataclass(frozen=True)
class Formula:
    """A loss.

    Args:
        left (str): ``L`` or ``L_m``.
        parts (tuple of str): What is added up.
        symbols (tuple of pairs): Each symbol and what it stands for.
    """

    left: str
    parts: tuple[str, ...]
    symbols: tuple[tuple[str, str], ...]


def write_formula(plan: Plan, cfg: Mapping[str, Any]) -> Formula:
    """The loss of every student.

    Args:
        plan (Plan): The resolved plan.
        cfg (mapping): The host's configuration, for depth and task.
    """
    return _Writer(plan, cfg).write()


class _Writer:
    def __init__(self, plan: Plan, cfg: Mapping[str, Any]) -> None:
        self.plan = plan
        self.depth = None if plan["cohort"] else infer_depth(cfg)
        self.me = "_m" if plan.students > 1 else ""
        kinds = [task.kind for task in infer_tasks(cfg)]
        names = {"regression": "MSE", "multilabel": "BCE", "binary": "BCE"}
        self.label = names.get(kinds[0], "CE") if len(kinds) == 1 else "CE"

    def write(self) -> Formula:
        parts = [f"{show(self.plan['label_weight'])} · {self.label}(z{self.me}, y)"]
        symbols = [(f"z{self.me}, y", "logits of the last layer, and labels, of the training items")]
        taps: dict[str, list[str]] = {}
        for group in self.plan.active:
            parts += self._write_parts(group)
            symbols += self._explain(group)
            if "tap" in group.values:
                taps.setdefault(str(group["tap"]), []).append(f"kd_{group.name}")
        for tap, names in taps.items():
            where = f" in {', '.join(names)}" if len(taps) > 1 else ""
            symbols.append((f"h{self.me}[l]", f"layer l{where}: {TAPS[tap]} (tap {tap})"))
        symbols += self._explain_sources()
        for word in dict.fromkeys(str(group["schedule"]) for group in self.plan.active):
            if word != "constant":
                symbols.append((word, f"{schedules.describe(word)}; epochs count from 0"))
        return Formula(f"L{self.me}", tuple(parts), tuple(dict.fromkeys(symbols)))

    # ------------------------------------------------------------------------------------------------------ parts
    def _write_parts(self, group: GroupPlan) -> Iterator[str]:
        for part in group.active_parts:
            word, weight = str(group["schedule"]), show(group[part.weight])
            front = f"{weight} · " + ("" if word == "constant" else f"{word} · ")
            yield front + axes.knowledge[group.name].write(group, part, self._name_symbols(group, part))

    def _name_symbols(self, group: GroupPlan, part: Part) -> Symbols:
        other, mean = "", ""
        if part.source is not None:
            members = self._find_members(str(group[part.source]))
            layered = axes.knowledge[group.name].layered
            other = self._name(members)
            models = [model_of(member) for member in members]
            count = sum(1 if model is None else model.count(self.plan, layered) for model in models)
            if count > 1 and not (not layered and self.plan["peer_target"] == "ensemble_mean"):
                mean = f"1/{count} Σ{other} "
        return Symbols(self.me, other, mean, self.label, self.depth, self._write_pairs)

    def _find_members(self, source: str) -> tuple[Member, ...]:
        """The members that teach student 1, or the first student that has any."""
        learners = range(1, self.plan.students + 1)
        found = [members_of(source, learner, self.plan.students) for learner in learners]
        return next((members for members in found if members), ())

    def _name(self, members: tuple[Member, ...]) -> str:
        """The index that stands for them: of a model of its own where it is the only one, else ``_n``."""
        if len(members) == 1 and (model := model_of(members[0])) is not None:
            return self.me if model.within else f"_{model.symbol}"
        return "_n"

    def _write_pairs(self, group: GroupPlan, source: str) -> tuple[str, str, str, str]:
        """The sum over pairs of layers: its front, the learner's and the source's index, and the pairs themselves."""
        answer = axes.layer_maps[group["layer_map"]]
        if answer.weights is None:
            return "Σ w_lk ", "l", "k", ""
        if self.depth is None or not self._knows_depth(source):
            front = "1/(number of pairs) Σ " if group["layer_reduction"] == "mean" else "Σ "
            return front, "l", "k", f"   for l←k: {group['layer_map']}"
        matrix = weigh_layers(
            str(group["layer_map"]), self.depth, self.depth, group.values, is_within(source, self.plan.students)
        )
        if group["layer_reduction"] == "mean":
            matrix = matrix / matrix.sum().clamp(min=1e-12)
        pairs = (torch.nonzero(matrix) + 1).tolist()
        weights = [float(matrix[row - 1, column - 1]) for row, column in pairs]
        if not pairs:
            return "0 · ", "l", "k", "   (no layer has a deeper one)"
        alike = len(set(weights)) == 1
        front = _write_fraction(weights[0]) if alike else ""
        if len(pairs) == 1:
            return front, str(pairs[0][0]), str(pairs[0][1]), ""
        shown = [
            f"{row}←{column}" + ("" if alike else f" ({w:g})") for (row, column), w in zip(pairs, weights, strict=True)
        ]
        more = f"  … {len(pairs)} pairs" if len(pairs) > MANY else ""
        return f"{front}Σ ", "l", "k", f"   for l←k: {'  '.join(shown[:MANY])}{more}"

    def _knows_depth(self, source: str) -> bool:
        """Whether all members have as many layers as the learner."""
        models = [model_of(member) for member in self._find_members(source)]
        return all(model is None or model.within or model.like_learner for model in models)

    # ---------------------------------------------------------------------------------------------------- symbols
    def _explain(self, group: GroupPlan) -> Iterator[tuple[str, str]]:
        yield from axes.knowledge[group.name].explain(group, self.label)
        word = group.get("layer_map")
        if word is None:
            return
        if axes.layer_maps[word].learned:
            yield "w_lk", axes.layer_maps[word].describe(group.map_values)
        elif not self._knows_depth(str(group["source"])):
            yield f"l←k: {word}", axes.layer_maps[word].summary

    def _explain_sources(self) -> Iterator[tuple[str, str]]:
        for source in self._find_sources():
            answer, members = axes.sources[source], self._find_members(source)
            if not members:
                continue
            kinds = [model_of(member) for member in members]
            words = [model.describe(self.plan) for model in kinds if model is not None]
            if any(model is None for model in kinds):
                words.insert(0, f"{answer.summary}, read in {self.plan['peer_mode']} mode, no gradient")
            index = self._name(members).removeprefix("_") if self._name(members) != self.me else ""
            compared = [group for group in self.plan.active if group.get("source") == source]
            if index:
                yield index, "; ".join(word or answer.summary for word in words)
            elif any("layer_map" in group.values for group in compared):
                yield "k > l", "; ".join(word or answer.summary for word in words)

    def _find_sources(self) -> list[str]:
        """The sources that some active part listens to."""
        parts = [(group, part) for group in self.plan.active for part in group.active_parts]
        return list(dict.fromkeys(str(group[part.source]) for group, part in parts if part.source is not None))


def _write_fraction(weight: float) -> str:
    if weight == 1:
        return ""
    whole = round(1 / weight)
    return f"1/{whole} " if abs(weight * whole - 1) < 1e-9 else f"{weight:g} "
