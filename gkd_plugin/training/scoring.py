"""Test scores at the end of a run, and teachers beside their students: their own score, and how often both decide alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gkd_plugin.data.metrics import f1_threshold
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions, ensemble, evaluate, score
from gkd_plugin.training.selection import Best, copy_state
from gkd_plugin.training.sources.cohort import mean_probability
from gkd_plugin.training.students import Student
from gkd_plugin.training.teachers.file import StoredTeacher
from gkd_plugin.training.teachers.prepare import PreparedTeacher


def decide(scores: Tensor, kind: str) -> Tensor:
    """What the metrics read off scores: one class for each item, or yes or no for each label.

    Args:
        scores (Tensor): Scores as ``compute_loss`` returns them, ``[N, C]`` or ``[N]``.
        kind (str): The host's task type.
    """
    if scores.dim() > 1 and scores.size(1) > 1 and kind != "classification_multilabel":
        return scores.argmax(dim=1)
    # custom metrics stand in the place of the host's own
    hosts = kind == "classification_binary" and not cfg.custom_metrics
    return scores > (float(cfg.model.thresh) if hosts else f1_threshold())


def agreement(ours: Sequence[Tensor], theirs: Sequence[Tensor], kind: str) -> float:
    """The share of items (of entries, for several labels) on which two models decide alike.

    Args:
        ours, theirs (sequence of Tensor): Scores, batch by batch.
        kind (str): The host's task type.
    """
    same = [(decide(a, kind) == decide(b, kind)).flatten() for a, b in zip(ours, theirs, strict=True)]
    alike = torch.cat(same)
    return int(alike.sum()) / max(len(alike), 1)


class TeacherScores:
    """Reads a run's teachers (several: the mean of their probabilities) on the batches on which its students are evaluated.

    Labels, loss and metric are those of the students, so that the scores can be compared. On validation the agreement is
    read in every epoch only where that needs no forward pass of the teacher: where it was read once for the whole run.
    Edge tasks are left out, for every split decodes pairs of its own and a teacher is asked for the training pairs.

    Args:
        teachers (sequence of PreparedTeacher): The teachers, where a term listens to them.
        taps (iterable of str): The taps that terms read off them; asking for others would run them again.
        feeds (sequence of SplitLoader): The students' feeds.
        kind (str): The host's task type.
        streams (RandomStreams): The run's streams.
    """

    def __init__(
        self,
        teachers: Sequence[PreparedTeacher],
        taps: Iterable[str],
        feeds: Sequence[SplitLoader],
        kind: str,
        streams: RandomStreams,
    ) -> None:
        self.teachers, self.taps, self.kind, self.streams = tuple(teachers), tuple(taps), kind, streams
        self.name = "+".join(teacher.name for teacher in teachers)
        self.measured = bool(teachers) and feeds[0].task.level != "edge"
        self.decides = self.measured and kind.startswith("classification")
        self.failure = ""  # why its score could not be measured
        single = feeds[1].single
        self.in_every_epoch = self.decides and single is not None and self._all_cover(single)

    def on_validation(
        self, model: ObservedModel, sample: Sample, seen: Observation, scores: Tensor
    ) -> dict[str, float]:
        """A student's agreement on the validation split as a further column; none if it needs a forward pass."""
        if not self.in_every_epoch:
            return {}
        return {"agreement": agreement([scores], [self._score(model, sample, seen, "val")[1]], self.kind)}

    def evaluate(self, model: ObservedModel, samples: Iterable[Sample], split: str) -> tuple[Predictions, Predictions]:
        """A student on a split, and the teacher on the very same batches (nothing where it is not measured)."""
        its = Predictions()

        def read(sample: Sample, seen: Observation) -> None:
            if self.measured and not self.failure:
                try:
                    its.add(*self._score(model, sample, seen, split))
                except Exception as error:  # a module may raise anything; what was trained is not lost for it
                    text = next(iter(str(error).splitlines()), "")
                    self.failure = f"its score on {split} could not be measured ({type(error).__name__}: {text})"

        return evaluate(model, samples, (split,), read)[split], its

    def agreements(self, tests: Mapping[str, Predictions], its: Mapping[str, Predictions]) -> dict[str, float]:
        """The agreement of every answer on the test split.

        Args:
            tests (mapping): The predictions of each.
            its (mapping): The teacher's predictions on the same batches.
        """
        if not self.decides or self.failure:
            return {}
        return {name: round(agreement(test.score, its[name].score, self.kind), 6) for name, test in tests.items()}

    def about(
        self, metric: str, test: Predictions | None, model: ObservedModel, validation: SplitLoader
    ) -> dict[str, Any]:
        """What a run's result records of its teacher.

        Args:
            metric (str): The metric that selects the students.
            test (Predictions, optional): What the teacher answered on the test split.
            model (ObservedModel): A student, which knows the labels.
            validation (SplitLoader): The validation split; the score of a teacher that has no record is measured there.
        """
        if not self.teachers:
            return {}
        first = self.teachers[0]
        about: dict[str, Any] = dict(first.about) if len(self.teachers) == 1 else {"name": self.name}
        if self.measured and "val" not in about:
            with self.streams.use("test"):
                its = self.evaluate(model, validation.samples(), "val")[1]
            if not self.failure:
                about |= {"metric": metric, "val": its.metrics(self.kind)[metric]}
        if test is not None and self.measured and not self.failure:
            about["test"] = test.metrics(self.kind)[metric]
        return about

    def warnings(self) -> Iterator[str]:
        """What these teachers showed to be probably a mistake."""
        yield from (teacher.doubt for teacher in self.teachers if teacher.doubt)
        if self.failure:
            yield f"kd.teacher: {self.name}: {self.failure}."

    def _score(
        self, model: ObservedModel, sample: Sample, seen: Observation, split: str
    ) -> tuple[Tensor, Tensor, float]:
        its = [self._read(teacher, sample) for teacher in self.teachers]
        logits = mean_probability([each.logits for each in its], sample.task.kind)
        as_student = Observation(logits, {}, seen.graph, seen.labels)
        return its[0].remember(("score", split), lambda: score(model, sample, as_student, split))

    def _read(self, teacher: PreparedTeacher, sample: Sample) -> Observation:
        """A teacher on a batch of any split, which may be another graph than the students are trained on."""
        if teacher.graph is None or _covers(teacher, sample):
            return teacher.observe(sample, self.taps)
        if teacher.own_edges or isinstance(teacher.teacher, StoredTeacher):
            raise UserError("it knows the training graph, and this split is another one")
        return teacher.teacher.observe(sample.whole or sample, self.taps)

    def _all_cover(self, sample: Sample) -> bool:
        return all(_covers(teacher, sample) for teacher in self.teachers)


def _covers(teacher: PreparedTeacher, sample: Sample) -> bool:
    """Whether a batch is the graph on which a teacher is read once, or a part of it."""
    graph = teacher.graph
    if graph is None:
        return False
    if sample is graph or sample.whole is graph:
        return True
    whole, ids = (sample.whole or sample).batch, sample.batch.get("n_id")
    theirs, ours = graph.batch.get("x"), whole.get("x")
    if theirs is None or ours is None:
        return False
    if ids is not None:  # a sampled part
        return int(ids.max()) < len(theirs) and torch.equal(theirs[ids], ours)
    same_edges = teacher.own_edges or torch.equal(graph.batch.edge_index, whole.edge_index)
    return same_edges and torch.equal(theirs, ours)


def score_tests(
    students: Sequence[Student],
    bests: Mapping[str, Best],
    feed: SplitLoader,
    streams: RandomStreams,
    teachers: TeacherScores,
) -> tuple[dict[str, Predictions], dict[str, Predictions]]:
    """The predictions of every answer on the test split with the weights of its selected epoch, once; and what the teachers give
    on the same batches.

    Args:
        students (sequence of Student): The cohort; its weights are afterwards what they were.
        bests (mapping): The selected weights of every answer.
        feed (SplitLoader): The test split.
        streams (RandomStreams): The run's streams.
        teachers (TeacherScores): The teacher.
    """
    last = [copy_state(student.model.module.state_dict()) for student in students]
    tests: dict[str, Predictions] = {}
    its: dict[str, Predictions] = {}
    with streams.use("test"):
        for student in students:
            name = f"s{student.number}"
            student.model.module.load_state_dict(bests[name].states[0])
            tests[name], its[name] = teachers.evaluate(student.model, feed, "test")
        if "ensemble" in bests:
            members = []
            for student, state in zip(students, bests["ensemble"].states, strict=True):
                student.model.module.load_state_dict(state)
                ours, its["ensemble"] = teachers.evaluate(student.model, feed, "test")
                members.append(ours)
            tests["ensemble"] = ensemble(members, teachers.kind)
    for student, state in zip(students, last, strict=True):
        student.model.module.load_state_dict(state)
    return tests, its
