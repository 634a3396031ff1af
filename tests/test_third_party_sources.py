"""Sources from outside the package: students chosen anew, other sources under a name of one's own, a model of one's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

import gkd_plugin
from gkd_plugin import hookimpl
from gkd_plugin.commands.check import Checks, check
from gkd_plugin.commands.explain import explain
from gkd_plugin.commands.list import list_answers
from gkd_plugin.commands.results import load_student
from gkd_plugin.commands.run import run
from gkd_plugin.errors import Problem, UserError
from gkd_plugin.host import cfg
from gkd_plugin.plan import Plan
from gkd_plugin.schema import Key, Number
from gkd_plugin.space import axes
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.space.sources import SourceModel
from tests import toy
from tests.running import Driven, compare, outcome, rows, single, stop_in
from tests.toy import values

SOFT: dict[str, Any] = {"weight": 1.0, "nodes": "all"}
LAYERS: dict[str, Any] = {"weight": 1.0, "tap": "layer", "layer_map": "shift"}


class Bank(SourceModel):
    """What a student said in the epochs before: full batch, one step in each epoch."""

    symbol: ClassVar[str] = "B"
    layered: ClassVar[bool] = False

    def __init__(self, name: str, run: Any) -> None:
        super().__init__(name, run)
        self.kept: dict[int, Tensor] = {}
        self.fresh: dict[int, Tensor] = {}

    def outline(self, member: str, learner: int, sample: Any, taps: Iterable[str]) -> Outline:
        return Outline.of(self.observe(member, learner, sample, taps), 0)

    def observe(self, member: str, learner: int, sample: Any, taps: Iterable[str]) -> Observation:
        seen = self.run.readings.read_evaluated(learner, sample)
        self.fresh[learner] = seen.logits
        return Observation(self.kept.get(learner, seen.logits), {}, seen.graph, seen.labels)

    def stepped(self, learner: int) -> None:
        keep, fresh = float(self.run.plan["bank_keep"]), self.fresh[learner]
        self.kept[learner] = keep * self.kept.get(learner, fresh) + (1 - keep) * fresh

    def state_dict(self) -> dict[str, Any]:
        return {str(learner): logits for learner, logits in self.kept.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kept = {int(learner): logits for learner, logits in state.items()}

    @classmethod
    def describe(cls, plan: Plan) -> str:
        return f"what the student said before ({plan['bank_keep']:g} of it kept)"


KEEP = Key("bank_keep", 0.0, Number(0, below=1), "share of the older logits that stays")


class Plugin:
    """What a third party writes."""

    @hookimpl
    def gkd_register_sources(self, register: Any) -> None:
        def neighbours(learner: int, students: int) -> tuple[int, ...]:
            return (learner % students + 1, (learner - 2) % students + 1)

        register("ring", Source(lambda n, count: (n % count + 1,), "the next student, in a ring", "a test", 2))
        register("neighbours", Source(neighbours, "the students to both sides", "a test", 3))
        register("mentor", Source(lambda n, count: ("teacher",), "a teacher by another name", "a test"))
        register("mirror", Source(lambda n, count: ("self",), "oneself by another name", "a test"))
        register("number", Source(lambda n, count: (n,), "oneself by one's number", "a test"))
        register("bank", Source(lambda n, count: ("bank",), "what one said before", "a test", keys=(KEEP,), model=Bank))


pytestmark = pytest.mark.usefixtures("work_folder")


@pytest.fixture
def plugin() -> Iterator[str]:
    name = gkd_plugin.register_plugin(Plugin(), "outside")
    yield name
    gkd_plugin.unregister_plugin(name)


def explained(**groups: Any) -> str:
    return " ".join(str(explain(values(**groups))).split())


def kl(own: Tensor, target: Tensor) -> float:
    """KL divergence of a target's softmax, node by node in float64."""
    q, p = target.detach().double().softmax(-1), own.detach().double().log_softmax(-1)
    return sum(float((q[v] * (q[v].log() - p[v])).sum()) for v in range(len(q))) / len(q)


def say(trainer: Any) -> list[Tensor]:
    """What every student says in evaluation mode."""
    found = []
    for student in trainer.students:
        with torch.no_grad(), student.model.untouched():
            found.append(student.model.observe(single(trainer)).logits)
    return found


# each by its source, with the built-in source that must give the very same run
CASES: dict[str, tuple[dict[str, Any], str | None]] = {
    "ring": ({"kd": {"students": 2}, "kd_response": SOFT, "kd_feature": LAYERS}, "peers"),
    "neighbours": ({"kd": {"students": 3}, "kd_feature": LAYERS}, "peers"),
    "mentor": ({"kd": {"teacher": "wide"}, "kd_response": SOFT, "kd_feature": LAYERS}, "teacher"),
    "mirror": ({"kd_response": {**SOFT, "sharpen": 0.5}, "kd_feature": {**LAYERS, "layer_map": "last"}}, "self"),
    "number": ({"kd_response": {**SOFT, "sharpen": 0.5}, "kd_feature": {**LAYERS, "layer_map": "last"}}, "self"),
    "bank": ({"kd": {"students": 2, "bank_keep": 0.3}, "kd_response": SOFT}, None),
}


def listening(source: str, groups: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: {**keys, "source": source} for name, keys in groups.items() if name.startswith("kd_")}
    return {**groups, **named}


def teach(groups: Mapping[str, Any]) -> None:
    if "teacher" in groups.get("kd", {}):
        run(values(optim={"max_epoch": 6}), name="wide", quiet=True)


@pytest.mark.parametrize("source", CASES)
def test_a_run_has_its_values_in_the_rows_and_those_of_the_source_that_it_stands_for(source: str, plugin: str) -> None:
    groups, same = CASES[source]
    teach(groups)
    report = run(values(**listening(source, groups)), name="outside", quiet=True)
    names = {f"s1_{name}" for name in groups if name.startswith("kd_")}
    trained = rows(report.folder / "0", "train")
    assert all(names <= row.keys() for row in trained)
    assert all(any(row[name] > 0 for row in trained) for name in names)
    if same is not None:
        ours = run(values(**listening(same, groups)), name="inside", quiet=True)
        if source == "neighbours":  # the mean of two is taken the other way round
            assert [row["loss"] for row in trained] == pytest.approx(
                [row["loss"] for row in rows(ours.folder / "0", "train")], abs=1e-3
            )
        else:
            assert outcome(report.folder / "0") == outcome(ours.folder / "0")
        assert report.results[0].teacher == ours.results[0].teacher


@pytest.mark.parametrize("source", CASES)
def test_stopped_and_resumed_it_ends_as_the_uninterrupted_run(source: str, plugin: str) -> None:
    groups, _ = CASES[source]
    teach(groups)
    keys = values(**listening(source, groups), train={"ckpt_period": 2}, optim={"max_epoch": 6})
    whole = run(keys, name="whole", quiet=True)
    with pytest.MonkeyPatch.context() as patch:
        stop_in(5, patch)
        with pytest.raises(KeyboardInterrupt):
            run(keys, name="cut", quiet=True)
    assert list(Path("results/cut/0/ckpt").iterdir())
    cut = run(keys, name="cut", quiet=True)
    assert outcome(whole.folder / "0") == outcome(cut.folder / "0")


@pytest.mark.parametrize("source", CASES)
def test_it_is_checked_without_a_mistake_or_a_warning(source: str, plugin: str) -> None:
    groups, _ = CASES[source]
    teach(groups)
    checks = check(values(**listening(source, groups)))
    assert checks.ok and checks[0].warnings == ()


def test_it_is_listed_with_where_it_comes_from(plugin: str) -> None:
    found = {row.name: row for row in list_answers("sources").rows}
    assert CASES.keys() <= found.keys()
    assert found["ring"].meaning == "the next student, in a ring" and found["ring"].source == "a test  [plugin outside]"
    keys = {row.name: row for row in list_answers("kd").rows}
    assert keys["bank_keep"].meaning == KEEP.meaning
    assert keys["bank_keep"].source == "a number of at least 0 and below 1 (default: 0)"
    assert "bank_keep" in cfg.kd and cfg.kd.bank_keep is None
    gkd_plugin.unregister_plugin(plugin)
    assert not CASES.keys() & {row.name for row in list_answers("sources").rows}
    assert "bank_keep" not in {row.name for row in list_answers("kd").rows}


def test_what_it_means_is_written_as_a_formula(plugin: str) -> None:
    ring = explained(kd={"students": 4}, kd_response={**SOFT, "source": "ring"})
    assert "+ 1 · D_response(z_m, z_n)" in ring
    assert "n the next student, in a ring, read in eval mode, no gradient" in ring
    both = {**SOFT, "source": "neighbours"}
    each = explained(kd={"students": 4, "peer_mode": "train"}, kd_response=both)
    assert "+ 1 · 1/2 Σ_n D_response(z_m, z_n)" in each
    assert "n the students to both sides, read in train mode, no gradient" in each
    layers = explained(kd={"students": 4}, kd_feature={**LAYERS, "source": "neighbours"})
    assert "+ 1 · 1/2 Σ_n Σ D_feature(h_m[l], h_n[k]) for l←k: 1←2 2←1" in layers
    mentor = explained(kd={"teacher": "wide"}, kd_response={**SOFT, "source": "mentor"})
    assert "+ 1 · D_response(z, z_T)" in mentor and "T the teacher wide, of the same seed, frozen" in mentor
    for source in ("mirror", "number"):
        itself = explained(kd_feature={**LAYERS, "source": source, "layer_map": "last"})
        assert "D_feature(h[1], h[2])" in itself and "k > l the student's own deeper layer, detached" in itself
    bank = explained(kd={"bank_keep": 0.3}, kd_response={**SOFT, "source": "bank"})
    assert "+ 1 · D_response(z, z_B)" in bank and "B what the student said before (0.3 of it kept)" in bank
    assert "bank_keep 0.3 you share of the older logits that stays" in bank


def test_a_ring_of_three_is_taught_by_the_next_one_only(plugin: str) -> None:
    keys: dict[str, Any] = {"kd": {"students": 3, "update": "joint"}, "kd_response": {**SOFT, "source": "ring"}}
    with Driven(gnn={"dropout": 0.0}, **keys) as trainer:
        said = say(trainer)
        for learner, teacher in ((1, 2), (2, 3), (3, 1)):
            _, targets, found = compare(trainer, learner)
            assert list(targets) == [teacher]
            expected = kl(said[learner - 1], said[teacher - 1])
            assert float(found["kd_response"]) == pytest.approx(expected, abs=1e-6) and expected > 1e-3


def test_two_neighbours_of_four_teach_one_by_one_or_by_the_mean_of_their_logits(plugin: str) -> None:
    found = {}
    for target in ("each", "ensemble_mean"):
        kd = {"students": 4, "update": "joint", "peer_target": target}
        keys: dict[str, Any] = {"kd_response": {**SOFT, "source": "neighbours"}, "gnn": {"dropout": 0.0}}
        with Driven(kd=kd, **keys) as trainer:
            for student in trainer.students:  # students that were just made hardly differ
                with torch.no_grad():
                    for parameter in student.model.module.parameters():
                        parameter.mul_(2)
            said = say(trainer)
            _, targets, values_ = compare(trainer, 2)
            assert list(targets) == [3, 1]
            found[target] = float(values_["kd_response"])
    each = (kl(said[1], said[0]) + kl(said[1], said[2])) / 2
    together = kl(said[1], (said[0].double() + said[2].double()) / 2)
    assert found == {"each": pytest.approx(each, abs=1e-5), "ensemble_mean": pytest.approx(together, abs=1e-5)}
    assert abs(each - together) > 1e-3
    text = explained(kd={"students": 4, "peer_target": "ensemble_mean"}, kd_response={**SOFT, "source": "neighbours"})
    assert "+ 1 · D_response(z_m, z_n)" in text and "Σ" not in text


@pytest.mark.parametrize("keep", [0.0, 0.6])
def test_a_model_of_ones_own_is_fed_and_read_as_it_asks(keep: float, plugin: str) -> None:
    """Against a loop over epochs: each is taught by what the same student said before its last step, and earlier."""
    keys: dict[str, Any] = {"kd": {"students": 2, "bank_keep": keep}, "kd_response": {**SOFT, "source": "bank"}}
    with Driven(gnn={"dropout": 0.0}, optim={"base_lr": 0.3}, **keys) as trainer:
        banks: list[Tensor] = []
        for epoch in range(5):
            said = [logits.double() for logits in say(trainer)]
            outcomes = trainer.updates.epoch(trainer.feeds[0], epoch)
            taught = banks if banks else said
            for number in (0, 1):
                value = outcomes[number].mean_extras()["kd_response"]
                assert value == pytest.approx(kl(said[number], taught[number]), abs=1e-5)
                assert (value > 1e-3) == (epoch > 0)
            banks = [keep * old + (1 - keep) * new for old, new in zip(taught, said, strict=True)]


def test_who_listens_under_another_name_needs_the_teacher_too(plugin: str) -> None:
    (checked,) = check(values(kd_response={**SOFT, "source": "mentor"}))
    (problem,) = checked.problems
    assert problem.key == "kd.teacher" and "source: mentor" in problem.found and "kd.teacher: <a run" in problem.allowed


def test_a_teacher_is_trained_first_for_who_listens_under_another_name(plugin: str) -> None:
    toy.config(Path(), "wide")
    path = toy.config(Path(), "narrow", kd={"teacher_cfg": "wide.yaml"}, kd_response={**SOFT, "source": "mentor"})
    report = run(path, quiet=True)
    assert report.results[0].teacher["name"] == "wide" and load_student("results/wide/0") is not None


# ------------------------------------------------------------------------------------------------------- bad ones
Members = Callable[[int, int], Any]


class Deaf(SourceModel):
    """Gives logits only."""

    layered: ClassVar[bool] = False


def fail(learner: int, students: int) -> Any:
    return {1: (2,)}[students]


@pytest.fixture
def bad() -> Iterator[Callable[..., None]]:
    """``bad(name=Source(...))`` registers sources."""
    names: list[str] = []

    def register(**sources: Source) -> None:
        def hook(register: Any) -> None:
            for name, source in sources.items():
                register(name, source)

        class Bad:
            gkd_register_sources = staticmethod(hookimpl(hook))

        names.append(gkd_plugin.register_plugin(Bad(), f"bad{len(names)}"))

    yield register
    for name in names:
        gkd_plugin.unregister_plugin(name)


def source_of(members: Members, **more: Any) -> Source:
    return Source(members, "a bad one", "a test", **more)


def only(checks: Checks) -> Problem:
    (checked,) = checks
    (problem,) = checked.problems
    return problem


@pytest.mark.parametrize(
    ("members", "told"),
    [
        (lambda n, count: ("techer",), "'techer' is not a member. Did you mean 'teacher'?"),
        (lambda n, count: ("peers",), "'peers' is not a member"),
        (lambda n, count: (n + 1,), "names student 3 as a teacher of student 2. Allowed: 1 to 2"),
        (lambda n, count: (0,), "names student 0 as a teacher of student 1. Allowed: 1 to 2"),
        (lambda n, count: 2, "returns 2 for student 1. Allowed: a tuple of members"),
        (lambda n, count: None, "returns None for student 1"),
        (lambda n, count: "teacher", "returns 'teacher' for student 1"),
        (lambda n, count: {2}, r"returns {2} for student 1"),
        (lambda n, count: (1.5,), "returns (1.5,) for student 1"),
        (lambda n, count: (True,), "returns (True,) for student 1"),
        (lambda n, count: (), "names no teacher"),
        (fail, "KeyError"),
    ],
)
@pytest.mark.parametrize("term", ["response", "feature"])
def test_a_source_that_names_nobody_known_is_one_clear_mistake(
    members: Members, told: str, term: str, bad: Callable[..., None]
) -> None:
    bad(broken=source_of(members))
    groups = {"response": {"kd_response": SOFT}, "feature": {"kd_feature": LAYERS}}[term]
    problem = only(check(values(kd={"students": 2}, **listening("broken", groups))))
    assert problem.key == f"kd_{term}.source" and told in problem.found and "broken" in problem.found
    with pytest.raises(UserError, match="1 mistake in the configuration"):
        run(values(kd={"students": 2}, **listening("broken", groups)), name="never", quiet=True)
    assert not Path("results/never").exists()


def test_a_source_that_is_broken_spoils_no_message_about_another(bad: Callable[..., None]) -> None:
    bad(broken=source_of(lambda n, count: (n + 7,)), third=source_of(lambda n, count: (3,)))
    problem = only(check(values(kd={"students": 1}, kd_response={**SOFT, "source": "self"})))
    assert problem.key == "kd_response.source" and "cannot teach themselves" in problem.found
    assert "broken" not in problem.allowed
    problem = only(check(values(kd={"students": 2}, kd_feature={**LAYERS, "source": "cohort"})))
    assert "gives logits only" in problem.found and "peers" in problem.allowed


def test_a_source_that_names_nobody_is_not_offered_instead_of_itself(bad: Callable[..., None]) -> None:
    bad(nobody=source_of(lambda n, count: ()))
    problem = only(check(values(kd={"students": 2}, kd_response={**SOFT, "source": "nobody"})))
    assert "peers" in problem.allowed and "nobody" not in problem.allowed


def test_a_source_may_leave_some_students_without_a_teacher(bad: Callable[..., None]) -> None:
    bad(first=source_of(lambda n, count: () if n == 1 else (1,)))
    keys: dict[str, Any] = {"kd": {"students": 2}, "kd_response": {**SOFT, "source": "first"}}
    assert check(values(**keys)).ok
    report = run(values(**keys), name="study", quiet=True)
    row = rows(report.folder / "0", "train")[-1]
    assert row["s2_kd_response"] > 0 and "s1_kd_response" not in row
    assert "+ 1 · D_response(z_m, z_n)" in explained(**keys)


def test_a_source_that_fails_is_named_with_its_error(bad: Callable[..., None]) -> None:
    bad(broken=source_of(fail))
    with pytest.raises(UserError, match=r"kd_response\.source: source 'broken' fails for student 1 of 2: KeyError"):
        explain(values(kd={"students": 2}, kd_response={**SOFT, "source": "broken"}))


@pytest.mark.parametrize("members", [lambda n, count: ("self",), lambda n, count: (n,)])
def test_itself_teaches_no_logits_that_are_not_changed(members: Members, bad: Callable[..., None]) -> None:
    bad(itself=source_of(members))
    problem = only(check(values(kd_response={**SOFT, "source": "itself"})))
    assert problem.key == "kd_response.source" and "itself, but a network's logits cannot teach" in problem.found
    assert "kd_response.sharpen" in problem.allowed
    assert check(values(kd_response={**SOFT, "source": "itself", "sharpen": 0.5})).ok
    problem = only(check(values(kd_feature={**LAYERS, "source": "itself", "layer_map": "one_to_one"})))
    assert problem.key == "kd_feature.layer_map" and "source: itself" in problem.found


def test_itself_beside_others_needs_a_group_for_each(bad: Callable[..., None]) -> None:
    bad(everybody=source_of(lambda n, count: tuple(range(1, count + 1))))
    problem = only(check(values(kd={"students": 2}, kd_response={**SOFT, "source": "everybody", "sharpen": 0.5})))
    assert "names the learner together with others" in problem.found


def test_logits_alone_teach_no_layers(bad: Callable[..., None]) -> None:
    bad(deaf=source_of(lambda n, count: ("deaf",), model=Deaf), again=source_of(lambda n, count: ("deaf", "teacher")))
    for source in ("deaf", "again"):
        problem = only(check(values(kd={"teacher": "wide"}, kd_feature={**LAYERS, "source": source})))
        assert problem.key == "kd_feature.source" and f"{source}, which gives logits only" in problem.found
        assert "deaf" not in problem.allowed and "again" not in problem.allowed and "teacher" in problem.allowed


def test_a_key_of_a_source_is_refused_where_nobody_listens(plugin: str) -> None:
    for weight in (0, 1):
        problem = only(check(values(kd={"students": 2, "bank_keep": 0.3}, kd_response={"weight": weight})))
        assert problem.key == "kd.bank_keep" and "no group has source: bank" in problem.found
    problem = only(check(values(kd={"bank_keep": 1.5}, kd_response={**SOFT, "source": "bank"})))
    assert problem.key == "kd.bank_keep" and "below 1" in problem.allowed
    assert "bank_keep" not in explained(kd={"students": 2}, kd_response=SOFT)


@pytest.mark.parametrize("key", ["students", "teacher", "ema_decay"])
def test_a_key_that_kd_has_already_is_refused(key: str, bad: Callable[..., None]) -> None:
    mine = Key(key, 1.0, Number(), "something else")
    with pytest.raises(UserError, match=f"'greedy' declares the key kd.{key}, which is taken. It needs another name"):
        bad(greedy=source_of(lambda n, count: ("self",), keys=(mine,)))
    assert "greedy" not in axes.sources and check(values(kd={"students": 2}, kd_response=SOFT)).ok


def test_two_sources_may_share_a_key(bad: Callable[..., None]) -> None:
    bad(
        one=source_of(lambda n, count: ("bank",), keys=(KEEP,)),
        bank=source_of(lambda n, count: ("bank",), keys=(KEEP,), model=Bank),
    )
    assert check(values(kd={"bank_keep": 0.5}, kd_response={**SOFT, "source": "one"})).ok
    assert check(values(kd={"bank_keep": 0.5}, kd_response={**SOFT, "source": "bank"})).ok
    problem = only(check(values(kd={"bank_keep": 0.5, "students": 2}, kd_response=SOFT)))
    assert problem.key == "kd.bank_keep"


def test_one_student_alone_is_told_what_the_source_advises(bad: Callable[..., None]) -> None:
    bad(
        pair=source_of(lambda n, count: (3 - n,), needs_students=2, advice="Write kd.students: 2."),
        quiet=source_of(lambda n, count: (3 - n,), needs_students=2),
    )
    problem = only(check(values(kd={"students": 1}, kd_response={**SOFT, "source": "pair"})))
    assert problem.key == "kd_response.source" and "pair with 1 student" in problem.found
    assert problem.allowed == "Write kd.students: 2."
    checks = check(values(kd={"students": 1}, kd_response={**SOFT, "source": "quiet"}))
    assert checks.ok and "no student teaches, so the term is 0" in checks[0].warnings[0]
    assert check(values(kd_response={**SOFT, "source": "pair"}))[0].config.plan.students == 2  # type: ignore[union-attr]


def test_what_a_plugin_leaves_behind_is_nothing(plugin: str) -> None:
    gkd_plugin.unregister_plugin(plugin)
    assert [name for name in axes.sources if axes.sources.origin(name) != "gkd_plugin"] == []
