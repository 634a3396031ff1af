"""The update orders: who steps when, and what the others look like at that moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext

import torch

from gkd_plugin import host
from gkd_plugin.errors import Diverged
from gkd_plugin.models.observed import Sample
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.plan import Plan
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.sources.base import Sources
from gkd_plugin.training.students import Student


class Updates:
    """Trains a cohort for one epoch at a time.

    Args:
        plan (Plan): The plan; ``kd.update`` names the order.
        students (sequence of Student): The cohort.
        sources (Sources): Who teaches them.
        streams (RandomStreams): The run's streams. Student 1 draws from the global one.
        recorders (sequence of Recorder): Who looks at each step.
    """

    def __init__(
        self,
        plan: Plan,
        students: Sequence[Student],
        sources: Sources,
        streams: RandomStreams,
        recorders: Sequence[Recorder] = (),
    ) -> None:
        self.plan, self.students, self.sources, self.streams = plan, students, sources, streams
        self.recorders = recorders

    def epoch(self, feed: SplitLoader, epoch: int) -> list[Predictions]:
        """One epoch of every student; what each answered while it was trained."""
        outcomes = [Predictions() for _ in self.students]
        self.begin_epoch(epoch)
        for student in self.students:
            student.model.module.train()
            student.objective.train()
        order = self.plan["update"]
        if order == "epoch_alternate":
            for student, outcome in zip(self.students, outcomes, strict=True):
                self._own_pass(student, feed, epoch, outcome)
        else:
            for sample in feed:
                if order == "joint":
                    # all targets are read before any step
                    targets = [self._read_targets(student, sample, epoch) for student in self.students]
                else:
                    targets = [None] * len(self.students)  # type: ignore[list-item]
                for student, outcome, known in zip(self.students, outcomes, targets, strict=True):
                    self.step(student, sample, epoch, outcome, known)
        for student in self.students:
            if not student.awaits_loss:
                student.scheduler.step()
        return outcomes

    def begin_epoch(self, epoch: int) -> None:
        """Tells the readings what any learner needs now."""
        taps = {tap for student in self.students for tap in student.objective.taps(epoch)}
        self.sources.run.readings.begin_epoch(taps)

    def _read_targets(self, student: Student, sample: Sample, epoch: int) -> dict[Member, Observation]:
        return self.sources.observe(student.number, student.objective.members(epoch), sample)

    def _own_pass(self, student: Student, feed: SplitLoader, epoch: int, outcome: Predictions) -> None:
        if student.number == 1:
            for sample in feed:
                self.step(student, sample, epoch, outcome)
            return
        passing = f"pass/{student.number}"
        with self.streams.use(passing):
            iterator = iter(feed)
        while True:
            with self.streams.use(passing):
                following = next(iterator, None)
            if following is None:
                return
            self.step(student, following, epoch, outcome)

    def step(
        self,
        student: Student,
        sample: Sample,
        epoch: int,
        outcome: Predictions,
        targets: dict[Member, Observation] | None = None,
    ) -> None:
        """One optimizer step of one student.

        Raises:
            Diverged: If the objective is not finite; names epoch, student and term.
        """
        objective, model = student.objective, student.model
        if targets is None:
            targets = self._read_targets(student, sample, epoch)
        # a cohort observes at the same taps, so that readings serve everyone
        with nullcontext() if student.number == 1 else self.streams.use(f"train/{student.number}"):
            seen = model.observe(sample, objective.taps(epoch))
            pred, true = sample.answers(seen, "train")
            with host.scoped(model.own):
                label_loss, score = host.task_loss(pred, true)
        total, values, weighted = label_loss, {}, {}
        if objective.groups or self.plan["label_weight"] != 1:
            with host.scoped(model.own), self.streams.use(f"terms/{student.number}"):
                taught = self.sources.add_own(targets, seen, objective.members(epoch))
                total, values, weighted = objective(label_loss, seen, taught, epoch)
        loss = float(label_loss.detach())
        numbers = {name: float(value) for name, value in values.items()}
        if not math.isfinite(float(total.detach())):
            self._fail(student, epoch, loss, numbers)
        outcome.add(true, score, loss, {**dict.fromkeys(objective.value_names, 0.0), **numbers})
        asking = [each for each in self.recorders if weighted and each.asks_step(epoch, student)]
        if total.requires_grad:
            student.optimizer.zero_grad()
            total.backward(retain_graph=bool(asking))
        if asking:
            label_weight = float(self.plan["label_weight"])
            task = label_weight * label_loss if label_weight else None
            for recorder in asking:
                recorder.see_step(epoch, student, task, weighted, {"task": loss, **numbers}, total.requires_grad)
        if total.requires_grad:
            if self.plan["clip_grad_norm"] is not None:
                torch.nn.utils.clip_grad_norm_(student.parameters, float(self.plan["clip_grad_norm"]))
            student.optimizer.step()
            self.sources.note_step(student.number)

    def _fail(self, student: Student, epoch: int, loss: float, numbers: dict[str, float]) -> None:
        broken = [name for name, value in {"task loss": loss, **numbers}.items() if not math.isfinite(value)]
        raise Diverged(
            f"epoch {epoch}, student {student.number}: {', '.join(broken) or 'the weighted sum'} "
            f"{'are' if len(broken) > 1 else 'is'} not finite "
            f"(task loss {loss:g}{''.join(f', {n} {v:g}' for n, v in numbers.items())}). Nothing finished is lost; "
            "try a smaller optim.base_lr, kd.clip_grad_norm 1, or a smaller weight of that term."
        )
