"""The loss of a plan, written out: one line for each part, and what its symbols stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from gkd_plugin.config.depths import depth_of
from gkd_plugin.config.draft import show
from gkd_plugin.config.resolve import tasks_of
from gkd_plugin.config.words import in_words
from gkd_plugin.plan import MARKED, GroupPlan, Plan
from gkd_plugin.space import axes, schedules

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


def formula(plan: Plan, cfg: Mapping[str, Any]) -> Formula:
    """The loss of every student.

    Args:
        plan (Plan): The resolved plan.
        cfg (mapping): The host's configuration, for depth and task.
    """
    return _Writer(plan, cfg).write()


class _Writer:
    def __init__(self, plan: Plan, cfg: Mapping[str, Any]) -> None:
        self.plan, self.several = plan, plan.students > 1
        self.depth = None if plan["cohort"] else depth_of(cfg)
        self.me = "_m" if self.several else ""
        kinds = [task.kind for task in tasks_of(cfg)]
        names = {"regression": "MSE", "multilabel": "BCE", "binary": "BCE"}
        self.label = names.get(kinds[0], "CE") if len(kinds) == 1 else "CE"

    def write(self) -> Formula:
        parts = [f"{show(self.plan['label_weight'])} · {self.label}(z{self.me}, y)"]
        symbols = [(f"z{self.me}, y", "logits of the last layer, and labels, of the training items")]
        taps: dict[str, list[str]] = {}
        for group in self.plan.active:
            parts += self._lines(group)
            symbols += self._where(group)
            if "tap" in group.values:
                taps.setdefault(str(group["tap"]), []).append(f"kd_{group.name}")
        for tap, names in taps.items():
            where = f" in {', '.join(names)}" if len(taps) > 1 else ""
            symbols.append((f"h{self.me}[l]", f"layer l{where}: {TAPS[tap]} (tap {tap})"))
        symbols += self._sources()
        for word in dict.fromkeys(str(group["schedule"]) for group in self.plan.active):
            if word != "constant":
                symbols.append((word, f"{schedules.parse(word)[0].summary}; epochs count from 0"))
        return Formula(f"L{self.me}", tuple(parts), tuple(dict.fromkeys(symbols)))

    # ------------------------------------------------------------------------------------------------------ parts
    def _lines(self, group: GroupPlan) -> Iterator[str]:
        if group.name == "auxiliary":
            yield from self._heads(group)
            return
        source = str(group.get("source", "self"))
        other = {"peers": "_n", "teacher": "_T", "self": self.me}.get(source, f"_{source}")
        front = self._factor(group, "weight")
        if source == "peers":
            front += self._mean_of_peers(layered="layer_map" in group.values)
        if "layer_map" not in group.values:
            yield f"{front}D_{group.name}(z{self.me}, z{other})"
            return
        factor, row, column, over = self._pairs(group)
        yield f"{front}{factor}D_{group.name}(h{self.me}[{row}], h{other}[{column}]){over}"

    def _factor(self, group: GroupPlan, key: str) -> str:
        word = str(group["schedule"])
        return f"{show(group[key])} · " + ("" if word == "constant" else f"{word} · ")

    def _mean_of_peers(self, layered: bool) -> str:
        count = self.plan.students - 1
        single = count < 2 or (not layered and self.plan["peer_target"] == "ensemble_mean")
        return "" if single else f"1/{count} Σ_n "

    def _pairs(self, group: GroupPlan) -> tuple[str, str, str, str]:
        """The sum over pairs of layers: its front, the learner's and the source's index, and the pairs themselves."""
        answer = axes.layer_maps[group["layer_map"]]
        if answer.weights is None:
            return "Σ w_lk ", "l", "k", ""
        if self.depth is None or not self._knows_depths(group):
            front = "1/(number of pairs) Σ " if group["layer_reduction"] == "mean" else "Σ "
            return front, "l", "k", f"   for l←k: {group['layer_map']}"
        matrix = answer.weights(self.depth, self.depth, group.values, group["source"] == "self")
        if group["layer_reduction"] == "mean":
            matrix = matrix / matrix.sum().clamp(min=1e-12)
        pairs = (torch.nonzero(matrix) + 1).tolist()
        weights = [float(matrix[row - 1, column - 1]) for row, column in pairs]
        if not pairs:
            return "0 · ", "l", "k", "   (no layer has a deeper one)"
        alike = len(set(weights)) == 1
        front = _fraction(weights[0]) if alike else ""
        if len(pairs) == 1:
            return front, str(pairs[0][0]), str(pairs[0][1]), ""
        shown = [
            f"{row}←{column}" + ("" if alike else f" ({w:g})") for (row, column), w in zip(pairs, weights, strict=True)
        ]
        more = f"  … {len(pairs)} pairs" if len(pairs) > MANY else ""
        return f"{front}Σ ", "l", "k", f"   for l←k: {'  '.join(shown[:MANY])}{more}"

    def _knows_depths(self, group: GroupPlan) -> bool:
        return self.depth is not None and group["source"] in ("peers", "self")

    def _heads(self, group: GroupPlan) -> Iterator[str]:
        over = f"   for heads on {str(group['layers']).replace('_', ' ')} layers"
        if self.depth is not None and group["layers"] != MARKED:
            last = self.depth if group["layers"] == "all" else self.depth - 1
            over = f"   for heads on l = {', '.join(map(str, range(1, last + 1)))}"
        front = "Σ g_l " if group["growth"] == "increasing" else "Σ "
        if group["weight"] > 0:
            yield f"{self._factor(group, 'weight')}{front}{self.label}(c_l(h{self.me}[l]), y){over}"
        if group.get("soft_weight"):
            peers = group["soft_source"] == "peers"
            mean = self._mean_of_peers(layered=False) if peers else ""
            target = "z_n" if peers else f"z{self.me}"
            yield f"{self._factor(group, 'soft_weight')}{mean}{front}D_soft(c_l(h{self.me}[l]), {target}){over}"

    # ---------------------------------------------------------------------------------------------------- symbols
    def _where(self, group: GroupPlan) -> Iterator[tuple[str, str]]:
        if group.name == "auxiliary":
            yield "c_l", f"{group['head']} head on layer l (tap layer), dropped after training"
            if group["growth"] == "increasing":
                yield "g_l", "2l / (number of heads + 1)"
            if group.get("soft_weight"):
                yield "D_soft", f"as in kd_response, temperature {show(group['temperature'])}, all nodes"
            return
        yield f"D_{group.name}", in_words(group)
        word = group.get("layer_map")
        if word == "attention":
            keys = self.plan.attention
            how = f"{'random, frozen' if keys['frozen'] else 'learned'}; dim {keys['dim']}"
            yield "w_lk", f"attention over all pairs of layers ({how}, softmax over {keys['softmax_over']}); sum 1"
        elif word is not None and not self._knows_depths(group):
            yield f"l←k: {word}", axes.layer_maps[word].summary

    def _sources(self) -> Iterator[tuple[str, str]]:
        listened = {group.get("source") for group in self.plan.active}
        listened |= {group["soft_source"] for group in self.plan.active if group.get("soft_weight")}
        if "teacher" in listened:
            seeds = {"match": "of the same seed", "best": "its best seed by validation"}
            seed = seeds.get(self.plan["teacher_seed"], f"its seed {self.plan['teacher_seed']}")
            yield "T", f"the teacher {self.plan['teacher'] or self.plan['teacher_cfg']}, {seed}, frozen"
        if "peers" in listened and self.several:
            who = "the other student" if self.plan.students == 2 else "another student"
            yield "n", f"{who}, read in {self.plan['peer_mode']} mode, no gradient"
        if any(group.get("source") == "self" for group in self.plan.active):
            yield "k > l", "the student's own deeper layer, detached"


def _fraction(weight: float) -> str:
    if weight == 1:
        return ""
    whole = round(1 / weight)
    return f"1/{whole} " if abs(weight * whole - 1) < 1e-9 else f"{weight:g} "
