"""Reading models as sources: each is run once for as long as its weights and the batch stay the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from gkd_plugin.models.observed import Sample
from gkd_plugin.models.rng import RandomStreams, random_state
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.objective import Member, ensemble_target, teacher_taps
from gkd_plugin.training.students import Student
from gkd_plugin.training.teachers.prepare import PreparedTeacher


@dataclass(frozen=True, eq=False)
class _Reading:
    seen: Observation
    sample: Sample
    version: int
    taps: frozenset[str]
    train: bool
    drew: bool

    def serves(self, student: Student, sample: Sample, taps: frozenset[str], train: bool) -> bool:
        return self.version == student.version and self.sample is sample and taps <= self.taps and self.train == train


class Reader:
    """Gives every learner the observations of its sources.

    Args:
        students (sequence of Student): The cohort.
        streams (RandomStreams): The run's streams; peers are read under streams of their own.
        train_mode (bool): Whether peers are read with dropout and batch statistics on (``peer_mode: train``).
        teacher (PreparedTeacher, optional): The teacher.
    """

    def __init__(
        self,
        students: Sequence[Student],
        streams: RandomStreams,
        train_mode: bool,
        teacher: PreparedTeacher | None = None,
    ) -> None:
        self.students = {student.number: student for student in students}
        self.teacher = teacher
        self.streams, self.train_mode = streams, train_mode
        self._readings: dict[int, _Reading] = {}

    def taps(self, epoch: int) -> frozenset[str]:
        """The taps that any learner needs in this epoch; the same for all, so that a reading serves everyone."""
        return frozenset(tap for student in self.students.values() for tap in student.objective.taps(epoch))

    def new_epoch(self) -> None:
        """Forgets readings that drew random numbers: a resumed run could not have them."""
        self._readings = {number: kept for number, kept in self._readings.items() if not kept.drew}

    def sources(self, learner: Student, sample: Sample, epoch: int) -> dict[Member, Observation]:
        """What teaches a learner now, except itself."""
        found: dict[Member, Observation] = {}
        for member in learner.objective.sources(epoch):
            if member == "ensemble":
                others = [number for number in self.students if number != learner.number]
                found[member] = ensemble_target([self._read(number, sample, epoch) for number in others])
            elif member == "teacher" and self.teacher is not None:
                found[member] = self.teacher.observe(sample, teacher_taps(learner.objective.plan))
            elif isinstance(member, int):
                found[member] = self._read(member, sample, epoch)
        return found

    def _read(self, number: int, sample: Sample, epoch: int) -> Observation:
        return self._observe(number, sample, self.taps(epoch), self.train_mode, self.streams.use(f"peer/{number}"))

    def evaluation(self, number: int, sample: Sample, epoch: int) -> Observation:
        """A student in evaluation mode; the same forward pass serves its peers where it drew nothing."""
        student = self.students[number]
        # heads are looked at in every epoch, also where their schedule is 0
        taps = self.taps(epoch) | ({"layer"} if student.objective.heads is not None else set())
        kept = self._readings.get(number)
        if kept is not None and kept.serves(student, sample, taps, False) and not kept.drew:
            return kept.seen
        # the host draws student 1's evaluation from the global stream
        stream = nullcontext() if number == 1 else self.streams.use(f"evaluation/{number}")
        if sample.task.level == "edge":  # peers are read on the pairs of another split
            with stream, student.model.untouched():
                return student.model.observe(sample, taps, "val")
        self._readings.pop(number, None)
        return self._observe(number, sample, taps, False, stream)

    def _observe(
        self, number: int, sample: Sample, taps: frozenset[str], train: bool, stream: AbstractContextManager[None]
    ) -> Observation:
        student = self.students[number]
        kept = self._readings.get(number)
        if kept is not None and kept.serves(student, sample, taps, train):
            return kept.seen
        with stream, student.model.untouched(train):
            before = random_state()
            seen = student.model.observe(sample, taps)
            drew = not all(torch.equal(a, b) for a, b in zip(before, random_state(), strict=False))
        self._readings[number] = _Reading(seen, sample, student.version, taps, train, drew)
        return seen


def with_self(
    sources: Mapping[Member, Observation], own: Observation, wanted: set[Member]
) -> dict[Member, Observation]:
    """The sources with the learner's own, detached observation where it teaches itself."""
    return {**sources, "self": own.detached()} if "self" in wanted else dict(sources)
