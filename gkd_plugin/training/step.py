"""The update orders: who steps when, and what the others look like at that moment."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gkd_plugin import host
from gkd_plugin.errors import Diverged
from gkd_plugin.models.observed import Request, Together
from gkd_plugin.models.rng import RandomStreams
from gkd_plugin.models.sample import Sample
from gkd_plugin.models.stacked import differentiate
from gkd_plugin.plan import Plan
from gkd_plugin.space.answers import Member
from gkd_plugin.space.observation import Observation
from gkd_plugin.training.batches import SplitLoader
from gkd_plugin.training.evaluation import Predictions
from gkd_plugin.training.recorders.base import Recorder
from gkd_plugin.training.sources.base import Sources
from gkd_plugin.training.students import Student

LOST = 1e-2  # a remainder this much smaller than the whole has lost digits, and is computed by itself


@dataclass(frozen=True, eq=False)
class _Judged:
    """A student's objective, before its step.

    Args:
        student (Student): The student.
        total (Tensor): The sum of all.
        terms (mapping): The weighted terms by name.
        labels (Tensor, optional): The label loss, where it counts.
        values (mapping): What the rows of the run say of it.
    """

    student: Student
    total: Tensor
    terms: Mapping[str, Tensor]
    labels: Tensor | None
    values: Mapping[str, float]

    @property
    def weights(self) -> list[nn.Parameter]:
        """What its network learns; heads and projections are not asked."""
        return [weight for weight in self.student.model.module.parameters() if weight.requires_grad]


class Updates:
    """Trains a cohort for one epoch at a time.

    Args:
        plan (Plan): The plan; ``kd.update`` names the order.
        students (sequence of Student): The cohort.
        sources (Sources): Who teaches them.
        streams (RandomStreams): The run's streams. Student 1 draws from the global one.
        recorders (sequence of Recorder): Who looks at each step.
        together (Together, optional): Who runs similar networks in one pass.
    """

    def __init__(
        self,
        plan: Plan,
        students: Sequence[Student],
        sources: Sources,
        streams: RandomStreams,
        recorders: Sequence[Recorder] = (),
        together: Together | None = None,
    ) -> None:
        self.plan, self.students, self.sources, self.streams = plan, students, sources, streams
        self.recorders, self.together = recorders, together

    def epoch(self, feed: SplitLoader, epoch: int) -> list[Predictions]:
        """One epoch of every student; what each answered while it was trained."""
        outcomes = [Predictions() for _ in self.students]
        self.begin_epoch(epoch)
        for student in self.students:
            student.model.set_mode(True)
            student.objective.train()
        order = self.plan["update"]
        if self._steps_together(feed):
            for sample in feed:
                self._step_together(sample, epoch, outcomes)
        elif order == "epoch_alternate":
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
        if targets is None:
            targets = self._read_targets(student, sample, epoch)
        seen = self._observe(student, sample, epoch)
        self._descend(epoch, [self._judge(student, sample, epoch, outcome, targets, seen)])

    def _steps_together(self, feed: SplitLoader) -> bool:
        """Whether all students may take a step at once: nobody's step changes what another one is taught by."""
        if self.together is None or len(self.students) == 1:
            return False
        alike = not self.plan.active and feed.single is not None  # any order gives the same
        return alike or self.plan["update"] == "joint"

    def _step_together(self, sample: Sample, epoch: int, outcomes: Sequence[Predictions]) -> None:
        """One optimizer step of every student, all from one forward and one backward pass."""
        assert self.together is not None
        targets = [self._read_targets(student, sample, epoch) for student in self.students]
        asked = [Request(each.model, sample, tuple(each.objective.taps(epoch))) for each in self.students]
        judged = []
        for student, outcome, known, seen in zip(
            self.students, outcomes, targets, self.together.observe(asked), strict=True
        ):
            seen = self._observe(student, sample, epoch) if seen is None else seen
            judged.append(self._judge(student, sample, epoch, outcome, known, seen))
        self._descend(epoch, judged)

    def _observe(self, student: Student, sample: Sample, epoch: int) -> Observation:
        # a cohort observes at the same taps, so that readings serve everyone
        with nullcontext() if student.number == 1 else self.streams.use(f"train/{student.number}"):
            return student.model.observe(sample, student.objective.taps(epoch))

    def _judge(
        self,
        student: Student,
        sample: Sample,
        epoch: int,
        outcome: Predictions,
        targets: dict[Member, Observation],
        seen: Observation,
    ) -> _Judged:
        """The objective of one student, which is taken note of."""
        objective, model = student.objective, student.model
        pred, true = sample.answers(seen, "train")
        # the host's own draws, of a loss that has some, come from the stream of the forward pass
        stream = nullcontext() if student.number == 1 else self.streams.use(f"train/{student.number}")
        with stream, host.scoped(model.own):
            label_loss, score = host.task_loss(pred, true)
        total, values, weighted = label_loss, {}, {}
        if objective.groups or self.plan["label_weight"] != 1:
            with host.scoped(model.own), self.streams.use(f"terms/{student.number}"):
                taught = self.sources.add_own(targets, seen, objective.members(epoch))
                total, values, weighted = objective(label_loss, seen, taught, epoch)
        loss = float(label_loss.detach())
        numbers = {name: float(value) for name, value in values.items()}
        whole = loss if total is label_loss else float(total.detach())
        if not math.isfinite(whole):
            self._fail(student, epoch, loss, numbers)
        outcome.add(true, score, loss, {**dict.fromkeys(objective.value_names, 0.0), **numbers})
        counts = label_loss.requires_grad and bool(self.plan["label_weight"])
        return _Judged(student, total, weighted, label_loss if counts else None, {"task": loss, **numbers})

    def _descend(self, epoch: int, judged: Sequence[_Judged]) -> None:
        """An optimizer step of every student that was judged, from one backward pass."""
        moving = [each for each in judged if each.total.requires_grad]
        asking = [
            each for each in moving if each.terms and any(r.asks_step(epoch, each.student) for r in self.recorders)
        ]
        for each in moving:
            each.student.optimizer.zero_grad()
        totals = [each.total for each in moving]
        if self.together is not None and totals:
            self.together.backward(totals, bool(asking))
        elif totals:
            torch.autograd.backward(totals, retain_graph=bool(asking))
        if asking:
            self._record(epoch, asking)
        for student in (each.student for each in moving):
            if self.plan["clip_grad_norm"] is not None:
                torch.nn.utils.clip_grad_norm_(student.parameters, float(self.plan["clip_grad_norm"]))
            student.optimizer.step()
            self.sources.note_step(student.number)

    def _record(self, epoch: int, asking: Sequence[_Judged]) -> None:
        """Gives recorders the gradient of each term; that of the labels is what the terms leave of the whole."""
        found: list[dict[str, Tensor]] = [{} for _ in asking]
        for name in dict.fromkeys(name for each in asking for name in each.terms):
            places = [p for p, each in enumerate(asking) if name in each.terms and each.terms[name].requires_grad]
            owned = [asking[place].weights for place in places]
            values = [asking[place].terms[name] for place in places]
            gradients = iter(self._differentiate(values, [w for weights in owned for w in weights]) if values else ())
            for place, weights in zip(places, owned, strict=True):
                found[place][name] = torch.cat([next(gradients).flatten() for _ in weights])
        for each, parts in zip(asking, found, strict=True):
            if each.labels is not None:
                whole = torch.cat([(torch.zeros_like(w) if w.grad is None else w.grad).flatten() for w in each.weights])
                own = whole - sum(parts.values())
                if float(own.norm()) < LOST * float(whole.norm()):
                    labels = float(self.plan["label_weight"]) * each.labels
                    own = torch.cat([part.flatten() for part in self._differentiate([labels], each.weights)])
                parts = {"task": own, **parts}
            for recorder in self.recorders:
                if recorder.asks_step(epoch, each.student):
                    recorder.see_step(epoch, each.student, parts, each.values)

    def _differentiate(self, values: Sequence[Tensor], weights: Sequence[nn.Parameter]) -> Sequence[Tensor]:
        """The gradient for all weights of values that each depend on some of them; the graph is kept."""
        if self.together is not None:
            return self.together.differentiate(values, weights)
        return differentiate(values, weights)

    def _fail(self, student: Student, epoch: int, loss: float, numbers: dict[str, float]) -> None:
        broken = [name for name, value in {"task loss": loss, **numbers}.items() if not math.isfinite(value)]
        raise Diverged(
            f"epoch {epoch}, student {student.number}: {', '.join(broken) or 'the weighted sum'} "
            f"{'are' if len(broken) > 1 else 'is'} not finite "
            f"(task loss {loss:g}{''.join(f', {n} {v:g}' for n, v in numbers.items())}). Nothing finished is lost; "
            "try a smaller optim.base_lr, kd.clip_grad_norm 1, or a smaller weight of that term."
            + (
                " Or the term itself gives no number: 0 / 0, or a root or logarithm of 0."
                if math.isfinite(loss) and broken
                else ""
            )
        )
