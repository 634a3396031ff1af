"""Source ``teacher``: models that were trained before, frozen; one, or several together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from gkd_plugin.errors import UserError
from gkd_plugin.models.sample import Sample
from gkd_plugin.plan import Plan
from gkd_plugin.schema import Choice, Key, Name, Number, show
from gkd_plugin.space.answers import Source
from gkd_plugin.space.observation import Observation, Outline
from gkd_plugin.space.sources import SourceModel
from gkd_plugin.training.sources.cohort import mean_probability
from gkd_plugin.training.teachers.prepare import PreparedTeacher, find_teacher, list_names

NAME = "teacher"


def is_named(kd: Mapping[str, Any]) -> bool:
    """Whether the scheme's keys name a teacher."""
    return kd["teacher"] is not None or kd["teacher_cfg"] is not None


def _unless_named(values: Mapping[str, Any]) -> str | None:
    return None if is_named(values) else "no teacher is named (kd.teacher, kd.teacher_cfg)"


def _unless_single(values: Mapping[str, Any]) -> str | None:
    return "it trains one teacher, but kd.teacher names several" if isinstance(values["teacher"], tuple) else None


def _unless_several(values: Mapping[str, Any]) -> str | None:
    return None if isinstance(values["teacher"], tuple) else "kd.teacher names only one (several: kd.teacher: [a, b])"


KEYS = (
    Key(
        "teacher",
        None,
        Name("a run's or file's name, or a list of them", path=True, several=True),
        "a trained model that is frozen and listened to, or several",
    ),
    Key(
        "teacher_cfg",
        None,
        Name("a YAML name", path=True),
        "trained first, once, where the teacher is missing",
        _unless_single,
    ),
    Key(
        "teacher_seed",
        "match",
        Number(0, integer=True, words=("match", "best")),
        "which of the teacher's seeds teaches",
        _unless_named,
    ),
    Key(
        "teacher_target",
        "mean",
        Choice(("mean", "each")),
        "several teachers: the mean of their probabilities, or each by itself; layers are compared with each",
        _unless_several,
    ),
)


class Teacher(SourceModel):
    """The teachers of a run, found and checked before anything is trained.

    Raises:
        UserError: If one is missing, of other data or classes, unreadable, or does not reproduce its score.
    """

    symbol: ClassVar[str] = "T"

    def __init__(self, name: str, run: Any) -> None:
        super().__init__(name, run)
        seed, module = run.seed_folder, run.module
        self.teachers = [
            find_teacher(each, run.plan, run.loaders, run.streams, run.folder, seed, module)
            for each in list_names(run.plan)
        ]
        self.together = len(self.teachers) > 1 and run.plan["teacher_target"] == "mean"
        self._last: tuple[list[Observation], Observation] | None = None

    @property
    def scored(self) -> Sequence[PreparedTeacher]:
        return self.teachers

    def members(self, layered: bool) -> tuple[str, ...]:
        if len(self.teachers) == 1 or (self.together and not layered):
            return (self.name,)
        return tuple(f"{self.name}_{number}" for number in range(1, len(self.teachers) + 1))

    @classmethod
    def count(cls, plan: Plan, layered: bool) -> int:
        names = plan["teacher"]
        together = not isinstance(names, tuple) or (plan["teacher_target"] == "mean" and not layered)
        return 1 if together else len(names)

    def outline(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Outline:
        if member == self.name and len(self.teachers) > 1:
            return Outline.of(self.observe(member, learner, sample, taps), 0)
        return self.teachers[self._place(member)].outline(sample, taps)

    def observe(self, member: str, learner: int, sample: Sample, taps: Iterable[str]) -> Observation:
        if member != self.name or len(self.teachers) == 1:
            return self.teachers[self._place(member)].observe(sample, taps)
        seen = [teacher.observe(sample, taps) for teacher in self.teachers]
        if self._last is None or any(a is not b for a, b in zip(seen, self._last[0], strict=True)):
            shapes = {each.name: tuple(o.logits.shape[1:]) for each, o in zip(self.teachers, seen, strict=True)}
            if len(set(shapes.values())) > 1:
                found = ", ".join(f"{name} {(*shape, 1)[0]}" for name, shape in shapes.items())
                raise UserError(
                    f"kd.teacher: the teachers give different numbers of logits for each item ({found}). Teachers that teach "
                    "together must predict the same classes."
                )
            mean = mean_probability([each.logits for each in seen], sample.task.kind)
            self._last = (seen, replace(seen[0], logits=mean, hidden={}, memo={}, keep=None))
        return self._last[1]

    def _place(self, member: str) -> int:
        return 0 if member == self.name else int(member.removeprefix(f"{self.name}_")) - 1

    @classmethod
    def describe(cls, plan: Plan) -> str:
        seeds = {"match": "of the same seed", "best": "its best seed by validation"}
        seed = seeds.get(plan["teacher_seed"], f"its seed {plan['teacher_seed']}")
        names = plan["teacher"] or plan["teacher_cfg"]
        if isinstance(names, tuple):
            of_logits = "the mean of their logits" if plan["peer_target"] == "ensemble_mean" else "each by itself"
            how = "the mean of their probabilities" if plan["teacher_target"] == "mean" else of_logits
            how += "; layers are compared with each"
            return f"the teachers {', '.join(names)} ({how}), {seed}, frozen"
        return f"the teacher {show(names)}, {seed}, frozen"


SOURCE = Source(
    lambda learner, students: (NAME,),
    "a model trained before, frozen",
    "Hinton et al. (arXiv 1503.02531)",
    keys=KEYS,
    model=Teacher,
    named=is_named,
    advice="Write kd.teacher: <a run, or a file of logits>, or kd.teacher_cfg: <the YAML that trains it>",
)
