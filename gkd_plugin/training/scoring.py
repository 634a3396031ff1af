"""The teacher beside its students in evaluation: its own score, and how often they decide as it does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from gkd_plugin.data.metrics import f1_threshold
from gkd_plugin.errors import UserError
from gkd_plugin.host import cfg
from gkd_plugin.models.observed import ObservedModel, Sample
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions, evaluate, score
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
    """Reads a run's teacher on the batches on which its students are evaluated.

    Labels, loss and metric are those of the students, so that the scores can be compared. On validation the agreement is
    read in every epoch only where that needs no forward pass of the teacher: where it was read once for the whole run.
    Edge tasks are left out, for every split decodes pairs of its own and a teacher is asked for the training pairs.

    Args:
        teacher (PreparedTeacher, optional): The teacher, where a term listens to one.
        taps (iterable of str): The taps that terms read off it; asking for others would run it again.
        feeds (sequence of SplitLoader): The students' feeds.
        kind (str): The host's task type.
        streams (RandomStreams): The run's streams.
    """

    def __init__(
        self,
        teacher: PreparedTeacher | None,
        taps: Iterable[str],
        feeds: Sequence[SplitLoader],
        kind: str,
        streams: RandomStreams,
    ) -> None:
        self.teacher, self.taps, self.kind, self.streams = teacher, tuple(taps), kind, streams
        self.measured = teacher is not None and feeds[0].task.level != "edge"
        self.decides = self.measured and kind.startswith("classification")
        self.failure = ""  # why its score could not be measured
        single = feeds[1].single
        self.in_every_epoch = self.decides and single is not None and self._covers(single)

    def on_validation(
        self, model: ObservedModel, sample: Sample, seen: Observation, scores: Tensor
    ) -> dict[str, float]:
        """A student's agreement on the validation split as a further column; none where it would cost a forward pass."""
        if not self.in_every_epoch:
            return {}
        return {"agreement": agreement([scores], [self._score(model, sample, seen, "val")[1]], self.kind)}

    def evaluate(self, model: ObservedModel, samples: Iterable[Sample], split: str) -> tuple[Predictions, Predictions]:
        """A student on a split, and the teacher on the very same batches (nothing where it is not measured)."""
        told = Predictions()

        def read(sample: Sample, seen: Observation) -> None:
            if self.measured and not self.failure:
                try:
                    told.add(*self._score(model, sample, seen, split))
                except Exception as error:  # a module may raise anything; what was trained is not lost for it
                    text = next(iter(str(error).splitlines()), "")
                    self.failure = f"its score on {split} could not be measured ({type(error).__name__}: {text})"

        return evaluate(model, samples, (split,), read)[split], told

    def agreements(self, tests: Mapping[str, Predictions], told: Mapping[str, Predictions]) -> dict[str, float]:
        """The agreement of every answer on the test split.

        Args:
            tests (mapping): What each answered.
            told (mapping): What the teacher answered on the same batches.
        """
        if not self.decides or self.failure:
            return {}
        return {name: round(agreement(test.score, told[name].score, self.kind), 6) for name, test in tests.items()}

    def about(
        self, metric: str, test: Predictions | None, model: ObservedModel, validation: SplitLoader
    ) -> dict[str, Any]:
        """What a run's result says of its teacher.

        Args:
            metric (str): The metric that selects the students.
            test (Predictions, optional): What the teacher answered on the test split.
            model (ObservedModel): A student, which knows the labels.
            validation (SplitLoader): The validation split; the score of a teacher that has no record is measured there.
        """
        if self.teacher is None:
            return {}
        about = dict(self.teacher.about)
        if self.measured and "val" not in about:
            with self.streams.use("test"):
                told = self.evaluate(model, validation.samples(), "val")[1]
            if not self.failure:
                about |= {"metric": metric, "val": told.metrics(self.kind)[metric]}
        if test is not None and self.measured and not self.failure:
            about["test"] = test.metrics(self.kind)[metric]
        return about

    def _score(
        self, model: ObservedModel, sample: Sample, seen: Observation, split: str
    ) -> tuple[Tensor, Tensor, float]:
        says = self._says(sample)
        as_student = Observation(says.logits, {}, seen.graph, seen.labels)
        return says.remember(("score", split), lambda: score(model, sample, as_student, split))

    def _says(self, sample: Sample) -> Observation:
        """The teacher on a batch of any split, which may be another graph than the students are trained on."""
        assert self.teacher is not None
        if self.teacher.graph is None or self._covers(sample):
            return self.teacher.observe(sample, self.taps)
        if self.teacher.own_edges or isinstance(self.teacher.teacher, StoredTeacher):
            raise UserError("it knows the training graph, and this split is another one")
        return self.teacher.teacher.observe(sample.whole or sample, self.taps)

    def _covers(self, sample: Sample) -> bool:
        """Whether a batch is the graph on which the teacher is read once, or a part of it."""
        assert self.teacher is not None
        graph = self.teacher.graph
        if graph is None or sample is graph or sample.whole is graph:
            return graph is not None
        theirs, ids = graph.batch.get("x"), sample.batch.get("n_id")
        own = (sample.whole or sample).batch
        if theirs is None or own.get("x") is None:
            return False
        if ids is not None:
            return int(ids.max()) < len(theirs) and torch.equal(theirs[ids], own.x)
        same = self.teacher.own_edges or torch.equal(graph.batch.edge_index, own.edge_index)
        return same and torch.equal(theirs, own.x)
