"""From outside the package: layer maps with keys of their own, fixed and learned, and a knowledge of two parts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from torch import Tensor, nn

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.commands.check import Checks, check
from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.list import list_answers
from gkd_plugin.commands.run import control_overrides, run
from gkd_plugin.config.load import read_config
from gkd_plugin.errors import Problem
from gkd_plugin.host import cfg
from gkd_plugin.plan import GroupPlan, Part
from gkd_plugin.schema import Choice, Key, Number
from gkd_plugin.space import axes
from gkd_plugin.space.answers import LayerMap
from gkd_plugin.space.knowledge.base import Symbols, Term
from gkd_plugin.space.observation import Observation, Outline
from tests import toy
from tests.running import Driven, compare, outcome, rows, single, stop_in
from tests.toy import values


# ---------------------------------------------------------------------------------------------------- what is written
def hop(rows: int, columns: int, values: Mapping[str, Any], own: bool) -> Tensor:
    """Layer l listens to layer l + hop, as long as there is one."""
    weights, step = torch.zeros(rows, columns), int(values["hop"])
    if step >= columns:
        raise ValueError(f"hop {step} leads past the source's {columns} layers.")
    for row in range(min(rows, columns - step)):
        weights[row, row + step] = 1
    return weights


class Gate(nn.Module):
    """One number for each pair of layers, softmax over all of them."""

    def __init__(self, values: Mapping[str, Any], learner: Outline, source: Outline, tap: str, own: bool) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(learner.depth, source.depth))
        self.heat = float(values["heat"])
        with torch.no_grad():
            self.scores[0, 0] = float(values["first"])

    def forward(self, learner: Observation, source: Observation) -> Tensor:
        return (self.scores / self.heat).flatten().softmax(0).view_as(self.scores)


class Blend(Term):
    """How far the logits are apart: squared from one source, absolute from another."""

    name: ClassVar[str] = "blend"
    summary: ClassVar[str] = "logits by two distances"
    reference: ClassVar[str] = "a test"
    parts: ClassVar[tuple[Part, ...]] = (Part("weight"), Part("extra_weight", "extra_source"))
    keys: ClassVar[tuple[Key, ...]] = (
        Key("extra_weight", 0.0, Number(), "factor of the absolute distance"),
        Key("extra_source", None, Choice(lambda: tuple(axes.sources)), "who teaches the absolute distance"),
        Key("power", 2.0, Number(above=True), "exponent of the distance"),
    )

    @classmethod
    def describe(cls, group: GroupPlan) -> str:
        return f"distance of logits to the power of {group['power']:g}"

    @classmethod
    def write(cls, group: GroupPlan, part: Part, symbols: Symbols) -> str:
        power = "" if part.weight == "extra_weight" else f"^{group['power']:g}"
        return f"{symbols.mean}|z{symbols.me} - z{symbols.other}|{power}"

    @classmethod
    def explain(cls, group: GroupPlan, label: str) -> Iterator[tuple[str, str]]:
        yield "|·|", cls.describe(group)

    def forward(self, learner: Observation, source: Observation, weights: Tensor | None = None) -> dict[str, Tensor]:
        apart = (learner.logits - source.logits.detach()).abs()
        return {"weight": apart.pow(float(self.group["power"])).mean(), "extra_weight": apart.mean()}


HOP = Key("hop", None, Number(1, integer=True), "layer l listens to l + hop")
HEAT = Key("heat", 1.0, Number(above=True), "softens the weights")
FIRST = Key("first", 0.0, Number(None), "where the first pair begins")


class Plugin:
    @hookimpl
    def gkd_register_layer_maps(self, register: Any) -> None:
        register("hop", LayerMap("every layer listens some layers ahead", "a test", hop, keys=(HOP,)))
        register("gate", LayerMap("a number for each pair", "a test", module=Gate, keys=(HEAT, FIRST)))

    @hookimpl
    def gkd_register_knowledge(self, register: Any) -> None:
        register("blend", Blend)


@pytest.fixture(autouse=True)
def _plugin(work_folder: Path) -> Iterator[None]:
    name = gkd_plugin.register_plugin(Plugin(), "outside")
    yield
    gkd_plugin.unregister_plugin(name)


def explained(**groups: Any) -> str:
    return " ".join(str(explain(values(**groups))).split())


def only(checks: Checks) -> Problem:
    (checked,) = checks
    (problem,) = checked.problems
    return problem


# ------------------------------------------------------------------------------------------------- a fixed layer map
AHEAD: dict[str, Any] = {"weight": 1.0, "tap": "layer", "layer_map": "hop", "hop": 1}


def test_a_key_of_a_fixed_map_stands_in_every_group_that_compares_layers() -> None:
    for group in ("kd_feature", "kd_structure", "kd_contrast"):
        found = {row.name: row for row in list_answers(group).rows}
        assert found["hop"].meaning == HOP.meaning and found["hop"].source == "a whole number of at least 1"
        assert "hop" in cfg[group]
    assert "hop" not in {row.name for row in list_answers("kd_response").rows}
    listed = {row.name: row for row in list_answers("layer_maps").rows}
    assert listed["hop"].source == listed["gate"].source == "a test  [plugin outside]"


def test_a_map_with_a_key_gives_the_run_of_the_pairs_that_it_means() -> None:
    kd = {"students": 2}
    path = toy.config(Path(), "ahead", kd=kd, kd_feature=AHEAD, gnn={"layers_mp": 3})
    report = run(path, quiet=True)
    assert report.plan.groups["feature"]["hop"] == 1
    assert yaml.safe_load((report.folder / "plan.yaml").read_text())["kd_feature"]["hop"] == 1
    listed = {"weight": 1.0, "tap": "layer", "layer_map": "pairs", "pairs": "1~2+2~3"}
    ours = run(values(kd=kd, kd_feature=listed, gnn={"layers_mp": 3}), name="pairs", quiet=True)
    assert outcome(report.folder / "0") == outcome(ours.folder / "0")
    assert rows(report.folder / "0", "train")[0]["s1_kd_feature"] > 0


def test_a_map_with_a_key_is_explained() -> None:
    text = explained(kd={"students": 2}, kd_feature={**AHEAD, "hop": 2}, gnn={"layers_mp": 4})
    assert "Σ D_feature(h_m[l], h_n[k]) for l←k: 1←3 2←4" in text
    assert "hop 2 you layer l listens to l + hop" in text


def test_a_key_that_a_map_needs_is_asked_for_and_checked() -> None:
    missing = {key: value for key, value in AHEAD.items() if key != "hop"}
    problem = only(check(values(kd={"students": 2}, kd_feature=missing)))
    assert problem.key == "kd_feature.hop" and problem.found == "missing, but layer_map hop needs it"
    assert problem.allowed == "Write a whole number of at least 1."
    problem = only(check(values(kd={"students": 2}, kd_feature={**AHEAD, "hop": 0})))
    assert problem.key == "kd_feature.hop" and "0 is not allowed" in problem.found
    problem = only(check(values(kd={"students": 2}, kd_feature={**AHEAD, "layer_map": "last"})))
    assert problem.key == "kd_feature.hop" and "layer_map last has none (only: hop)" in problem.found
    problem = only(check(values(kd={"students": 2}, kd_feature={**AHEAD, "hop": 2})))
    assert problem.key == "kd_feature.hop" and "leads past the source's 2 layers" in str(problem)
    assert check(values(kd={"students": 2}, kd_feature=AHEAD)).ok


# ----------------------------------------------------------------------------------------------- a learned layer map
GATED: dict[str, Any] = {"weight": 1.0, "tap": "layer", "layer_map": "gate", "projector": "linear"}
TWO: dict[str, Any] = {"kd": {"students": 2}, "kd_feature": GATED}


def lines(seed_folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (seed_folder / "attention.json").read_text().splitlines()]


def test_a_learned_map_has_a_group_of_its_own() -> None:
    found = {row.name: row for row in list_answers("kd_gate").rows}
    assert list(found) == ["heat", "first"] and found["heat"].source == "a number above 0 (default: 1)"
    assert list(cfg.kd_gate) == ["heat", "first"]
    assert not {"heat", "first"} & {row.name for row in list_answers("kd_feature").rows}


def test_its_weights_are_what_the_terms_use_and_what_is_written_down() -> None:
    path = toy.config(Path(), "gated", **TWO, kd_gate={"heat": 2, "first": 1.5}, gnn={"layers_mp": 3})
    report = run(path, quiet=True)
    written = yaml.safe_load((report.folder / "plan.yaml").read_text())
    assert written["kd_gate"] == {"heat": 2.0, "first": 1.5}
    found = lines(report.folder / "0")
    assert [(row["epoch"], row["student"], row["map"], row["source"]) for row in found] == [
        (epoch, student, "gate", str(3 - student)) for epoch in range(4) for student in (1, 2)
    ]
    start = (torch.tensor([1.5, *[0.0] * 8]) / 2).softmax(0).view(3, 3)
    torch.testing.assert_close(torch.tensor(found[0]["weights"]), start, atol=1e-6, rtol=0)
    for row in found:
        weights = torch.tensor(row["weights"])
        assert weights.shape == (3, 3) and float(weights.sum()) == pytest.approx(1, abs=1e-5)
        assert row["entropy"] == pytest.approx(-float((weights * weights.log()).sum()), abs=1e-4)
    assert found[-1]["weights"] != found[-2]["weights"] != found[0]["weights"]  # each student's own, and trained
    validation = rows(report.folder / "0", "val")
    told = {(row["epoch"], row["student"]): row["entropy"] for row in found}
    for row in validation:
        for student in (1, 2):
            value = row[f"s{student}_gate_{3 - student}_entropy"]
            assert value == pytest.approx(told[row["epoch"], student], abs=1e-4)


def test_the_value_of_a_term_is_the_weighted_sum_over_pairs() -> None:
    plain = {key: value for key, value in GATED.items() if key != "projector"}
    groups: dict[str, Any] = {"kd": {"students": 2}, "kd_feature": plain, "kd_gate": {"first": 2.0}}
    with Driven(**groups, gnn={"dropout": 0.0}) as trainer:
        own, targets, found = compare(trainer)
        weights = torch.tensor([2.0, 0, 0, 0]).softmax(0).view(2, 2)
        expected = 0.0
        for row in (0, 1):
            for column in (0, 1):
                apart = own.hidden["layer"][row].detach() - targets[2].hidden["layer"][column]
                expected += float(weights[row, column] * apart.square().mean())
        assert float(found["kd_feature"]) == pytest.approx(expected, rel=1e-5)
        trainer.updates.epoch(trainer.feeds[0], 0)
        (gate,) = trainer.students[0].objective.learned_maps().values()
        assert isinstance(gate, Gate) and not torch.equal(gate.scores, torch.tensor([[2.0, 0], [0, 0]]))


def test_a_learned_map_is_stopped_and_resumed() -> None:
    keys = values(**TWO, kd_gate={"heat": 2}, train={"ckpt_period": 2}, optim={"max_epoch": 6})
    whole = run(keys, name="whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(3, patch)
        with pytest.raises(KeyboardInterrupt):
            run(keys, name="cut", quiet=True)
    cut = run(keys, name="cut", quiet=True)
    assert outcome(whole.folder / "0") == outcome(cut.folder / "0")
    assert lines(whole.folder / "0") == lines(cut.folder / "0")


def test_a_learned_map_is_explained_by_its_summary_and_its_keys() -> None:
    text = explained(**TWO, kd_gate={"heat": 2})
    assert "+ 1 · Σ w_lk D_feature(h_m[l], h_n[k])" in text
    assert "w_lk a number for each pair (heat 2, first 0)" in text
    assert "kd_gate heat 2 you softens the weights first 0 default where the first pair begins" in text
    assert "kd_gate" not in explained(kd={"students": 2}, kd_feature={"weight": 1})


def test_keys_of_a_learned_map_are_checked() -> None:
    problem = only(check(values(**TWO, kd_gate={"heat": 0})))
    assert problem.key == "kd_gate.heat" and "above 0" in problem.allowed
    problem = only(check(values(**TWO, kd_gate={"heet": 1})))
    assert problem.key == "kd_gate.heet" and "Did you mean 'heat'" in problem.allowed
    problem = only(check(values(kd={"students": 2}, kd_feature={"weight": 1}, kd_gate={"heat": 2})))
    assert problem.key == "kd_gate.heat" and "no group has layer_map: gate" in problem.found
    checks = check(values(**TWO, kd_contrast={"weight": 1, "layer_map": "gate", "tap": "conv"}))
    assert "groups with layer_map gate share one map" in only(checks).found
    assert check(values(**TWO, kd_gate={"heat": 2})).ok


# --------------------------------------------------------------------------------------- a knowledge of two parts
BOTH: dict[str, Any] = {
    "kd": {"students": 3, "update": "joint"},
    "kd_blend": {"weight": 0.5, "source": "peers", "extra_weight": 0.25, "extra_source": "cohort"},
}


def test_both_parts_are_in_the_rows_under_names_of_their_own() -> None:
    path = toy.config(Path(), "blend", **BOTH)
    report = run(path, quiet=True)
    for row in rows(report.folder / "0", "train"):
        for student in (1, 2, 3):
            assert row[f"s{student}_kd_blend"] > 0 and row[f"s{student}_kd_blend_extra"] > 0
    alone = run(values(kd={"students": 2}, kd_blend={"extra_weight": 1}), name="alone", quiet=True)
    first = rows(alone.folder / "0", "train")[0]
    assert first["s1_kd_blend_extra"] > 0 and "s1_kd_blend" not in first
    assert alone.plan.groups["blend"]["extra_source"] == "peers"


def test_each_part_is_compared_with_the_members_of_its_own_source() -> None:
    with Driven(**BOTH, gnn={"dropout": 0.0}) as trainer:
        student, sample = trainer.students[0], single(trainer)
        trainer.updates.begin_epoch(0)
        members = student.objective.members(0)
        assert members == (2, 3, "cohort")
        targets = trainer.sources.observe(1, members, sample)
        own = student.model.observe(sample)
        total, found, weighted = student.objective(own.logits.new_zeros(()), own, targets, 0)
        apart = [(own.logits - targets[number].logits).detach().double() for number in (2, 3)]
        squared = sum(float(x) ** 2 for each in apart for x in each.flatten()) / (2 * apart[0].numel())
        mean = (own.logits - targets["cohort"].logits).detach().double().flatten().tolist()
        absolute = sum(abs(x) for x in mean) / len(mean)
        assert float(found["kd_blend"]) == pytest.approx(squared, rel=1e-5)
        assert float(found["kd_blend_extra"]) == pytest.approx(absolute, rel=1e-5)
        assert float(weighted["kd_blend"].detach()) == pytest.approx(0.5 * squared, rel=1e-5)
        assert float(total.detach()) == pytest.approx(0.5 * squared + 0.25 * absolute, rel=1e-5)


def test_each_part_is_a_line_of_the_formula_with_its_own_members() -> None:
    text = explained(**BOTH)
    assert "+ 0.5 · 1/2 Σ_n |z_m - z_n|^2" in text and "+ 0.25 · |z_m - z_C|" in text
    assert "|·| distance of logits to the power of 2" in text
    assert "n the other students, trained at the same time, read in eval mode, no gradient" in text
    assert "C the mean probability of all 3 students, read in evaluation mode, no gradient" in text
    only_extra = explained(kd={"students": 2}, kd_blend={"extra_weight": 1})
    assert "+ 1 · |z_m - z_n|" in only_extra and "^2" not in only_extra
    assert "extra_source peers default" in only_extra


def test_a_term_that_says_nothing_of_itself_is_explained_by_its_summary_and_keys() -> None:
    class Silent(Term):
        name: ClassVar[str] = "silent"
        summary: ClassVar[str] = "nothing to say"
        reference: ClassVar[str] = "a test"
        keys: ClassVar[tuple[Key, ...]] = (Key("power", 2.0, Number(above=True), "exponent"),)

    class Registers:
        @hookimpl
        def gkd_register_knowledge(self, register: Any) -> None:
            register("silent", Silent)

    name = gkd_plugin.register_plugin(Registers(), "silent")
    text = explained(kd={"students": 2}, kd_silent={"weight": 1, "power": 3})
    gkd_plugin.unregister_plugin(name)
    assert "+ 1 · D_silent(z_m, z_n)" in text and "D_silent nothing to say (power 3)" in text


def test_the_control_has_neither_part() -> None:
    plan = read_config(values(**BOTH)).plan
    pairs = control_overrides(plan)
    told = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert told == {"kd.label_weight": "1", "kd.students": "3", "kd_blend.weight": "0", "kd_blend.extra_weight": "0"}
    without = read_config(values(**BOTH), pairs).plan
    assert without.active == () and without.students == 3


def test_mistakes_in_the_second_source_are_told_at_its_own_key() -> None:
    wrong = {"weight": 1, "extra_weight": 1, "extra_source": "teacher"}
    problem = only(check(values(kd={"students": 2}, kd_blend=wrong)))
    assert problem.key == "kd.teacher" and "kd_blend listens to it (source: teacher, from you)" in problem.found
    assert "or kd_blend.extra_source: peers" in problem.allowed
    checks = check(values(kd={"students": 1}, kd_blend={**wrong, "source": "ema", "extra_source": "cohort"}))
    assert only(checks).key == "kd_blend.extra_source"
    checks = check(values(kd={"students": 2}, kd_blend={"weight": 1, "extra_source": "pears"}))
    assert only(checks).key == "kd_blend.extra_source" and "Did you mean 'peers'" in only(checks).allowed
